"""How long the dashboard waits at a merchant with a past: every list, search, filter and chart of it.

What is measured is the whole request, as the web server has it: sign-in, queries, and the answer's JSON.
`--plans` shows how PostgreSQL found the rows, and marks where it read a big table from end to end.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, func, select, text

import local
from app import create_app
from commands.seed import History, analyze
from models.base import db
from models.events import Event
from models.ledger import LedgerEntry
from models.merchants import TEST_API_KEY, TEST_API_SECRET, TEST_MERCHANT_ID, Merchant
from models.orders import Order
from models.payments import Payment
from models.refunds import Refund
from models.sessions import Session
from models.webhook_endpoints import EVENT_TYPES
from models.webhooks import WebhookDelivery
from routes.auth import cookie_name
from routes.webhooks import OFFSET_MAX
from tests.conftest import settings_of

PAYMENTS = 100_000
DAYS = 90
RUNS = 9
LIMIT_MS = 200  # of the median; the worst of a busy machine is its own
EXPORT_GROWTH_MAX_MB = 32  # whatever its size: an export is made while it is sent
AUDIT_ROWS = 10_000
RETRIES = 50

BIG_TABLES = (
    *("payments", "orders", "refunds", "events", "ledger_entries"),
    *("webhook_deliveries", "webhook_attempts"),
)
SEQ_SCAN = re.compile(rf"Seq Scan on ({'|'.join(BIG_TABLES)})\b")


def main() -> int:
    """Print the table; exit code 1 if a limit is passed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("payments", type=int, nargs="?", default=PAYMENTS)
    options.add_argument("--plans", action="store_true", help="show the plans of all queries")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, gateway(Path(folder)) as app:
        with app.app_context():
            print(f"a past of {chosen.payments} payments is being written ...", flush=True)
            started = time.monotonic()
            fill(chosen.payments)
            print(f"{sizes()} in {time.monotonic() - started:.0f} s")
            requests = requests_of(TEST_MERCHANT_ID)
        passed = measure(app, requests) and measure_export(app)
        if chosen.plans:
            show_plans(app, requests)
    return 0 if passed else 1


@contextmanager
def gateway(folder: Path) -> Iterator[Flask]:
    """The app on an embedded PostgreSQL of its own. No Redis: looking wakes nobody."""
    servers = local.Gateway(settings_of({"DATA_DIR": str(folder / "data")}))
    servers.data_dir.mkdir()
    try:
        yield create_app(settings_of({"DATABASE_URL": local.start_postgres(servers)}))
    finally:
        local.stop(servers)


def fill(payments: int) -> None:
    """A past of so many payments; and what is no part of it: an audit log, and retries of webhooks."""
    for _ in History(TEST_MERCHANT_ID, payments=payments, days=DAYS, random_seed=1).write():
        pass
    add_audit_log()
    add_retries()
    db.session.commit()
    analyze()


def add_audit_log() -> None:
    db.session.execute(
        text(
            "INSERT INTO audit_log (id, merchant_id, actor, action, subject_id, created_at) "
            "SELECT 'aud_' || lpad(n::text, 16, '0'), :merchant, 'key_seed', 'refund.requested', "
            "'rfnd_' || lpad((n % 1000)::text, 16, '0'), now() - n * interval '10 minutes' "
            "FROM generate_series(1, :rows) AS n"
        ),
        {"merchant": TEST_MERCHANT_ID, "rows": AUDIT_ROWS},
    )


def add_retries() -> None:
    """Requests to retry all, each with some of the deliveries that failed again."""
    rows = db.session.scalars(
        text(
            "INSERT INTO webhook_retries (id, merchant_id, since, until, total) "
            "SELECT 'whr_' || lpad(n::text, 16, '0'), :merchant, now() - interval '1 day', now(), 20 "
            "FROM generate_series(1, :rows) AS n RETURNING id"
        ),
        {"merchant": TEST_MERCHANT_ID, "rows": RETRIES},
    )
    retries = rows.all()
    failed = select(WebhookDelivery).where(WebhookDelivery.status == "failed")
    for number, delivery in enumerate(db.session.scalars(failed)):
        delivery.retry_id = retries[number % RETRIES]


def sizes() -> str:
    numbers = [f"{db.session.scalar(text(f'SELECT count(*) FROM {table}'))} {table}" for table in BIG_TABLES]  # noqa: S608
    db.session.rollback()
    return ", ".join(numbers)


