"""Errors: every refusal has the one shape, says enough, and never too much."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from app import MAX_BODY_BYTES, create_app
from models.base import db
from models.merchants import TEST_API_KEY as KEY
from models.merchants import TEST_API_SECRET as SECRET
from tests.conftest import Api, administration, another_database, found, made, refused, settings_of
from tests.processes import wait_until

SIGNED_IN = {"X-Api-Key": KEY, "X-Api-Secret": SECRET}


def basic(pair: bytes) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}


def ask(
    app: Flask, method: str, path: str, headers: dict[str, str] | None = None, **facts: Any
) -> TestResponse:
    """A call of a merchant who is signed in."""
    return app.test_client().open(path, method=method, headers=SIGNED_IN | (headers or {}), **facts)


def post(app: Flask, body: str | bytes, content_type: str | None = "application/json") -> TestResponse:
    return ask(app, "POST", "/api/v1/orders", data=body, content_type=content_type)


# --- 401 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [SIGNED_IN, basic(f"{KEY}:{SECRET}".encode())])
def test_a_key_pair_signs_in(app: Flask, headers: dict[str, str]) -> None:
    assert found(app.test_client().get("/api/v1/orders", headers=headers))["data"] == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Api-Key": KEY},
        {"X-Api-Secret": SECRET},
        {"X-Api-Key": "key_unknown", "X-Api-Secret": SECRET},
        {"X-Api-Key": KEY, "X-Api-Secret": "wrong"},
        {"X-Api-Key": KEY, "X-Api-Secret": SECRET[:-1]},
        {"X-Api-Key": SECRET, "X-Api-Secret": KEY},
        {"X-Api-Key": KEY.upper(), "X-Api-Secret": SECRET},
        {"X-Api-Key": "", "X-Api-Secret": ""},
        {"X-Api-Key": KEY, "X-Api-Secret": ""},
        {"X-Api-Key": "", "X-Api-Secret": SECRET},
        {"X-Api-Key": f"{KEY}\0", "X-Api-Secret": SECRET},
        {"X-Api-Key": KEY, "X-Api-Secret": f"{SECRET}\0"},
        {"X-Api-Key": "schlüssel", "X-Api-Secret": "geheimß"},
        {"X-Api-Key": "k" * 10_000, "X-Api-Secret": SECRET},
        {"X-Api-Key": KEY, "Authorization": basic(f"{KEY}:{SECRET}".encode())["Authorization"]},
        {"Authorization": f"Bearer {SECRET}"},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        basic(f"{KEY}:wrong".encode()),
        basic(f"{KEY}:".encode()),
        basic(f":{SECRET}".encode()),
        basic(KEY.encode()),
        basic(f"{KEY}\0:{SECRET}".encode()),
        basic(b"\xff\xfe:\xff"),
    ],
)
def test_anything_else_does_not(app: Flask, headers: dict[str, str]) -> None:
    error = refused(app.test_client().get("/api/v1/orders", headers=headers), 401, "AUTHENTICATION_ERROR")
    assert error["description"] == "The API key or secret is missing or wrong."


def test_a_failed_http_basic_is_asked_for_again(app: Flask) -> None:
    answer = app.test_client().get("/api/v1/orders", headers=basic(f"{KEY}:wrong".encode()))
    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_a_key_that_another_process_revoked_signs_nobody_in_after_two_seconds(app: Flask, other: Api) -> None:
    found(other.get("/orders"))
    with app.app_context():
        db.session.execute(text("UPDATE api_keys SET revoked_at = now() WHERE id = 'key_other'"))
        db.session.commit()
    started = time.monotonic()
    wait_until(lambda: other.get("/orders").status_code != 200)
    assert time.monotonic() - started < 2
    refused(other.get("/orders"), 401, "AUTHENTICATION_ERROR")


# --- 404, 405, 406 -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api/v1",
        "/api/v1/nothing",
        "/api/v1/orders/",
        "/api/v1/orders/a%20b",
        "/api/v1/orders/a%00b",
        "/api/v1/orders/..%2Fevents",
        f"/api/v1/orders/{'o' * 81}",
        "/api/v2/orders",
    ],
)
def test_there_is_nothing_at_an_unknown_address(app: Flask, path: str) -> None:
    refused(ask(app, "GET", path), 404, "NOT_FOUND_ERROR")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/v1/orders", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("DELETE", "/api/v1/payments", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("GET", "/api/v1/payments/pay_doesNotExist00000/capture", {"OPTIONS", "POST"}),
        ("POST", "/api/v1/balance", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/health", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(app: Flask, method: str, path: str, allowed: set[str]) -> None:
    answer = ask(app, method, path)
    refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize("accept", ["text/html", "text/html, image/*;q=0.8", "application/xml"])
def test_it_answers_in_json_or_not_at_all(app: Flask, accept: str) -> None:
    refused(ask(app, "GET", "/api/v1/orders", {"Accept": accept}), 406, "NOT_ACCEPTABLE")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/*", "text/html, */*;q=0.1", ""])
def test_whoever_takes_json_gets_json(app: Flask, accept: str) -> None:
    answer = ask(app, "GET", "/api/v1/orders", {"Accept": accept})
    assert found(answer)["data"] == []
    assert answer.mimetype == "application/json"


# --- bodies: 413, 415, 400 -----------------------------------------------------------------------


def test_a_body_may_have_64_kib(app: Flask) -> None:
    head, tail = '{"amount":10000,"ignored":"', '"}'
    body = head + "x" * (MAX_BODY_BYTES - len(head + tail)) + tail
    assert len(body) == 64 * 1024
    made(post(app, body))
    refused(post(app, body.replace("x", "xx", 1)), 413, "PAYLOAD_TOO_LARGE")


def test_a_body_in_pieces_may_have_64_kib_as_well(app: Flask) -> None:
    def post_in_pieces(body: bytes) -> TestResponse:
        return app.test_client().post(
            "/api/v1/orders",
            input_stream=io.BytesIO(body),
            headers={**SIGNED_IN, "Transfer-Encoding": "chunked", "Content-Type": "application/json"},
            environ_overrides={"wsgi.input_terminated": True},  # as gunicorn does
        )

    body = b'{"amount":10000}'.ljust(MAX_BODY_BYTES)
    made(post_in_pieces(body))
    refused(post_in_pieces(body + b" "), 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
    ],
)
def test_it_takes_nothing_but_json_in_utf_8(app: Flask, content_type: str | None) -> None:
    refused(post(app, '{"amount":10000}', content_type), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert found(ask(app, "GET", "/api/v1/orders"))["data"] == []


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", 'application/json; charset="UTF-8"'],
)
def test_it_takes_json_in_utf_8(app: Flask, content_type: str) -> None:
    body = '{"amount":10000,"receipt":"₹ 😀"}'.encode()
    assert made(post(app, body, content_type))["receipt"] == "₹ 😀"


NOT_JSON: dict[str, str | bytes] = {
    "unfinished": '{"amount":10000',
    "more follows": '{"amount":10000}}',
    "single quotes": "{'amount':10000}",
    "comma": '{"amount":10000,}',
    "space": " ",
    "NaN": '{"amount":NaN}',
    "Infinity": '{"amount":10000,"ignored":-Infinity}',
    "not UTF-8": b'{"amount":10000,"ignored":"\xff"}',
    "a surrogate in UTF-8": b'{"amount":10000,"ignored":"\xed\xa0\x80"}',
    "UTF-16": '{"amount":10000}'.encode("utf-16"),
    "UTF-32": '{"amount":10000}'.encode("utf-32-le"),
    "5000 digits": '{"amount":10000,"ignored":' + "9" * 5000 + "}",
    "30,000 deep": '{"amount":10000,"ignored":' + "[" * 30_000 + "]" * 30_000 + "}",
    "endless list": "[" * MAX_BODY_BYTES,
    "endless object": '{"a":' * (MAX_BODY_BYTES // 5),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_it_says_that_a_body_is_not_json(app: Flask, body: str | bytes) -> None:
    error = refused(post(app, body), 400, "BAD_REQUEST_ERROR")
    assert error["description"] == "The body is not valid JSON."
    assert found(ask(app, "GET", "/api/v1/orders"))["data"] == []


@pytest.mark.parametrize("body", ["[]", '[{"amount":10000}]', '"text"', "7", "true", "null"])
def test_a_body_must_be_an_object(app: Flask, body: str) -> None:
    error = refused(post(app, body), 400, "BAD_REQUEST_ERROR")
    assert error["description"] == "The body must be a JSON object."


@pytest.mark.parametrize("content_type", [None, "application/json"])
def test_no_body_is_an_empty_object(app: Flask, content_type: str | None) -> None:
    refused(post(app, "", content_type), 400, "BAD_REQUEST_ERROR", "amount")


# --- X-Request-Id --------------------------------------------------------------------------------


@pytest.mark.parametrize("offered", ["a", "req-17.B_2", "x" * 64])
def test_a_sane_request_id_is_kept(app: Flask, offered: str) -> None:
    headers = {"X-Request-Id": offered}
    assert ask(app, "GET", "/api/v1/orders", headers).headers["X-Request-Id"] == offered
    answer = ask(app, "GET", "/api/v1/nothing", headers)
    assert refused(answer, 404, "NOT_FOUND_ERROR")["request_id"] == offered


@pytest.mark.parametrize("offered", [None, "", "a b", "x" * 65, "<script>", "größe", "a\0b"])
def test_any_other_is_replaced_with_a_fresh_one(app: Flask, offered: str | None) -> None:
    headers = {} if offered is None else {"X-Request-Id": offered}
    names = [ask(app, "GET", "/api/v1/orders", headers).headers["X-Request-Id"] for _ in range(2)]
    assert all(name.startswith("req_") and name.isascii() for name in names)
    assert len(set(names)) == 2


@pytest.mark.parametrize("path", ["/health", "/api/v1/openapi.json", "/api/v1/test/merchant", "/nothing"])
def test_every_answer_has_a_request_id(app: Flask, path: str) -> None:
    assert app.test_client().get(path).headers["X-Request-Id"].startswith("req_")


def test_errors_are_never_cached(app: Flask) -> None:
    answer = app.test_client().get("/api/v1/orders")
    assert answer.headers["Cache-Control"] == "no-store"
    assert json.loads(answer.data).keys() == {"error"}


# --- 500 and 503 ---------------------------------------------------------------------------------


def raise_unexpectedly() -> str:
    raise RuntimeError("the password is hunter2")


def ask_the_database_for_nonsense() -> str:
    return str(db.session.execute(text("SELECT hunter2 FROM nowhere")))


def break_a_rule_of_the_schema() -> str:
    return str(db.session.execute(text("INSERT INTO merchants (id, name) VALUES ('hunter2', 'x')")))


@pytest.mark.parametrize(
    "view", [raise_unexpectedly, ask_the_database_for_nonsense, break_a_rule_of_the_schema]
)
def test_what_breaks_says_nothing_of_why(
    app: Flask, environ: dict[str, str], view: Callable[[], str]
) -> None:
    broken = create_app(settings_of(environ))
    broken.add_url_rule("/api/v1/broken", view_func=view)
    answer = broken.test_client().get("/api/v1/broken")
    error = refused(answer, 500, "SERVER_ERROR")
    assert set(error) == {"code", "description", "request_id"}
    for secret in ("hunter2", "Traceback", "Error:", "SELECT", "INSERT", ".py"):
        assert secret not in answer.text
    assert found(ask(broken, "GET", "/api/v1/orders"))["data"] == []
    with broken.app_context():
        db.engine.dispose()


@pytest.fixture
def doomed(environ: dict[str, str]) -> Iterator[Flask]:
    """An app whose database has just gone: a database of its own, renamed under it."""
    with (
        another_database(environ, "doomed") as settings,
        administration(environ["DATABASE_URL"]) as administer,
    ):
        doomed = create_app(settings_of(settings))
        made(post(doomed, '{"amount":10000}'))
        administer("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'doomed'")
        administer("ALTER DATABASE doomed RENAME TO elsewhere")
        doomed.extensions["bring_back"] = lambda: administer("ALTER DATABASE elsewhere RENAME TO doomed")
        yield doomed
        with doomed.app_context():
            db.engine.dispose()
        administer("DROP DATABASE IF EXISTS elsewhere WITH (FORCE)")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/orders", None),
        ("POST", "/api/v1/orders", {"amount": 10000}),
        ("GET", "/api/v1/payments/pay_doesNotExist00000/public", None),
    ],
)
def test_without_the_database_it_asks_to_try_again(doomed: Flask, method: str, path: str, body: Any) -> None:
    answer = ask(doomed, method, path, json=body) if body else ask(doomed, method, path)
    error = refused(answer, 503, "SERVICE_UNAVAILABLE")
    assert set(error) == {"code", "description", "request_id"}
    assert int(answer.headers["Retry-After"]) >= 1
    assert "doomed" not in answer.text


def test_without_the_database_it_is_unhealthy(doomed: Flask) -> None:
    answer = doomed.test_client().get("/health")
    assert answer.status_code == 503
    health = answer.get_json()
    assert set(health) == {"status", "database", "redis", "workers", "timestamp"}
    assert (health["status"], health["database"]) == ("unhealthy", "disconnected")
    assert (health["redis"], health["workers"]) == ("connected", 0)


def test_when_the_database_is_back_so_are_we(doomed: Flask) -> None:
    refused(post(doomed, '{"amount":10000}'), 503, "SERVICE_UNAVAILABLE")
    doomed.extensions["bring_back"]()
    made(post(doomed, '{"amount":10000}'))
    assert len(found(ask(doomed, "GET", "/api/v1/orders"))["data"]) == 2
