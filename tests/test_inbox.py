"""The webhook inbox: made through the API, filled by real deliveries, judged, read, emptied."""

from __future__ import annotations

import io
import json
import threading
import time
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from app import create_app
from models.base import db
from models.inbox import HEADERS_KEPT, MESSAGES_KEPT, InboxMessage, judge, token_of
from models.signatures import standard_signature
from tests.conftest import Api, at_once, drain_all, found, made, refused, settings_of

EVENTS_OF_A_PAYMENT = ["order.paid", "payment.captured", "payment.created", "payment.success"]
SECRET = "whsec_c2VjcmV0"
AT_S = 1_705_315_870
VERIFIED = {"verified": True, "explanation": "verified with the endpoint's secret"}


@pytest.fixture
def client(api: Api, app: Flask) -> FlaskClient:
    """Somebody with no key."""
    return app.test_client()


@pytest.fixture
def inbox(api: Api, live: str) -> dict[str, Any]:
    return made(api.post("/test/inboxes"))


def messages(client: FlaskClient, token: str, **query: Any) -> list[dict[str, Any]]:
    return found(client.get(f"/inbox/{token}/messages", query_string=query))["data"]


def signed(secret: str, body: bytes, timestamp_s: int | None = None) -> dict[str, str]:
    timestamp_s = timestamp_s or int(time.time())
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": standard_signature(secret, "evt_1", timestamp_s, body),
    }


# --- making one ----------------------------------------------------------------------------------


def test_an_inbox_is_an_endpoint_of_the_merchant(api: Api, live: str) -> None:
    inbox = made(api.post("/test/inboxes", {"events": ["order.paid"]}))
    assert inbox["endpoint"]["url"] == f"{live}/inbox/{inbox['token']}"
    assert len(inbox["token"]) >= 22
    assert inbox["endpoint"]["secret"].startswith("whsec_")
    assert inbox["endpoint"]["events"] == ["order.paid"]
    (listed,) = found(api.get("/webhook_endpoints"))["data"]
    assert listed["id"] == inbox["endpoint"]["id"]
    assert inbox["page_url"] == f"http://localhost/inbox/{inbox['token']}"


def test_every_inbox_has_a_token_of_its_own_and_hears_of_everything(api: Api) -> None:
    inboxes = [made(api.post("/test/inboxes")) for _ in range(2)]
    assert len({inbox["token"] for inbox in inboxes}) == 2
    assert inboxes[0]["endpoint"]["events"] == ["*"]


def test_the_page_is_on_the_host_that_was_asked(api: Api, client: FlaskClient) -> None:
    for host, page in {
        "pay.example:8443": "http://pay.example:8443/inbox/",
        "gateway_api:8000": "http://localhost:8000/inbox/",  # no host name, as werkzeug sees it
    }.items():
        made_there = client.post(
            "/api/v1/test/inboxes", json={}, headers=api.headers, base_url=f"http://{host}"
        )
        assert made(made_there)["page_url"] == page + made_there.get_json()["token"]


def test_an_inbox_is_made_once_for_an_idempotency_key(api: Api) -> None:
    first, again = (made(api.post("/test/inboxes", key="once")) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"answer": 199}, "answer"),
        ({"answer": 301}, "answer"),
        ({"answer": 600}, "answer"),
        ({"answer": "500"}, "answer"),
        ({"answer": True}, "answer"),
        ({"events": []}, "events"),
        ({"events": ["payment.lost"]}, "events.0"),
    ],
)
def test_a_wrong_inbox_is_refused(api: Api, body: dict[str, Any], field: str) -> None:
    refused(api.post("/test/inboxes", body), 400, "BAD_REQUEST_ERROR", field)


def test_an_inbox_counts_as_one_of_the_merchants_endpoints(api: Api, other: Api) -> None:
    for _ in range(15):
        made(api.post("/webhook_endpoints", {"url": "https://shop.example/hook"}))
    made(api.post("/test/inboxes"))
    refused(api.post("/test/inboxes"), 400, "BAD_REQUEST_ERROR")
    refused(api.post("/webhook_endpoints", {"url": "https://shop.example/"}), 400, "BAD_REQUEST_ERROR")
    made(other.post("/test/inboxes"))


