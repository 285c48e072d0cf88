"""How the gateway is doing, for Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats/

All of it is read from the database when it is asked for: whichever web process answers, it says the same.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector
from werkzeug.exceptions import NotFound

from config import settings
from jobs.clock import WORKS
from models.base import now
from models.unknown import KINDS, count_unknown
from models.verification import Verification
from models.workers import Worker
from routes.errors import error_response

blp = Blueprint("metrics", __name__)


@blp.get("/metrics")
def get_metrics() -> Response:
    """Whoever has the token reads it; where none is set, only a local gateway has metrics at all."""
    if not settings.metrics_token and not settings.local:
        raise NotFound
    if settings.metrics_token and not _shows(settings.metrics_token):
        refusal = error_response("AUTHENTICATION_ERROR", "The METRICS_TOKEN is missing or wrong.")
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal
    registry = CollectorRegistry()  # not the library's own, which tells of one process
    registry.register(Gateway())
    response = Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)
    response.headers["Cache-Control"] = "no-store"
    return response


def _shows(token: str) -> bool:
    """Whether the caller shows it (RFC 6750, 2.1)."""
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), token.encode())


class Gateway(Collector):
    """What the database says of the whole gateway."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._unknown()
        yield from self._queues()
        workers = "Worker processes that were heard of lately."
        yield GaugeMetricFamily("gateway_workers_alive", workers, value=Worker.alive())
        yield from self._verification()

    def _unknown(self) -> Iterator[GaugeMetricFamily]:
        unknown = GaugeMetricFamily(
            "gateway_unknown_outcomes",
            "What the acquirer gave no definite answer to, and is looked up.",
            labels=["kind"],
        )
        flagged = GaugeMetricFamily(
            "gateway_unknown_outcomes_flagged",
            "Those unknown for a day or longer: ask the acquirer.",
            labels=["kind"],
        )
        for kind in KINDS:
            counted = count_unknown(kind, None)
            unknown.add_metric([kind], counted.count)
            flagged.add_metric([kind], counted.flagged)
        yield from (unknown, flagged)

    def _queues(self) -> Iterator[GaugeMetricFamily]:
        due = GaugeMetricFamily("gateway_due_rows", "Rows that wait for a worker.", labels=["queue"])
        oldest = GaugeMetricFamily(
            "gateway_oldest_due_seconds", "How long the first of them has waited.", labels=["queue"]
        )
        overdue = GaugeMetricFamily(
            "gateway_overdue_rows",
            "Those that wait for longer than a lease, missed by all: should stay 0.",
            labels=["queue"],
        )
        for work in WORKS:
            backlog = work.backlog()
            due.add_metric([work.queue], backlog.due)
            oldest.add_metric([work.queue], backlog.oldest_s)
            overdue.add_metric([work.queue], backlog.overdue)
        yield from (due, oldest, overdue)

    def _verification(self) -> Iterator[GaugeMetricFamily]:
        """Nothing, as long as nothing was verified: a 0 would say that all is well."""
        latest = Verification.latest()
        if latest is None:
            return
        yield GaugeMetricFamily(
            "gateway_verification_breaks",
            "How many rules the data broke when it was last verified: should stay 0.",
            value=latest.breaks,
        )
        yield GaugeMetricFamily(
            "gateway_verification_age_seconds",
            "How long ago that was.",
            value=(now() - latest.finished_at).total_seconds(),
        )
