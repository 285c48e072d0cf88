"""Webhooks: endpoints, signed deliveries to a real receiver, retries on the schedule, the log."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from standardwebhooks import Webhook

from jobs.posting import RESPONSE_KEPT_CHARS, USER_AGENT, Post, post
from jobs.webhooks import WEBHOOKS
from models.base import db
from tests.conftest import Api, Receiver, drain_all, found, hang_until, made, refused


def register(api: Api, url: str, **facts: Any) -> dict[str, Any]:
    return made(api.post("/webhook_endpoints", {"url": url, **facts}))


def the_delivery(api: Api) -> dict[str, Any]:
    (row,) = found(api.get("/webhooks"))["data"]
    return found(api.get(f"/webhooks/{row['id']}"))


# --- delivering ----------------------------------------------------------------------------------


def test_every_event_is_delivered_and_verifies_in_both_schemes(api: Api, receiver: Receiver) -> None:
    secret = register(api, receiver.url)["secret"]
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
    register(api, receiver.url + "/all")
    register(api, receiver.url + "/paid", events=["order.paid", "payment.failed"])
    register(api, receiver.url + "/off", enabled=False)
    api.paid()
    by_path: dict[str, list[str]] = {}
    for received in receiver.received:
        by_path.setdefault(received.path, []).append(received.event["event"])
    assert set(by_path) == {"/hook/all", "/hook/paid"}
    assert len(by_path["/hook/all"]) == 4
    assert by_path["/hook/paid"] == ["order.paid"]


def test_another_merchants_events_stay_away(api: Api, other: Api, receiver: Receiver) -> None:
    register(other, receiver.url)
    api.paid()
    assert receiver.received == []


def test_deliveries_are_written_with_the_change_even_if_nothing_can_be_sent(app: Flask, api: Api) -> None:
    register(api, "http://127.0.0.1:1/")
    api.upi(api.order()["id"])
    with app.app_context():
        count = text("SELECT count(*) FROM events e JOIN webhook_deliveries d ON d.event_id = e.id")
        assert db.session.scalar(count) == 1


def test_it_is_tried_five_times_on_the_schedule_and_then_failed(
    app: Flask, api: Api, receiver: Receiver, make_due
) -> None:
    register(api, receiver.url, events=["payment.created"])
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
    delivery = the_delivery(api)
    assert (delivery["status"], delivery["attempts"], delivery["next_attempt_at"]) == ("failed", 5, None)
    assert [attempt["error"] for attempt in delivery["attempt_log"]] == ["answered 500"] * 5
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 1
    assert len(receiver.received) == 5


def test_a_delivery_that_fails_once_succeeds_on_the_next_attempt(
    api: Api, receiver: Receiver, make_due
) -> None:
    register(api, receiver.url, events=["payment.created"])
    receiver.answers = [503, 200]
    api.upi(api.order()["id"])
    drain_all()
    delivery = the_delivery(api)
    assert (delivery["status"], delivery["attempts"], delivery["response_code"]) == ("pending", 1, 503)
    make_due("webhook_deliveries")
    drain_all()
    delivery = the_delivery(api)
    assert (delivery["status"], delivery["attempts"], delivery["error"]) == ("success", 2, None)


def answer(status: int, body: bytes = b"", **headers: str) -> Any:
    def handle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return handle


def test_retry_after_is_respected_up_to_the_longest_delay(app: Flask, api: Api, receiver: Receiver) -> None:
    register(api, receiver.url, events=["payment.created"])
    receiver.answers = [answer(429, Retry_After="600"), answer(503, Retry_After="999999")]
    for _ in range(2):
        api.upi(api.order()["id"])
        drain_all()
    with app.app_context():
        waits = db.session.scalars(
            text("SELECT extract(epoch FROM due_at - last_attempt_at) FROM webhook_deliveries ORDER BY seq")
        ).all()
    assert [round(float(wait)) for wait in waits] == [600, 7200]


def test_410_fails_the_delivery_and_disables_the_endpoint(api: Api, receiver: Receiver) -> None:
    endpoint = register(api, receiver.url, events=["payment.created"])
    receiver.answers = [410]
    api.upi(api.order()["id"])
    drain_all()
    assert the_delivery(api)["status"] == "failed"
    endpoint = found(api.get(f"/webhook_endpoints/{endpoint['id']}"))
    assert (endpoint["enabled"], endpoint["disabled_reason"]) == (False, "it answered 410 Gone")


def test_a_redirect_is_not_followed(api: Api, receiver: Receiver) -> None:
    register(api, receiver.url, events=["payment.created"])
    receiver.answers = [answer(307, Location=receiver.url + "/elsewhere")]
    api.upi(api.order()["id"])
    drain_all()
    assert [received.path for received in receiver.received] == ["/hook"]
    assert the_delivery(api)["error"] == "answered 307"


def test_what_the_receiver_said_is_kept_in_part(api: Api, receiver: Receiver) -> None:
    register(api, receiver.url, events=["payment.created"])
    receiver.answers = [answer(400, b"no\0 \xff" + b"x" * 100_000)]
    api.upi(api.order()["id"])
    drain_all()
    (attempt,) = the_delivery(api)["attempt_log"]
    assert len(attempt["response_body"]) == RESPONSE_KEPT_CHARS
    assert attempt["response_body"].startswith("no\ufffd \ufffdxxx")
    assert attempt["duration_ms"] >= 0


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:1/", "connection refused"),
        ("http://no-such-host.invalid/", "the name does not resolve"),
        ("https://127.0.0.1:{port}/", "the TLS handshake failed"),
    ],
)
def test_what_went_wrong_is_said_in_plain_words(api: Api, receiver: Receiver, url: str, error: str) -> None:
    port = receiver.url.split(":")[2].split("/")[0]
    register(api, url.replace("{port}", port), events=["payment.created"])
    api.upi(api.order()["id"])
    drain_all()
    assert the_delivery(api)["error"] == error


def test_a_receiver_that_hangs_up_is_said_in_plain_words(api: Api, receiver: Receiver) -> None:
    register(api, receiver.url, events=["payment.created"])
    receiver.answers = [hang_up]
    api.upi(api.order()["id"])
    drain_all()
    assert the_delivery(api)["error"] == "hung up without an answer"


def test_a_receiver_that_hangs_times_out(
    api: Api, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.posting.TOTAL_TIMEOUT_S", 1)
    let_go = threading.Event()
    register(api, receiver.url, events=["payment.created"])
    receiver.answers = [hang_until(let_go)]
    api.upi(api.order()["id"])
    drain_all()
    while WEBHOOKS._running:
        let_go.wait(0.02)
    let_go.set()
    assert the_delivery(api)["error"] == "timed out after 1 s"


def drip(headers: bool) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer that never ends: a byte now and then, in its headers or in its body."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"" if headers else b"Content-Length: 60000\r\n\r\n"))
        with suppress(OSError):
            for _ in range(200):
                handler.wfile.write(b"X-A: b\r\n" if headers else b"x")
                time.sleep(0.1)
        handler.close_connection = True

    return answer


@pytest.mark.parametrize("headers", [True, False], ids=["headers", "body"])
def test_a_receiver_that_answers_byte_by_byte_is_cut_off(
    api: Api, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, headers: bool
) -> None:
    monkeypatch.setattr("jobs.posting.TOTAL_TIMEOUT_S", 1)
    register(api, receiver.url, events=["payment.created"])
    receiver.answers = [drip(headers)]
    api.upi(api.order()["id"])
    started = time.monotonic()
    drain_all()
    while WEBHOOKS._running:
        time.sleep(0.02)
    assert time.monotonic() - started < 5
    delivery = the_delivery(api)
    assert (delivery["error"], delivery["attempts"]) == ("timed out after 1 s", 1)


def test_a_connection_is_used_again(api: Api, receiver: Receiver) -> None:
    register(api, receiver.url)
    peers = set()

    def note(handler: BaseHTTPRequestHandler) -> None:
        peers.add(handler.client_address)
        answer(200, b"ok")(handler)

    receiver.answers = [note] * 20
    message = Post(receiver.url, "evt_1", b"{}", ("whsec_c2VjcmV0",), allow_private=True)
    assert [post(message).status_code for _ in range(20)] == [200] * 20
    assert len(peers) == 1


def test_what_breaks_the_http_library_is_a_failed_attempt(app: Flask, api: Api) -> None:
    endpoint = register(api, "http://shop.example/", events=["payment.created"])
    with app.app_context():
        url = "http://" + "a" * 64 + ".example/"
        db.session.execute(text("UPDATE webhook_endpoints SET url = :url"), {"url": url})
        db.session.commit()
    api.upi(api.order()["id"])
    drain_all()
    delivery = the_delivery(api)
    assert (delivery["endpoint_id"], delivery["attempts"]) == (endpoint["id"], 1)
    assert delivery["error"]


# --- the log -------------------------------------------------------------------------------------


def test_a_failed_delivery_is_retried_by_hand(api: Api, receiver: Receiver, make_due) -> None:
    register(api, receiver.url, events=["payment.created"])
    receiver.answers = [500] * 6
    api.upi(api.order()["id"])
    for _ in range(5):
        drain_all()
        make_due("webhook_deliveries")
    delivery = the_delivery(api)
    assert delivery["status"] == "failed"
    again = found(api.post(f"/webhooks/{delivery['id']}/retry"))
    assert again["status"] == "pending"
    drain_all()
    assert (the_delivery(api)["status"], the_delivery(api)["attempts"]) == ("failed", 6)
    api.post(f"/webhooks/{delivery['id']}/retry")
    drain_all()
    assert (the_delivery(api)["status"], the_delivery(api)["attempts"]) == ("success", 7)


def test_a_retry_to_a_disabled_endpoint_is_refused(api: Api, receiver: Receiver) -> None:
    endpoint = register(api, receiver.url, events=["payment.created"])
    api.upi(api.order()["id"])
    drain_all()
    api.patch(f"/webhook_endpoints/{endpoint['id']}", {"enabled": False})
    refused(api.post(f"/webhooks/{the_delivery(api)['id']}/retry"), 400, "BAD_REQUEST_ERROR")


def test_a_retry_of_a_running_attempt_is_refused(app: Flask, api: Api, receiver: Receiver) -> None:
    register(api, receiver.url, events=["payment.created"])
    api.upi(api.order()["id"])
    with app.app_context():
        assert len(WEBHOOKS._claim(10)) == 1
    answer = api.post(f"/webhooks/{the_delivery(api)['id']}/retry")
    assert refused(answer, 409, "CONFLICT_ERROR")["reason"] == "attempt_running"


def test_what_waits_for_an_endpoint_that_is_switched_off_is_given_up(api: Api, receiver: Receiver) -> None:
    endpoint = register(api, receiver.url, events=["payment.created"])
    api.upi(api.order()["id"])
    api.delete(f"/webhook_endpoints/{endpoint['id']}")
    drain_all()
    assert (the_delivery(api)["status"], the_delivery(api)["attempts"]) == ("failed", 0)
    assert receiver.received == []


def test_the_log_is_filtered_and_paged(api: Api, other: Api, receiver: Receiver) -> None:
    endpoint = register(api, receiver.url)
    quiet = register(api, "http://127.0.0.1:1/", events=["order.paid"])
    api.paid()
    everything = found(api.get("/webhooks"))
    assert (everything["total"], everything["limit"], everything["offset"]) == (5, 20, 0)
    pages = [found(api.get("/webhooks", limit=2, offset=offset))["data"] for offset in (0, 2, 4)]
    assert [row["id"] for page in pages for row in page] == [row["id"] for row in everything["data"]]
    assert found(api.get("/webhooks", status="success"))["total"] == 4
    assert found(api.get("/webhooks", event="order.paid"))["total"] == 2
    assert found(api.get("/webhooks", endpoint_id=quiet["id"], event="order.paid"))["total"] == 1
    assert found(api.get("/webhooks", endpoint_id=endpoint["id"]))["total"] == 4
    assert found(other.get("/webhooks"))["total"] == 0
    refused(other.get(f"/webhooks/{everything['data'][0]['id']}"), 404, "NOT_FOUND_ERROR")
    refused(other.post(f"/webhooks/{everything['data'][0]['id']}/retry"), 404, "NOT_FOUND_ERROR")
    refused(api.get("/webhooks", status="lost"), 400, "BAD_REQUEST_ERROR", "status")
    refused(api.get("/webhooks", limit=101), 400, "BAD_REQUEST_ERROR", "limit")


# --- endpoints -----------------------------------------------------------------------------------


def test_an_endpoint_is_made_read_changed_and_deleted(api: Api) -> None:
    endpoint = register(api, "https://shop.example/hook")
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
    path = f"/webhook_endpoints/{register(api, 'https://shop.example/hook')['id']}"
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
        register(api, "https://shop.example/hook")
    refused(api.post("/webhook_endpoints", {"url": "https://shop.example/"}), 400, "BAD_REQUEST_ERROR")


def test_the_secret_is_not_readable_in_the_database(app: Flask, api: Api) -> None:
    secret = register(api, "https://shop.example/hook")["secret"]
    with app.app_context():
        stored = bytes(db.session.scalar(text("SELECT secret_encrypted FROM webhook_endpoints")) or b"")
    assert stored
    assert secret.encode() not in stored