def test_an_inbox_at_an_address_that_webhooks_may_not_go_to_is_refused(
    environ: dict[str, str], api: Api, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = settings_of(environ | {"WEBHOOK_ALLOW_PRIVATE": "false"})
    monkeypatch.setitem(app.config, "GATEWAY", strict)
    error = refused(api.post("/test/inboxes"), 400, "BAD_REQUEST_ERROR")
    assert error["reason"] == "inbox_unreachable"
    assert "INBOX_URL (http://localhost:8000)" in error["description"]
    assert found(api.get("/webhook_endpoints"))["data"] == []


def test_there_is_no_inbox_where_test_endpoints_are_off(environ: dict[str, str], api: Api) -> None:
    token = made(api.post("/test/inboxes"))["token"]
    elsewhere = create_app(settings_of(environ | {"TEST_ENDPOINTS": "false"}))
    client = elsewhere.test_client()
    for method, path in (
        ("POST", "/api/v1/test/inboxes"),
        ("POST", f"/inbox/{token}"),
        ("GET", f"/inbox/{token}"),
        ("PUT", f"/inbox/{token}"),
        ("GET", f"/inbox/{token}/messages"),
        ("DELETE", f"/inbox/{token}/messages"),
        ("GET", "/static/inbox/inbox.js"),
    ):
        answer = client.open(path, method=method, headers=api.headers)
        refused(answer, 404, "NOT_FOUND_ERROR")
    with elsewhere.app_context():
        db.engine.dispose()


# --- receiving -----------------------------------------------------------------------------------


def test_the_webhooks_of_a_payment_arrive_and_verify(
    api: Api, client: FlaskClient, inbox: dict[str, Any]
) -> None:
    api.paid()
    arrived = messages(client, inbox["token"])
    assert sorted(message["event"] for message in arrived) == EVENTS_OF_A_PAYMENT
    assert [message["id"] for message in arrived] == sorted((m["id"] for m in arrived), reverse=True)
    told = {event["id"]: event for event in found(api.get("/events"))["data"]}
    for message in arrived:
        assert message["signature"] == VERIFIED
        assert message["headers"]["webhook-id"] == message["event_id"]
        assert json.loads(message["body"])["data"] == told[message["event_id"]]["data"]
        assert message["received_at"].endswith("Z")
    assert {row["status"] for row in found(api.get("/webhooks"))["data"]} == {"success"}


def test_the_answer_that_was_asked_for_makes_the_gateway_try_again(
    api: Api, client: FlaskClient, live: str, make_due
) -> None:
    inbox = made(api.post("/test/inboxes", {"answer": 500, "events": ["payment.created"]}))
    assert inbox["endpoint"]["url"].endswith("?answer=500")
    assert "?" not in inbox["page_url"]
    api.upi(api.order()["id"])
    drain_all()
    make_due("webhook_deliveries")
    drain_all()
    arrived = messages(client, inbox["token"])
    assert [message["signature"] for message in arrived] == [VERIFIED] * 2
    assert arrived[0]["event_id"] == arrived[1]["event_id"]
    (delivery,) = found(api.get("/webhooks"))["data"]
    assert (delivery["status"], delivery["attempts"], delivery["error"]) == ("pending", 2, "answered 500")


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("201", 201), ("204", 204), ("299", 299), ("400", 400), ("599", 599)]
    + [(wrong, 200) for wrong in ("", "100", "199", "301", "399", "600", "-1", "abc", "9" * 5000)],
)
def test_it_answers_as_the_url_says_if_that_makes_sense(
    client: FlaskClient, inbox: dict[str, Any], asked: str, answered: int
) -> None:
    answer = client.post(f"/inbox/{inbox['token']}?answer={asked}", data=b"x")
    assert answer.status_code == answered
    assert answered == 204 or answer.get_json() == {"received": True}
    assert len(messages(client, inbox["token"])) == 1


def test_an_endpoint_made_by_hand_has_the_inbox_that_its_url_ends_in(
    api: Api, client: FlaskClient, live: str
) -> None:
    url = f"{live}/inbox/my_own-1"
    made(api.post("/webhook_endpoints", {"url": url, "events": ["payment.created"]}))
    api.upi(api.order()["id"])
    drain_all()
    (message,) = messages(client, "my_own-1")
    assert message["signature"] == VERIFIED


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("http://localhost:8000/inbox/my_own-1", "my_own-1"),
        ("https://x.example/deep/er/inbox/my_own-1?answer=500#x", "my_own-1"),
        ("http://x.example/inbox/" + "a" * 64, "a" * 64),
        ("http://x.example/inbox/" + "a" * 65, None),
        ("http://x.example/inbox/short", None),
        ("http://x.example/inbox/my_own-1/", None),
        ("http://x.example/inbox/my.own-1", None),
        ("http://x.example/an_inbox/my_own-1", None),
        ("http://x.example/?x=/inbox/my_own-1", None),
    ],
)
def test_the_token_is_the_last_part_of_the_path(url: str, token: str | None) -> None:
    assert token_of(url) == token


