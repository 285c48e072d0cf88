"""GET /audit_log: who did what that matters for security or money."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from sqlalchemy.exc import IntegrityError

from models.merchants import TEST_API_KEY, TEST_API_SECRET, TEST_EMAIL, TEST_MERCHANT_ID, TEST_PASSWORD
from tests.conftest import OTHER_EMAIL, Api, Dashboard, found, in_sql, made, refused
from tests.receiver import Receiver

NOBODY = "http://127.0.0.1:1/"


def log(api: Api, **query: Any) -> list[dict[str, Any]]:
    return found(api.get("/audit_log", **query))["data"]


def done(api: Api, **query: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """What was done, to what, and how; the oldest first."""
    return [(row["action"], row["subject_id"], row["details"]) for row in reversed(log(api, **query))]


def test_it_tells_what_was_done_to_what_by_whom_and_when(api: Api, dashboard: Dashboard) -> None:
    payment = api.paid()
    by_key = made(api.post(f"/payments/{payment['id']}/refunds", {"amount": 1000}))
    by_session = made(dashboard.post(f"/payments/{payment['id']}/refunds", {"amount": 500}))
    newest, older = log(api, limit=2)
    assert newest == {
        "id": newest["id"],
        "actor": TEST_EMAIL,
        "action": "refund.requested",
        "subject_id": by_session["id"],
        "details": {"amount": 500},
        "created_at": by_session["created_at"],
    }
    assert newest["id"].startswith("aud_")
    assert (older["actor"], older["subject_id"]) == (TEST_API_KEY, by_key["id"])
    assert log(dashboard) == log(api)


def test_what_moves_money_is_in_it(api: Api) -> None:
    captured, voided = api.paid(capture="manual"), api.paid(capture="manual")
    found(api.post(f"/payments/{captured['id']}/capture", {"amount": 6000}))
    found(api.post(f"/payments/{voided['id']}/void"))
    refund = made(api.post(f"/payments/{captured['id']}/refunds"))
    assert done(api) == [
        ("payment.capture_requested", captured["id"], {"amount": 6000}),
        ("payment.void_requested", voided["id"], {}),
        ("refund.requested", refund["id"], {"amount": 6000}),
    ]


def test_what_sends_webhooks_elsewhere_or_again_is_in_it(
    app: Flask, other: Api, other_dashboard: Dashboard, api: Api, receiver: Receiver
) -> None:
    endpoint = other_dashboard.endpoint(NOBODY)["id"]
    path = f"/webhook_endpoints/{endpoint}"
    found(other_dashboard.patch(path, {"url": receiver.url}))
    found(other_dashboard.get(f"{path}/secret"))
    found(other_dashboard.post(f"{path}/rotate_secret", {"overlap_hours": 1}))
    assert other_dashboard.delete(f"{path}/previous_secret").status_code == 204
    receiver.answers = [500]
    other.paid()
    delivery = found(other.get("/webhooks", status="pending"))["data"][0]["id"]
    found(other_dashboard.post(f"/webhooks/{delivery}/retry"))
    retry = other_dashboard.post("/webhooks/retry", {"since": "2020-01-01T00:00:00Z"}).get_json()
    assert other_dashboard.delete(path).status_code == 204
    assert done(other)[1:] == [
        ("webhook_endpoint.created", endpoint, {"url": NOBODY}),
        ("webhook_endpoint.changed", endpoint, {"url": receiver.url}),
        ("webhook_endpoint.secret_revealed", endpoint, {}),
        ("webhook_endpoint.secret_rotated", endpoint, {"overlap_hours": 1}),
        ("webhook_endpoint.previous_secret_revoked", endpoint, {}),
        ("webhook.retried", delivery, {}),
        ("webhook.all_retried", retry["id"], {"total": retry["total"]}),
        ("webhook_endpoint.deleted", endpoint, {}),
    ]


def test_a_change_of_the_merchant_is_in_it(other: Api, other_dashboard: Dashboard) -> None:
    found(other_dashboard.patch("/merchant", {"accent_color": "#0b7a4b"}))
    [row] = log(other, limit=1)
    assert (row["action"], row["actor"], row["details"]) == (
        "merchant.changed",
        OTHER_EMAIL,
        {"accent_color": "#0b7a4b"},
    )


def test_what_is_refused_is_not_in_it(api: Api) -> None:
    payment = api.paid()
    refused(api.post(f"/payments/{payment['id']}/void"), 400, "BAD_REQUEST_ERROR")
    refused(
        api.post(f"/payments/{payment['id']}/refunds", {"amount": 10001}), 400, "BAD_REQUEST_ERROR", "amount"
    )
    refused(api.post("/webhook_endpoints", {"url": "nowhere"}), 400, "BAD_REQUEST_ERROR", "url")
    assert log(api) == []


def test_what_is_asked_for_twice_is_in_it_once(api: Api) -> None:
    payment = api.paid(capture="manual")
    for _ in range(2):
        found(api.post(f"/payments/{payment['id']}/capture"))
    refunds = [api.post(f"/payments/{payment['id']}/refunds", {"amount": 1}, key="once") for _ in range(2)]
    assert made(refunds[0]) == made(refunds[1])
    assert [action for action, _, _ in done(api)] == ["payment.capture_requested", "refund.requested"]


def test_it_is_listed_page_by_page_and_by_subject_and_time(app: Flask, api: Api) -> None:
    payment = api.paid()
    refunds = [made(api.post(f"/payments/{payment['id']}/refunds", {"amount": 1}))["id"] for _ in range(3)]
    rows = log(api)
    assert [row["subject_id"] for row in rows] == refunds[::-1]
    page = found(api.get("/audit_log", limit=2))
    assert (page["data"], page["has_more"], page["next_cursor"]) == (rows[:2], True, rows[1]["id"])
    assert log(api, limit=2, starting_after=rows[1]["id"]) == rows[2:]
    assert log(api, subject_id=refunds[1]) == [rows[1]]
    assert log(api, subject_id=payment["id"]) == []
    assert log(api, **{"to": "2020-01-01T00:00:00Z"}) == []
    assert log(api, **{"from": "2020-01-01T00:00:00Z"}) == rows


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *(({"limit": 0}, "limit"), ({"limit": "x"}, "limit"), ({"subject_id": "a\0b"}, "subject_id")),
        *(({"starting_after": "aud_x"}, "starting_after"), ({"from": "x"}, "from"), ({"to": "x"}, "to")),
    ],
)
def test_it_refuses_a_wrong_query(api: Api, query: dict, field: str) -> None:
    refused(api.get("/audit_log", **query), 400, "BAD_REQUEST_ERROR", field)


def test_each_merchant_sees_its_own(api: Api, other: Api) -> None:
    refund = made(api.post(f"/payments/{api.paid()['id']}/refunds"))
    [row] = log(api)
    assert log(other) == log(other, subject_id=refund["id"]) == []
    refused(other.get("/audit_log", starting_after=row["id"]), 400, "BAD_REQUEST_ERROR", "starting_after")


def test_it_holds_no_secret(app: Flask, api: Api, dashboard: Dashboard) -> None:
    endpoint = api.endpoint(NOBODY)
    found(api.get(f"/webhook_endpoints/{endpoint['id']}/secret"))
    key = made(api.post("/api_keys"))
    found(dashboard.post(f"/api_keys/{key['id']}/reveal", {"password": TEST_PASSWORD}))
    text = api.get("/audit_log").text
    assert key["id"] in text
    for secret in (endpoint["secret"], key["secret"], TEST_API_SECRET, TEST_PASSWORD, dashboard.token):
        assert secret not in text


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"])
def test_nobody_changes_it(app: Flask, api: Api, statement: str) -> None:
    made(api.post(f"/payments/{api.paid()['id']}/refunds"))
    with pytest.raises(IntegrityError, match="never changed or deleted"):
        in_sql(app, statement)
    assert in_sql(app, "SELECT merchant_id FROM audit_log") == [TEST_MERCHANT_ID]
