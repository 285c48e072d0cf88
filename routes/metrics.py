"""How the gateway is doing, for Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats/

What is told of the gateway is read from the database when it is asked for, what is told of requests from the
counts of all web processes: whichever answers, it says the same.
"""

from __future__ import annotations

import hmac
import logging
import platform
from collections.abc import Iterator
from itertools import product

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import NotFound

from config import VERSION, settings
from jobs.clock import WORKS, is_ticking
from jobs.wake import QUEUES, fast_redis
from models.base import db, now
from models.lately import OUTCOMES, settled, webhook_attempts
from models.orders import METHODS
from models.rescues import Rescue
from models.unknown import KINDS, count_unknown
from models.verification import Verification
from models.workers import Worker
from routes.errors import error_response
from routes.measure import register_requests

log = logging.getLogger(__name__)

FAILING_ENDPOINTS_MAX = 10  # told one by one: each is a series in Prometheus for as long as it keeps any

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
    register_requests(registry)
    response = Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)
    response.headers["Cache-Control"] = "no-store"
    return response


def _shows(token: str) -> bool:
    """Whether the caller shows it (RFC 6750, 2.1)."""
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), token.encode())


class Gateway(Collector):
    """What the database says of the whole gateway, and whether it says anything."""

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(
            "gateway_build_info", "Always 1: which gateway this is.", labels=["version", "python"]
        )
        build.add_metric([VERSION, platform.python_version()], 1)
        yield build
        yield GaugeMetricFamily("gateway_redis_up", "Whether Redis answers.", value=_redis_answers())
        try:
            told = list(self._told_by_database())
        except (DBAPIError, PoolTimeout) as error:
            db.session.rollback()
            log.warning("the database did not tell its metrics: %s", type(error).__name__)
            told = []
        answers = "Whether the database answers: if not, all that it would tell is missing."
        yield GaugeMetricFamily("gateway_database_up", answers, value=bool(told))
        yield from told

    def _told_by_database(self) -> Iterator[Metric]:
        yield from self._unknown()
        yield from self._queues()
        yield from self._work()
        yield from self._payments()
        yield from self._webhooks()
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

    def _work(self) -> Iterator[Metric]:
        workers = "Worker processes that were heard of lately."
        yield GaugeMetricFamily("gateway_workers_alive", workers, value=Worker.alive())
        clock = "Whether a clock ticks, in one of the worker commands."
        yield GaugeMetricFamily("gateway_clock_alive", clock, value=is_ticking())
        rescued = CounterMetricFamily(
            "gateway_rescued_rows",
            "Rows that the clock worked off itself, as no worker came for them: should not grow.",
            labels=["queue"],
        )
        counts = Rescue.counts()
        for queue in QUEUES:
            rescued.add_metric([queue], counts.get(queue, 0))
        yield rescued

    def _payments(self) -> Iterator[GaugeMetricFamily]:
        ended = GaugeMetricFamily(
            "gateway_settled_payments",
            "Payments that ended in the last minute, by how.",
            labels=["method", "outcome"],
        )
        took = GaugeMetricFamily(
            "gateway_settle_seconds",
            "How long those took since they were made, the shopper's part as well; 1 is the longest.",
            labels=["method", "outcome", "quantile"],
        )
        counts = dict.fromkeys(product(METHODS, OUTCOMES.values()), 0)
        for each in settled():
            counts[each.method, each.outcome] = each.count
            for quantile, seconds in each.seconds.items():
                took.add_metric([each.method, each.outcome, f"{quantile:g}"], seconds)
        for labels, count in counts.items():
            ended.add_metric(labels, count)
        yield from (ended, took)

    def _webhooks(self) -> Iterator[GaugeMetricFamily]:
        attempts = GaugeMetricFamily(
            "gateway_webhook_attempts", "Webhooks posted in the last minute, by outcome.", labels=["outcome"]
        )
        failing = GaugeMetricFamily(
            "gateway_failing_endpoint_attempts",
            f"Those of the {FAILING_ENDPOINTS_MAX} endpoints where most failed.",
            labels=["endpoint_id", "outcome"],
        )
        lately = webhook_attempts()
        failed = sum(each.failed for each in lately)
        attempts.add_metric(["accepted"], sum(each.count for each in lately) - failed)
        attempts.add_metric(["failed"], failed)
        for each in lately[:FAILING_ENDPOINTS_MAX]:
            if each.failed:
                failing.add_metric([each.endpoint_id, "accepted"], each.count - each.failed)
                failing.add_metric([each.endpoint_id, "failed"], each.failed)
        yield from (attempts, failing)

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


def _redis_answers() -> bool:
    try:
        return bool(fast_redis().ping())
    except (RedisError, OSError):
        return False