@pytest.mark.parametrize("token", ["my_own-2", "my_own-", "short", "my.own-1", "a" * 65])
def test_a_token_that_no_endpoint_has_is_not_found(app: Flask, api: Api, token: str) -> None:
    made(api.post("/webhook_endpoints", {"url": "http://x.example/inbox/my_own-1"}))
    made(api.post("/webhook_endpoints", {"url": "http://x.example/inbox/myXown-2"}))  # no wildcards
    made(api.post("/webhook_endpoints", {"url": f"http://x.example/?x=/inbox/{token}"}))
    client = app.test_client()
    refused(client.post(f"/inbox/{token}", data=b"x"), 404, "NOT_FOUND_ERROR")
    refused(client.get(f"/inbox/{token}"), 404, "NOT_FOUND_ERROR")
    refused(client.get(f"/inbox/{token}/messages"), 404, "NOT_FOUND_ERROR")
    refused(client.delete(f"/inbox/{token}/messages"), 404, "NOT_FOUND_ERROR")
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(InboxMessage)) == 0


def test_the_inbox_of_a_deleted_endpoint_is_gone(
    api: Api, client: FlaskClient, inbox: dict[str, Any]
) -> None:
    assert client.post(f"/inbox/{inbox['token']}").status_code == 200
    assert api.delete(f"/webhook_endpoints/{inbox['endpoint']['id']}").status_code == 204
    refused(client.post(f"/inbox/{inbox['token']}"), 404, "NOT_FOUND_ERROR")
    refused(client.get(f"/inbox/{inbox['token']}/messages"), 404, "NOT_FOUND_ERROR")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "nonsense", ""]
)
def test_any_body_is_taken_as_it_comes(
    app: Flask, client: FlaskClient, inbox: dict[str, Any], content_type: str
) -> None:
    body = b"a=1&\0\xff\xfe{"
    answer = client.post(f"/inbox/{inbox['token']}", data=body, content_type=content_type)
    assert answer.get_json() == {"received": True}
    (message,) = messages(client, inbox["token"])
    assert message["body"] == "a=1&\0\ufffd\ufffd{"
    assert (message["event"], message["event_id"]) == (None, None)
    with app.app_context():
        assert bytes(db.session.scalars(select(InboxMessage.body)).one()) == body


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'{"event":1}', b"[" * 60_000, b'"payment.created"', b'{"event":"\\ud800"}']
)
def test_a_body_that_tells_of_no_event_is_listed_all_the_same(
    client: FlaskClient, inbox: dict[str, Any], body: bytes
) -> None:
    client.post(f"/inbox/{inbox['token']}", data=body)
    (message,) = messages(client, inbox["token"])
    assert message["body"] == body.decode()
    assert message["event"] in (None, "\ud800")


def test_a_body_of_64_kib_is_taken_and_a_larger_one_is_not(
    client: FlaskClient, inbox: dict[str, Any]
) -> None:
    assert client.post(f"/inbox/{inbox['token']}", data=b"x" * 65_536).status_code == 200
    refused(client.post(f"/inbox/{inbox['token']}", data=b"x" * 65_537), 413, "PAYLOAD_TOO_LARGE")
    assert len(messages(client, inbox["token"])) == 1


def test_a_body_of_unknown_length_is_taken_and_bounded(
    client: FlaskClient, inbox: dict[str, Any], live: str
) -> None:
    address = f"{live}/inbox/{inbox['token']}"
    assert requests.post(address, data=iter([b"in ", b"pieces"]), timeout=10).status_code == 200
    assert [message["body"] for message in messages(client, inbox["token"])] == ["in pieces"]
    for size, status in ((65_536, 200), (65_537, 413)):
        answer = client.post(
            f"/inbox/{inbox['token']}",
            input_stream=io.BytesIO(b"x" * size),
            headers={"Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True},  # as gunicorn does
        )
        assert answer.status_code == status


def test_headers_are_kept_within_bounds(client: FlaskClient, inbox: dict[str, Any]) -> None:
    many = {f"X-{number}": "a" * 5000 + "\0" for number in range(HEADERS_KEPT * 2)} | {"X-0": "a\0b"}
    client.post(f"/inbox/{inbox['token']}", headers=many)
    (message,) = messages(client, inbox["token"])
    assert len(message["headers"]) == HEADERS_KEPT
    assert message["headers"]["x-0"] == "a\ufffdb"
    assert message["headers"]["x-1"] == "a" * 4096


def test_the_latest_hundred_of_each_token_are_kept(
    app: Flask, api: Api, client: FlaskClient, inbox: dict[str, Any]
) -> None:
    another = made(api.post("/test/inboxes"))["token"]
    client.post(f"/inbox/{another}", data=b"mine")
    for number in range(MESSAGES_KEPT + 3):
        client.post(f"/inbox/{inbox['token']}", data=str(number))
    bodies = [message["body"] for message in messages(client, inbox["token"])]
    assert bodies == [str(number) for number in reversed(range(3, MESSAGES_KEPT + 3))]
    assert [message["body"] for message in messages(client, another)] == ["mine"]
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(InboxMessage)) == MESSAGES_KEPT + 1


