"""Manual capture: POST /payments/{id}/capture and /void, and the hold that ends by itself."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from jobs import work
from jobs.clock import release_holds
from models.base import db
from models.merchants import TEST_MERCHANT_ID
from models.payments import HOLD_DAYS, Payment
from tests.conftest import Api, drain_all, found, refused

pytestmark = pytest.mark.usefixtures("proven")

UNKNOWN = "pay_doesNotExist00000"


def held(api: Api, amount: int = 10000, number: str | None = None) -> dict[str, Any]:
    """A payment that is approved and awaits its capture."""
    return api.paid(amount, number, capture="manual")


def order_of(api: Api, payment: dict[str, Any]) -> dict[str, Any]:
    return found(api.get(f"/orders/{payment['order_id']}"))


def history(api: Api, payment: dict[str, Any]) -> list[str]:
    """The payment's events, oldest first."""
    events = found(api.get("/events", payment_id=payment["id"]))["data"]
    return [event["event"] for event in reversed(events)]


def postings(api: Api, payment: dict[str, Any]) -> list[str]:
    """The kind of each ledger posting of the payment, oldest first."""
    entries = found(api.get("/ledger", payment_id=payment["id"]))["data"]
    return list({entry["posting_id"]: entry["kind"] for entry in reversed(entries)}.values())


# --- capture -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [None, "4242424242424242"])
def test_an_approval_of_a_manual_order_is_held_and_not_captured(api: Api, number: str | None) -> None:
    payment = held(api, 25000, number)
    assert (payment["status"], payment["captured"], payment["amount_captured"]) == ("success", False, 0)
    order = order_of(api, payment)
    assert (order["status"], order["amount_paid"]) == ("attempted", 0)
    assert history(api, payment) == ["payment.created", "payment.success"]


@pytest.mark.parametrize("body", [{}, {"amount": None}, {"amount": 10000}])
def test_all_of_it_is_captured(api: Api, body: dict) -> None:
    payment = held(api)
    captured = found(api.post(f"/payments/{payment['id']}/capture", body))
    assert (captured["status"], captured["captured"], captured["amount_captured"]) == ("success", True, 10000)
    assert captured == api.payment(payment["id"])
    order = order_of(api, payment)
    assert (order["status"], order["amount_paid"]) == ("paid", 10000)
    assert history(api, payment) == ["payment.created", "payment.success", "payment.captured"]
    assert postings(api, payment) == ["authorize", "capture"]


@pytest.mark.parametrize("amount", [1, 6000, 9999])
def test_a_part_is_captured_and_the_rest_released(api: Api, amount: int) -> None:
    payment = held(api)
    captured = found(api.post(f"/payments/{payment['id']}/capture", {"amount": amount}))
    assert (captured["amount"], captured["amount_captured"], captured["captured"]) == (10000, amount, True)
    order = order_of(api, payment)
    assert (order["status"], order["amount"], order["amount_paid"]) == ("paid", 10000, amount)
    [balance] = found(api.get("/balance"))["data"]
    assert (balance["held"], balance["captured"], balance["available"]) == (0, amount, amount)


@pytest.mark.parametrize("amount", [10000, 6000])
def test_repeating_a_capture_changes_nothing(api: Api, amount: int) -> None:
    payment = held(api)
    first = found(api.post(f"/payments/{payment['id']}/capture", {"amount": amount}))
    seen = history(api, payment), postings(api, payment)
    assert found(api.post(f"/payments/{payment['id']}/capture", {"amount": amount})) == first
    drain_all()
    assert (history(api, payment), postings(api, payment)) == seen
    assert order_of(api, payment)["amount_paid"] == amount


def test_a_payment_that_was_captured_by_itself_is_not_captured_again(api: Api) -> None:
    payment = api.paid()
    assert found(api.post(f"/payments/{payment['id']}/capture")) == payment
    assert found(api.post(f"/payments/{payment['id']}/capture", {"amount": 10000})) == payment
    assert postings(api, payment) == ["capture"]


def test_a_capture_whose_request_died_is_taken_over(api: Api, context: None, make_due) -> None:
    payment = held(api)
    Payment.lock(TEST_MERCHANT_ID, payment["id"]).request_capture(6000)
    work.commit()  # and then the process is killed
    for path in ("capture", "void"):
        answer = api.post(f"/payments/{payment['id']}/{path}")
        assert refused(answer, 409, "CONFLICT_ERROR")["reason"] == "operation_in_progress"
    make_due("payments")
    drain_all()
    assert api.payment(payment["id"])["amount_captured"] == 6000
    assert order_of(api, payment)["amount_paid"] == 6000


@pytest.mark.parametrize("amount", [0, -1, 1.5, "10000", True, [], 10**12])
def test_it_refuses_to_capture_what_is_no_amount(api: Api, amount: Any) -> None:
    payment = held(api)
    answer = api.post(f"/payments/{payment['id']}/capture", {"amount": amount})
    refused(answer, 400, "BAD_REQUEST_ERROR", "amount")
    assert api.payment(payment["id"]) == payment


def test_it_refuses_to_capture_more_than_was_approved(api: Api) -> None:
    payment = held(api)
    answer = api.post(f"/payments/{payment['id']}/capture", {"amount": 10001})
    assert refused(answer, 400, "BAD_REQUEST_ERROR", "amount")["reason"] == "amount_too_large"
    assert api.payment(payment["id"]) == payment


