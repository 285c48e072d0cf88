"""Events: what is told of a payment's life, in which order, and with which bytes."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import pytest

from models.base import db
from models.events import Event
from models.webhook_endpoints import EVENT_TYPES
from tests.conftest import Api, drain_all, found, made, refused

COMES_BACK = "4000000000005126"  # its refund is processed, then fails


def listed(api: Api, **query: Any) -> list[dict[str, Any]]:
    return found(api.get("/events", **query))["data"]


def told(api: Api, **query: Any) -> list[str]:
    """What happened, oldest first."""
    return [event["event"] for event in reversed(listed(api, **query))]


# --- what is told --------------------------------------------------------------------------------


def test_an_order_alone_tells_nothing(api: Api) -> None:
    api.order()
    assert told(api) == []


def test_the_life_of_an_automatic_payment(api: Api) -> None:
    payment = api.paid()
    refund = made(api.post(f"/payments/{payment['id']}/refunds"))
    drain_all()
    assert told(api) == [
        "payment.created",
        "payment.success",
        "payment.captured",
        "order.paid",
        "refund.created",
        "refund.processed",
    ]
    assert told(api, payment_id=payment["id"]) == [each for each in told(api) if each != "order.paid"]
    assert told(api, refund_id=refund["id"]) == ["refund.created", "refund.processed"]


def test_the_life_of_a_manual_payment(api: Api) -> None:
    voided = api.paid(capture="manual")
    found(api.post(f"/payments/{voided['id']}/void"))
    captured = api.upi(voided["order_id"])
    drain_all()
    found(api.post(f"/payments/{captured['id']}/capture", {"amount": 6000}))
    assert told(api, order_id=voided["order_id"]) == [
        *("payment.created", "payment.success", "payment.voided"),
        *("payment.created", "payment.success", "payment.captured", "order.paid"),
    ]
    [paid] = listed(api, event="order.paid")
    assert paid["data"]["order"]["amount_paid"] == 6000


def test_the_life_of_a_payment_that_waits_for_the_shopper_in_vain(api: Api, make_due) -> None:
    api.upi(api.order()["id"], "pending@upi")
    drain_all()
    make_due("payments")
    drain_all()
    assert told(api) == ["payment.created", "payment.requires_action", "payment.failed"]


def test_the_life_of_a_refund_that_comes_back(api: Api, make_due) -> None:
    made(api.post(f"/payments/{api.paid(number=COMES_BACK)['id']}/refunds"))
    drain_all()
    make_due("refunds")
    drain_all()
    assert told(api)[-3:] == ["refund.created", "refund.processed", "refund.failed"]


def test_what_is_refused_tells_nothing(api: Api) -> None:
    payment = api.paid()
    before = told(api)
    api.post("/payments", {"order_id": payment["order_id"], "method": "upi", "vpa": "success@upi"})
    api.post(f"/payments/{payment['id']}/capture", {"amount": 1})
    api.post(f"/payments/{payment['id']}/void")
    api.post(f"/payments/{payment['id']}/refunds", {"amount": 10001})
    drain_all()
    assert told(api) == before


# --- how it is told ------------------------------------------------------------------------------


def test_an_event_shows_things_as_they_were_right_after_it(api: Api) -> None:
    order = api.order()
    pending = api.upi(order["id"])
    drain_all()
    settled = api.payment(pending["id"])
    paid = found(api.get(f"/orders/{order['id']}"))
    assert [event["data"] for event in reversed(listed(api))] == [
        {"payment": pending},
        {"payment": settled},
        {"payment": settled},
        {"order": paid},
    ]


def test_the_stored_bytes_are_what_the_contract_says(api: Api, context: None) -> None:
    api.paid(notes={"café": "₹ 😀"})
    for event in db.session.query(Event).order_by(Event.seq):
        payload = json.loads(event.payload)
        assert list(payload) == ["id", "event", "timestamp", "data"]
        assert (payload["id"], payload["event"]) == (event.id, event.type)
        assert payload["timestamp"] == int(event.created_at.timestamp())
        assert payload["data"] == event.data
        assert event.payload == json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    assert '"notes":{"café":"₹ 😀"}' in event.payload


def test_an_event_can_be_got_by_its_id(api: Api) -> None:
    payment = api.paid()
    newest = listed(api, event="payment.success")[0]
    assert found(api.get(f"/events/{newest['id']}")) == newest
    assert set(newest) == {"id", "event", "created_at", "data"}
    assert re.fullmatch(r"evt_[A-Za-z0-9]{16}", newest["id"])
    assert datetime.fromisoformat(newest["created_at"]) == datetime.fromisoformat(payment["updated_at"])


def test_the_list_is_filtered_by_event_and_by_what_it_tells_of(api: Api) -> None:
    first, second = api.paid(), api.paid()
    assert told(api, event="payment.captured", payment_id=first["id"]) == ["payment.captured"]
    assert told(api, event="order.paid") == ["order.paid"] * 2
    assert told(api, event="order.paid", order_id=second["order_id"]) == ["order.paid"]
    assert told(api, event="order.paid", payment_id=second["id"]) == []
    assert told(api, payment_id="pay_doesNotExist00000") == []


@pytest.mark.parametrize("event", EVENT_TYPES)
def test_every_event_of_the_contract_can_be_asked_for(api: Api, event: str) -> None:
    assert told(api, event=event) == []


def test_events_are_listed_page_by_page(api: Api) -> None:
    api.paid()
    every = [event["id"] for event in listed(api)]
    page = found(api.get("/events", limit=3))
    assert (page["has_more"], page["next_cursor"]) == (True, every[2])
    assert [event["id"] for event in page["data"]] == every[:3]
    assert [event["id"] for event in listed(api, limit=3, starting_after=every[2])] == every[3:]


@pytest.mark.parametrize(
    ("query", "field"),
    [({"event": "payment.paid"}, "event"), ({"event": ""}, "event"), ({"limit": 101}, "limit")],
)
def test_it_refuses_a_wrong_query(api: Api, query: dict, field: str) -> None:
    refused(api.get("/events", **query), 400, "BAD_REQUEST_ERROR", field)


def test_another_merchant_sees_none_of_it(api: Api, other: Api) -> None:
    payment = api.paid()
    event_id = listed(api)[0]["id"]
    refused(other.get(f"/events/{event_id}"), 404, "NOT_FOUND_ERROR")
    refused(api.get("/events/evt_doesNotExist00000"), 404, "NOT_FOUND_ERROR")
    assert listed(other) == listed(other, payment_id=payment["id"]) == []
    refused(other.get("/events", starting_after=event_id), 400, "BAD_REQUEST_ERROR", "starting_after")
