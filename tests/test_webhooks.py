"""Webhooks: endpoints, signed deliveries to a real receiver, retries on the schedule, the log."""

from __future__ import annotations

import hashlib
import hmac

from flask import Flask
from sqlalchemy import text
from standardwebhooks import Webhook

from jobs.posting import USER_AGENT
from jobs.webhooks import WEBHOOKS
from models.base import db
from tests.conftest import Api, drain_all, found, made, refused
from tests.receiver import Receiver, answer

# --- delivering ----------------------------------------------------------------------------------


def test_every_event_is_delivered_and_verifies_in_both_schemes(api: Api, receiver: Receiver) -> None:
    secret = api.endpoint(receiver.url)["secret"]
    payment = api.paid()
    made(api.post(f"/payments/{payment['id']}/refunds", {"amount": 4000}))
    drain_all()
    assert sorted(receiver.events) == sorted(
        [
            *("payment.created", "payment.success", "payment.captured", "order.paid"),
            *("refund.created", "refund.processed"),
        ]
    )
    events = {event["id"]: event for event in found(api.get("/events"))["data"]}
    for received in receiver.received:
        assert Webhook(secret).verify(received.body, received.headers) == received.event
        hexed = hmac.new(secret.encode(), received.body, hashlib.sha256).hexdigest()
        assert received.headers["x-webhook-signature"] == hexed
        assert received.headers["webhook-id"] == received.event["id"]
        assert received.headers["user-agent"] == USER_AGENT
        assert received.headers["content-type"].startswith("application/json")
        assert set(received.event) == {"id", "event", "timestamp", "data"}
        assert received.event["data"] == events[received.event["id"]]["data"]
    assert {row["status"] for row in found(api.get("/webhooks"))["data"]} == {"success"}


def test_each_endpoint_gets_the_events_that_it_asked_for(api: Api, receiver: Receiver) -> None:
    api.endpoint(receiver.url + "/all")
    api.endpoint(receiver.url + "/paid", events=["order.paid", "payment.failed"])
    api.endpoint(receiver.url + "/off", enabled=False)
    api.paid()
    by_path: dict[str, list[str]] = {}
    for received in receiver.received:
        by_path.setdefault(received.path, []).append(received.event["event"])
    assert set(by_path) == {"/hook/all", "/hook/paid"}
    assert len(by_path["/hook/all"]) == 4
    assert by_path["/hook/paid"] == ["order.paid"]


def test_another_merchants_events_stay_away(api: Api, other: Api, receiver: Receiver) -> None:
    other.endpoint(receiver.url)
    api.paid()
    assert receiver.received == []


def test_deliveries_are_written_with_the_change_even_if_nothing_can_be_sent(app: Flask, api: Api) -> None:
    api.endpoint("http://127.0.0.1:1/")
    api.upi(api.order()["id"])
    with app.app_context():
        count = text("SELECT count(*) FROM events e JOIN webhook_deliveries d ON d.event_id = e.id")
        assert db.session.scalar(count) == 1


def test_it_is_tried_five_times_on_the_schedule_and_then_failed(
    app: Flask, api: Api, receiver: Receiver, make_due
) -> None:
    api.endpoint(receiver.url, events=["payment.created"])
    receiver.answers = [500] * 5
    api.upi(api.order()["id"])
    waits = []
    for _ in range(5):
        drain_all()
        with app.app_context():
            wait = "SELECT extract(epoch FROM due_at - last_attempt_at) FROM webhook_deliveries"
            waits.append(db.session.scalar(text(wait)))
        make_due("webhook_deliveries")
    drain_all()
    for wait, planned in zip(waits[:4], (60, 300, 1800, 7200), strict=True):
        assert planned <= wait <= planned * 1.1
    assert waits[4] is None
    delivery = api.only_delivery()
    assert (delivery["status"], delivery["attempts"], delivery["next_attempt_at"]) == ("failed", 5, None)
    assert [attempt["error"] for attempt in delivery["attempt_log"]] == ["answered 500"] * 5
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 1
    assert len(receiver.received) == 5


def test_a_delivery_that_fails_once_succeeds_on_the_next_attempt(
    api: Api, receiver: Receiver, make_due
) -> None:
    api.endpoint(receiver.url, events=["payment.created"])
    receiver.answers = [503, 200]
    api.upi(api.order()["id"])
    drain_all()
    delivery = api.only_delivery()
    assert (delivery["status"], delivery["attempts"], delivery["response_code"]) == ("pending", 1, 503)
    make_due("webhook_deliveries")
    drain_all()
    delivery = api.only_delivery()
    assert (delivery["status"], delivery["attempts"], delivery["error"]) == ("success", 2, None)


def test_retry_after_is_respected_up_to_the_longest_delay(app: Flask, api: Api, receiver: Receiver) -> None:
    api.endpoint(receiver.url, events=["payment.created"])
    receiver.answers = [answer(429, Retry_After="600"), answer(503, Retry_After="999999")]
    for _ in range(2):
        api.upi(api.order()["id"])
        drain_all()
    with app.app_context():
        waits = db.session.scalars(
            text("SELECT extract(epoch FROM due_at - last_attempt_at) FROM webhook_deliveries ORDER BY seq")
        ).all()
    assert [round(float(wait)) for wait in waits] == [600, 7200]


# --- the log -------------------------------------------------------------------------------------


def test_a_failed_delivery_is_retried_by_hand(api: Api, receiver: Receiver, make_due) -> None:
    api.endpoint(receiver.url, events=["payment.created"])
    receiver.answers = [500] * 6
    api.upi(api.order()["id"])
    for _ in range(5):
        drain_all()
        make_due("webhook_deliveries")
    delivery = api.only_delivery()
    assert delivery["status"] == "failed"
    again = found(api.post(f"/webhooks/{delivery['id']}/retry"))
    assert again["status"] == "pending"
    drain_all()
    assert (api.only_delivery()["status"], api.only_delivery()["attempts"]) == ("failed", 6)
    api.post(f"/webhooks/{delivery['id']}/retry")
    drain_all()
    assert (api.only_delivery()["status"], api.only_delivery()["attempts"]) == ("success", 7)


def test_a_retry_to_a_disabled_endpoint_is_refused(api: Api, receiver: Receiver) -> None:
    endpoint = api.endpoint(receiver.url, events=["payment.created"])
    api.upi(api.order()["id"])
    drain_all()
    api.patch(f"/webhook_endpoints/{endpoint['id']}", {"enabled": False})
    refused(api.post(f"/webhooks/{api.only_delivery()['id']}/retry"), 400, "BAD_REQUEST_ERROR")


def test_a_retry_of_a_running_attempt_is_refused(app: Flask, api: Api, receiver: Receiver) -> None:
    api.endpoint(receiver.url, events=["payment.created"])
    api.upi(api.order()["id"])
    with app.app_context():
        assert len(WEBHOOKS._claim(10)) == 1
    answer = api.post(f"/webhooks/{api.only_delivery()['id']}/retry")
    assert refused(answer, 409, "CONFLICT_ERROR")["reason"] == "attempt_running"


def test_what_waits_for_an_endpoint_that_is_switched_off_is_given_up(api: Api, receiver: Receiver) -> None:
    endpoint = api.endpoint(receiver.url, events=["payment.created"])
    api.upi(api.order()["id"])
    api.delete(f"/webhook_endpoints/{endpoint['id']}")
    drain_all()
    assert (api.only_delivery()["status"], api.only_delivery()["attempts"]) == ("failed", 0)
    assert receiver.received == []
