"""Rows by the hundred thousand, as the API and the workers would have written them, without either.

Everything is one `INSERT ... SELECT` a table, without its foreign keys and triggers: the rows are right by
construction, and at the end of a benchmark they are verified with all others. All are UPI payments of the
test merchant. Ids begin with a time, as the gateway's do, one for all rows under a tag; then comes a hash of
the tag and a number, so that a load generator can name them without being told.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection

from models.base import ID_RANDOM_LENGTH, id_time
from models.merchants import TEST_MERCHANT_ID

PAST_DAYS = 90
WRITERS = 2  # tables that are written at once: as many as the machine of the targets has cores
VPA = "success@upi"
FILLED = (
    *("orders", "payments", "acquirer_answers", "ledger_entries", "events"),
    *("webhook_deliveries", "webhook_attempts"),
)


@cache
def moment(tag: str) -> str:  # noqa: ARG001 (by it, it is remembered)
    """With which the ids under this tag begin: the time at which somebody asks for the first one."""
    return id_time(int(time.time()))


def made_id(prefix: str, tag: str, number: int) -> str:
    """The id of the number-th (from 1) row under this tag, as `id_sql` has it."""
    digest = hashlib.md5(f"{tag}{number}".encode(), usedforsecurity=False).digest()
    return f"{prefix}_{moment(tag)}{base64.b64encode(digest, b'xy').decode()[:ID_RANDOM_LENGTH]}"


def id_sql(prefix: str, moment: str, hashed: str) -> str:
    """An SQL expression for an id, of SQL expressions for its time and for what is hashed."""
    digest = f"translate(encode(decode(md5({hashed}), 'hex'), 'base64'), '+/', 'xy')"
    return f"'{prefix}_' || {moment} || left({digest}, {ID_RANDOM_LENGTH})"


def write_ids(path: Path, prefix: str, tag: str, count: int) -> Path:
    """A file with the ids of all rows under this tag, one a line: for wrk."""
    path.write_text("".join(f"{made_id(prefix, tag, number)}\n" for number in range(1, count + 1)))
    return path


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection without foreign keys and triggers; committed at the end, if nothing went wrong."""
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            yield connection
    finally:
        connection.close()


def orders(url: str, count: int, tag: str) -> None:
    """Orders that nobody has tried to pay."""
    with connected(url) as connection:
        _insert(connection, [_orders("created", "0")], count, tag)


def pending(url: str, count: int, tag: str) -> None:
    """Payments that are due from the moment they are committed, each of its own order."""
    with connected(url) as connection:
        tables = [_orders("attempted", "0"), _payments(settled=False), _event("payment.created", "0")]
        _insert(connection, tables, count, tag)
        connection.cursor().execute("ANALYZE orders, payments, events")


def past(url: str, count: int, tag: str, *, endpoint_id: str | None = None) -> None:
    """Payments that were settled over the last PAST_DAYS; and told, if there is an endpoint.

    Each table is a transaction of its own, WRITERS at a time.
    """

    until = datetime.now(UTC)  # once: a payment is made at one moment in all tables
    moment(tag)  # before two threads ask for it

    def write(statement: str) -> None:
        with connected(url) as connection:
            _insert(connection, [statement], count, tag, endpoint_id, until=until)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, [*_settled(endpoint_id), *_delivered(endpoint_id)]))


def undelivered(url: str, count: int, tag: str, *, endpoint_id: str) -> None:
    """Payments that were settled just now, and deliveries of it that are due."""
    with connected(url) as connection:
        tables = [*_settled(endpoint_id), _deliveries("pending")]
        _insert(connection, tables, count, tag, endpoint_id, days=0)
        connection.cursor().execute("ANALYZE orders, payments, events, webhook_deliveries")


def settle_down(url: str) -> None:
    """What a database that has been running for long has done: statistics, visibility, a checkpoint."""
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM (ANALYZE) {', '.join(FILLED)}")
            cursor.execute("CHECKPOINT")
    finally:
        connection.close()


# --- one table each ------------------------------------------------------------------------------


def _id(prefix: str) -> str:
    """An SQL expression for the id of the n-th row."""
    return id_sql(prefix, "%(moment)s", "%(tag)s || n")


def _numbered_id(prefix: str, name: str) -> str:
    """The same where several rows of one table tell of the n-th payment."""
    return id_sql(prefix, "%(moment)s", f"%(tag)s || '{name}' || n")


FACTS = f"""(
    SELECT n, {_id("order")} AS order_id, {_id("pay")} AS payment_id, 10000 + n %% 1000 * 89 AS amount,
        %(until)s - make_interval(secs => 86400.0 * %(days)s * (%(count)s - n) / %(count)s) AS made_at
    FROM generate_series(1, %(count)s) AS n
) AS facts"""  # noqa: S608


