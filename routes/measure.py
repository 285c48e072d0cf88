"""How many requests, how they end and how long they take, for Prometheus (routes/metrics.py shows it).

Each web process counts for itself. Under gunicorn it does so in a file that all of them can read, so that
whichever is asked tells of all: https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flask import Flask
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"  # gunicorn.conf.py sets it, before this is imported
UNMATCHED = ("any", "unmatched")  # of what is at no address of ours: whatever is asked for, it is one label
PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")  # as Flask writes it; we show routes as OpenAPI does
BUCKETS_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

disable_created_metrics()  # a second series for each, which nobody asks for

SECONDS = Histogram(
    "gateway_http_request_seconds",
    "How long requests took, from their head to that of the answer.",
    ["method", "route", "status"],
    buckets=BUCKETS_S,
    registry=None,
)

_observe: dict[tuple[str, str, str], Callable[[float], None]] = {}  # to find a child anew takes longer


def measure_requests(app: Flask) -> None:
    """Measure every request of the app, outside of all else."""
    app.wsgi_app = _measured(app.wsgi_app)  # type: ignore[assignment, method-assign]


def register_requests(registry: CollectorRegistry) -> None:
    """What all web processes counted, or this one where there are no others."""
    if MULTIPROCESS_DIR in os.environ:
        MultiProcessCollector(registry)
    else:
        registry.register(SECONDS)


def _measured(wsgi_app: WSGIApplication) -> WSGIApplication:
    def measured(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = perf_counter()

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            _note(environ, status[0] + "xx", perf_counter() - started)
            return start_response(status, headers, exc_info)

        return wsgi_app(environ, start)

    return measured


def _note(environ: WSGIEnvironment, status: str, seconds: float) -> None:
    rule = environ["werkzeug.request"].url_rule
    method, route = UNMATCHED if rule is None else (environ["REQUEST_METHOD"], rule.rule)
    key = (method, route, status)
    observe = _observe.get(key)
    if observe is None:
        template = PARAMETER.sub(r"{\1}", route)
        observe = _observe[key] = SECONDS.labels(method, template, status).observe
    observe(seconds)
