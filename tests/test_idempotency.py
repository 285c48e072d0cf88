"""Idempotency-Key: a request takes effect once, whatever is repeated, raced, or killed half-way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from jobs import work
from models import vault
from models.base import db
from models.idempotency import IdempotencyKey, _lock_number
from models.merchants import TEST_MERCHANT_ID
from models.payments import Payment
from tests.conftest import Api, card_body, drain_all, found, made, refused

pytestmark = pytest.mark.usefixtures("proven")

ORDER = {"amount": 10000, "notes": {"a": "1", "b": "2"}}


def count(api: Api, path: str) -> int:
    return len(found(api.get(path))["data"])


def replayed(answer: Any, first: Any) -> bool:
    """Whether `answer` is `first` again: the same status and the same bytes, and it says so."""
    assert "Idempotent-Replayed" not in first.headers
    assert (answer.status_code, answer.data, answer.mimetype) == (
        first.status_code,
        first.data,
        first.mimetype,
    )
    return answer.headers.get("Idempotent-Replayed") == "true"


def stored_keys() -> int:
    return db.session.query(IdempotencyKey).count()


def take_lock(connection: Connection, key: str) -> None:
    """What a request with this key does first."""
    number = _lock_number(TEST_MERCHANT_ID, key)
    assert connection.scalar(text("SELECT pg_try_advisory_xact_lock(:n)"), {"n": number})


# --- replays -------------------------------------------------------------------------------------


def test_a_repeated_request_is_answered_with_the_first_answer(api: Api) -> None:
    first = api.post("/orders", ORDER, key="k1")
    made(first)
    assert replayed(api.post("/orders", ORDER, key="k1"), first)
    assert replayed(api.post("/orders", ORDER, key="k1"), first)
    assert count(api, "/orders") == 1


def test_the_first_answer_is_given_even_when_the_thing_has_changed(api: Api) -> None:
    body = {"order_id": api.order()["id"], "method": "upi", "vpa": "success@upi"}
    first = api.post("/payments", body, key="k1")
    drain_all()
    assert replayed(api.post("/payments", body, key="k1"), first)
    assert first.get_json()["status"] == "pending"
    assert api.payment(first.get_json()["id"])["status"] == "success"


def test_the_order_of_the_names_in_the_body_does_not_matter(app: Flask, api: Api) -> None:
    def post(body: str) -> Any:
        headers = api.headers | {"Idempotency-Key": "k1"}
        return app.test_client().post(
            "/api/v1/orders", data=body, content_type="application/json", headers=headers
        )

    first = post('{"amount": 10000, "notes": {"a": "1", "b": "2"}}')
    assert replayed(post('{"notes":{"b":"2","a":"1"},"amount":10000}'), first)


@pytest.mark.parametrize(
    "body",
    [
        {"amount": 10001},
        {"amount": "10000"},
        {"amount": 10000.0},
        {"amount": 10000, "ignored": 1},
        {"amount": 10000, "notes": {}},
        {},
    ],
)
def test_another_body_under_the_same_key_is_refused(api: Api, body: dict) -> None:
    first = api.post("/orders", {"amount": 10000}, key="k1")
    made(first)
    refused(api.post("/orders", body, key="k1"), 422, "IDEMPOTENCY_ERROR")
    assert replayed(api.post("/orders", {"amount": 10000}, key="k1"), first)
    assert count(api, "/orders") == 1


def test_another_endpoint_under_the_same_key_is_refused(api: Api) -> None:
    payments = [api.paid(), api.paid()]
    made(api.post(f"/payments/{payments[0]['id']}/refunds", {"amount": 1}, key="k1"))
    for path in (f"/payments/{payments[1]['id']}/refunds", f"/payments/{payments[0]['id']}/capture"):
        refused(api.post(path, {"amount": 1}, key="k1"), 422, "IDEMPOTENCY_ERROR")
    assert count(api, "/refunds") == 1


def test_the_same_key_of_another_merchant_is_another_key(api: Api, other: Api) -> None:
    mine, theirs = api.post("/orders", ORDER, key="k1"), other.post("/orders", ORDER, key="k1")
    assert made(mine)["id"] != made(theirs)["id"]
    assert "Idempotent-Replayed" not in theirs.headers
    assert replayed(other.post("/orders", ORDER, key="k1"), theirs)


def test_without_a_key_every_request_takes_effect(api: Api) -> None:
    assert made(api.post("/orders", ORDER))["id"] != made(api.post("/orders", ORDER))["id"]


@pytest.mark.parametrize("key", ["x", "k" * 255, 'with spaces; and "quotes" ~!\''])
def test_a_key_may_be_any_printable_text_up_to_255_characters(api: Api, key: str) -> None:
    first = api.post("/orders", ORDER, key=key)
    assert replayed(api.post("/orders", ORDER, key=key), first)


@pytest.mark.parametrize("key", ["", "k" * 256, "schlüssel", "a\tb"])
def test_it_refuses_a_key_that_is_none(api: Api, key: str) -> None:
    refused(api.post("/orders", ORDER, key=key), 400, "BAD_REQUEST_ERROR", "Idempotency-Key")
    assert count(api, "/orders") == 0


@pytest.mark.parametrize("key", ["", "k" * 256, "k1"])
def test_a_get_takes_no_notice_of_the_key(app: Flask, api: Api, key: str) -> None:
    headers = api.headers | {"Idempotency-Key": key}
    order = api.order()
    for query, data in (("", [order]), ("?receipt=none", [])):
        answer = app.test_client().get("/api/v1/orders" + query, headers=headers)
        assert found(answer)["data"] == data
    with app.app_context():
        assert stored_keys() == 0


@pytest.mark.parametrize("key", ["k" * 256, "k1"])
def test_nor_does_a_patch(app: Flask, api: Api, key: str) -> None:
    endpoint = made(api.post("/webhook_endpoints", {"url": "https://shop.example/webhook"}))
    headers = api.headers | {"Idempotency-Key": key}
    for enabled in (False, True):
        path = f"/api/v1/webhook_endpoints/{endpoint['id']}"
        answer = app.test_client().patch(path, json={"enabled": enabled}, headers=headers)
        assert found(answer)["enabled"] is enabled


# --- every kind of POST --------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [None, 6000])
def test_a_capture_is_replayed(api: Api, amount: int | None) -> None:
    path = f"/payments/{api.paid(capture='manual')['id']}/capture"
    first = api.post(path, {"amount": amount}, key="k1")
    assert found(first)["captured"] is True
    assert replayed(api.post(path, {"amount": amount}, key="k1"), first)


def test_a_void_is_replayed(api: Api) -> None:
    path = f"/payments/{api.paid(capture='manual')['id']}/void"
    first = api.post(path, key="k1")
    assert found(first)["status"] == "voided"
    assert replayed(api.post(path, key="k1"), first)


def test_a_refund_is_replayed(api: Api) -> None:
    payment = api.paid()
    path = f"/payments/{payment['id']}/refunds"
    first = api.post(path, {"amount": 4000}, key="k1")
    made(first)
    drain_all()
    assert replayed(api.post(path, {"amount": 4000}, key="k1"), first)
    drain_all()
    assert api.payment(payment["id"])["amount_refunded"] == 4000


def test_a_card_payment_is_replayed(api: Api) -> None:
    body = {"order_id": api.order()["id"], "method": "card", "card": card_body()}
    first = api.post("/payments", body, key="k1")
    made(first)
    assert replayed(api.post("/payments", body, key="k1"), first)
    body["card"] = card_body("4111111111111111")
    refused(api.post("/payments", body, key="k1"), 422, "IDEMPOTENCY_ERROR")


def test_of_a_cvv_nothing_is_kept_not_even_to_compare_it(api: Api, context: None) -> None:
    body = {"order_id": api.order()["id"], "method": "card", "card": card_body(cvv="123")}
    first = api.post("/payments", body, key="k1")
    made(first)
    kept = db.session.query(IdempotencyKey.fingerprint).scalar()
    assert replayed(api.post("/payments", body | {"card": card_body(cvv="321")}, key="k1"), first)
    card = {name: value for name, value in card_body().items() if name != "cvv"}
    asked = json.dumps(["POST", "/api/v1/payments", body | {"card": card}], sort_keys=True)
    assert kept == vault.keyed_hash("idempotency fingerprint", asked.encode())


def test_a_new_webhook_endpoint_is_replayed_with_its_secret(api: Api, context: None) -> None:
    body = {"url": "https://shop.example/webhook"}
    first = api.post("/webhook_endpoints", body, key="k1")
    secret = made(first)["secret"]
    assert replayed(api.post("/webhook_endpoints", body, key="k1"), first)
    assert secret.startswith("whsec_")
    stored = db.session.query(IdempotencyKey).one()
    assert vault.unseal(bytes(stored.response_body or b"")) == first.text
    for hidden in (secret, made(first)["id"], "webhook"):
        assert hidden.encode() not in bytes(stored.response_body or b"")


def test_a_public_payment_is_replayed_for_its_order_alone(app: Flask, api: Api) -> None:
    def post(order_id: str, key: str = "k1", vpa: str = "success@upi") -> Any:
        body = {"order_id": order_id, "method": "upi", "vpa": vpa}
        headers = {"Idempotency-Key": key}
        return app.test_client().post("/api/v1/payments/public", json=body, headers=headers)

    one, two = api.order()["id"], api.order()["id"]
    first, second = post(one), post(two)
    assert made(first)["id"] != made(second)["id"]
    assert replayed(post(one), first)
    assert replayed(post(two), second)
    refused(post(one, vpa="other@upi"), 422, "IDEMPOTENCY_ERROR")
    assert count(api, "/payments") == 2


def test_a_merchants_key_and_a_shoppers_key_are_two(app: Flask, api: Api) -> None:
    body = {"order_id": api.order()["id"], "method": "upi", "vpa": "success@upi"}
    payment = made(api.post("/payments", body, key="k1"))
    answer = app.test_client().post("/api/v1/payments/public", json=body, headers={"Idempotency-Key": "k1"})
    refused(answer, 409, "CONFLICT_ERROR")
    assert payment["id"] not in answer.text


# --- what is not stored --------------------------------------------------------------------------


def test_a_refused_request_keeps_nothing(api: Api, context: None) -> None:
    refused(api.post("/orders", {"amount": 99}, key="k1"), 400, "BAD_REQUEST_ERROR", "amount")
    assert stored_keys() == 0
    first = api.post("/orders", ORDER, key="k1")
    made(first)
    assert replayed(api.post("/orders", ORDER, key="k1"), first)


def test_a_request_that_was_in_conflict_can_be_repeated(api: Api) -> None:
    body = {"order_id": api.order()["id"], "method": "upi", "vpa": "success@upi"}
    api.upi(body["order_id"], "failure@upi")
    refused(api.post("/payments", body, key="k1"), 409, "CONFLICT_ERROR")
    drain_all()
    made(api.post("/payments", body, key="k1"))


def test_after_a_day_the_key_may_be_used_anew(api: Api, context: None) -> None:
    first = made(api.post("/orders", ORDER, key="k1"))
    lifetime = db.session.scalar(text("SELECT expires_at - created_at FROM idempotency_keys"))
    assert lifetime.total_seconds() == 24 * 3600
    db.session.execute(text("UPDATE idempotency_keys SET expires_at = now()"))
    db.session.commit()
    second = api.post("/orders", {"amount": 500}, key="k1")
    assert made(second)["id"] != first["id"]
    assert replayed(api.post("/orders", {"amount": 500}, key="k1"), second)
    assert stored_keys() == 1


def test_the_clock_forgets_what_has_expired(api: Api, context: None) -> None:
    for key in ("old", "new"):
        api.post("/orders", ORDER, key=key)
    db.session.execute(text("UPDATE idempotency_keys SET expires_at = now() WHERE key = 'old'"))
    IdempotencyKey.forget_expired(limit=10)
    db.session.commit()
    assert [row.key for row in db.session.query(IdempotencyKey)] == ["new"]


# --- races and crashes ---------------------------------------------------------------------------


def test_while_the_first_request_runs_a_second_is_a_conflict(api: Api, context: None) -> None:
    with db.engine.connect() as first:
        take_lock(first, "k1")
        answer = api.post("/orders", ORDER, key="k1")
        assert refused(answer, 409, "CONFLICT_ERROR")["reason"] == "key_in_flight"
        made(api.post("/orders", ORDER, key="k2"))
    made(api.post("/orders", ORDER, key="k1"))


def test_a_request_that_was_killed_half_way_leaves_nothing_behind(api: Api, context: None) -> None:
    killed = db.engine.connect()
    take_lock(killed, "k1")
    killed.execute(
        text("INSERT INTO orders (id, merchant_id, amount, currency) VALUES (:id, :merchant, 10000, 'INR')"),
        {"id": "order_killedHalfWay000", "merchant": TEST_MERCHANT_ID},
    )
    pid = killed.scalar(text("SELECT pg_backend_pid()"))
    refused(api.post("/orders", ORDER, key="k1"), 409, "CONFLICT_ERROR")

    # With a timeout (ms): it waits until the backend is gone.
    assert db.session.scalar(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    db.session.commit()
    with pytest.raises(OperationalError):
        killed.execute(text("SELECT 1"))
    killed.invalidate()
    killed.close()

    first = api.post("/orders", ORDER, key="k1")
    made(first)
    assert replayed(api.post("/orders", ORDER, key="k1"), first)
    assert [order["id"] for order in found(api.get("/orders"))["data"]] == [made(first)["id"]]


def test_a_capture_that_was_killed_half_way_is_answered_when_it_is_done(
    api: Api, context: None, make_due
) -> None:
    payment = api.paid(capture="manual")
    path, body = f"/payments/{payment['id']}/capture", {"amount": 6000}
    Payment.lock(TEST_MERCHANT_ID, payment["id"]).request_capture(6000)
    work.commit()  # the first request is killed here, before it could ask the acquirer
    refused(api.post(path, body, key="k1"), 409, "CONFLICT_ERROR")
    make_due("payments")
    drain_all()
    first = api.post(path, body, key="k1")
    assert found(first)["amount_captured"] == 6000
    assert replayed(api.post(path, body, key="k1"), first)
    assert len(found(api.get("/events", event="payment.captured"))["data"]) == 1


def test_a_body_too_deep_to_compare_is_refused(app: Flask, api: Api) -> None:
    headers = api.headers | {"Idempotency-Key": "k1", "Content-Type": "application/json"}
    body = '{"amount":10000,"x":' + "[" * 980 + "]" * 980 + "}"
    answer = app.test_client().post("/api/v1/orders", data=body, headers=headers)
    assert answer.status_code in (201, 400)
