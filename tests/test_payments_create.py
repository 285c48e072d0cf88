"""POST /payments: UPI and card, and every refusal."""

from __future__ import annotations

import pytest

from tests.conftest import Api, card_body, drain_all, refused

pytestmark = pytest.mark.usefixtures("proven")


def test_a_upi_payment_is_pending_then_success(api: Api) -> None:
    order = api.order(25000)
    payment = api.upi(order["id"])
    assert payment["status"] == "pending"
    assert (payment["amount"], payment["vpa"], payment["card_last4"]) == (25000, "success@upi", None)
    drain_all()
    settled = api.payment(payment["id"])
    assert (settled["status"], settled["captured"], settled["amount_captured"]) == ("success", True, 25000)
    order = api.get(f"/orders/{order['id']}").get_json()
    assert (order["status"], order["amount_paid"]) == ("paid", 25000)


@pytest.mark.parametrize(
    ("number", "network"),
    [
        ("4242424242424242", "visa"),
        ("4111 1111 1111 1111", "visa"),
        ("5555-5555-5555-4444", "mastercard"),
        ("6527658900001005", "rupay"),
    ],
)
def test_a_card_payment_keeps_network_and_last_four(api: Api, number: str, network: str) -> None:
    payment = api.card(api.order()["id"], number)
    assert (payment["card_network"], payment["card_last4"]) == (network, number[-4:])
    drain_all()
    assert api.payment(payment["id"])["status"] == "success"


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [
        ("4000000000000002", "PAYMENT_DECLINED", "card_declined"),
        ("4000000000009995", "PAYMENT_DECLINED", "insufficient_funds"),
        ("4000000000009987", "PAYMENT_DECLINED", "lost_card"),
        ("4000000000009979", "PAYMENT_DECLINED", "stolen_card"),
        ("4000000000000069", "PAYMENT_DECLINED", "expired_card"),
        ("4000000000000127", "PAYMENT_DECLINED", "incorrect_cvc"),
        ("4000000000000119", "PAYMENT_DECLINED", "processing_error"),
    ],
)
def test_a_test_card_is_declined_with_its_reason(api: Api, number: str, code: str, reason: str) -> None:
    payment = api.card(api.order()["id"], number)
    drain_all()
    failed = api.payment(payment["id"])
    assert (failed["status"], failed["error_code"], failed["error_reason"]) == ("failed", code, reason)
    assert failed["error_description"]


def test_a_card_that_times_out_is_looked_up_then_failed(api: Api, make_due) -> None:
    payment = api.card(api.order()["id"], "4100280000090000")
    drain_all()
    assert api.payment(payment["id"])["status"] == "pending"
    make_due("payments")
    drain_all()
    failed = api.payment(payment["id"])
    assert (failed["status"], failed["error_code"]) == ("failed", "PAYMENT_TIMEOUT")
    assert failed["error_reason"] == "payment_timed_out"


@pytest.mark.parametrize("how", ["pending@upi", "4000000000003220"])
def test_a_payment_that_needs_the_shopper_waits_and_then_fails(api: Api, make_due, how: str) -> None:
    order_id = api.order()["id"]
    payment = api.upi(order_id, how) if "@" in how else api.card(order_id, how)
    drain_all()
    assert api.payment(payment["id"])["status"] == "requires_action"
    make_due("payments")
    drain_all()
    assert api.payment(payment["id"])["error_code"] == "PAYMENT_TIMEOUT"


def test_a_failed_payment_frees_the_order(api: Api) -> None:
    order_id = api.order()["id"]
    first = api.upi(order_id, "failure@okbank")
    drain_all()
    assert api.payment(first["id"])["error_reason"] == "payment_declined"
    second = api.upi(order_id)
    drain_all()
    assert api.payment(second["id"])["status"] == "success"


def test_it_refuses_a_second_payment_while_one_is_in_progress(api: Api) -> None:
    order_id = api.order()["id"]
    api.upi(order_id)
    again = api.post("/payments", {"order_id": order_id, "method": "upi", "vpa": "success@upi"})
    assert refused(again, 409, "CONFLICT_ERROR")["reason"] == "payment_in_progress"


