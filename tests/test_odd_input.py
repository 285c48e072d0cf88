"""Whatever is sent to any route, in any field that it documents, is answered, and what is wrong is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from tests.conftest import (
    OTHER_EMAIL,
    OTHER_PASSWORD,
    Api,
    Dashboard,
    found,
    populate,
)
from tests.receiver import Receiver
from tests.test_csrf import BODIES

ODD = [None, True, -1, 1.5, 10**30, "", "\0", "\ud800", "x" * 3000, "٣", [], [None], {}, {"$ne": 1}]
NEEDED = {
    "/payments": {"order_id": "order_doesNotExist00"},
    "/webhooks/retry": {"endpoint_id": "we_doesNotExist00000"},
}
# They have tests of their own: guessing passwords is counted.
ELSEWHERE = ("/session", "/password", "/password/link")


@pytest.fixture
def operations(
    app: Flask, api: Api, other_dashboard: Dashboard, receiver: Receiver
) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Method, pattern, path to something of the other merchant's, and what the specification says."""
    ids = populate(other_dashboard, receiver)
    spec = found(app.test_client().get("/api/v1/openapi.json"))
    every = []
    for path, item in spec["paths"].items():
        pattern = path.removeprefix("/api/v1")
        address = re.sub(r"{(\w+)}", lambda match: ids[match[1]][0], pattern)
        for method in ("get", "post", "patch"):
            if method in item and path.startswith("/api/v1"):
                every.append((method.upper(), pattern, address, item[method] | {"spec": spec}))
    return every


def fields_of(operation: dict[str, Any]) -> Iterator[str]:
    """The names in its JSON body."""
    body = operation.get("requestBody")
    if body is not None:
        ref = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        yield from operation["spec"]["components"]["schemas"][ref]["properties"]


def check(answer: Any, name: str, sent: str) -> None:
    assert answer.status_code < 500, (sent, answer.text)
    if answer.status_code == 400:
        error = answer.get_json()["error"]
        named = error.get("field", "").partition(".")[0]
        assert named == name or error.get("reason") or "at most 16" in error["description"], (sent, error)


def test_any_field_of_a_query(other: Api, operations: list[tuple[str, str, str, dict[str, Any]]]) -> None:
    asked = 0
    for method, _pattern, address, operation in operations:
        if method == "GET":
            for each in operation["parameters"]:
                if each.get("in") != "query":
                    continue
                for value in (
                    value for value in ODD if value != "\ud800" and not isinstance(value, (list, dict))
                ):
                    check(
                        other.get(address, **{each["name"]: value}),
                        each["name"],
                        f"{address} {each['name']}={value!r:.50}",
                    )
                    asked += 1
    assert asked > 500


def test_any_field_of_a_body(
    other_dashboard: Dashboard, operations: list[tuple[str, str, str, dict[str, Any]]]
) -> None:
    asked = 0
    for method, pattern, address, operation in operations:
        if method == "GET" or pattern in ELSEWHERE:
            continue
        of = pattern.removesuffix("/public")
        body = BODIES.get(of, {}) | NEEDED.get(of, {})
        for name in fields_of(operation):
            for value in ODD:
                answer = other_dashboard._call(method, address, json=body | {name: value})
                check(answer, name, f"{method} {address} {name}={value!r:.50}")
                asked += 1
    assert asked > 300


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"[]",
            b"null",
            b"1",
            b'"x"',
            b"{",
            b"\xff",
            b"{}{}",
            b'{"password": 1e999}',
            b'{"password": NaN}',
        ),
        *(b'{"a":' * 3000, b"[" * 60_000, b'{"email": "\\ud800"}', b'{"email": "a", "email": ["b"]}'),
    ],
    ids=lambda data: repr(data[:20]),
)
@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-16", "text/plain", ""]
)
@pytest.mark.parametrize("path", [*ELSEWHERE, "/api_keys/key_other/reveal"])
def test_any_body(other_dashboard: Dashboard, path: str, content_type: str, data: bytes) -> None:
    answer = other_dashboard._call("POST", path, data=data, content_type=content_type)
    assert answer.status_code in (400, 415), answer.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("X-CSRF-Token", "X-Background", "X-Request-Id")
            for value in ("\0", "é\xff", "")
        ),
        *(("X-Forwarded-For", value) for value in ("\0", "::1, x", "," * 1000)),
        *(("Cookie", value) for value in ("\0", "gateway_session", 'gateway_session="\\777"')),
        *(("Cookie", value) for value in ('gateway_session="\\355\\240\\200"', "gateway_session=x;" * 500)),
    ],
)
def test_any_header(app: Flask, other: Api, name: str, value: str) -> None:
    client = app.test_client(use_cookies=False)
    body = {"email": OTHER_EMAIL, "password": OTHER_PASSWORD}
    for method, path, statuses in (
        ("GET", "/session", {401}),
        ("DELETE", "/session", {401}),
        ("POST", "/session", {201}),
        ("POST", "/orders", {401}),
    ):
        answer = client.open("/api/v1" + path, method=method, headers={name: value}, json=body)
        assert answer.status_code in statuses, (path, answer.text)
