"""Orders: create with every limit, get, list page by page, the public view, expiry."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from jobs.clock import SWEEP_BATCH, expire_orders
from models.base import db
from models.merchants import TEST_MERCHANT_ID
from tests.conftest import Api, drain_all, found, made, refused

UNKNOWN = "order_doesNotExist0000"
DAY_S = 24 * 3600


def in_sql(statement: str, **values: Any) -> None:
    db.session.execute(text(statement), values)
    db.session.commit()


def end_time(order_id: str) -> None:
    """Let the time to pay an order be over."""
    in_sql("UPDATE orders SET expires_at = now() - interval '1 second' WHERE id = :id", id=order_id)


def order_of(api: Api, order_id: str) -> dict[str, Any]:
    return found(api.get(f"/orders/{order_id}"))


# --- creating ------------------------------------------------------------------------------------


def test_the_classic_first_call_makes_an_order_of_ours(api: Api) -> None:
    order = made(api.post("/orders", {"merchant_id": "1", "amount": 10000}))
    order_id, created_at = order.pop("id"), order.pop("created_at")
    assert order == {
        "merchant_id": TEST_MERCHANT_ID,
        "amount": 10000,
        "amount_paid": 0,
        "currency": "INR",
        "receipt": None,
        "notes": {},
        "capture": "automatic",
        "methods": ["upi", "card"],
        "callback_url": None,
        "status": "created",
        "expires_at": None,
        "checkout_url": f"http://localhost:3001/checkout?order_id={order_id}",
        "updated_at": created_at,
    }
    age = datetime.now(UTC) - datetime.strptime(created_at, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert abs(age.total_seconds()) < 60


def test_an_order_keeps_every_fact(api: Api) -> None:
    facts = {
        "amount": 123456,
        "currency": "EUR",
        "receipt": "R-17 ₹ 😀",
        "notes": {"table": "7", "naïve": ""},
        "capture": "manual",
        "methods": ["card"],
        "callback_url": "https://shop.example:8443/back?a=1#x",
    }
    order = made(api.post("/orders", facts))
    assert {name: order[name] for name in facts} == facts
    assert order_of(api, order["id"]) == order


@pytest.mark.parametrize(
    "facts",
    [
        {"amount": 100},
        {"amount": 999_999_999_999},
        {"receipt": None},
        {"receipt": "😀" * 255},
        {"notes": {f"{n:02}" + "k" * 254: "v" * 256 for n in range(15)}},
        {"methods": ["card", "upi"]},
        {"callback_url": None},
        {"callback_url": "http://localhost:3000/done"},
        {"callback_url": "https://shop.example/" + "a" * (2048 - len("https://shop.example/"))},
    ],
)
def test_an_order_may_go_to_the_limit(api: Api, facts: dict) -> None:
    order = made(api.post("/orders", {"amount": 10000} | facts))
    assert {name: order_of(api, order["id"])[name] for name in facts} == facts


@pytest.mark.parametrize("expires_in", [60, 90 * DAY_S])
def test_expires_in_counts_from_the_creation(api: Api, expires_in: int) -> None:
    order = api.order(expires_in=expires_in)
    created, expires = (datetime.fromisoformat(order[name]) for name in ("created_at", "expires_at"))
    assert (expires - created).total_seconds() == pytest.approx(expires_in, abs=0.01)


@pytest.mark.parametrize(
    "amount", [99, 0, -10000, 10**12, 10**30, True, 1.0, 100.5, "1", "10000", None, [], {}]
)
def test_it_refuses_an_amount_that_is_no_integer_within_the_limits(api: Api, amount: Any) -> None:
    refused(api.post("/orders", {"amount": amount}), 400, "BAD_REQUEST_ERROR", "amount")
    assert found(api.get("/orders"))["data"] == []


def test_it_refuses_a_missing_amount(api: Api) -> None:
    refused(api.post("/orders", {"receipt": "x"}), 400, "BAD_REQUEST_ERROR", "amount")


@pytest.mark.parametrize(("number", "field"), [("NaN", None), ("Infinity", None), ("1e999", "amount")])
def test_it_refuses_what_json_has_no_number_for(app: Flask, api: Api, number: str, field: str | None) -> None:
    body = f'{{"amount": {number}}}'
    answer = app.test_client().post(
        "/api/v1/orders", data=body, content_type="application/json", headers=api.headers
    )
    refused(answer, 400, "BAD_REQUEST_ERROR", field)


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"currency": "inr"}, "currency"),
        ({"currency": "XXX"}, "currency"),
        ({"currency": ""}, "currency"),
        ({"currency": 356}, "currency"),
        ({"currency": None}, "currency"),
        ({"receipt": "r" * 256}, "receipt"),
        ({"receipt": 7}, "receipt"),
        ({"receipt": "a\0b"}, "receipt"),
        ({"receipt": "\ud800"}, "receipt"),
        ({"notes": {f"k{n}": "v" for n in range(16)}}, "notes"),
        ({"notes": {"k": "v" * 257}}, "notes.k"),
        ({"notes": {"k" * 257: "v"}}, "notes." + "k" * 257),
        ({"notes": {"": "v"}}, "notes."),
        ({"notes": {"k": 1}}, "notes.k"),
        ({"notes": {"k": None}}, "notes.k"),
        ({"notes": {"k": {"nested": "v"}}}, "notes.k"),
        ({"notes": {"k": "a\0b"}}, "notes.k"),
        ({"notes": {"k": "\udfff"}}, "notes.k"),
        ({"notes": {"\0": "v"}}, "notes.\0"),
        ({"notes": ["k", "v"]}, "notes"),
        ({"notes": "k=v"}, "notes"),
        ({"notes": None}, "notes"),
        ({"capture": "auto"}, "capture"),
        ({"capture": ""}, "capture"),
        ({"capture": True}, "capture"),
        ({"capture": None}, "capture"),
        ({"expires_in": 59}, "expires_in"),
        ({"expires_in": 90 * DAY_S + 1}, "expires_in"),
        ({"expires_in": -60}, "expires_in"),
        ({"expires_in": 3600.0}, "expires_in"),
        ({"expires_in": "3600"}, "expires_in"),
        ({"expires_in": True}, "expires_in"),
        ({"methods": []}, "methods"),
        ({"methods": ["upi", "upi"]}, "methods"),
        ({"methods": ["upi", "card", "upi"]}, "methods"),
        ({"methods": ["upi", "cash"]}, "methods.1"),
        ({"methods": [None]}, "methods.0"),
        ({"methods": "upi"}, "methods"),
        ({"methods": None}, "methods"),
        ({"callback_url": "javascript:alert(1)"}, "callback_url"),
        ({"callback_url": "data:text/html,x"}, "callback_url"),
        ({"callback_url": "ftp://shop.example/"}, "callback_url"),
        ({"callback_url": "//shop.example/"}, "callback_url"),
        ({"callback_url": "shop.example"}, "callback_url"),
        ({"callback_url": "https:///path"}, "callback_url"),
        ({"callback_url": "https://user:secret@shop.example/"}, "callback_url"),
        ({"callback_url": "https://user@shop.example/"}, "callback_url"),
        ({"callback_url": "https://shop.example:99999/"}, "callback_url"),
        ({"callback_url": "https://[::1/"}, "callback_url"),
        ({"callback_url": "https://shop.example/a b"}, "callback_url"),
        ({"callback_url": "https://shop.example\\@evil.example/"}, "callback_url"),
        ({"callback_url": "https://shop.example/\r\nX: y"}, "callback_url"),
        ({"callback_url": "https://shop.example/" + "a" * 2048}, "callback_url"),
        ({"callback_url": ["https://shop.example/"]}, "callback_url"),
    ],
)
def test_it_refuses_a_wrong_fact_and_names_it(api: Api, facts: dict, field: str) -> None:
    refused(api.post("/orders", {"amount": 10000} | facts), 400, "BAD_REQUEST_ERROR", field)
    assert found(api.get("/orders"))["data"] == []


# --- getting and listing -------------------------------------------------------------------------


def test_orders_are_listed_newest_first(api: Api) -> None:
    ids = [api.order()["id"] for _ in range(3)]
    page = found(api.get("/orders"))
    assert [order["id"] for order in page["data"]] == ids[::-1]
    assert page["data"][0] == order_of(api, ids[-1])
    assert (page["has_more"], page["next_cursor"]) == (False, None)


def test_the_list_is_filtered_by_status_and_receipt(api: Api) -> None:
    paid = api.paid(receipt="A")["order_id"]
    created = api.order(receipt="A")["id"]
    api.order(receipt="B")

    def ids(**query: str) -> list[str]:
        return [order["id"] for order in found(api.get("/orders", **query))["data"]]

    assert ids(receipt="A") == [created, paid]
    assert ids(status="paid") == [paid]
    assert ids(status="created", receipt="A") == [created]
    assert ids(receipt="C") == []


def test_a_time_window_includes_its_start_and_not_its_end(api: Api, context: None) -> None:
    ids = [api.order()["id"] for _ in range(3)]
    for day, order_id in enumerate(ids, start=1):
        at = datetime(2026, 1, day, tzinfo=UTC)
        in_sql("UPDATE orders SET created_at = :at WHERE id = :id", at=at, id=order_id)

    def listed(**query: str) -> list[str]:
        return [order["id"] for order in found(api.get("/orders", **query))["data"]]

    assert listed(**{"from": "2026-01-01T00:00:00Z", "to": "2026-01-03T00:00:00Z"}) == [ids[1], ids[0]]
    assert listed(**{"from": "2026-01-02T05:30:00+05:30"}) == [ids[2], ids[1]]
    assert listed(to="2026-01-01T00:00:00.001") == [ids[0]]


def pages(api: Api, limit: int, meanwhile: Callable[[], Any], **query: Any) -> list[list[str]]:
    """The ids of each page, doing `meanwhile()` after each."""
    walked = []
    cursor = None
    while True:
        more: dict[str, str] = {"starting_after": cursor} if cursor else {}
        page = found(api.get("/orders", limit=limit, **query, **more))
        walked.append([order["id"] for order in page["data"]])
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        if cursor is None:
            return walked
        meanwhile()


def test_pages_meet_without_a_gap_while_new_orders_arrive(api: Api) -> None:
    ids = [api.order()["id"] for _ in range(5)]
    assert pages(api, 2, meanwhile=api.order) == [ids[:2:-1], ids[2:0:-1], ids[:1]]


def test_a_last_page_that_is_full_says_that_nothing_follows(api: Api) -> None:
    ids = [api.order()["id"] for _ in range(4)]
    assert pages(api, 2, meanwhile=lambda: None) == [ids[:1:-1], ids[1::-1]]


def test_orders_of_the_same_moment_are_still_told_apart(api: Api, context: None) -> None:
    ids = [api.order()["id"] for _ in range(3)]
    in_sql("UPDATE orders SET created_at = '2026-01-01'")
    assert pages(api, 1, meanwhile=lambda: None) == [[each] for each in reversed(ids)]


def test_a_walk_goes_on_from_an_order_that_has_left_the_filter(api: Api) -> None:
    ids = [api.order()["id"] for _ in range(3)]
    walked = pages(api, 2, meanwhile=lambda: api.upi(ids[1]), status="created")
    assert walked == [[ids[2], ids[1]], [ids[0]]]


@pytest.mark.parametrize("limit", [1, 100])
def test_a_page_holds_1_to_100(api: Api, limit: int) -> None:
    api.order()
    assert len(found(api.get("/orders", limit=limit))["data"]) == 1


def test_a_page_holds_20_if_nothing_is_said(api: Api) -> None:
    ids = [api.order()["id"] for _ in range(21)]
    page = found(api.get("/orders"))
    assert [order["id"] for order in page["data"]] == ids[:0:-1]
    assert page["next_cursor"] == ids[1]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"limit": "1.5"}, "limit"),
        ({"starting_after": UNKNOWN}, "starting_after"),
        ({"starting_after": ""}, "starting_after"),
        ({"from": "yesterday"}, "from"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "from"),
        ({"to": "9999-12-31T23:59:59-14:00"}, "to"),
        ({"limit": "1_0"}, "limit"),
        ({"limit": "\u0661"}, "limit"),
        ({"to": "2026-13-01T00:00:00Z"}, "to"),
        ({"status": "refunded"}, "status"),
        ({"receipt": "\0"}, "receipt"),
    ],
)
def test_it_refuses_a_wrong_query(api: Api, query: dict, field: str) -> None:
    refused(api.get("/orders", **query), 400, "BAD_REQUEST_ERROR", field)


def test_it_refuses_another_merchants_cursor(api: Api, other: Api) -> None:
    answer = other.get("/orders", starting_after=api.order()["id"])
    refused(answer, 400, "BAD_REQUEST_ERROR", "starting_after")


def test_the_attempts_to_pay_an_order_are_listed_newest_first(api: Api) -> None:
    order_id = api.order()["id"]
    failed = api.upi(order_id, "failure@upi")["id"]
    drain_all()
    success = api.card(order_id)["id"]
    api.upi(api.order()["id"])
    page = found(api.get(f"/orders/{order_id}/payments"))
    assert [payment["id"] for payment in page["data"]] == [success, failed]
    first = found(api.get(f"/orders/{order_id}/payments", limit=1))
    assert (first["has_more"], first["next_cursor"]) == (True, success)
    second = found(api.get(f"/orders/{order_id}/payments", limit=1, starting_after=success))
    assert [payment["id"] for payment in second["data"]] == [failed]


@pytest.mark.parametrize("path", ["/orders/{}", "/orders/{}/payments"])
def test_it_finds_neither_an_unknown_order_nor_another_merchants(api: Api, other: Api, path: str) -> None:
    refused(api.get(path.format(UNKNOWN)), 404, "NOT_FOUND_ERROR")
    refused(other.get(path.format(api.order()["id"])), 404, "NOT_FOUND_ERROR")


def test_the_list_shows_nothing_of_another_merchant(api: Api, other: Api) -> None:
    api.order()
    assert found(other.get("/orders"))["data"] == []


# --- the public view -----------------------------------------------------------------------------


def test_the_public_view_shows_what_the_checkout_needs_and_nothing_else(app: Flask, api: Api) -> None:
    order = api.order(receipt="R-1", notes={"cost": "5"}, callback_url="https://shop.example/", expires_in=60)
    shown = found(app.test_client().get(f"/api/v1/orders/{order['id']}/public"))
    same = ("id", "amount", "currency", "status", "methods", "callback_url", "expires_at", "created_at")
    merchant = {"name": "Test Merchant", "logo_url": None}
    told = {"merchant": merchant, "accent": None, "payment": None, "simulated": True}
    assert shown == {name: order[name] for name in same} | told


def test_the_public_view_of_an_unknown_order_is_a_404(app: Flask) -> None:
    refused(app.test_client().get(f"/api/v1/orders/{UNKNOWN}/public"), 404, "NOT_FOUND_ERROR")


# --- expiry --------------------------------------------------------------------------------------


def test_an_order_takes_no_payment_after_its_time(api: Api, context: None) -> None:
    order_id = api.order(expires_in=60)["id"]
    end_time(order_id)
    answer = api.post("/payments", {"order_id": order_id, "method": "upi", "vpa": "success@upi"})
    assert refused(answer, 409, "CONFLICT_ERROR")["reason"] == "order_expired"
    assert found(api.get(f"/orders/{order_id}/payments"))["data"] == []


def test_the_clock_expires_an_order_that_nobody_paid(api: Api, context: None) -> None:
    lasting = [api.order()["id"], api.order(expires_in=60)["id"]]
    untried, failed = api.order(expires_in=60)["id"], api.order(expires_in=60)["id"]
    api.upi(failed, "failure@upi")
    drain_all()
    end_time(untried)
    end_time(failed)
    expire_orders()
    expire_orders()
    assert {order_of(api, each)["status"] for each in (untried, failed)} == {"expired"}
    assert {order_of(api, each)["status"] for each in lasting} == {"created"}
    events = found(api.get("/events", event="order.expired"))["data"]
    assert sorted(event["data"]["order"]["id"] for event in events) == sorted([untried, failed])
    assert {event["data"]["order"]["status"] for event in events} == {"expired"}
    answer = api.post("/payments", {"order_id": untried, "method": "upi", "vpa": "success@upi"})
    assert refused(answer, 409, "CONFLICT_ERROR")["reason"] == "order_expired"


@pytest.mark.parametrize("capture", ["automatic", "manual"])
def test_an_order_with_a_live_payment_does_not_expire(api: Api, context: None, capture: str) -> None:
    order_id = api.order(capture=capture, expires_in=60)["id"]
    payment_id = api.upi(order_id)["id"]
    end_time(order_id)
    expire_orders()  # pending
    drain_all()
    expire_orders()  # approved
    api.post(f"/payments/{payment_id}/capture")
    expire_orders()  # paid
    assert order_of(api, order_id)["status"] == "paid"
    assert found(api.get("/events", event="order.expired"))["data"] == []


def test_many_orders_with_live_payments_do_not_keep_others_from_expiring(api: Api, context: None) -> None:
    in_sql(
        "INSERT INTO orders (id, merchant_id, amount, currency, status, expires_at) "
        "SELECT 'order_' || lpad(n::text, 16, '0'), :merchant, 100, 'INR', 'attempted', "
        "now() - interval '1 day' FROM generate_series(1, :n) n",
        n=SWEEP_BATCH,
        merchant=TEST_MERCHANT_ID,
    )
    in_sql(
        "INSERT INTO payments (id, merchant_id, order_id, amount, currency, capture, method, flow, vpa, "
        "status, action_expires_at, operation, due_at) SELECT 'pay_' || right(id, 16), merchant_id, id, "
        "amount, currency, capture, 'upi', 'collect', 'pending@upi', 'requires_action', now(), 'authorize', "
        "now() + interval '15 minutes' FROM orders"
    )
    order_id = api.order(expires_in=60)["id"]
    end_time(order_id)
    expire_orders()
    assert order_of(api, order_id)["status"] == "expired"