def test_who_asks_for_what_is_new_misses_nothing_that_arrives_at_once(
    app: Flask, client: FlaskClient, inbox: dict[str, Any]
) -> None:
    seen: list[str] = []
    over = threading.Event()

    def watch() -> None:
        mine, newest, last_round = app.test_client(), 0, False
        while not last_round:
            last_round = over.is_set()
            new = messages(mine, inbox["token"], after=newest)
            seen.extend(message["body"] for message in reversed(new))
            newest = new[0]["id"] if new else newest

    watcher = threading.Thread(target=watch)
    watcher.start()
    for burst in range(5):
        at_once(8, lambda n: app.test_client().post(f"/inbox/{inbox['token']}", data=f"{burst}.{n}"))  # noqa: B023
    over.set()
    watcher.join()
    assert sorted(seen) == sorted(f"{burst}.{number}" for burst in range(5) for number in range(8))


# --- judging -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "body", "at_s", "explanation"),
    [
        ({}, b"{}", AT_S, "verified with the endpoint's secret"),
        ({}, b"{}", AT_S + 300, "verified with the endpoint's secret"),
        ({}, b"{}", AT_S + 301, "the timestamp is older than 5 minutes"),
        ({}, b"{}", AT_S - 301, "the timestamp is more than 5 minutes ahead"),
        ({}, b"{ }", AT_S, "the signature does not match: wrong secret or changed body"),
        ({}, b"{ }", AT_S + 301, "the signature does not match: wrong secret or changed body"),
        (
            {"webhook-signature": "v1,\u00e9 v2,x  "},
            b"{}",
            AT_S,
            "the signature does not match: wrong secret or changed body",
        ),
        (
            {"webhook-signature": None},
            b"{}",
            AT_S,
            "no webhook-signature header: this was not sent by the gateway",
        ),
        ({"webhook-id": None}, b"{}", AT_S, "no webhook-id header: the signature covers it"),
        (
            {"webhook-timestamp": "yesterday"},
            b"{}",
            AT_S,
            "no webhook-timestamp header in seconds: the signature covers it",
        ),
    ],
)
def test_a_message_is_judged_in_plain_words(
    changes: dict[str, str | None], body: bytes, at_s: float, explanation: str
) -> None:
    facts = signed(SECRET, b"{}", AT_S) | changes
    headers = {name: value for name, value in facts.items() if value is not None}
    verdict = judge(headers, body, [SECRET], at_s)
    assert verdict.explanation == explanation
    assert verdict.verified == explanation.startswith("verified")


def test_any_of_the_secrets_and_any_of_the_signatures_will_do() -> None:
    headers = signed(SECRET, b"{}", AT_S)
    assert judge(headers, b"{}", ["whsec_b3RoZXI=", SECRET], AT_S).verified
    headers["webhook-signature"] = "v1,b3RoZXI= " + headers["webhook-signature"]
    assert judge(headers, b"{}", [SECRET], AT_S).verified
    assert not judge(headers, b"{}", [], AT_S).verified


def test_a_message_is_judged_by_every_endpoint_that_shares_the_token(
    api: Api, client: FlaskClient, inbox: dict[str, Any]
) -> None:
    second = made(api.post("/webhook_endpoints", {"url": f"http://x.example/inbox/{inbox['token']}"}))
    for endpoint in (inbox["endpoint"], second):
        client.post(f"/inbox/{inbox['token']}", data=b"{}", headers=signed(endpoint["secret"], b"{}"))
    assert [each["signature"] for each in messages(client, inbox["token"])] == [VERIFIED] * 2