def _insert(
    connection: Connection,
    statements: list[str],
    count: int,
    tag: str,
    endpoint_id: str | None = None,
    *,
    days: int = PAST_DAYS,
    until: datetime | None = None,
) -> None:
    values = {
        "until": until or datetime.now(UTC),
        **{"count": count, "tag": tag, "moment": moment(tag), "merchant": TEST_MERCHANT_ID, "vpa": VPA},
        **{"endpoint": endpoint_id, "days": days},
    }
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(f"{statement} FROM {FACTS} ORDER BY n", values)


def _settled(endpoint_id: str | None) -> list[str]:
    return [
        _orders("paid", "amount"),
        _payments(settled=True),
        *(_ledger(account, sign) for account, sign in (("acquirer", ""), ("merchant", "-"))),
        _ANSWERS,
        _event("payment.created", "0"),
        _event("payment.success", "0" if endpoint_id is None else "1"),
        _event("payment.captured", "0"),
        _event("order.paid", "0"),
    ]


def _delivered(endpoint_id: str | None) -> list[str]:
    return [] if endpoint_id is None else [_deliveries("success"), _ATTEMPTS]


def _orders(status: str, paid: str) -> str:
    return f"""
        INSERT INTO orders (id, merchant_id, amount, amount_paid, currency, receipt, notes, status,
            created_at, updated_at)
        SELECT order_id, %(merchant)s, amount, {paid}, 'INR', 'receipt-' || n, '{{"cart": "42"}}', '{status}',
            made_at, made_at"""


def _payments(*, settled: bool) -> str:
    reference = "'sim_' || left(md5(payment_id), 12)" if settled else "NULL"
    state = "'success', true, amount, NULL, NULL" if settled else "'pending', false, 0, 'authorize', now()"
    return f"""
        INSERT INTO payments (id, merchant_id, order_id, amount, currency, capture, method, flow, vpa,
            acquirer_reference, status, captured, amount_captured, operation, due_at, created_at, updated_at)
        SELECT payment_id, %(merchant)s, order_id, amount, 'INR', 'automatic', 'upi', 'collect', %(vpa)s,
            {reference}, {state}, made_at, made_at"""


def _ledger(account: str, sign: str) -> str:
    return f"""
        INSERT INTO ledger_entries (id, posting_id, merchant_id, kind, account, amount, currency, payment_id,
            created_at)
        SELECT {_numbered_id("led", account)}, {_id("post")}, %(merchant)s, 'capture', '{account}',
            {sign}amount, 'INR', payment_id, made_at"""


# In this order, a millisecond apart: the tables are written side by side, and not one event after the other.
TOLD = ("payment.created", "payment.success", "payment.captured", "order.paid")

_ANSWERS = """
    INSERT INTO acquirer_answers (payment_id, operation, looked_up, answer, reference, answered_at)
    SELECT payment_id, 'authorize', false, 'approved', 'sim_' || left(md5(payment_id), 12), made_at"""


def _event(kind: str, deliveries: str) -> str:
    """The events of one kind. Their payload is as long as a real one, and its `data` is that of a payment."""
    status = "pending" if kind == "payment.created" else "success"
    of_payment = "NULL" if kind == "order.paid" else "payment_id"
    return f"""
        INSERT INTO events (id, merchant_id, type, order_id, payment_id, payload, deliveries, created_at)
        SELECT {_numbered_id("evt", kind)}, %(merchant)s, '{kind}', order_id, {of_payment},
            format('{{"id":"%%s","event":"{kind}","timestamp":%%s,"data":{{"payment":{{"id":"%%s",'
                '"order_id":"%%s","merchant_id":"{TEST_MERCHANT_ID}","amount":%%s,"currency":"INR",'
                '"method":"upi","flow":"collect","status":"{status}","captured":false,"amount_captured":0,'
                '"amount_refunded":0,"refund_status":null,"fee":0,"vpa":"{VPA}","card_network":null,'
                '"card_last4":null,"hold_expires_at":null,"next_action":null,"error_code":null,'
                '"error_reason":null,"error_description":null,"created_at":"2026-01-15T16:40:00.123Z",'
                '"updated_at":"2026-01-15T16:40:00.123Z"}}}}}}',
                {_numbered_id("evt", kind)}, extract(epoch FROM made_at)::bigint, payment_id, order_id,
                amount),
            {deliveries}, made_at + interval '{TOLD.index(kind)} ms'"""  # noqa: S608


def _deliveries(status: str) -> str:
    state = "1, made_at, 200, NULL" if status == "success" else "0, NULL, NULL, now()"
    return f"""
        INSERT INTO webhook_deliveries (id, merchant_id, event_id, endpoint_id, event_type, order_id, status,
            created_at, attempts, last_attempt_at, last_status_code, due_at)
        SELECT {_id("whd")}, %(merchant)s, {_numbered_id("evt", "payment.success")}, %(endpoint)s,
            'payment.success', order_id, '{status}', made_at, {state}"""


_ATTEMPTS = f"""
    INSERT INTO webhook_attempts (delivery_id, number, attempted_at, url, status_code, response_body,
        duration_ms)
    SELECT {_id("whd")}, 1, made_at, 'http://127.0.0.1/hook', 200, 'ok', 2"""