# --- what the dashboard asks for -----------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """One request; `as_operator`: of somebody who is signed in, not of an API key."""

    path: str
    query: dict[str, Any] = field(default_factory=dict)
    as_operator: bool = False

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.query.items())
        return self.path + ("?" + query if query else "") + (" (operator)" if self.as_operator else "")


def requests_of(merchant_id: str) -> list[Ask]:
    """All of them, with ids and words of payments that are there."""
    first, deep = at_depth(merchant_id, Payment, 0.01), at_depth(merchant_id, Payment, 0.9)
    by_card = at_depth(merchant_id, Payment, 0.3, Payment.method == "card")
    by_vpa = at_depth(merchant_id, Payment, 0.3, Payment.vpa.is_not(None))
    order = db.session.get_one(Order, by_card.order_id)
    refund = at_depth(merchant_id, Refund, 0.3)
    delivery = at_depth(merchant_id, WebhookDelivery, 0.3)
    deep_of = {model: at_depth(merchant_id, model, 0.9).id for model in (Order, Refund, Event, LedgerEntry)}
    middle = deep.created_at.replace(hour=0, minute=0)
    day = {"from": f"{middle:%Y-%m-%dT00:00:00Z}", "to": f"{middle:%Y-%m-%dT23:00:00Z}"}
    db.session.rollback()
    receipt, vpa = str(order.receipt), str(by_vpa.vpa)
    lists: dict[str, list[dict[str, Any]]] = {
        "/payments": [
            {},
            {"limit": 100},
            *({"status": each} for each in ("pending", "requires_action", "success", "failed", "voided")),
            *({"method": each} for each in ("upi", "card")),
            *({"currency": each} for each in ("INR", "EUR", "JPY")),
            {"amount_min": 50_000, "amount_max": 200_000},
            {"amount_min": 8_900_000},
            {"amount_min": 990_000_000},
            day,
            day | {"status": "failed", "method": "card"},
            {"starting_after": first.id},
            {"starting_after": deep.id},
            {"starting_after": deep.id, "status": "voided"},
            *({"q": each} for each in (by_card.id, by_card.order_id, refund.id)),
            *({"q": each} for each in (receipt, receipt[:-2], receipt[:5], receipt[:3])),
            *({"q": each} for each in (by_card.card_last4, vpa, vpa[:3])),
            {"q": vpa[:3], "status": "failed"},
            {"q": "nothing-like-it"},
            {"q": "0"},
            {"order_id": by_card.order_id},
        ],
        "/orders": [
            {},
            *({"status": each} for each in ("created", "attempted", "paid", "expired")),
            *({"q": each} for each in (order.id, by_card.id, receipt, receipt[:-2], receipt[:3], "nothing")),
            {"receipt": receipt},
            {"starting_after": deep_of[Order]},
        ],
        "/refunds": [
            {},
            *({"status": each} for each in ("pending", "processed", "failed")),
            *({"q": each} for each in (refund.id, refund.payment_id, refund.order_id, "nothing")),
            {"starting_after": deep_of[Refund]},
        ],
        "/payments/stats": [{}, *({"days": each} for each in (7, 30, 90)), {"days": 90, "currency": "EUR"}],
        "/webhooks/stats": [{"days": 7}, {"days": 90}],
        "/webhooks": [
            {},
            *({"status": each} for each in ("pending", "success", "failed")),
            *({"event": each} for each in ("order.paid", "refund.failed", "webhook.test")),
            {"endpoint_id": delivery.endpoint_id},
            {"endpoint_id": delivery.endpoint_id, "status": "failed", "event": "order.paid"},
            {"event_id": delivery.event_id},
            day,
            {"offset": OFFSET_MAX},
        ],
        "/webhooks/retries": [{}],
        "/events": [
            {},
            *({"event": each} for each in EVENT_TYPES),
            {"payment_id": by_card.id},
            {"order_id": by_card.order_id},
            {"refund_id": refund.id},
            {"starting_after": deep_of[Event]},
        ],
        "/balance": [{}],
        "/ledger": [
            {},
            *({"currency": each} for each in ("INR", "EUR", "JPY")),
            *({"account": each} for each in ("acquirer", "merchant_hold", "refunds_in_flight", "none")),
            {"payment_id": by_card.id},
            {"refund_id": refund.id},
            {"starting_after": deep_of[LedgerEntry]},
        ],
        "/audit_log": [{}, {"subject_id": "rfnd_0000000000000007"}],
        "/api_keys": [{}],
        "/jobs": [{}],
        f"/payments/{by_card.id}": [{}],
        f"/payments/{refund.payment_id}/timeline": [{}],
        f"/orders/{order.id}/payments": [{}],
        f"/webhooks/{delivery.id}": [{}],
    }
    asks = [Ask(path, query) for path, queries in lists.items() for query in queries]
    return [*asks, Ask("/jobs", as_operator=True)]


