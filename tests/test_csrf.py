"""What a browser is made to send by another site changes nothing: a session needs its CSRF token for that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from models.merchants import TEST_EMAIL
from tests.conftest import (
    OTHER_EMAIL,
    OTHER_PASSWORD,
    Api,
    Dashboard,
    found,
    made,
    populate,
    refused,
    stored,
)
from tests.receiver import Receiver
from tests.test_openapi import PUBLIC, routes_of

SAFE = ("GET", "HEAD", "OPTIONS")

# With these, each of the routes would change something.
BODIES: dict[str, Any] = {
    "/orders": {"amount": 10000},
    "/payments": {"method": "upi", "vpa": "success@upi"},
    "/payments/{payment_id}/refunds": {"amount": 1},
    "/merchant": {"name": "Another name"},
    "/webhook_endpoints": {"url": "https://shop.example/"},
    "/webhook_endpoints/{endpoint_id}": {"enabled": False},
    "/webhook_endpoints/{endpoint_id}/verify": {"body": "{}", "headers": {}},
    "/webhooks/retry": {"since": "2020-01-01T00:00:00Z"},
    "/api_keys/{key_id}/reveal": {"password": OTHER_PASSWORD},
    "/password": {"current_password": OTHER_PASSWORD, "password": "what-an-intruder-chose"},
}


@pytest.fixture
def ids(api: Api, other_dashboard: Dashboard, receiver: Receiver) -> dict[str, list[str]]:
    """The other merchant, with something of every kind."""
    return populate(other_dashboard, receiver)


def protected(app: Flask, ids: dict[str, list[str]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and body of every request for which one has to be signed in."""
    for method, path in sorted(set(routes_of(app)) - PUBLIC - {("GET", "/api/v1/openapi.json")}):
        pattern = path.removeprefix("/api/v1")
        body = dict(BODIES.get(pattern, {}))
        if pattern == "/payments":
            body["order_id"] = ids["unpaid_order"][0]
        names = re.findall(r"{(\w+)}", pattern)
        for values in product(*(ids[name] for name in names)):
            yield method, pattern.format(**dict(zip(names, values, strict=True))), body


def ask(client: Api, method: str, path: str, body: dict[str, Any]) -> TestResponse:
    return client._call(method, path, json=body) if method not in SAFE else client._call(method, path)


def refused_for_its_token(answer: TestResponse) -> None:
    error = refused(answer, 403, "PERMISSION_ERROR", "X-CSRF-Token")
    assert error["reason"] == "csrf_token"


def test_without_its_token_a_session_changes_nothing_anywhere(
    app: Flask, other_dashboard: Dashboard, ids: dict[str, list[str]]
) -> None:
    ids["unpaid_order"] = [other_dashboard.order()["id"]]
    of_another_session = Dashboard(app, OTHER_EMAIL, OTHER_PASSWORD)
    of_another_merchant = Dashboard(app)
    token = other_dashboard.headers["X-CSRF-Token"]
    wrong = [
        None,
        "",
        "x",
        token[:-1],
        token.upper(),
        token + "0",
        other_dashboard.token,
        "é" * 32,
        "0" * 10_000,
        of_another_session.headers["X-CSRF-Token"],
        of_another_merchant.headers["X-CSRF-Token"],
    ]
    unsafe = [each for each in protected(app, ids) if each[0] not in SAFE]
    assert len({(method, path) for method, path, _ in unsafe}) >= 25
    before = stored(app)
    for method, path, body in unsafe:
        for each in wrong if path == "/orders" else (None, wrong[-2]):
            refused_for_its_token(ask(other_dashboard.with_token(each), method, path, body))
    assert stored(app) == before


