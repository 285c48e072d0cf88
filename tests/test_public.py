"""Payments from the checkout page, without a secret: what is shown, refused, and limited."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from app import create_app
from models.base import db
from tests.conftest import Api, card_body, drain_all, found, made, refused, settings_of

DAY_S = 24 * 3600
SHOWN = {
    *("id", "order_id", "amount", "currency", "method", "flow", "status", "next_action"),
    *("error_code", "error_reason", "error_description", "created_at", "updated_at"),
}
HOME, ELSEWHERE = "198.51.100.7", "203.0.113.9"


def pay(app: Flask, body: Any, address: str = HOME, **headers: str) -> TestResponse:
    return app.test_client().post(
        "/api/v1/payments/public", json=body, headers=headers, environ_base={"REMOTE_ADDR": address}
    )


def look(app: Flask, payment_id: str) -> TestResponse:
    return app.test_client().get(f"/api/v1/payments/{payment_id}/public")


def upi(order_id: str, vpa: str = "success@upi") -> dict[str, str]:
    return {"order_id": order_id, "method": "upi", "vpa": vpa}


def card(order_id: str, **facts: Any) -> dict[str, Any]:
    return {"order_id": order_id, "method": "card", "card": card_body(**facts)}


# --- paying --------------------------------------------------------------------------------------


@pytest.mark.parametrize("body_of", [upi, card])
def test_a_shopper_pays_and_sees_no_more_than_its_payment(app: Flask, api: Api, body_of) -> None:
    order = api.order()
    pending = made(pay(app, body_of(order["id"])))
    assert set(pending) == SHOWN
    assert (pending["order_id"], pending["amount"], pending["status"]) == (order["id"], 10000, "pending")
    assert found(look(app, pending["id"])) == pending
    drain_all()
    settled = found(look(app, pending["id"]))
    assert (set(settled), settled["status"]) == (SHOWN, "success")
    merchants_view = api.payment(pending["id"])
    assert {name: merchants_view[name] for name in SHOWN} == settled


def test_a_shopper_sees_why_the_payment_failed(app: Flask, api: Api) -> None:
    payment = made(pay(app, card(api.order()["id"], number="4000000000009995")))
    drain_all()
    failed = found(look(app, payment["id"]))
    assert (failed["status"], failed["error_code"]) == ("failed", "PAYMENT_DECLINED")
    assert failed["error_reason"] == "insufficient_funds"
    assert failed["error_description"]


def test_any_merchants_order_can_be_paid_by_who_knows_it(app: Flask, api: Api, other: Api) -> None:
    payment = made(pay(app, upi(other.order()["id"])))
    drain_all()
    assert other.payment(payment["id"])["status"] == "success"
    refused(api.get(f"/payments/{payment['id']}"), 404, "NOT_FOUND_ERROR")


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"vpa": "not a vpa"}, "INVALID_VPA", "vpa"),
        ({"method": "cash"}, "BAD_REQUEST_ERROR", "method"),
        ({"method": "card"}, "BAD_REQUEST_ERROR", "vpa"),
        ({"vpa": None, "method": "card"}, "BAD_REQUEST_ERROR", "card"),
        (
            {"vpa": None, "method": "card", "card": card_body("4242424242424241")},
            "INVALID_CARD",
            "card.number",
        ),
        ({"vpa": None, "method": "card", "card": card_body(cvv="1")}, "INVALID_CVV", "card.cvv"),
        (
            {"vpa": None, "method": "card", "card": card_body(expiry_year=2020)},
            "EXPIRED_CARD",
            "card.expiry_month",
        ),
        ({"order_id": None}, "BAD_REQUEST_ERROR", "order_id"),
        ({"order_id": {"$ne": 1}}, "BAD_REQUEST_ERROR", "order_id"),
    ],
)
def test_it_refuses_a_wrong_body(app: Flask, api: Api, change: dict, code: str, field: str) -> None:
    refused(pay(app, upi(api.order()["id"]) | change), 400, code, field)
    assert found(api.get("/payments"))["data"] == []


def test_it_refuses_an_order_that_is_paid_or_being_paid(app: Flask, api: Api) -> None:
    order_id = api.order()["id"]
    made(pay(app, upi(order_id)))
    answer = pay(app, upi(order_id))
    assert refused(answer, 409, "CONFLICT_ERROR")["reason"] == "payment_in_progress"
    drain_all()
    assert refused(pay(app, upi(order_id)), 409, "CONFLICT_ERROR")["reason"] == "order_paid"


def test_it_refuses_an_order_whose_time_is_over(app: Flask, api: Api) -> None:
    order_id = api.order(expires_in=60)["id"]
    with app.app_context():
        db.session.execute(text("UPDATE orders SET expires_at = now()"))
        db.session.commit()
    assert refused(pay(app, upi(order_id)), 409, "CONFLICT_ERROR")["reason"] == "order_expired"


def test_it_finds_nothing_unknown(app: Flask, api: Api) -> None:
    refused(pay(app, upi("order_doesNotExist0000")), 404, "NOT_FOUND_ERROR")
    refused(look(app, "pay_doesNotExist00000"), 404, "NOT_FOUND_ERROR")
    refused(look(app, api.order()["id"]), 404, "NOT_FOUND_ERROR")


# --- limits --------------------------------------------------------------------------------------


@pytest.fixture
def limited(app: Flask, environ: dict[str, str]) -> Iterator[Flask]:
    """Three payments a day from one address, two of one order."""
    limits = {"PUBLIC_RATE_LIMIT_PER_ADDRESS": "3 per day", "PUBLIC_RATE_LIMIT_PER_ORDER": "2 per day"}
    limited = create_app(settings_of(environ | limits))
    yield limited
    with limited.app_context():
        db.engine.dispose()


def too_many(answer: TestResponse) -> None:
    refused(answer, 429, "RATE_LIMIT_ERROR")
    assert 1 <= int(answer.headers["Retry-After"]) <= DAY_S


def test_one_address_may_only_try_so_often(limited: Flask, api: Api) -> None:
    orders = [api.order()["id"] for _ in range(5)]
    made(pay(limited, upi(orders[0])))
    refused(pay(limited, upi(orders[1], "wrong")), 400, "INVALID_VPA", "vpa")
    made(pay(limited, upi(orders[2])))
    too_many(pay(limited, upi(orders[3])))
    too_many(pay(limited, upi(orders[3]), **{"X-Forwarded-For": ELSEWHERE}))
    made(pay(limited, upi(orders[4]), ELSEWHERE))
    api.upi(orders[3])  # with a secret, there is no limit
    assert len(found(api.get("/payments"))["data"]) == 4


def test_one_order_may_only_be_tried_so_often(limited: Flask, api: Api) -> None:
    order_id, another = api.order()["id"], api.order()["id"]
    addresses = [f"192.0.2.{n}" for n in range(1, 5)]
    for address in addresses[:2]:
        made(pay(limited, upi(order_id, "failure@upi"), address))
        drain_all()
    for address in addresses[2:]:
        too_many(pay(limited, upi(order_id), address))
    made(pay(limited, upi(another), addresses[2]))
    assert len(found(api.get(f"/orders/{order_id}/payments"))["data"]) == 2