def test_through_a_rotation_a_message_is_judged_by_the_secrets_of_its_arrival(
    api: Api, client: FlaskClient, inbox: dict[str, Any]
) -> None:
    path = f"/webhook_endpoints/{inbox['endpoint']['id']}"

    def receive(secret: str) -> None:
        client.post(f"/inbox/{inbox['token']}", data=b"{}", headers=signed(secret, b"{}"))

    old = inbox["endpoint"]["secret"]
    receive(old)
    new = found(api.post(path + "/rotate_secret", {"overlap_hours": 1}))["secret"]
    receive(old)
    receive(new)
    assert api.delete(path + "/previous_secret").status_code == 204
    receive(old)
    receive(new)
    arrived = [each["signature"]["verified"] for each in reversed(messages(client, inbox["token"]))]
    assert arrived == [True, True, True, False, True]


# --- reading -------------------------------------------------------------------------------------


def test_it_lists_what_came_after_a_message_and_tells_of_the_endpoint(
    api: Api, client: FlaskClient, inbox: dict[str, Any]
) -> None:
    for body in "abc":
        client.post(f"/inbox/{inbox['token']}", data=body)
    every = messages(client, inbox["token"])
    assert [message["body"] for message in every] == ["c", "b", "a"]
    assert [m["body"] for m in messages(client, inbox["token"], after=every[1]["id"])] == ["c"]
    assert messages(client, inbox["token"], after=every[0]["id"]) == []
    endpoint = found(client.get(f"/inbox/{inbox['token']}/messages"))["endpoint"]
    assert endpoint == {
        "id": inbox["endpoint"]["id"],
        "url": inbox["endpoint"]["url"],
        "events": ["*"],
        "enabled": True,
        "disabled_reason": None,
    }


def test_of_several_endpoints_it_tells_of_one_that_is_enabled(
    api: Api, client: FlaskClient, inbox: dict[str, Any]
) -> None:
    url = f"http://x.example/inbox/{inbox['token']}"
    second = made(api.post("/webhook_endpoints", {"url": url}))
    found(api.patch(f"/webhook_endpoints/{inbox['endpoint']['id']}", {"enabled": False}))
    endpoint = found(client.get(f"/inbox/{inbox['token']}/messages"))["endpoint"]
    assert (endpoint["id"], endpoint["enabled"]) == (second["id"], True)
    found(api.patch(f"/webhook_endpoints/{second['id']}", {"enabled": False}))
    endpoint = found(client.get(f"/inbox/{inbox['token']}/messages"))["endpoint"]
    assert (endpoint["id"], endpoint["enabled"]) == (inbox["endpoint"]["id"], False)
    assert endpoint["disabled_reason"] == "disabled by the merchant"


@pytest.mark.parametrize("after", ["-1", "abc", "1.5", "9" * 20])
def test_a_wrong_place_to_go_on_is_refused(client: FlaskClient, inbox: dict[str, Any], after: str) -> None:
    answer = client.get(f"/inbox/{inbox['token']}/messages", query_string={"after": after})
    refused(answer, 400, "BAD_REQUEST_ERROR", "after")


def test_it_is_emptied(api: Api, client: FlaskClient, inbox: dict[str, Any]) -> None:
    another = made(api.post("/test/inboxes"))["token"]
    for token in (another, inbox["token"], inbox["token"]):
        client.post(f"/inbox/{token}", data=b"x")
    assert client.delete(f"/inbox/{inbox['token']}/messages").status_code == 204
    assert messages(client, inbox["token"]) == []
    assert len(messages(client, another)) == 1


def test_the_page_and_its_files_allow_nothing_but_themselves(
    client: FlaskClient, inbox: dict[str, Any]
) -> None:
    def get(path: str) -> TestResponse:
        return client.get(path, buffered=True)

    for path in (f"/inbox/{inbox['token']}", "/static/inbox/inbox.js", "/static/inbox/inbox.css"):
        answer = get(path)
        assert answer.status_code == 200
        assert answer.headers["Content-Security-Policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert get(f"/inbox/{inbox['token']}/messages").headers["Cache-Control"] == "no-store"
    page = get(f"/inbox/{inbox['token']}").text
    assert "<style" not in page
    assert " style=" not in page
    refused(get("/static/inbox/nothing.js"), 404, "NOT_FOUND_ERROR")
    refused(get("/static/inbox/..%2fdashboard%2ficon.svg"), 404, "NOT_FOUND_ERROR")