def test_with_its_token_it_is_not_refused_for_it(
    app: Flask, other_dashboard: Dashboard, ids: dict[str, list[str]]
) -> None:
    ids["unpaid_order"] = [other_dashboard.order()["id"]]
    unsafe = [each for each in protected(app, ids) if each[0] not in SAFE]
    statuses = {}
    for method, path, body in sorted(unsafe, key=lambda each: (each[0] == "DELETE", -len(each[1]))):
        if path == "/password" or path.startswith("/session"):
            other_dashboard.sign_in(OTHER_EMAIL, OTHER_PASSWORD)
        answer = ask(other_dashboard, method, path, body)
        statuses[method, path] = answer.status_code
        assert answer.status_code < 500, answer.text
        assert answer.status_code != 403, (method, path, answer.text)
        if path == "/password":
            change = {"current_password": body["password"], "password": OTHER_PASSWORD}
            assert other_dashboard.post("/password", change).status_code == 204
    # Most of them really do what they are for, so that the test above says something.
    assert sum(status < 300 for status in statuses.values()) >= len(statuses) * 3 / 4, statuses


def test_to_look_at_something_none_is_needed(
    app: Flask, other_dashboard: Dashboard, ids: dict[str, list[str]]
) -> None:
    ids["unpaid_order"] = [other_dashboard.order()["id"]]
    without = other_dashboard.with_token(None)
    for method, path, body in protected(app, ids):
        if method == "GET":
            answer = ask(without, method, path, body)
            assert answer.status_code == 200, (path, answer.text)
            assert without._call("HEAD", path).status_code == 200, path


def test_an_api_key_needs_none(other: Api, other_dashboard: Dashboard) -> None:
    """Also from a browser that has a session: a key is not sent by itself."""
    made(other.post("/orders", {"amount": 10000}))
    both = other_dashboard.with_token(None)
    both.headers = other.headers
    made(both.post("/orders", {"amount": 10000}))


def test_a_key_in_the_headers_wins_over_the_cookie(app: Flask, other: Api, dashboard: Dashboard) -> None:
    both = dashboard.with_token(None)
    assert found(both.get("/merchant"))["email"] == TEST_EMAIL
    both.headers = other.headers
    assert found(both.get("/merchant"))["email"] == OTHER_EMAIL
    order = made(both.post("/orders", {"amount": 10000}))
    refused(dashboard.get(f"/orders/{order['id']}"), 404, "NOT_FOUND_ERROR")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Api-Key": "key_other", "X-Api-Secret": "wrong"},
        {"X-Api-Key": "key_other"},
        {"X-Api-Secret": "secret_other"},
        {"X-Api-Key": "", "X-Api-Secret": ""},
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic a2V5X290aGVyOndyb25n"},
    ],
)
def test_even_if_it_is_wrong(other: Api, dashboard: Dashboard, headers: dict[str, str]) -> None:
    both = dashboard.with_token(None)
    both.headers = headers
    refused(both.get("/merchant"), 401, "AUTHENTICATION_ERROR")


def test_what_is_for_the_dashboard_alone_takes_the_cookie_and_no_key(
    app: Flask, other: Api, dashboard: Dashboard
) -> None:
    both = dashboard.with_token(dashboard.headers["X-CSRF-Token"])
    both.headers |= other.headers
    assert found(both.get("/session"))["merchant"]["email"] == TEST_EMAIL
    assert both.delete("/session").status_code == 204
    refused(dashboard.get("/session"), 401, "AUTHENTICATION_ERROR")
    found(other.get("/merchant"))


def test_a_token_is_the_sessions_and_lasts_as_long(app: Flask, dashboard: Dashboard) -> None:
    token = dashboard.headers["X-CSRF-Token"]
    assert found(dashboard.get("/session"))["csrf_token"] == token
    made(dashboard.post("/orders", {"amount": 10000}))
    dashboard.sign_in()
    assert dashboard.headers["X-CSRF-Token"] != token
    refused_for_its_token(dashboard.with_token(token).post("/orders", {"amount": 10000}))
    made(dashboard.post("/orders", {"amount": 10000}))
