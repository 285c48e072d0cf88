"""GET /payments, /payments/list, /payments/stats and /webhooks/stats: what dashboards show."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from models.base import db
from tests.conftest import Api, drain_all, found, in_sql, refused
from tests.receiver import Receiver

LISTS = ("/payments", "/payments/list")


def stats(api: Api, **query: Any) -> dict[str, Any]:
    return found(api.get("/payments/stats", **query))


def fail(api: Api, amount: int = 10000) -> dict[str, Any]:
    payment = api.upi(api.order(amount)["id"], "failure@upi")
    drain_all()
    return api.payment(payment["id"])


def move_to(payment: dict[str, Any], moment: str) -> None:
    """Let the payment have been made at another time (an SQL expression)."""
    statement = f"UPDATE payments SET created_at = {moment} WHERE id = :id"
    db.session.execute(text(statement), {"id": payment["id"]})
    db.session.commit()


# --- totals --------------------------------------------------------------------------------------


def test_without_payments_all_figures_are_zero(api: Api) -> None:
    api.order()
    assert stats(api) == {
        "currency": "INR",
        "currencies": [],
        "totalTransactions": 0,
        "totalAmount": 0,
        "successRate": 0,
    }
    nothing = {"transactions": 0, "amount": 0, "approved": 0, "failed": 0, "successRate": 0}
    shown = stats(api, days=2)
    assert shown["period"] == nothing
    assert [day | {"date": ""} for day in shown["days"]] == [nothing | {"date": ""}] * 2
    assert shown["failureReasons"] == []


def test_it_counts_all_payments_and_sums_what_was_captured(api: Api) -> None:
    api.paid(10000)
    api.paid(2500)
    fail(api, 40000)
    api.paid(5000, capture="manual")
    api.upi(api.order(70000)["id"])
    assert stats(api) == {
        "currency": "INR",
        "currencies": ["INR"],
        "totalTransactions": 5,
        "totalAmount": 12500,
        "successRate": 75.0,
    }


@pytest.mark.parametrize(
    ("succeeded", "failed", "rate"), [(1, 0, 100.0), (0, 1, 0.0), (2, 1, 66.67), (1, 2, 33.33), (1, 7, 12.5)]
)
def test_the_success_rate_is_per_cent_of_the_settled(
    api: Api, succeeded: int, failed: int, rate: float
) -> None:
    for _ in range(succeeded):
        api.upi(api.order()["id"])
    for _ in range(failed):
        api.upi(api.order()["id"], "failure@upi")
    assert stats(api)["successRate"] == 0
    drain_all()
    assert stats(api)["successRate"] == rate


def test_captures_in_part_count_with_their_part_and_voids_with_nothing(api: Api) -> None:
    captured, voided = api.paid(capture="manual"), api.paid(capture="manual")
    found(api.post(f"/payments/{captured['id']}/capture", {"amount": 6000}))
    found(api.post(f"/payments/{voided['id']}/void"))
    assert stats(api) == {
        "currency": "INR",
        "currencies": ["INR"],
        "totalTransactions": 2,
        "totalAmount": 6000,
        "successRate": 100.0,
    }


def test_two_currencies_are_never_added_up(api: Api) -> None:
    api.paid(10000)
    api.paid(500, number="4242424242424242", currency="JPY")
    assert stats(api)["totalAmount"] == 10000
    in_yen = stats(api, currency="JPY", days=1)
    assert in_yen["days"][0]["amount"] == in_yen["period"]["amount"] == in_yen["totalAmount"] == 500
    assert stats(api)["currencies"] == in_yen["currencies"] == ["INR", "JPY"]
    in_euros = stats(api, currency="EUR")
    assert (in_euros["currencies"], in_euros["totalTransactions"]) == (["INR", "JPY"], 0)
    refused(api.get("/payments/stats", currency="XXX"), 400, "BAD_REQUEST_ERROR", "currency")


def test_the_figures_are_the_merchants_own(api: Api, other: Api) -> None:
    api.paid()
    fail(api)
    theirs = stats(other, days=1)
    assert (theirs["totalTransactions"], theirs["currencies"]) == (0, [])
    assert theirs["days"][0]["transactions"] == theirs["period"]["transactions"] == 0
    assert theirs["failureReasons"] == []


# --- days ----------------------------------------------------------------------------------------


def test_a_series_has_one_entry_a_day_up_to_today(api: Api) -> None:
    api.paid(300)
    fail(api)
    series = stats(api, days=30)["days"]
    today = datetime.now(UTC).date()
    assert [date.fromisoformat(day["date"]) for day in series] == [
        today - timedelta(days=ago) for ago in range(29, -1, -1)
    ]
    assert series[-1] == {
        "date": today.isoformat(),
        "transactions": 2,
        "amount": 300,
        "approved": 1,
        "failed": 1,
        "successRate": 50.0,
    }
    assert all((day["transactions"], day["amount"], day["successRate"]) == (0, 0, 0) for day in series[:-1])


def test_a_payment_counts_on_its_day_in_utc(api: Api, context: None) -> None:
    today = "date_trunc('day', now())"
    for amount, moment in (
        (100, f"{today} - interval '2 days'"),
        (200, f"{today} - interval '1 day' - interval '1 microsecond'"),
        (400, f"{today} - interval '1 day'"),
        (800, f"{today} - interval '2 days 1 microsecond'"),
        (1600, today),
    ):
        move_to(api.paid(amount), moment)
    shown = stats(api, days=3)
    assert [day["amount"] for day in shown["days"]] == [300, 400, 1600]
    assert [day["transactions"] for day in shown["days"]] == [2, 1, 1]
    assert (shown["totalTransactions"], shown["totalAmount"]) == (5, 3100)
    assert (shown["period"]["transactions"], shown["period"]["amount"]) == (4, 2300)


def test_a_period_sums_its_days_and_what_is_under_way_is_neither_approved_nor_failed(api: Api) -> None:
    api.paid(300)
    voided = api.paid(capture="manual")
    found(api.post(f"/payments/{voided['id']}/void"))
    api.paid(500, capture="manual")
    fail(api)
    api.upi(api.order()["id"])
    shown = stats(api, days=7)
    expected = {"transactions": 5, "amount": 300, "approved": 3, "failed": 1, "successRate": 75.0}
    assert shown["period"] == expected
    assert shown["days"][-1] == expected | {"date": shown["days"][-1]["date"]}
    assert shown["successRate"] == 75.0


def test_why_payments_failed_is_told_the_most_frequent_first(api: Api, context: None) -> None:
    for number, times in (("4000000000009995", 1), ("4000000000000002", 3), ("4000000000000127", 2)):
        for _ in range(times):
            api.paid(number=number)
    move_to(api.paid(number="4000000000009987"), "now() - interval '2 days'")
    api.paid(number="4000000000000002", currency="USD")
    assert stats(api, days=2)["failureReasons"] == [
        {"reason": "card_declined", "count": 3},
        {"reason": "incorrect_cvc", "count": 2},
        {"reason": "insufficient_funds", "count": 1},
    ]
    assert {"reason": "lost_card", "count": 1} in stats(api, days=3)["failureReasons"]
    assert stats(api, days=3, currency="USD")["failureReasons"] == [{"reason": "card_declined", "count": 1}]
    assert "failureReasons" not in stats(api)


@pytest.mark.parametrize("days", [1, 366])
def test_a_series_has_1_to_366_days(api: Api, days: int) -> None:
    assert len(stats(api, days=days)["days"]) == days


@pytest.mark.parametrize("days", [0, 367, -1, "ten", "", "1.5"])
def test_it_refuses_any_other_number_of_days(api: Api, days: Any) -> None:
    refused(api.get("/payments/stats", days=days), 400, "BAD_REQUEST_ERROR", "days")


# --- lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS)
def test_payments_are_listed_newest_first_page_by_page(api: Api, path: str) -> None:
    payments = [api.upi(api.order()["id"]) for _ in range(3)]
    first = found(api.get(path, limit=2))
    cursor = payments[1]["id"]
    assert first == {"data": [payments[2], payments[1]], "has_more": True, "next_cursor": cursor}
    last = found(api.get(path, limit=2, starting_after=cursor))
    assert last == {"data": [payments[0]], "has_more": False, "next_cursor": None}


@pytest.mark.parametrize("path", LISTS)
def test_the_list_is_filtered_by_status_method_order_and_time(api: Api, context: None, path: str) -> None:
    def ids(**query: Any) -> list[str]:
        return [payment["id"] for payment in found(api.get(path, **query))["data"]]

    by_card, failed = api.paid(number="4242424242424242"), fail(api)
    pending = api.upi(failed["order_id"])
    move_to(by_card, "'2026-01-15T00:00:00Z'")
    assert ids(method="card") == ids(status="success") == [by_card["id"]]
    assert ids(order_id=failed["order_id"]) == [pending["id"], failed["id"]]
    assert ids(order_id=failed["order_id"], status="failed") == [failed["id"]]
    assert ids(**{"from": "2026-01-15T00:00:00Z", "to": "2026-01-16T00:00:00Z"}) == [by_card["id"]]
    assert ids(to="2026-01-15T00:00:00Z") == []


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "paid"}, "status"),
        ({"method": "cash"}, "method"),
        ({"limit": 101}, "limit"),
        ({"starting_after": "pay_doesNotExist00000"}, "starting_after"),
        ({"from": "x"}, "from"),
    ],
)
def test_it_refuses_a_wrong_query(api: Api, path: str, query: dict, field: str) -> None:
    refused(api.get(path, **query), 400, "BAD_REQUEST_ERROR", field)


@pytest.mark.parametrize("path", LISTS)
def test_another_merchant_sees_none_of_them(api: Api, other: Api, path: str) -> None:
    payment = api.upi(api.order()["id"])
    assert found(other.get(path))["data"] == []
    assert found(other.get(path, order_id=payment["order_id"]))["data"] == []
    refused(other.get(path, starting_after=payment["id"]), 400, "BAD_REQUEST_ERROR", "starting_after")
    refused(other.get(f"/payments/{payment['id']}"), 404, "NOT_FOUND_ERROR")


# --- webhooks ------------------------------------------------------------------------------------


def test_how_webhooks_fare_is_told_in_all_and_by_endpoint(
    app: Flask, api: Api, other: Api, receiver: Receiver
) -> None:
    good = api.endpoint(receiver.url, events=["payment.created"])
    receiver.answers = [200, 200, 500]
    for _ in range(3):
        api.paid()
    found(api.patch(f"/webhook_endpoints/{good['id']}", {"enabled": False}))
    bad = api.endpoint(receiver.url, events=["payment.created"])
    receiver.answers = [410]
    api.paid()
    assert found(api.get("/webhooks/stats")) == {
        "pending": 1,
        "success": 2,
        "failed": 1,
        "endpoints": sorted(
            [
                {"endpoint_id": good["id"], "pending": 1, "success": 2, "failed": 0},
                {"endpoint_id": bad["id"], "pending": 0, "success": 0, "failed": 1},
            ],
            key=lambda each: each["endpoint_id"],
        ),
    }
    nothing = {"pending": 0, "success": 0, "failed": 0, "endpoints": []}
    assert found(other.get("/webhooks/stats")) == nothing
    in_sql(app, "UPDATE webhook_deliveries SET created_at = date_trunc('day', now()) - interval '1 minute'")
    assert found(api.get("/webhooks/stats", days=1)) == nothing
    assert found(api.get("/webhooks/stats", days=2))["success"] == 2


@pytest.mark.parametrize("days", [0, 367, -1, "ten", "", "1.5", "1" * 30, "\u0661"])
def test_that_too_is_told_for_1_to_366_days(api: Api, days: Any) -> None:
    refused(api.get("/webhooks/stats", days=days), 400, "BAD_REQUEST_ERROR", "days")