@pytest.mark.parametrize(("first", "second"), [(10000, 9999), (6000, 4000), (6000, 10000)])
def test_it_refuses_to_capture_another_amount_later(api: Api, first: int, second: int) -> None:
    payment = held(api)
    found(api.post(f"/payments/{payment['id']}/capture", {"amount": first}))
    answer = api.post(f"/payments/{payment['id']}/capture", {"amount": second})
    assert refused(answer, 400, "BAD_REQUEST_ERROR", "amount")["reason"] == "already_captured"
    assert api.payment(payment["id"])["amount_captured"] == first


@pytest.mark.parametrize("action", ["capture", "void"])
@pytest.mark.parametrize(
    ("vpa", "drained", "status"),
    [
        ("success@upi", False, "pending"),
        ("pending@upi", True, "requires_action"),
        ("failure@upi", True, "failed"),
    ],
)
def test_it_refuses_what_is_not_approved(api: Api, action: str, vpa: str, drained: bool, status: str) -> None:
    payment_id = api.upi(api.order(capture="manual")["id"], vpa)["id"]
    if drained:
        drain_all()
    assert api.payment(payment_id)["status"] == status
    answer = api.post(f"/payments/{payment_id}/{action}")
    assert refused(answer, 400, "BAD_REQUEST_ERROR")["reason"] == "payment_not_approved"
    assert api.payment(payment_id)["status"] == status


# --- void ----------------------------------------------------------------------------------------


def test_a_void_frees_the_approval_and_the_order(api: Api) -> None:
    payment = held(api)
    voided = found(api.post(f"/payments/{payment['id']}/void"))
    assert (voided["status"], voided["captured"], voided["amount_captured"]) == ("voided", False, 0)
    assert voided == api.payment(payment["id"])
    assert history(api, payment) == ["payment.created", "payment.success", "payment.voided"]
    assert postings(api, payment) == ["authorize", "void"]

    second = api.upi(payment["order_id"])
    drain_all()
    found(api.post(f"/payments/{second['id']}/capture"))
    order = order_of(api, payment)
    assert (order["status"], order["amount_paid"]) == ("paid", 10000)
    assert api.payment(payment["id"])["status"] == "voided"


def test_voiding_twice_changes_nothing(api: Api) -> None:
    payment = held(api)
    voided = found(api.post(f"/payments/{payment['id']}/void"))
    assert found(api.post(f"/payments/{payment['id']}/void")) == voided
    assert postings(api, payment) == ["authorize", "void"]
    assert history(api, payment).count("payment.voided") == 1


def test_it_refuses_to_void_what_was_captured(api: Api) -> None:
    payment = held(api)
    captured = found(api.post(f"/payments/{payment['id']}/capture", {"amount": 6000}))
    for payment_id in (payment["id"], api.paid()["id"]):
        answer = api.post(f"/payments/{payment_id}/void")
        assert refused(answer, 400, "BAD_REQUEST_ERROR")["reason"] == "already_captured"
    assert api.payment(payment["id"]) == captured


def test_it_refuses_to_capture_what_was_voided(api: Api) -> None:
    payment = held(api)
    voided = found(api.post(f"/payments/{payment['id']}/void"))
    answer = api.post(f"/payments/{payment['id']}/capture")
    assert refused(answer, 400, "BAD_REQUEST_ERROR")["reason"] == "payment_not_approved"
    assert api.payment(payment["id"]) == voided


# --- the end of the hold -------------------------------------------------------------------------


def let_pass(days: int) -> None:
    statement = "UPDATE payments SET hold_expires_at = hold_expires_at - make_interval(days => :days)"
    db.session.execute(text(statement), {"days": days})
    db.session.commit()


def test_a_hold_that_nobody_captured_is_voided_in_its_time(api: Api, context: None) -> None:
    payment, captured = held(api), held(api)
    found(api.post(f"/payments/{captured['id']}/capture"))
    let_pass(HOLD_DAYS - 1)
    release_holds()
    drain_all()
    still_held = api.payment(payment["id"])
    assert still_held == payment | {"hold_expires_at": still_held["hold_expires_at"]}
    assert still_held["hold_expires_at"] is not None

    let_pass(1)
    release_holds()
    drain_all()
    release_holds()
    drain_all()
    voided = api.payment(payment["id"])
    assert (voided["status"], voided["hold_expires_at"]) == ("voided", None)
    assert history(api, payment) == ["payment.created", "payment.success", "payment.voided"]
    assert postings(api, payment) == ["authorize", "void"]
    assert api.payment(captured["id"])["captured"] is True


def test_a_hold_may_still_be_captured_until_it_is_released(api: Api, context: None) -> None:
    payment = held(api)
    let_pass(HOLD_DAYS)
    found(api.post(f"/payments/{payment['id']}/capture"))
    release_holds()
    drain_all()
    assert api.payment(payment["id"])["captured"] is True
    assert postings(api, payment) == ["authorize", "capture"]


# --- whose payment -------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["capture", "void"])
def test_it_finds_neither_an_unknown_payment_nor_another_merchants(api: Api, other: Api, action: str) -> None:
    payment = held(api)
    refused(api.post(f"/payments/{UNKNOWN}/{action}"), 404, "NOT_FOUND_ERROR")
    refused(other.post(f"/payments/{payment['id']}/{action}"), 404, "NOT_FOUND_ERROR")
    assert api.payment(payment["id"]) == payment
