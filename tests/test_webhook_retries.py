"""Trying again all that failed since a time, and what was missed while an endpoint was off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from models import webhook_retries
from models.base import db
from models.webhook_endpoints import WebhookEndpoint
from models.webhook_retries import RETRIES_PER_S
from tests.conftest import Api, at_once, drain_all, found, refused
from tests.receiver import Receiver
from tests.test_webhook_endpoints import exhaust

LONG_AGO = "2026-01-01T00:00:00Z"
NOBODY = "http://127.0.0.1:1/"
MakeDue = Callable[[str], None]


def begun(api: Api, **body: Any) -> dict[str, Any]:
    answer = api.post("/webhooks/retry", {"since": LONG_AGO, **body})
    assert answer.status_code == 202, answer.text
    return answer.get_json()


def progress(api: Api, retry: dict[str, Any]) -> tuple[str, int, int, int]:
    told = found(api.get(f"/webhooks/retries/{retry['id']}"))
    return told["status"], told["pending"], told["success"], told["failed"]


def fail_deliveries(app: Flask, endpoint_id: str, count: int) -> None:
    """So many deliveries to the endpoint that were given up, a second apart, the last one just now."""
    with app.app_context():
        endpoint = db.session.get_one(WebhookEndpoint, endpoint_id)
        for _ in range(count):
            endpoint.send_test()
        db.session.flush()
        db.session.execute(
            text(
                "UPDATE webhook_deliveries SET status = 'failed', due_at = NULL, attempts = 5, "
                "last_attempt_at = now() - make_interval(secs => :count - place), "
                "created_at = now() - make_interval(secs => :count - place) "
                "FROM (SELECT id AS one, row_number() OVER (ORDER BY seq) AS place FROM webhook_deliveries "
                "WHERE endpoint_id = :endpoint_id AND status = 'pending') AS mine WHERE id = one"
            ),
            {"endpoint_id": endpoint_id, "count": count},
        )
        db.session.commit()


# --- what failed ---------------------------------------------------------------------------------


def test_two_hundred_that_failed_are_sent_again_oldest_first(
    app: Flask, api: Api, receiver: Receiver, make_due: MakeDue
) -> None:
    fail_deliveries(app, api.endpoint(receiver.url)["id"], 200)
    retry = begun(api)
    assert (retry["total"], retry["has_more"], retry["include_missed"]) == (200, False, False)
    assert progress(api, retry) == ("running", 200, 0, 0)
    with app.app_context():
        waits_s = db.session.scalars(
            text(
                "SELECT extract(epoch FROM due_at - r.created_at) FROM webhook_deliveries d "
                "JOIN webhook_retries r ON r.id = d.retry_id ORDER BY d.seq"
            )
        ).all()
    assert [round(float(wait_s) * RETRIES_PER_S) for wait_s in waits_s] == list(range(1, 201))
    make_due("webhook_deliveries")
    drain_all()
    assert progress(api, retry) == ("done", 0, 200, 0)
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 200
    assert found(api.get("/webhooks", retry_id=retry["id"], status="success"))["total"] == 200
    assert begun(api)["total"] == 0


def test_the_time_reaches_from_since_to_before_until(app: Flask, api: Api) -> None:
    endpoint = api.endpoint(NOBODY)["id"]
    fail_deliveries(app, endpoint, 10)
    log = found(api.get("/webhooks", limit=100))["data"]
    times = sorted(row["last_attempt_at"] for row in log)
    with app.app_context():  # the API tells milliseconds; what is stored has more
        db.session.execute(
            text(
                "UPDATE webhook_deliveries SET last_attempt_at = date_trunc('milliseconds', last_attempt_at)"
            )
        )
        db.session.commit()
    retry = begun(api, since=times[3], until=times[7])
    assert retry["total"] == 4
    taken = {row["last_attempt_at"] for row in found(api.get("/webhooks", retry_id=retry["id"]))["data"]}
    assert taken == set(times[3:7])


def test_what_was_never_tried_counts_from_when_it_was_made(api: Api, receiver: Receiver) -> None:
    api.endpoint(receiver.url)
    receiver.answers = [410]
    api.paid()  # the first is refused for good, the others are given up
    endpoint = found(api.get("/webhook_endpoints"))["data"][0]["id"]
    found(api.patch(f"/webhook_endpoints/{endpoint}", {"enabled": True}))
    assert begun(api)["total"] == 4


def test_one_endpoint_alone_or_all_that_are_enabled(app: Flask, api: Api, other: Api) -> None:
    one, two, off = (api.endpoint(NOBODY)["id"] for _ in range(3))
    theirs = other.endpoint(NOBODY)["id"]
    for endpoint, count in ((one, 1), (two, 2), (off, 4), (theirs, 8)):
        fail_deliveries(app, endpoint, count)
    api.patch(f"/webhook_endpoints/{off}", {"enabled": False})
    assert begun(api, endpoint_id=two)["total"] == 2
    assert begun(api)["total"] == 1
    assert found(other.get("/webhooks", status="failed"))["total"] == 8
    assert found(api.get("/webhooks", status="failed", endpoint_id=off))["total"] == 4


def test_one_that_fails_again_has_had_its_attempt(
    app: Flask, api: Api, receiver: Receiver, make_due: MakeDue
) -> None:
    fail_deliveries(app, api.endpoint(receiver.url)["id"], 3)
    retry = begun(api)
    receiver.answers = [500, 200, 500]
    make_due("webhook_deliveries")
    drain_all()
    assert progress(api, retry) == ("done", 0, 1, 2)
    later = begun(api)
    assert later["total"] == 2
    make_due("webhook_deliveries")
    drain_all()
    assert progress(api, later) == ("done", 0, 2, 0)
    assert progress(api, retry) == ("done", 0, 1, 0)


def test_more_than_one_request_takes_is_said(
    app: Flask, api: Api, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_retries, "RETRY_MAX", 3)
    fail_deliveries(app, api.endpoint(receiver.url)["id"], 5)
    first, second, third = (begun(api) for _ in range(3))
    assert [(retry["total"], retry["has_more"]) for retry in (first, second, third)] == [
        (3, True),
        (2, False),
        (0, False),
    ]
    listed = found(api.get("/webhooks/retries"))["data"]
    assert [retry["id"] for retry in listed] == [third["id"], second["id"], first["id"]]
    assert [retry["pending"] for retry in listed] == [0, 2, 3]


def test_a_repeated_request_retries_once(app: Flask, api: Api) -> None:
    fail_deliveries(app, api.endpoint(NOBODY)["id"], 2)
    first, again = (api.post("/webhooks/retry", {"since": LONG_AGO}, key="retry-1") for _ in range(2))
    assert first.get_json() == again.get_json()
    assert len(found(api.get("/webhooks/retries"))["data"]) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"since": 5}, "since"),
        ({"since": "2999-01-01T00:00:00Z"}, "since"),
        ({"since": LONG_AGO, "until": LONG_AGO}, "since"),
        ({"since": LONG_AGO, "until": "soon"}, "until"),
        ({"since": LONG_AGO, "endpoint_id": 5}, "endpoint_id"),
        ({"since": LONG_AGO, "include_missed": True}, "endpoint_id"),
        ({"since": LONG_AGO, "include_missed": "perhaps"}, "include_missed"),
    ],
)
def test_a_wrong_request_is_refused(app: Flask, api: Api, body: dict[str, Any], field: str) -> None:
    fail_deliveries(app, api.endpoint(NOBODY)["id"], 1)
    refused(api.post("/webhooks/retry", body), 400, "BAD_REQUEST_ERROR", field)
    assert found(api.get("/webhooks", status="failed"))["total"] == 1
    assert found(api.get("/webhooks/retries"))["data"] == []


def test_an_endpoint_that_is_off_or_somebody_elses_is_refused(api: Api, other: Api) -> None:
    off = api.endpoint(NOBODY, enabled=False)["id"]
    answer = api.post("/webhooks/retry", {"since": LONG_AGO, "endpoint_id": off})
    assert refused(answer, 400, "BAD_REQUEST_ERROR", "endpoint_id")["reason"] == "endpoint_disabled"
    answer = other.post("/webhooks/retry", {"since": LONG_AGO, "endpoint_id": off})
    refused(answer, 404, "NOT_FOUND_ERROR")


def test_another_merchants_retry_is_not_found(api: Api, other: Api) -> None:
    retry = begun(api)
    refused(other.get(f"/webhooks/retries/{retry['id']}"), 404, "NOT_FOUND_ERROR")
    assert found(other.get("/webhooks/retries"))["data"] == []


# --- what was missed -----------------------------------------------------------------------------


def switch(api: Api, endpoint_id: str, *, enabled: bool) -> dict[str, Any]:
    return found(api.patch(f"/webhook_endpoints/{endpoint_id}", {"enabled": enabled}))


def test_enabled_again_it_is_offered_what_failed_and_what_was_never_sent(
    api: Api, receiver: Receiver, make_due: MakeDue
) -> None:
    endpoint = api.endpoint(receiver.url, events=["payment.*"])["id"]
    exhaust(api, receiver, make_due)  # payment.created, and since it failed, what came after it
    receiver.received.clear()
    before = found(api.get("/webhooks", status="failed"))["total"]
    switch(api, endpoint, enabled=False)
    api.paid()
    offer = switch(api, endpoint, enabled=True)["missed"]
    assert (offer["failed"], offer["never_sent"]) == (before, 3)
    assert offer["retry_with"]["endpoint_id"] == endpoint
    retry = begun(api, **offer["retry_with"])
    assert retry["total"] == before + 3
    make_due("webhook_deliveries")
    drain_all()
    assert progress(api, retry) == ("done", 0, before + 3, 0)
    assert {received.event["event"] for received in receiver.received} == {
        "payment.created",
        "payment.success",
        "payment.captured",
    }
    assert begun(api, **offer["retry_with"])["total"] == 0


def test_asked_for_by_many_at_once_what_was_missed_is_sent_once(app: Flask, api: Api) -> None:
    endpoint = api.endpoint(NOBODY, events=["payment.*"])["id"]
    switch(api, endpoint, enabled=False)
    for _ in range(5):
        api.paid()
    body = switch(api, endpoint, enabled=True)["missed"]["retry_with"]
    callers = [Api(app.test_client()) for _ in range(8)]
    retries = at_once(8, lambda number: begun(callers[number], **body))
    assert sorted(retry["total"] for retry in retries) == [0] * 7 + [15]
    assert found(api.get("/webhooks", endpoint_id=endpoint))["total"] == 15


def test_there_is_no_offer_when_nothing_was_missed(api: Api) -> None:
    endpoint = api.endpoint(NOBODY, events=["refund.*"])["id"]
    switch(api, endpoint, enabled=False)
    api.paid()
    assert switch(api, endpoint, enabled=True)["missed"] is None


def test_nor_when_it_was_on_or_stays_off(app: Flask, api: Api) -> None:
    endpoint = api.endpoint(NOBODY)["id"]
    fail_deliveries(app, endpoint, 2)
    assert switch(api, endpoint, enabled=True)["missed"] is None
    switch(api, endpoint, enabled=False)
    assert found(api.patch(f"/webhook_endpoints/{endpoint}", {"description": "x"}))["missed"] is None


def test_what_happened_before_an_endpoint_existed_can_be_sent_to_it(
    api: Api, receiver: Receiver, make_due: MakeDue
) -> None:
    api.paid()
    endpoint = api.endpoint(receiver.url, events=["payment.success", "order.*"])["id"]
    assert begun(api, endpoint_id=endpoint)["total"] == 0
    retry = begun(api, endpoint_id=endpoint, include_missed=True)
    assert (retry["total"], retry["status"], retry["pending"]) == (2, "running", 2)
    make_due("webhook_deliveries")
    drain_all()
    assert sorted(receiver.events) == ["order.paid", "payment.success"]
    assert begun(api, endpoint_id=endpoint, include_missed=True)["total"] == 0


def test_missed_events_count_towards_the_limit(
    api: Api, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, app: Flask
) -> None:
    monkeypatch.setattr(webhook_retries, "RETRY_MAX", 3)
    api.paid()
    endpoint = api.endpoint(receiver.url)["id"]
    fail_deliveries(app, endpoint, 1)
    retries = [begun(api, endpoint_id=endpoint, include_missed=True) for _ in range(2)]
    assert [(retry["total"], retry["has_more"]) for retry in retries] == [(3, True), (2, False)]


def test_news_of_endpoints_themselves_is_not_brought_back(api: Api, receiver: Receiver) -> None:
    tested = api.endpoint(receiver.url)["id"]
    api.post(f"/webhook_endpoints/{tested}/test")
    drain_all()
    late = api.endpoint(NOBODY)["id"]
    assert begun(api, endpoint_id=late, include_missed=True)["total"] == 0
