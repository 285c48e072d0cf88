"""What each payment asks of the database is found by indexes when there are 100,000 of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2.extensions
import pytest
from flask import Flask

from app import create_app
from bench import rows
from jobs.clock import Clock, sweep
from jobs.payments import PAYMENTS
from jobs.webhooks import WEBHOOKS
from models.base import db
from tests.conftest import Api, another_database, cursors, found, made, settings_of

PAST = 100_000  # payments
GROWN = "payments|orders|events|ledger_entries|acquirer_answers|webhook_deliveries|webhook_attempts"
SCAN = re.compile(rf"Seq Scan on ({GROWN})\b")
PLANNED = re.compile(r"(SELECT|WITH|INSERT|UPDATE|DELETE|EXECUTE)\b")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def grown(environ: dict[str, str]) -> Iterator[Flask]:
    """A gateway with a past."""
    with another_database(environ, "grown") as its_environ:
        app = create_app(settings_of(its_environ | {"PROCESSING_DELAY_MS": "0-0"}))
        hears = {"url": "http://127.0.0.1:1/", "events": ["payment.success"]}
        endpoint = made(Api(app.test_client()).post("/webhook_endpoints", hears))
        rows.past(its_environ["DATABASE_URL"], PAST, "past", endpoint_id=endpoint["id"])
        rows.settle_down(its_environ["DATABASE_URL"])
        yield app
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def scans(grown: Flask) -> Iterator[Callable[[], list[str]]]:
    """The statements since the last call whose plan reads a big table from end to end."""
    planned: list[tuple[str, str]] = []

    class Cursor(psycopg2.extensions.cursor):
        def execute(self, query: Any, values: Any = None) -> None:
            words = query.decode() if isinstance(query, bytes) else query
            if PLANNED.match(words):
                super().execute(f"EXPLAIN {words}", values)
                planned.append((words, "\n".join(line for (line,) in self.fetchall())))
            super().execute(query, values)

    def scans() -> list[str]:
        assert planned
        found = [f"{words}\n{plan}" for words, plan in planned if SCAN.search(plan)]
        planned.clear()
        return found

    with cursors(grown, Cursor):
        yield scans


@pytest.fixture
def shop(grown: Flask) -> Api:
    return Api(grown.test_client())


def test_requests(shop: Api, scans: Callable[[], list[str]]) -> None:
    order_id = shop.order()["id"]
    failed = shop.upi(order_id, "failure@upi")
    found(shop.get(f"/payments/{failed['id']}"))
    for path in ("/payments", "/orders", f"/orders/{order_id}/payments"):
        found(shop.get(path))
    made(shop.post("/orders", {"amount": 500}, key="once"))
    assert scans() == []


def test_work(grown: Flask, shop: Api, scans: Callable[[], list[str]]) -> None:
    payment = shop.upi(shop.order()["id"])
    with grown.app_context():
        assert PAYMENTS.drain() >= 1
        assert WEBHOOKS.drain() == 1
    assert shop.payment(payment["id"])["captured"]
    made(shop.post(f"/payments/{payment['id']}/refunds", {"amount": 100}))
    assert scans() == []


def test_the_clock(grown: Flask, scans: Callable[[], list[str]]) -> None:
    with grown.app_context():
        Clock(grown).tick()
        sweep()
    assert scans() == []


def test_the_metrics(grown: Flask, scans: Callable[[], list[str]]) -> None:
    assert "gateway_settled_payments" in grown.test_client().get("/metrics").text
    assert scans() == []


def test_a_scan_is_noticed(grown: Flask, scans: Callable[[], list[str]]) -> None:
    with grown.app_context():
        db.session.execute(db.text("SELECT count(*) FROM payments WHERE work_error IS NOT NULL"))
        db.session.rollback()
    assert len(scans()) == 1
