"""How much dead endpoints slow down a live one: 1,000 deliveries to it, alone and beside 1,000 that hang.

The real gateway with its real workers, a real receiver; what is compared was measured in one run.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from flask import Flask
from sqlalchemy import func, select

from jobs.work import commit
from local import DATABASE
from models.base import db
from models.context import core_app
from models.merchants import TEST_MERCHANT_ID
from models.webhook_endpoints import WebhookEndpoint
from models.webhooks import WebhookDelivery
from tests.conftest import settings_of
from tests.processes import Running, gateway, wait_until
from tests.receiver import Receiver, hang_until, running_receiver

DELIVERIES = 1000
ROUNDS = 3
LIMIT = 2.0  # beside hanging ones it may take this many times as long as alone
DRAINED_S = 300


def main() -> int:
    """Print the ratios; exit code 1 if one is beyond the limit."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        running = stack.enter_context(
            gateway(
                Path(folder) / "data", REQUEST_LOG="false", LOG_LEVEL="WARNING", PROCESSING_DELAY_MS="0-0"
            )
        )
        app = app_of(running)
        fast = endpoint(running, stack.enter_context(running_receiver()))
        measure(app, fast, [])  # connections, caches
        print(f"{DELIVERIES} deliveries to a fast endpoint (median of {ROUNDS})")
        worst = 0.0
        for count in (1, 8):
            alone = median_s(app, fast, [])
            with hanging(running, count) as dead:
                beside = median_s(app, fast, dead)
            worst = max(worst, beside / alone)
            print(f"  {'alone':<28}{alone:6.2f} s  {DELIVERIES / alone:5.0f}/s")
            name = f"beside {DELIVERIES} to {count} that hang"
            print(f"  {name:<28}{beside:6.2f} s  {beside / alone:5.2f} times as long")
    print(f"the worst: {worst:.2f} times as long (limit {LIMIT:g})")
    return 0 if worst <= LIMIT else 1


def median_s(app: Flask, fast: str, dead: list[str]) -> float:
    return statistics.median(measure(app, fast, dead) for _ in range(ROUNDS))


def app_of(running: Running) -> Flask:
    """An app on the gateway's own database and Redis, to write events as the gateway would."""
    valkey = (running.data_dir / "valkey" / "valkey.conf").read_text().split()
    port, password = (valkey[valkey.index(name) + 1] for name in ("port", "requirepass"))
    return core_app(
        settings_of(
            running.environ
            | {
                "DATABASE_URL": f"postgresql://postgres@/{DATABASE}?host={running.data_dir}/postgres",
                "REDIS_URL": f"redis://:{password}@127.0.0.1:{port}/0",
            }
        )
    )


def endpoint(running: Running, receiver: Receiver) -> str:
    return running.post("/webhook_endpoints", {"url": receiver.url, "events": ["webhook.test"]})["id"]


@contextmanager
def hanging(running: Running, count: int) -> Iterator[list[str]]:
    """Endpoints that answer nothing before the end of the benchmark; then they fail at once."""
    over = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        hang_until(over)(handler)

    with ExitStack() as stack:
        receivers = [stack.enter_context(running_receiver()) for _ in range(count)]
        for receiver in receivers:
            receiver.answers = [hang] * (DELIVERIES * ROUNDS * 2)
        ids = [endpoint(running, receiver) for receiver in receivers]
        yield ids
        for endpoint_id in ids:
            running.call("DELETE", f"/api/v1/webhook_endpoints/{endpoint_id}")
        over.set()


def measure(app: Flask, fast: str, dead: list[str]) -> float:
    """Seconds from the commit of all deliveries until those to the fast endpoint have succeeded."""
    with app.app_context():
        live, *others = [WebhookEndpoint.of_merchant(TEST_MERCHANT_ID, id_) for id_ in (fast, *dead)]
        before = succeeded(fast)
        for number in range(DELIVERIES):
            live.tell("webhook.test", only=live)
            if others:
                other = others[number % len(others)]
                other.tell("webhook.test", only=other)
        commit()
        started = time.monotonic()
        wait_until(lambda: succeeded(fast) == before + DELIVERIES, DRAINED_S)
        return time.monotonic() - started


def succeeded(endpoint_id: str) -> int:
    mine = (WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.status == "success")
    return db.session.scalar(select(func.count()).where(*mine)) or 0


if __name__ == "__main__":
    sys.exit(main())