def at_depth(merchant_id: str, model: Any, share: float, *where: Any) -> Any:
    """The merchant's row so far down its list."""
    mine = select(model).where(model.merchant_id == merchant_id, *where)
    number = db.session.scalar(mine.with_only_columns(func.count())) or 0
    newest_first = mine.order_by(model.created_at.desc(), model.seq.desc())
    return db.session.scalars(newest_first.offset(int(number * share)).limit(1)).one()


class Client:
    """Asks as the dashboard does, and takes nothing but a 200 for an answer."""

    def __init__(self, app: Flask):
        self._by_key, self._operator = app.test_client(), app.test_client()
        with app.app_context():
            merchant = db.session.get_one(Merchant, TEST_MERCHANT_ID)
            _, token = Session.begin(merchant, address="127.0.0.1", user_agent="bench")
            db.session.commit()
            self._operator.set_cookie(cookie_name(), token)

    def get(self, ask: Ask) -> Any:
        client: FlaskClient = self._operator if ask.as_operator else self._by_key
        key = {} if ask.as_operator else {"X-Api-Key": TEST_API_KEY, "X-Api-Secret": TEST_API_SECRET}
        response = client.get("/api/v1" + ask.path, query_string=ask.query, headers=key)
        if response.status_code != 200:
            raise RuntimeError(f"{ask}: {response.text}")
        return response


# --- measuring -----------------------------------------------------------------------------------


def measure(app: Flask, asks: list[Ask]) -> bool:
    """Print how long each takes. Whether all of them keep the limit."""
    client = Client(app)
    client.get(asks[0])  # connections, caches
    print(f"\n{f'request, {RUNS} times each':<70}{'median':>9}{'worst':>9}  (limit {LIMIT_MS} ms)")
    slow = 0
    for ask in asks:
        took_ms = [milliseconds(lambda: client.get(ask)) for _ in range(RUNS)]  # noqa: B023
        median = statistics.median(took_ms)
        slow += median > LIMIT_MS
        mark = "  TOO SLOW" if median > LIMIT_MS else ""
        print(f"{str(ask)[:69]:<70}{median:9.1f}{max(took_ms):9.1f}{mark}")
    print(f"{slow} of {len(asks)} are slower than {LIMIT_MS} ms")
    return slow == 0


def measure_export(app: Flask) -> bool:
    """Print how fast all payments are exported, and by how much this process grows meanwhile."""
    client, process = Client(app), psutil.Process()
    before, most, size = process.memory_info().rss, 0, 0
    started = time.monotonic()
    response = client.get(Ask("/payments/export"))
    for piece in response.iter_encoded():
        size += len(piece)
        most = max(most, process.memory_info().rss)
    took_s = time.monotonic() - started
    rows, growth_mb = int(response.headers["X-Total-Rows"]), max(0, most - before) / 2**20
    print(
        f"\n/payments/export: {rows} rows ({size / 2**20:.1f} MB) in {took_s:.1f} s, {rows / took_s:.0f}/s;"
    )
    print(f"this process grew by {growth_mb:.1f} MB meanwhile (limit {EXPORT_GROWTH_MAX_MB} MB)")
    return growth_mb <= EXPORT_GROWTH_MAX_MB


def milliseconds(act: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1000


# --- plans ---------------------------------------------------------------------------------------


def show_plans(app: Flask, asks: list[Ask]) -> None:
    client = Client(app)
    marked = 0
    for ask in asks:
        print(f"\n=== {ask}")
        for statement, plan in plans(app, lambda: client.get(ask), "ANALYZE, BUFFERS"):  # noqa: B023
            print("\n" + " ".join(statement.split()))
            for line in plan:
                scanned = SEQ_SCAN.search(line)
                marked += scanned is not None
                print(("  >>> " if scanned else "      ") + line)
    print(f"\n{marked} Seq Scans on big tables")


def plans(app: Flask, act: Callable[[], Any], options: str = "") -> Iterator[tuple[str, list[str]]]:
    """The queries that `act` makes, each with its plan."""
    with app.app_context():
        engine = db.engine
    made: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")):
            made.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        act()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        for statement, parameters in made:
            explain = f"EXPLAIN {f'({options}) ' if options else ''}{statement}"
            yield statement, [row[0] for row in connection.exec_driver_sql(explain, parameters)]


if __name__ == "__main__":
    sys.exit(main())