def test_it_refuses_a_paid_order(api: Api) -> None:
    order_id = api.paid()["order_id"]
    again = api.post("/payments", {"order_id": order_id, "method": "upi", "vpa": "success@upi"})
    assert refused(again, 409, "CONFLICT_ERROR")["reason"] == "order_paid"


@pytest.mark.parametrize("vpa", ["", "a@b", "no-at-sign", "a b@upi", "ab@1up", "ab@upi!", "ab@@upi", "x@upi"])
def test_it_refuses_a_wrong_vpa(api: Api, vpa: str) -> None:
    answer = api.post("/payments", {"order_id": api.order()["id"], "method": "upi", "vpa": vpa})
    refused(answer, 400, "INVALID_VPA", "vpa")


@pytest.mark.parametrize(
    ("facts", "code", "field"),
    [
        ({"number": "4242424242424241"}, "INVALID_CARD", "card.number"),
        ({"number": "424242"}, "INVALID_CARD", "card.number"),
        ({"number": "4242abcd42424242"}, "INVALID_CARD", "card.number"),
        ({"number": "٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢"}, "INVALID_CARD", "card.number"),
        ({"expiry_month": 13}, "INVALID_CARD", "card.expiry_month"),
        ({"expiry_month": "0"}, "INVALID_CARD", "card.expiry_month"),
        ({"expiry_year": "199"}, "INVALID_CARD", "card.expiry_year"),
        ({"expiry_year": ""}, "INVALID_CARD", "card.expiry_year"),
        ({"expiry_year": 2020}, "EXPIRED_CARD", "card.expiry_month"),
        ({"expiry_year": "20"}, "EXPIRED_CARD", "card.expiry_month"),
        ({"cvv": "12"}, "INVALID_CVV", "card.cvv"),
        ({"cvv": "1234"}, "INVALID_CVV", "card.cvv"),
        ({"number": "378282246310005", "cvv": "123"}, "INVALID_CVV", "card.cvv"),
        ({"cvv": None}, "BAD_REQUEST_ERROR", "card.cvv"),
        ({"holder_name": "4242 4242 4242 4242"}, "BAD_REQUEST_ERROR", "card.holder_name"),
    ],
)
def test_it_refuses_a_wrong_card(api: Api, facts: dict, code: str, field: str) -> None:
    body = {"order_id": api.order()["id"], "method": "card", "card": card_body(**facts)}
    refused(api.post("/payments", body), 400, code, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"method": None}, "method"),
        ({"method": "cash"}, "method"),
        ({"vpa": None}, "vpa"),
        ({"vpa": 7}, "vpa"),
        ({"order_id": None}, "order_id"),
        ({"order_id": ["x"]}, "order_id"),
        ({"order_id": "a\0b"}, "order_id"),
        ({"card": card_body()}, "card"),
        ({"method": "card"}, "vpa"),
        ({"method": "card", "vpa": None}, "card"),
        ({"method": "card", "vpa": None, "card": "4242"}, "card"),
    ],
)
def test_it_refuses_a_wrong_body_and_names_the_field(api: Api, change: dict, field: str) -> None:
    body = {"order_id": api.order()["id"], "method": "upi", "vpa": "success@upi"} | change
    refused(api.post("/payments", body), 400, "BAD_REQUEST_ERROR", field)
    assert api.get("/payments").get_json()["data"] == []


def test_it_refuses_an_unknown_order(api: Api) -> None:
    body = {"order_id": "order_doesNotExist0000", "method": "upi", "vpa": "success@upi"}
    refused(api.post("/payments", body), 404, "NOT_FOUND_ERROR")


def test_it_refuses_another_merchants_order(api: Api, other: Api) -> None:
    body = {"order_id": api.order()["id"], "method": "upi", "vpa": "success@upi"}
    refused(other.post("/payments", body), 404, "NOT_FOUND_ERROR")


def test_it_refuses_a_method_that_the_order_does_not_take(api: Api) -> None:
    body = {"order_id": api.order(methods=["card"])["id"], "method": "upi", "vpa": "success@upi"}
    refused(api.post("/payments", body), 400, "BAD_REQUEST_ERROR", "method")


def test_upi_pays_in_rupees_only(api: Api) -> None:
    body = {"order_id": api.order(currency="EUR")["id"], "method": "upi", "vpa": "success@upi"}
    refused(api.post("/payments", body), 400, "BAD_REQUEST_ERROR", "method")
