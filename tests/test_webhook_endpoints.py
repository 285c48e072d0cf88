"""Webhook endpoints: made, changed and deleted; their secrets, test events, and being given up."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text
from standardwebhooks import Webhook, WebhookVerificationError

from models.audit import AuditEntry
from models.base import db
from models.merchants import TEST_API_KEY
from models.signatures import hex_signature
from tests.conftest import Api, drain_all, found, made, refused
from tests.receiver import Received, Receiver, running_receiver

from_iso = datetime.fromisoformat


def test_an_endpoint_is_made_read_changed_and_deleted(api: Api) -> None:
    endpoint = api.endpoint("https://shop.example/hook")
    assert endpoint["events"] == ["*"]
    assert endpoint["secret"].startswith("whsec_")
    path = f"/webhook_endpoints/{endpoint['id']}"
    assert "secret" not in found(api.get(path))
    changed = found(
        api.patch(path, {"events": ["order.paid"], "url": "http://shop.example/", "enabled": False})
    )
    assert (changed["events"], changed["url"], changed["enabled"]) == (
        ["order.paid"],
        "http://shop.example/",
        False,
    )
    assert api.delete(path).status_code == 204
    refused(api.get(path), 404, "NOT_FOUND_ERROR")
    assert found(api.get("/webhook_endpoints"))["data"] == []


def test_another_merchants_endpoint_is_not_found(api: Api, other: Api) -> None:
    path = f"/webhook_endpoints/{api.endpoint('https://shop.example/hook')['id']}"
    for response in (other.get(path), other.patch(path, {"enabled": False}), other.delete(path)):
        refused(response, 404, "NOT_FOUND_ERROR")


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"url": None}, "url"),
        ({"url": "shop.example"}, "url"),
        ({"url": "ftp://shop.example/"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "http://user:pw@shop.example/"}, "url"),
        ({"url": "http://shop.example/ x"}, "url"),
        ({"url": "http://shop.example:99999/"}, "url"),
        ({"url": "http://a..b/"}, "url"),
        ({"url": "http://" + "a" * 64 + ".example/"}, "url"),
        ({"url": "https://shop.example/" + "x" * 2048}, "url"),
        ({"events": []}, "events"),
        ({"events": ["payment.lost"]}, "events.0"),
        ({"events": "*"}, "events"),
        ({"events": ["*", "*"]}, "events"),
        ({"enabled": "perhaps"}, "enabled"),
    ],
)
def test_a_wrong_endpoint_is_refused(api: Api, facts: dict[str, Any], field: str) -> None:
    body = {"url": "https://shop.example/"} | facts
    refused(api.post("/webhook_endpoints", body), 400, "BAD_REQUEST_ERROR", field)


def test_a_merchant_has_a_limited_number_of_endpoints(api: Api) -> None:
    for _ in range(16):
        api.endpoint("https://shop.example/hook")
    refused(api.post("/webhook_endpoints", {"url": "https://shop.example/"}), 400, "BAD_REQUEST_ERROR")


def test_the_secret_is_not_readable_in_the_database(app: Flask, api: Api) -> None:
    secret = api.endpoint("https://shop.example/hook")["secret"]
    with app.app_context():
        stored = bytes(db.session.scalar(text("SELECT secret_encrypted FROM webhook_endpoints")) or b"")
    assert stored
    assert secret.encode() not in stored


def test_a_description_is_kept_changed_and_removed(api: Api) -> None:
    endpoint = api.endpoint("https://shop.example/hook", description="the shop")
    assert endpoint["description"] == "the shop"
    path = f"/webhook_endpoints/{endpoint['id']}"
    assert found(api.patch(path, {"events": ["order.paid"]}))["description"] == "the shop"
    assert found(api.patch(path, {"description": None}))["description"] is None
    refused(api.patch(path, {"description": "x" * 256}), 400, "BAD_REQUEST_ERROR", "description")
    refused(api.patch(path, {"description": 1}), 400, "BAD_REQUEST_ERROR", "description")


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        (["payment.*"], {"payment.created", "payment.success", "payment.captured"}),
        (
            ["payment.*", "order.paid"],
            {"payment.created", "payment.success", "payment.captured", "order.paid"},
        ),
        (["refund.*"], set()),
        (["*"], {"payment.created", "payment.success", "payment.captured", "order.paid"}),
        (["order.*", "payment.created"], {"order.paid", "payment.created"}),
    ],
)
def test_a_filter_names_events_and_families_of_them(
    api: Api, receiver: Receiver, events: list[str], wanted: set[str]
) -> None:
    assert api.endpoint(receiver.url, events=events)["events"] == events
    api.paid()
    assert set(receiver.events) == wanted


@pytest.mark.parametrize(
    "pattern", ["payment", "payment.", "pay*", "*.created", "invoice.*", "**", "Payment.*"]
)
def test_a_filter_that_can_match_nothing_is_refused(api: Api, pattern: str) -> None:
    body = {"url": "https://shop.example/", "events": ["*", pattern]}
    refused(api.post("/webhook_endpoints", body), 400, "BAD_REQUEST_ERROR", "events.1")
    assert found(api.get("/webhook_endpoints"))["data"] == []


# --- secrets -------------------------------------------------------------------------------------


def verifies(received: Received, secret: str) -> bool:
    try:
        Webhook(secret).verify(received.body, received.headers)
    except WebhookVerificationError:
        return False
    return True


def receive_one(api: Api, receiver: Receiver, path: str) -> Received:
    """A test event, delivered."""
    made(api.post(path + "/test"))
    drain_all()
    return receiver.received[-1]


@pytest.fixture
def endpoint(api: Api, receiver: Receiver) -> dict[str, Any]:
    created = api.endpoint(receiver.url)
    return created | {"path": f"/webhook_endpoints/{created['id']}"}


def test_a_secret_is_32_random_bytes(api: Api) -> None:
    secrets = [api.endpoint("https://shop.example/")["secret"] for _ in range(3)]
    assert all(len(base64.b64decode(secret.removeprefix("whsec_"))) == 32 for secret in secrets)
    assert len(set(secrets)) == 3


def test_a_secret_is_shown_when_created_rotated_or_asked_for_and_nowhere_else(
    api: Api, endpoint: dict[str, Any]
) -> None:
    path, old = endpoint["path"], endpoint["secret"]
    assert found(api.get(path + "/secret")) == {
        "secret": old,
        "previous_secret": None,
        "previous_secret_expires_at": None,
    }
    new = found(api.post(path + "/rotate_secret"))["secret"]
    shown = found(api.get(path + "/secret"))
    assert (shown["secret"], shown["previous_secret"]) == (new, old)
    elsewhere = [
        api.get(path),
        api.get("/webhook_endpoints"),
        api.patch(path, {"description": "x"}),
        api.post(path + "/test"),
        api.get("/events"),
        api.get("/webhooks"),
    ]
    for answer in elsewhere:
        assert old not in answer.text
        assert new not in answer.text


def test_while_the_old_secret_lives_both_sign(api: Api, receiver: Receiver, endpoint: dict[str, Any]) -> None:
    path, old = endpoint["path"], endpoint["secret"]
    before = receive_one(api, receiver, path)
    assert verifies(before, old)
    rotated = found(api.post(path + "/rotate_secret", {"overlap_hours": 2}))
    new = rotated["secret"]
    lives_s = from_iso(rotated["previous_secret_expires_at"]) - from_iso(rotated["updated_at"])
    assert lives_s == timedelta(hours=2)
    during = receive_one(api, receiver, path)
    assert verifies(during, old)
    assert verifies(during, new)
    assert len(during.headers["webhook-signature"].split()) == 2
    assert during.headers["x-webhook-signature"] == hex_signature(new, during.body)


@pytest.mark.parametrize("end", ["revoked", "expired", "without overlap"])
def test_an_old_secret_that_is_over_signs_nothing(
    app: Flask, api: Api, receiver: Receiver, endpoint: dict[str, Any], end: str
) -> None:
    path, old = endpoint["path"], endpoint["secret"]
    new = found(api.post(path + "/rotate_secret", {"overlap_hours": 0 if end == "without overlap" else 1}))
    if end == "revoked":
        assert api.delete(path + "/previous_secret").status_code == 204
    if end == "expired":
        with app.app_context():
            db.session.execute(text("UPDATE webhook_endpoints SET previous_secret_expires_at = now()"))
            db.session.commit()
    received = receive_one(api, receiver, path)
    assert verifies(received, new["secret"])
    assert not verifies(received, old)
    assert found(api.get(path + "/secret"))["previous_secret"] is None


def test_a_second_rotation_drops_the_oldest_secret(
    api: Api, receiver: Receiver, endpoint: dict[str, Any]
) -> None:
    path = endpoint["path"]
    secrets = [endpoint["secret"]]
    secrets += [found(api.post(path + "/rotate_secret"))["secret"] for _ in range(2)]
    received = receive_one(api, receiver, path)
    assert [verifies(received, secret) for secret in secrets] == [False, True, True]


def test_the_overlap_is_a_day_unless_it_is_said(api: Api, endpoint: dict[str, Any]) -> None:
    rotated = found(api.post(endpoint["path"] + "/rotate_secret"))
    lives_s = from_iso(rotated["previous_secret_expires_at"]) - from_iso(rotated["updated_at"])
    assert lives_s == timedelta(hours=24)


@pytest.mark.parametrize("hours", [-1, 169, 1.5, "24", None, True])
def test_a_wrong_overlap_is_refused(api: Api, endpoint: dict[str, Any], hours: Any) -> None:
    answer = api.post(endpoint["path"] + "/rotate_secret", {"overlap_hours": hours})
    refused(answer, 400, "BAD_REQUEST_ERROR", "overlap_hours")
    assert found(api.get(endpoint["path"] + "/secret"))["secret"] == endpoint["secret"]


def test_a_rotation_repeated_under_one_key_rotates_once(api: Api, endpoint: dict[str, Any]) -> None:
    first, again = (
        found(api.post(endpoint["path"] + "/rotate_secret", key="rotation-1"))["secret"] for _ in range(2)
    )
    assert first == again
    assert found(api.get(endpoint["path"] + "/secret"))["previous_secret"] == endpoint["secret"]


def test_secrets_of_another_merchant_are_out_of_reach(api: Api, other: Api, endpoint: dict[str, Any]) -> None:
    path = endpoint["path"]
    for answer in (
        other.get(path + "/secret"),
        other.post(path + "/rotate_secret"),
        other.delete(path + "/previous_secret"),
        other.post(path + "/test"),
        other.post(path + "/verify", {"body": "{}", "headers": {}}),
    ):
        refused(answer, 404, "NOT_FOUND_ERROR")
    assert found(api.get(path + "/secret"))["secret"] == endpoint["secret"]


def test_who_did_what_to_an_endpoint_is_written_down_without_its_secret(
    app: Flask, api: Api, endpoint: dict[str, Any]
) -> None:
    path = endpoint["path"]
    api.patch(path, {"enabled": False})
    api.get(path + "/secret")
    rotated = found(api.post(path + "/rotate_secret", {"overlap_hours": 3}))
    api.delete(path + "/previous_secret")
    api.delete(path)
    with app.app_context():
        entries = db.session.scalars(select(AuditEntry).order_by(AuditEntry.seq)).all()
        assert [(entry.action.removeprefix("webhook_endpoint."), entry.details) for entry in entries] == [
            ("created", {"url": endpoint["url"]}),
            ("changed", {"enabled": False}),
            ("secret_revealed", {}),
            ("secret_rotated", {"overlap_hours": 3}),
            ("previous_secret_revoked", {}),
            ("deleted", {}),
        ]
        assert {(entry.actor, entry.subject_id) for entry in entries} == {(TEST_API_KEY, endpoint["id"])}
        written = db.session.scalar(text("SELECT string_agg(a::text, ' ') FROM audit_log a"))
        assert rotated["secret"] not in written


# --- test events ---------------------------------------------------------------------------------


def test_a_test_event_comes_whatever_the_filter_says(api: Api, receiver: Receiver) -> None:
    endpoint = api.endpoint(receiver.url, events=["refund.failed"])
    bystander = api.endpoint("http://127.0.0.1:1/")
    delivery = made(api.post(f"/webhook_endpoints/{endpoint['id']}/test"))
    assert (delivery["event"], delivery["status"]) == ("webhook.test", "pending")
    drain_all()
    (received,) = receiver.received
    assert received.event["event"] == "webhook.test"
    assert received.event["data"]["webhook_endpoint"]["id"] == endpoint["id"]
    assert verifies(received, endpoint["secret"])
    assert api.only_delivery()["status"] == "success"
    assert found(api.get("/webhooks", endpoint_id=bystander["id"]))["total"] == 0


def test_all_enabled_endpoints_are_tested_at_once(api: Api, receiver: Receiver) -> None:
    endpoints = [api.endpoint(receiver.url)["id"] for _ in range(2)]
    api.endpoint(receiver.url, enabled=False)
    deliveries = made(api.post("/webhooks/test"))["data"]
    assert [delivery["endpoint_id"] for delivery in deliveries] == endpoints
    drain_all()
    told = [event["data"]["webhook_endpoint"]["id"] for event in (r.event for r in receiver.received)]
    assert sorted(told) == sorted(endpoints)


def test_a_disabled_endpoint_is_not_tested(api: Api) -> None:
    endpoint = api.endpoint("http://127.0.0.1:1/", enabled=False)
    answer = api.post(f"/webhook_endpoints/{endpoint['id']}/test")
    assert refused(answer, 400, "BAD_REQUEST_ERROR")["reason"] == "endpoint_disabled"
    answer = api.post("/webhooks/test")
    assert refused(answer, 400, "BAD_REQUEST_ERROR")["reason"] == "no_enabled_endpoint"
    assert found(api.get("/events"))["data"] == []


# --- given up ------------------------------------------------------------------------------------


def fail_for(app: Flask, interval: str) -> None:
    """Let time pass since the first failure; whatever waits is due now."""
    with app.app_context():
        db.session.execute(
            text("UPDATE webhook_endpoints SET failing_since = failing_since - cast(:interval AS interval)"),
            {"interval": interval},
        )
        db.session.commit()


def exhaust(api: Api, receiver: Receiver, make_due: Any) -> None:
    """One delivery with all of its attempts, each of which fails."""
    receiver.answers = [500] * 5
    api.upi(api.order()["id"])
    for _ in range(5):
        drain_all()
        make_due("webhook_deliveries")


def failing_for_six_days(app: Flask, api: Api, receiver: Receiver, make_due: Any) -> str:
    """An endpoint whose next delivery that is given up will disable it. Returns its path."""
    endpoint = api.endpoint(receiver.url, events=["payment.created"])
    exhaust(api, receiver, make_due)
    fail_for(app, "6 days")
    return f"/webhook_endpoints/{endpoint['id']}"


def test_after_five_days_of_nothing_but_failure_it_is_disabled(
    app: Flask, api: Api, receiver: Receiver, make_due: Any
) -> None:
    endpoint = api.endpoint(receiver.url, events=["payment.created"])
    path = f"/webhook_endpoints/{endpoint['id']}"
    with running_receiver() as elsewhere:
        api.endpoint(elsewhere.url, events=["webhook_endpoint.disabled"])
        exhaust(api, receiver, make_due)
        assert found(api.get(path))["failing_since"] is not None
        fail_for(app, "4 days 23 hours 59 minutes")
        exhaust(api, receiver, make_due)
        assert found(api.get(path))["enabled"] is True
        fail_for(app, "1 minute")
        exhaust(api, receiver, make_due)
        given_up = found(api.get(path))
        assert (given_up["enabled"], given_up["disabled_reason"]) == (False, "nothing but failure for 5 days")
        assert given_up["disabled_at"] is not None
        drain_all()
        (told,) = elsewhere.received
    assert told.event["event"] == "webhook_endpoint.disabled"
    about = told.event["data"]["webhook_endpoint"]
    assert (about["id"], about["disabled_reason"]) == (endpoint["id"], "nothing but failure for 5 days")
    with app.app_context():
        (entry,) = db.session.scalars(
            select(AuditEntry).where(AuditEntry.action == "webhook_endpoint.disabled")
        )
        assert (entry.actor, entry.subject_id) == ("gateway", endpoint["id"])
        assert entry.details == {"reason": "nothing but failure for 5 days"}


def test_one_success_and_the_days_are_counted_anew(
    app: Flask, api: Api, receiver: Receiver, make_due: Any
) -> None:
    path = failing_for_six_days(app, api, receiver, make_due)
    api.upi(api.order()["id"])
    drain_all()
    assert found(api.get(path))["failing_since"] is None
    exhaust(api, receiver, make_due)
    assert found(api.get(path))["enabled"] is True


def test_a_single_failed_attempt_after_a_long_silence_disables_nothing(
    app: Flask, api: Api, receiver: Receiver, make_due: Any
) -> None:
    """It is judged when a delivery is given up: until then the receiver may come back."""
    path = failing_for_six_days(app, api, receiver, make_due)
    receiver.answers = [500]
    api.upi(api.order()["id"])
    drain_all()
    assert found(api.get(path))["enabled"] is True


def test_enabled_again_it_starts_with_a_clean_slate(
    app: Flask, api: Api, receiver: Receiver, make_due: Any
) -> None:
    path = failing_for_six_days(app, api, receiver, make_due)
    exhaust(api, receiver, make_due)
    assert found(api.get(path))["enabled"] is False
    enabled = found(api.patch(path, {"enabled": True}))
    assert (enabled["enabled"], enabled["disabled_reason"]) == (True, None)
    assert (enabled["disabled_at"], enabled["failing_since"]) == (None, None)
    exhaust(api, receiver, make_due)
    assert found(api.get(path))["enabled"] is True


def test_410_disables_it_with_an_event_and_an_audit_row(app: Flask, api: Api, receiver: Receiver) -> None:
    endpoint = api.endpoint(receiver.url, events=["payment.created"])
    receiver.answers = [410]
    api.upi(api.order()["id"])
    drain_all()
    assert api.only_delivery()["status"] == "failed"
    gone = found(api.get(f"/webhook_endpoints/{endpoint['id']}"))
    assert (gone["enabled"], gone["disabled_reason"]) == (False, "it answered 410 Gone")
    told = found(api.get("/events", event="webhook_endpoint.disabled"))["data"]
    assert [event["data"]["webhook_endpoint"]["id"] for event in told] == [endpoint["id"]]
    with app.app_context():
        actions = db.session.scalars(select(AuditEntry.action).where(AuditEntry.actor == "gateway")).all()
        assert actions == ["webhook_endpoint.disabled"]


def test_what_still_waits_for_it_is_given_up_without_an_attempt(api: Api, receiver: Receiver) -> None:
    api.endpoint(receiver.url)
    receiver.answers = [410]
    api.paid()
    assert len(receiver.received) == 1
    rows = found(api.get("/webhooks", status="failed"))["data"]
    assert [row["attempts"] for row in rows] == [0, 0, 0, 1]
    assert rows[0]["error"] == "the endpoint is off: it answered 410 Gone"
