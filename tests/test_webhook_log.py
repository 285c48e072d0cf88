"""The log of deliveries: found by any of its facts, and each with all that happened to it."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from models.base import db
from tests.conftest import Api, drain_all, found, refused
from tests.receiver import Receiver, answer, running_receiver

NOBODY = "http://127.0.0.1:1/"


@pytest.fixture
def log(api: Api, other: Api, receiver: Receiver) -> dict[str, str]:
    """Four deliveries that succeeded, one that waits, and one of another merchant."""
    good = api.endpoint(receiver.url)["id"]
    down = api.endpoint(NOBODY, events=["order.paid"])["id"]
    other.endpoint(receiver.url, events=["payment.created"])
    other.upi(other.order()["id"])
    api.paid()
    return {"good": good, "down": down}


def total(api: Api, **filters: Any) -> int:
    page = found(api.get("/webhooks", **filters))
    assert len(page["data"]) == min(page["total"], page["limit"])
    return page["total"]


def test_each_filter_finds_its_own(api: Api, other: Api, log: dict[str, str]) -> None:
    assert total(api) == 5
    assert total(other) == 1
    assert (total(api, status="success"), total(api, status="pending"), total(api, status="failed")) == (
        4,
        1,
        0,
    )
    assert (total(api, event="order.paid"), total(api, event="payment.created")) == (2, 1)
    assert (total(api, endpoint_id=log["good"]), total(api, endpoint_id=log["down"])) == (4, 1)
    (paid,) = found(api.get("/events", event="order.paid"))["data"]
    assert total(api, event_id=paid["id"]) == 2
    assert total(api, event_id=paid["id"], status="pending", endpoint_id=log["down"], event="order.paid") == 1
    assert total(api, event_id=paid["id"], status="success", endpoint_id=log["down"]) == 0


def test_what_another_merchant_has_is_found_by_no_filter(api: Api, other: Api, log: dict[str, str]) -> None:
    (theirs,) = found(other.get("/webhooks"))["data"]
    assert total(api, event_id=theirs["event_id"]) == 0
    assert total(api, endpoint_id=theirs["endpoint_id"]) == 0
    refused(api.get(f"/webhooks/{theirs['id']}"), 404, "NOT_FOUND_ERROR")
    refused(api.post(f"/webhooks/{theirs['id']}/retry"), 404, "NOT_FOUND_ERROR")


def test_a_time_reaches_from_its_beginning_to_before_its_end(
    app: Flask, api: Api, log: dict[str, str]
) -> None:
    with app.app_context():
        db.session.execute(
            text(
                "UPDATE webhook_deliveries SET created_at = timestamptz '2026-01-01Z' + seq * interval '1 h'"
            )
        )
        db.session.commit()
    times = sorted(row["created_at"] for row in found(api.get("/webhooks"))["data"])
    assert total(api, **{"from": times[1], "to": times[4]}) == 3
    assert total(api, **{"from": times[4]}) == 1
    assert total(api, to=times[0]) == 0


def test_pages_tell_all_newest_first(api: Api, log: dict[str, str]) -> None:
    everything = found(api.get("/webhooks"))
    assert (everything["total"], everything["limit"], everything["offset"]) == (5, 20, 0)
    pages = [found(api.get("/webhooks", limit=2, offset=offset))["data"] for offset in (0, 2, 4)]
    assert [row["id"] for page in pages for row in page] == [row["id"] for row in everything["data"]]
    assert everything["data"][-1]["event"] == "payment.created"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "lost"),
        ("event", "payment.*"),
        ("event", "payment.lost"),
        ("limit", "0"),
        ("limit", "101"),
        ("offset", "-1"),
        ("offset", "10001"),
        ("from", "yesterday"),
        ("to", "2026-13-01T00:00:00Z"),
    ],
)
def test_a_wrong_filter_is_named(api: Api, field: str, value: str) -> None:
    refused(api.get("/webhooks", **{field: value}), 400, "BAD_REQUEST_ERROR", field)


def test_a_delivery_tells_what_was_sent_and_every_attempt(
    api: Api, receiver: Receiver, make_due: Any
) -> None:
    endpoint = api.endpoint(NOBODY, events=["payment.created"])
    api.upi(api.order()["id"])
    drain_all()
    with running_receiver() as elsewhere:
        elsewhere.answers = [answer(503, b"in maintenance"), answer(200, b"thanks")]
        found(api.patch(f"/webhook_endpoints/{endpoint['id']}", {"url": elsewhere.url}))
        for _ in range(2):
            make_due("webhook_deliveries")
            drain_all()
        delivery = api.only_delivery()
        assert delivery["payload"].encode() == elsewhere.received[0].body
        url = elsewhere.url
    told = [
        (
            attempt["number"],
            attempt["url"],
            attempt["status_code"],
            attempt["response_body"],
            attempt["error"],
        )
        for attempt in delivery["attempt_log"]
    ]
    assert told == [
        (1, NOBODY, None, None, "connection refused"),
        (2, url, 503, "in maintenance", "answered 503"),
        (3, url, 200, "thanks", None),
    ]
    assert all(0 <= attempt["duration_ms"] < 10_000 for attempt in delivery["attempt_log"])
    times = [attempt["attempted_at"] for attempt in delivery["attempt_log"]]
    assert times == sorted(times)
    assert delivery["last_attempt_at"] == times[-1]
    assert (delivery["status"], delivery["attempts"], delivery["response_code"]) == ("success", 3, 200)
