"""Refunds: all or part of a captured payment, never more; get, list; refunds that linger or come back."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from jobs.acquirers.simulator import REFUND_PENDING_S
from models.base import db
from models.merchants import TEST_MERCHANT_ID
from tests.conftest import Api, drain_all, found, made, refused

pytestmark = pytest.mark.usefixtures("proven")

LINGERS = "4000000000007726"  # its refund stays pending for a while
COMES_BACK = "4000000000005126"  # its refund is processed, then fails


def refund(api: Api, payment: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return made(api.post(f"/payments/{payment['id']}/refunds", facts))


def refund_of(api: Api, refund_id: str) -> dict[str, Any]:
    return found(api.get(f"/refunds/{refund_id}"))


def refunded(api: Api, payment: dict[str, Any]) -> tuple[int, str | None]:
    payment = api.payment(payment["id"])
    return payment["amount_refunded"], payment["refund_status"]


def history(api: Api, refund_id: str) -> list[str]:
    events = found(api.get("/events", refund_id=refund_id))["data"]
    return [event["event"] for event in reversed(events)]


def ids(api: Api, path: str, **query: Any) -> list[str]:
    return [each["id"] for each in found(api.get(path, **query))["data"]]


# --- refunding -----------------------------------------------------------------------------------


def test_a_refund_is_pending_then_processed(api: Api) -> None:
    payment = api.paid()
    pending = refund(api, payment, reason="Torn ₹ 😀")
    refund_id, created_at = pending["id"], pending["created_at"]
    assert pending == {
        "id": refund_id,
        "payment_id": payment["id"],
        "order_id": payment["order_id"],
        "merchant_id": TEST_MERCHANT_ID,
        "amount": 10000,
        "currency": "INR",
        "reason": "Torn ₹ 😀",
        "status": "pending",
        "error_reason": None,
        "created_at": created_at,
        "processed_at": None,
    }
    assert refunded(api, payment) == (0, None)
    drain_all()
    processed = refund_of(api, refund_id)
    assert processed["processed_at"] >= created_at
    assert processed == pending | {"status": "processed", "processed_at": processed["processed_at"]}
    assert refunded(api, payment) == (10000, "full")
    assert api.payment(payment["id"])["status"] == "success"


def test_its_events_tell_of_the_refund_and_its_payment(api: Api) -> None:
    payment = api.paid()
    pending = refund(api, payment, amount=4000)
    drain_all()
    processed, created = found(api.get("/events", refund_id=pending["id"]))["data"]
    assert (created["event"], processed["event"]) == ("refund.created", "refund.processed")
    assert created["data"] == {"refund": pending, "payment": payment}
    assert processed["data"] == {
        "refund": refund_of(api, pending["id"]),
        "payment": api.payment(payment["id"]),
    }
    assert processed["data"]["payment"]["refund_status"] == "partial"


def test_two_parts_make_the_whole_and_a_third_is_refused(api: Api) -> None:
    payment = api.paid()
    refund(api, payment, amount=3000)
    drain_all()
    assert refunded(api, payment) == (3000, "partial")
    refund(api, payment, amount=7000)
    drain_all()
    assert refunded(api, payment) == (10000, "full")
    for body in ({}, {"amount": 1}):
        third = api.post(f"/payments/{payment['id']}/refunds", body)
        assert refused(third, 400, "BAD_REQUEST_ERROR")["reason"] == "fully_refunded"
    assert refunded(api, payment) == (10000, "full")


@pytest.mark.parametrize("body", [{}, {"amount": None}])
def test_it_refunds_what_is_left_if_no_amount_is_given(api: Api, body: dict) -> None:
    payment = api.paid()
    refund(api, payment, amount=2500)
    assert refund(api, payment, **body)["amount"] == 7500


def test_of_a_partial_capture_only_that_part_is_refunded(api: Api) -> None:
    payment = api.paid(capture="manual")
    found(api.post(f"/payments/{payment['id']}/capture", {"amount": 6000}))
    answer = api.post(f"/payments/{payment['id']}/refunds", {"amount": 6001})
    assert refused(answer, 400, "BAD_REQUEST_ERROR", "amount")["reason"] == "amount_too_large"
    assert refund(api, payment)["amount"] == 6000
    drain_all()
    assert refunded(api, payment) == (6000, "full")


@pytest.mark.parametrize("settled", [True, False])
def test_it_refuses_more_than_is_left(api: Api, settled: bool) -> None:
    payment = api.paid()
    refund(api, payment, amount=6000)
    if settled:
        drain_all()
    answer = api.post(f"/payments/{payment['id']}/refunds", {"amount": 4001})
    assert refused(answer, 400, "BAD_REQUEST_ERROR", "amount")["reason"] == "amount_too_large"
    assert refund(api, payment, amount=4000)["amount"] == 4000


@pytest.mark.parametrize("amount", [0, -1, 1.5, "x", "100", True, [], 10**12])
def test_it_refuses_what_is_no_amount(api: Api, amount: Any) -> None:
    payment = api.paid()
    answer = api.post(f"/payments/{payment['id']}/refunds", {"amount": amount})
    refused(answer, 400, "BAD_REQUEST_ERROR", "amount")
    assert ids(api, "/refunds") == []


@pytest.mark.parametrize("reason", ["r" * 256, "a\0b", "\ud800", 7, ["x"]])
def test_it_refuses_a_wrong_reason(api: Api, reason: Any) -> None:
    payment = api.paid()
    answer = api.post(f"/payments/{payment['id']}/refunds", {"reason": reason})
    refused(answer, 400, "BAD_REQUEST_ERROR", "reason")
    assert ids(api, "/refunds") == []


def test_a_reason_may_have_255_characters(api: Api) -> None:
    assert refund(api, api.paid(), reason="😀" * 255)["reason"] == "😀" * 255


@pytest.mark.parametrize(
    ("vpa", "capture", "drained", "status"),
    [
        ("success@upi", "automatic", False, "pending"),
        ("pending@upi", "automatic", True, "requires_action"),
        ("failure@upi", "automatic", True, "failed"),
        ("success@upi", "manual", True, "success"),
    ],
)
def test_it_refuses_what_was_not_captured(
    api: Api, vpa: str, capture: str, drained: bool, status: str
) -> None:
    payment_id = api.upi(api.order(capture=capture)["id"], vpa)["id"]
    if drained:
        drain_all()
    assert api.payment(payment_id)["status"] == status
    answer = api.post(f"/payments/{payment_id}/refunds")
    assert refused(answer, 400, "BAD_REQUEST_ERROR")["reason"] == "payment_not_captured"
    assert ids(api, "/refunds") == []


def test_it_refuses_what_was_voided(api: Api) -> None:
    payment = api.paid(capture="manual")
    found(api.post(f"/payments/{payment['id']}/void"))
    answer = api.post(f"/payments/{payment['id']}/refunds")
    assert refused(answer, 400, "BAD_REQUEST_ERROR")["reason"] == "payment_not_captured"


# --- refunds that linger or come back --------------------------------------------------------------


def test_a_refund_may_linger_before_it_is_processed(api: Api, context: None, make_due) -> None:
    payment = api.paid(number=LINGERS)
    refund_id = refund(api, payment)["id"]
    for _ in range(3):
        drain_all()
        make_due("refunds")
    drain_all()
    assert refund_of(api, refund_id)["status"] == "pending"
    assert (refunded(api, payment), history(api, refund_id)) == ((0, None), ["refund.created"])

    statement = "UPDATE refunds SET created_at = created_at - make_interval(secs => :s)"
    db.session.execute(text(statement), {"s": REFUND_PENDING_S})
    db.session.commit()
    make_due("refunds")
    drain_all()
    assert refund_of(api, refund_id)["status"] == "processed"
    assert refunded(api, payment) == (10000, "full")
    assert history(api, refund_id) == ["refund.created", "refund.processed"]


def test_a_refund_may_fail_after_it_was_processed(api: Api, make_due) -> None:
    payment = api.paid(number=COMES_BACK)
    refund(api, payment, amount=1000)
    drain_all()
    assert refunded(api, payment) == (1000, "partial")
    make_due("refunds")
    drain_all()
    [failed] = found(api.get("/refunds", status="failed"))["data"]
    assert (failed["status"], failed["error_reason"]) == ("failed", "account_closed")
    assert refunded(api, payment) == (0, None)
    assert history(api, failed["id"]) == ["refund.created", "refund.processed", "refund.failed"]
    [balance] = found(api.get("/balance"))["data"]
    assert (balance["refunded"], balance["refunds_pending"], balance["available"]) == (0, 0, 10000)


def test_what_came_back_can_be_refunded_again(api: Api, make_due) -> None:
    payment = api.paid(number=COMES_BACK)
    refund(api, payment)
    drain_all()
    make_due("refunds")
    drain_all()
    assert refund(api, payment)["amount"] == 10000
    drain_all()
    assert refunded(api, payment) == (10000, "full")


# --- getting and listing -------------------------------------------------------------------------


def test_refunds_are_listed_newest_first_and_page_by_page(api: Api) -> None:
    payment = api.paid()
    made_ids = [refund(api, payment, amount=1000)["id"] for _ in range(3)]
    assert ids(api, "/refunds") == made_ids[::-1]
    page = found(api.get("/refunds", limit=2))
    assert (page["has_more"], page["next_cursor"]) == (True, made_ids[1])
    assert page["data"][0] == refund_of(api, made_ids[2])
    assert ids(api, "/refunds", limit=2, starting_after=made_ids[1]) == made_ids[:1]


def test_the_list_is_filtered_by_status_and_payment(api: Api, make_due) -> None:
    comes_back, usual = api.paid(number=COMES_BACK), api.paid()
    failed = refund(api, comes_back)["id"]
    drain_all()
    make_due("refunds")
    drain_all()
    processed = refund(api, usual, amount=1)["id"]
    drain_all()
    pending = refund(api, usual, amount=1)["id"]
    assert ids(api, "/refunds", status="failed") == [failed]
    assert ids(api, "/refunds", status="processed") == [processed]
    assert ids(api, "/refunds", status="pending") == [pending]
    assert ids(api, "/refunds", payment_id=usual["id"]) == [pending, processed]
    assert ids(api, "/refunds", payment_id=usual["id"], status="failed") == []
    assert ids(api, f"/payments/{usual['id']}/refunds") == [pending, processed]
    assert ids(api, f"/payments/{comes_back['id']}/refunds") == [failed]


@pytest.mark.parametrize(
    ("query", "field"),
    [({"status": "success"}, "status"), ({"limit": 0}, "limit"), ({"starting_after": "x"}, "starting_after")],
)
def test_it_refuses_a_wrong_query(api: Api, query: dict, field: str) -> None:
    refused(api.get("/refunds", **query), 400, "BAD_REQUEST_ERROR", field)


def test_another_merchant_sees_and_refunds_nothing_of_it(api: Api, other: Api) -> None:
    payment = api.paid()
    refund_id = refund(api, payment, amount=1)["id"]
    refused(other.get(f"/refunds/{refund_id}"), 404, "NOT_FOUND_ERROR")
    refused(other.get(f"/payments/{payment['id']}/refunds"), 404, "NOT_FOUND_ERROR")
    refused(other.post(f"/payments/{payment['id']}/refunds"), 404, "NOT_FOUND_ERROR")
    assert ids(other, "/refunds") == []
    refused(other.get("/refunds", starting_after=refund_id), 400, "BAD_REQUEST_ERROR", "starting_after")
    assert ids(api, "/refunds") == [refund_id]


def test_it_finds_nothing_unknown(api: Api) -> None:
    refused(api.get("/refunds/rfnd_doesNotExist0000"), 404, "NOT_FOUND_ERROR")
    refused(api.get("/payments/pay_doesNotExist00000/refunds"), 404, "NOT_FOUND_ERROR")
    refused(api.post("/payments/pay_doesNotExist00000/refunds"), 404, "NOT_FOUND_ERROR")


@pytest.mark.parametrize("path", ["refunds", "capture"])
def test_a_misspelt_amount_moves_nothing(api: Api, path: str) -> None:
    payment = api.paid(capture="manual" if path == "capture" else "automatic")
    refused(api.post(f"/payments/{payment['id']}/{path}", {"amout": 1000}), 400, "BAD_REQUEST_ERROR", "amout")
    assert api.payment(payment["id"]) == payment
    assert (
        api.post(f"/payments/{payment['id']}/{path}", {"amount": 1000, "speed": "normal"}).status_code < 300
    )
