"""GET /payments/{id}/timeline: all that happened to a payment, in order."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.exc import IntegrityError

from models.base import isoformat
from models.merchants import TEST_API_KEY, TEST_EMAIL
from models.timeline import EACH_MAX
from tests.conftest import Api, Dashboard, drain_all, found, in_sql, made, refused
from tests.receiver import Receiver

NO_ANSWER, REFUND_PENDING, REFUND_FAILS = "4100280000090000", "4000000000007726", "4000000000005126"
MakeDue = Callable[[str], None]


def timeline(api: Api, payment_id: str) -> list[dict[str, Any]]:
    return found(api.get(f"/payments/{payment_id}/timeline"))["data"]


def told(api: Api, payment_id: str, *kinds: str) -> list[tuple[str | None, ...]]:
    return [
        (entry["kind"], entry["name"], entry["outcome"])
        for entry in timeline(api, payment_id)
        if not kinds or entry["kind"] in kinds
    ]


def answers(api: Api, payment_id: str) -> list[tuple[Any, ...]]:
    return [
        (entry["name"], entry["outcome"], entry["details"]["looked_up"], entry["details"]["reason"])
        for entry in timeline(api, payment_id)
        if entry["kind"] == "acquirer"
    ]


def by_phone(app: Flask, payment: dict[str, Any]) -> None:
    """The shopper types the one-time password that the bank sent."""
    answer = app.test_client().post(f"/api/v1/payments/{payment['id']}/public/otp", json={"otp": "123456"})
    assert answer.status_code == 200, answer.text


def test_it_tells_the_whole_story_of_a_payment(
    app: Flask, api: Api, dashboard: Dashboard, receiver: Receiver, make_due: MakeDue
) -> None:
    payment = api.card(api.order(capture="manual")["id"], "4000000000003220")
    drain_all()
    by_phone(app, payment)
    drain_all()
    found(dashboard.post(f"/payments/{payment['id']}/capture"))
    endpoint = api.endpoint(receiver.url, events=["refund.processed"])
    receiver.answers = [500]
    refund = made(api.post(f"/payments/{payment['id']}/refunds", {"amount": 2500}))
    drain_all()
    make_due("webhook_deliveries")
    drain_all()
    assert told(api, payment["id"]) == [
        ("event", "payment.created", None),
        ("acquirer", "authorize", "needs_action"),
        ("event", "payment.requires_action", None),
        ("event", "payment.pending", None),
        ("acquirer", "authorize", "approved"),
        ("event", "payment.success", None),
        ("action", "payment.capture_requested", None),
        ("acquirer", "capture", "approved"),
        ("event", "payment.captured", None),
        ("event", "order.paid", None),
        ("action", "refund.requested", None),
        ("event", "refund.created", None),
        ("acquirer", "refund", "approved"),
        ("event", "refund.processed", None),
        ("webhook", "refund.processed", "failed"),
        ("webhook", "refund.processed", "success"),
    ]
    entries = timeline(api, payment["id"])
    assert all(set(entry) == {"at", "kind", "name", "id", "outcome", "actor", "details"} for entry in entries)
    times = [entry["at"] for entry in entries]
    assert times == sorted(times)
    capture, requested = (entry for entry in entries if entry["kind"] == "action")
    assert (capture["actor"], capture["id"], capture["details"]) == (
        TEST_EMAIL,
        payment["id"],
        {"amount": 10000},
    )
    assert (requested["actor"], requested["id"], requested["details"]) == (
        TEST_API_KEY,
        refund["id"],
        {"amount": 2500},
    )
    assert {entry["actor"] for entry in entries if entry["kind"] != "action"} == {None}
    events = {row["id"]: row["event"] for row in found(api.get("/events"))["data"]}
    shown = {entry["id"]: entry["name"] for entry in entries if entry["kind"] == "event"}
    assert shown == events
    assert {entry["details"]["refund_id"] for entry in entries if entry["name"].startswith("payment.p")} == {
        None
    }
    [asked] = [entry for entry in entries if entry["name"] == "refund"]
    assert (asked["id"], asked["details"]["looked_up"]) == (refund["id"], False)
    assert re.fullmatch(r"sim_[0-9a-f]{16}", asked["details"]["reference"])
    delivery = api.only_delivery()
    failed, delivered = (entry for entry in entries if entry["kind"] == "webhook")
    assert failed["id"] == delivered["id"] == delivery["id"]
    attempt = delivery["attempt_log"][0]
    assert failed["details"] == {
        "attempt": 1,
        "url": endpoint["url"],
        "status_code": 500,
        "duration_ms": attempt["duration_ms"],
        "error": attempt["error"],
    }
    details = delivered["details"]
    assert (details["attempt"], details["status_code"], details["error"]) == (2, 200, None)


def test_a_payment_that_just_began_has_begun(api: Api) -> None:
    payment = api.upi(api.order()["id"])
    [entry] = timeline(api, payment["id"])
    assert (entry["kind"], entry["name"], entry["at"]) == ("event", "payment.created", payment["created_at"])
    assert entry["details"] == {"refund_id": None}


def test_a_decline_says_why(api: Api) -> None:
    payment = api.paid(number="4000000000009995")
    assert answers(api, payment["id"]) == [("authorize", "declined", False, "insufficient_funds")]
    [_created, declined, failed] = timeline(api, payment["id"])
    assert declined["details"]["reference"] is None
    assert failed["name"] == "payment.failed"


def test_no_answer_is_one_and_so_is_what_a_look_up_tells(api: Api, make_due: MakeDue) -> None:
    payment = api.paid(number=NO_ANSWER)
    assert answers(api, payment["id"]) == [("authorize", "unknown", False, None)]
    assert told(api, payment["id"], "event") == [("event", "payment.created", None)]
    make_due("payments")
    drain_all()
    assert answers(api, payment["id"]) == [
        ("authorize", "unknown", False, None),
        ("authorize", "declined", True, "payment_timed_out"),
    ]
    assert told(api, payment["id"])[-1] == ("event", "payment.failed", None)


def test_look_ups_that_tell_nothing_are_one_entry_until_there_is_news(
    app: Flask, api: Api, make_due: MakeDue
) -> None:
    """However many: or the answer that comes at last would be cut off."""
    payment = api.paid(number=NO_ANSWER)
    in_sql(
        app,
        "INSERT INTO acquirer_answers (payment_id, operation, looked_up, answer, answered_at) "
        "SELECT id, 'authorize', true, 'unknown', now() - make_interval(mins => 5 * number) "
        "FROM payments, generate_series(0, :before) number ORDER BY number DESC",
        before=EACH_MAX,
    )
    [last_look] = in_sql(app, "SELECT max(answered_at) FROM acquirer_answers WHERE looked_up")
    make_due("payments")
    drain_all()
    assert answers(api, payment["id"]) == [
        ("authorize", "unknown", False, None),
        ("authorize", "unknown", True, None),
        ("authorize", "declined", True, "payment_timed_out"),
    ]
    entries = [entry for entry in timeline(api, payment["id"]) if entry["kind"] == "acquirer"]
    assert [entry["details"]["times"] for entry in entries] == [1, EACH_MAX + 1, 1]
    assert entries[1]["at"] == isoformat(last_look)


def test_those_of_another_refund_are_another_entry(app: Flask, api: Api, make_due: MakeDue) -> None:
    payment = api.paid(number=REFUND_PENDING)
    refunds = [made(api.post(f"/payments/{payment['id']}/refunds", {"amount": 1}))["id"] for _ in range(2)]
    for _ in range(3):
        drain_all()
        make_due("refunds")
    pending = [entry for entry in timeline(api, payment["id"]) if entry["outcome"] == "unknown"]
    looked_up = [
        (entry["id"], entry["details"]["times"]) for entry in pending if entry["details"]["looked_up"]
    ]
    assert sorted(looked_up) == sorted((refund, 2) for refund in refunds)
    assert len(pending) == 4


def test_an_action_that_was_not_taken_in_time_is_looked_up(api: Api, make_due: MakeDue) -> None:
    payment = api.paid(number="4000000000003220")
    make_due("payments")
    drain_all()
    assert answers(api, payment["id"]) == [
        ("authorize", "needs_action", False, None),
        ("authorize", "declined", True, "payment_timed_out"),
    ]


def test_a_void_is_asked_for_and_answered(api: Api, dashboard: Dashboard) -> None:
    payment = api.paid(capture="manual")
    found(dashboard.post(f"/payments/{payment['id']}/void"))
    assert told(api, payment["id"])[-3:] == [
        ("action", "payment.void_requested", None),
        ("acquirer", "void", "approved"),
        ("event", "payment.voided", None),
    ]


def test_what_the_bank_says_of_a_refund_later_is_in_it(api: Api, make_due: MakeDue) -> None:
    waits, fails = api.paid(number=REFUND_PENDING), api.paid(number=REFUND_FAILS)
    for payment in (waits, fails):
        made(api.post(f"/payments/{payment['id']}/refunds"))
    drain_all()
    make_due("refunds")
    drain_all()
    assert answers(api, waits["id"])[1:] == [
        ("refund", "unknown", False, None),
        ("refund", "unknown", True, None),
    ]
    assert answers(api, fails["id"])[1:] == [
        ("refund", "approved", False, None),
        ("refund", "declined", True, "account_closed"),
    ]
    assert told(api, fails["id"], "event")[-2:] == [
        ("event", "refund.processed", None),
        ("event", "refund.failed", None),
    ]


def test_each_attempt_has_its_own(api: Api) -> None:
    """Two of one order: the first declined, the second paid."""
    order = api.order()["id"]
    declined = api.upi(order, "failure@upi")
    drain_all()
    paid = api.upi(order)
    drain_all()
    assert [name for _, name, _ in told(api, declined["id"], "event")] == [
        "payment.created",
        "payment.failed",
    ]
    assert [name for _, name, _ in told(api, paid["id"], "event")] == [
        *("payment.created", "payment.success", "payment.captured", "order.paid")
    ]


def test_every_event_in_it_has_its_webhooks(api: Api, receiver: Receiver) -> None:
    api.endpoint(receiver.url)
    payment = api.paid()
    entries = told(api, payment["id"])
    events = [name for kind, name, _ in entries if kind == "event"]
    assert events[-1] == "order.paid"
    assert {name for kind, name, _ in entries if kind == "webhook"} == set(events)
    assert len(entries) == 2 * len(events) + 1


def test_one_without_an_answer_says_so(api: Api) -> None:
    api.endpoint("http://127.0.0.1:1/", events=["payment.created"])
    payment = api.paid()
    [attempt] = [entry for entry in timeline(api, payment["id"]) if entry["kind"] == "webhook"]
    assert (attempt["outcome"], attempt["details"]["status_code"]) == ("failed", None)
    assert attempt["details"]["error"] == "connection refused"


def test_a_card_number_is_not_in_it(api: Api) -> None:
    payment = api.paid(number="4242424242424242")
    text = api.get(f"/payments/{payment['id']}/timeline").text
    assert "4242" not in text
    assert "sim_success" not in text


def test_of_each_kind_the_first_500_are_told(app: Flask, api: Api, receiver: Receiver) -> None:
    api.endpoint(receiver.url, events=["payment.created"])
    payment = api.paid()
    id_ = payment["id"]
    numbers = f"generate_series(1, {EACH_MAX + 20}) number"
    in_sql(
        app,
        "INSERT INTO acquirer_answers (payment_id, operation, looked_up, answer) "
        f"SELECT :id, 'authorize', true, 'approved' FROM {numbers}",
        id=id_,
    )
    in_sql(
        app,
        "INSERT INTO audit_log (id, merchant_id, actor, action, subject_id) "
        "SELECT 'aud_' || lpad(number::text, 16, '0'), merchant_id, 'x', 'x.x', :id "
        f"FROM {numbers}, payments WHERE payments.id = :id",
        id=id_,
    )
    in_sql(
        app,
        "INSERT INTO events (id, merchant_id, type, payment_id, payload, deliveries) "
        "SELECT 'evt_' || lpad(number::text, 16, '0'), merchant_id, 'payment.pending', :id, '{}', 0 "
        f"FROM {numbers}, payments WHERE payments.id = :id",
        id=id_,
    )
    in_sql(
        app,
        "INSERT INTO webhook_attempts (delivery_id, number, url, duration_ms) "
        f"SELECT id, number + 1, 'http://x/', 0 FROM {numbers}, webhook_deliveries",
    )
    entries = timeline(api, id_)
    counts = {kind: len(told(api, id_, kind)) for kind in ("action", "acquirer", "event", "webhook")}
    assert counts == dict.fromkeys(counts, EACH_MAX)
    assert entries[0]["name"] == "payment.created"


def test_what_the_acquirer_said_is_never_changed(app: Flask, api: Api) -> None:
    api.paid()
    for statement in ("UPDATE acquirer_answers SET answer = 'unknown'", "DELETE FROM acquirer_answers"):
        with pytest.raises(IntegrityError, match="never changed or deleted"):
            in_sql(app, statement)


def test_nobody_else_sees_it(api: Api, other: Api, other_dashboard: Dashboard) -> None:
    payment = api.paid()
    for client in (other, other_dashboard):
        refused(client.get(f"/payments/{payment['id']}/timeline"), 404, "NOT_FOUND_ERROR")
    refused(api.get("/payments/pay_doesNotExist00000/timeline"), 404, "NOT_FOUND_ERROR")
