"""GET /payments/export: payments as a CSV file, of any size."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from models.base import db
from models.merchants import TEST_API_KEY, TEST_API_SECRET
from routes.export import ROWS_A_QUERY
from tests.conftest import Api, Dashboard, drain_all, found, in_sql, made, refused

COLUMNS = [
    *("id", "order_id", "receipt", "created_at", "status", "method", "currency", "amount", "captured"),
    *("amount_captured", "amount_refunded", "fee", "refund_status", "vpa", "card_network", "card_last4"),
    *("error_code", "error_reason", "error_description"),
]


def export(api: Api, **query: Any) -> TestResponse:
    answer = api.get("/payments/export", **query)
    assert answer.status_code == 200, answer.text
    return answer


def rows(api: Api, **query: Any) -> list[dict[str, str]]:
    answer = export(api, **query)
    header, *lines = csv.reader(io.StringIO(answer.text, newline=""))
    assert header == COLUMNS
    assert int(answer.headers["X-Total-Rows"]) == len(lines)
    return [dict(zip(COLUMNS, line, strict=True)) for line in lines]


def ids(api: Api, **query: Any) -> list[str]:
    return [row["id"] for row in rows(api, **query)]


def many(app: Flask, payment: dict[str, Any], count: int, created_at: str) -> None:
    """So many more failed attempts, made at `created_at` (an SQL expression of `number`)."""
    columns = "order_id, merchant_id, amount, currency, capture, method, flow, vpa, status"
    columns += ", error_code, error_reason, error_description"
    in_sql(
        app,
        f"INSERT INTO payments (id, created_at, {columns}) "
        f"SELECT 'pay_' || lpad(number::text, 16, '0'), {created_at}, {columns} "
        f"FROM payments, generate_series(1, {count}) number WHERE id = :id",
        id=payment["id"],
    )


def fail(api: Api, **order: Any) -> dict[str, Any]:
    payment = api.upi(api.order(**order)["id"], "failure@upi")
    drain_all()
    return api.payment(payment["id"])


# --- what is in it -------------------------------------------------------------------------------


def test_each_payment_is_a_line_with_all_there_is_to_know(api: Api, dashboard: Dashboard) -> None:
    captured = api.paid(12345, number="4242424242424242", receipt="inv-1")
    made(api.post(f"/payments/{captured['id']}/refunds", {"amount": 345}))
    drain_all()
    failed = fail(api)
    assert rows(dashboard) == [
        {
            **dict.fromkeys(COLUMNS, ""),
            "id": failed["id"],
            "order_id": failed["order_id"],
            "created_at": failed["created_at"],
            "status": "failed",
            "method": "upi",
            "currency": "INR",
            "amount": "10000",
            "captured": "false",
            "amount_captured": "0",
            "amount_refunded": "0",
            "fee": "0",
            "vpa": "failure@upi",
            "error_code": "PAYMENT_DECLINED",
            "error_reason": "payment_declined",
            "error_description": "The payment was declined.",
        },
        {
            **dict.fromkeys(COLUMNS, ""),
            "id": captured["id"],
            "order_id": captured["order_id"],
            "receipt": "inv-1",
            "created_at": captured["created_at"],
            "status": "success",
            "method": "card",
            "currency": "INR",
            "amount": "12345",
            "captured": "true",
            "amount_captured": "12345",
            "amount_refunded": "345",
            "fee": "0",
            "refund_status": "partial",
            "card_network": "visa",
            "card_last4": "4242",
        },
    ]
    assert rows(api) == rows(dashboard)


def test_it_is_a_file_with_the_days_name(api: Api) -> None:
    api.paid()
    answer = export(api)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    today = datetime.now(UTC).date().isoformat()
    assert answer.headers["Content-Disposition"] == f'attachment; filename="payments-{today}.csv"'
    assert (answer.headers["X-Total-Rows"], answer.headers["Cache-Control"]) == ("1", "no-store")
    assert answer.data.endswith(b"\r\n")


def test_without_payments_it_is_its_header(api: Api) -> None:
    api.order()
    answer = export(api)
    assert answer.text == ",".join(COLUMNS) + "\r\n"
    assert answer.headers["X-Total-Rows"] == "0"


@pytest.mark.parametrize(
    "receipt",
    [
        "a,b",
        'say "hi"',
        "two\nlines",
        "two\r\nlines",
        '",\r\n"',
        "a;b\tc",
        "रसीद ₹",
        "\U0001f600",
        " spaces ",
        "'quoted'",
    ],
)
def test_any_receipt_stays_one_cell(api: Api, receipt: str) -> None:
    api.upi(api.order(receipt=receipt)["id"])
    api.upi(api.order(receipt="next")["id"])
    assert [row["receipt"] for row in rows(api)] == ["next", receipt]


@pytest.mark.parametrize(
    "receipt",
    [
        *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1+1", "\r=1+1", '=HYPERLINK("http://x.example")', "=", "-"),
        *("=cmd|'/c calc'!A1", "\n=1+1", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20x"),
    ],
)
def test_nothing_that_was_typed_is_a_formula(api: Api, receipt: str) -> None:
    api.upi(api.order(receipt=receipt)["id"])
    assert [row["receipt"] for row in rows(api)] == ["'" + receipt]


def test_nor_is_a_upi_id(api: Api) -> None:
    api.upi(api.order()["id"], "-1.asha@okbank")
    assert [row["vpa"] for row in rows(api)] == ["'-1.asha@okbank"]


# --- which payments ------------------------------------------------------------------------------


def test_it_has_what_the_list_has_under_the_same_filters(app: Flask, api: Api) -> None:
    old = fail(api, receipt="inv-1")
    in_sql(app, "UPDATE payments SET created_at = '2026-01-15'")
    api.paid(500, number="4242424242424242", currency="USD", receipt="inv-2")
    api.upi(api.order(70000)["id"], "asha@okbank")
    second = api.upi(old["order_id"])
    for query, count in (
        ({}, 4),
        ({"status": "failed"}, 1),
        ({"status": "pending"}, 2),
        ({"method": "card"}, 1),
        ({"currency": "USD"}, 1),
        ({"order_id": old["order_id"]}, 2),
        ({"amount_min": 10000}, 3),
        ({"amount_max": 10000}, 3),
        ({"amount_min": 10000, "amount_max": 10000, "status": "pending"}, 1),
        ({"q": "4242"}, 1),
        ({"q": "inv"}, 3),
        ({"q": "inv", "method": "upi"}, 2),
        ({"q": "asha@"}, 1),
        ({"q": second["id"]}, 1),
        ({"q": "nothing"}, 0),
        ({"from": "2026-01-15T00:00:00Z", "to": "2026-01-15T00:00:01Z"}, 1),
        ({"to": "2026-01-15T00:00:00Z"}, 0),
        ({"from": "2026-01-16T00:00:00Z"}, 3),
    ):
        listed = [payment["id"] for payment in found(api.get("/payments", **query))["data"]]
        assert len(listed) == count, query
        assert ids(api, **query) == listed, query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *(({"status": "paid"}, "status"), ({"method": "cash"}, "method"), ({"currency": "XXX"}, "currency")),
        *(({"amount_min": "x"}, "amount_min"), ({"amount_max": "1.5"}, "amount_max"), ({"q": ""}, "q")),
        *(({"q": "a\0b"}, "q"), ({"order_id": "a\0b"}, "order_id"), ({"from": "today"}, "from")),
        *(({"to": "x"}, "to"), ({"from": "0000-01-01"}, "from"), ({"to": "9999-12-31T23:59:59-12:00"}, "to")),
    ],
)
def test_it_refuses_a_wrong_filter(api: Api, query: dict, field: str) -> None:
    refused(api.get("/payments/export", **query), 400, "BAD_REQUEST_ERROR", field)


def test_it_has_no_pages(api: Api) -> None:
    payments = [api.upi(api.order()["id"])["id"] for _ in range(3)]
    assert ids(api, limit=1, starting_after="pay_doesNotExist00000") == payments[::-1]


def test_each_merchant_has_its_own(api: Api, other: Api, other_dashboard: Dashboard) -> None:
    ours, theirs = api.paid(receipt="inv-1"), other.paid(receipt="inv-1")
    assert ids(api) == ids(api, q="inv") == [ours["id"]]
    assert ids(other_dashboard) == ids(other, q="inv") == [theirs["id"]]
    for query in ({"q": ours["id"]}, {"order_id": ours["order_id"]}):
        assert ids(other, **query) == []


def test_strangers_get_none(app: Flask, api: Api) -> None:
    api.paid()
    refused(app.test_client().get("/api/v1/payments/export"), 401, "AUTHENTICATION_ERROR")


# --- however many there are ----------------------------------------------------------------------


@pytest.mark.parametrize("count", [ROWS_A_QUERY - 1, ROWS_A_QUERY, ROWS_A_QUERY + 1, 2 * ROWS_A_QUERY])
def test_all_of_the_same_moment_are_in_it_once_in_order(app: Flask, api: Api, count: int) -> None:
    many(app, fail(api), count - 1, "'2026-01-15T00:00:00Z'")
    exported = ids(api)
    numbers = [f"pay_{number:016}" for number in range(count - 1, 0, -1)]
    assert exported[1:] == numbers
    assert ids(api, **{"to": "2026-01-16T00:00:00Z"}) == numbers


def test_of_many_moments_too(app: Flask, api: Api) -> None:
    count = 2 * ROWS_A_QUERY + 10
    many(app, fail(api), count, "timestamptz '2026-01-15' + number / 7 * interval '1 microsecond'")
    assert ids(api)[1:] == [f"pay_{number:016}" for number in range(count, 0, -1)]


@pytest.mark.parametrize("read", [1, 2], ids=["its header", "a thousand rows"])
def test_what_is_paid_while_it_is_made_is_not_in_it(app: Flask, api: Api, read: int) -> None:
    many(app, fail(api), ROWS_A_QUERY + 5, "'2026-01-15T00:00:00Z'")
    headers = {"X-Api-Key": TEST_API_KEY, "X-Api-Secret": TEST_API_SECRET}
    answer = app.test_client().get("/api/v1/payments/export", headers=headers)
    pieces = answer.iter_encoded()
    file = b"".join(next(pieces) for _ in range(read))
    api.paid()
    file += b"".join(pieces)
    _header, *lines = file.decode().splitlines()
    assert len(lines) == int(answer.headers["X-Total-Rows"]) == ROWS_A_QUERY + 6
    assert len(set(lines)) == len(lines)
    answer.close()


def test_a_slow_reader_keeps_no_transaction_open(app: Flask, api: Api) -> None:
    many(app, fail(api), 2 * ROWS_A_QUERY, "'2026-01-15T00:00:00Z'")
    headers = {"X-Api-Key": TEST_API_KEY, "X-Api-Secret": TEST_API_SECRET}
    answer = app.test_client().get("/api/v1/payments/export", headers=headers)
    with app.app_context():
        engine = db.engine
    idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    for _piece in answer.iter_encoded():
        with engine.connect() as connection:
            assert connection.scalar(text(idle)) == 0
    answer.close()


@pytest.mark.parametrize("accept", ["text/csv", "*/*", "application/json"])
def test_it_is_given_to_whoever_takes_csv_or_anything(app: Flask, api: Api, accept: str) -> None:
    headers = api.headers | {"Accept": accept}
    answer = app.test_client().get("/api/v1/payments/export", headers=headers)
    assert (answer.status_code, answer.mimetype) == (200, "text/csv")
