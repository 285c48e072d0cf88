"""A merchant sees and changes what is its own, whichever way it signs in: nothing of anybody else's."""

from __future__ import annotations

import re
from itertools import chain, product
from typing import Any

import pytest
from flask import Flask

from models.merchants import TEST_PASSWORD
from tests.conftest import (
    OTHER_PASSWORD,
    Api,
    Dashboard,
    found,
    populate,
    refused,
    stored,
)
from tests.receiver import Receiver
from tests.test_csrf import BODIES, ask
from tests.test_openapi import PUBLIC, routes_of

AN_ID = re.compile(r"\b(?:order|pay|rfnd|evt|we|whd|whr|key|ses|aud|led|post)_[A-Za-z0-9]{16}\b")
METHODS = (
    "GET",
    "POST",
    "PATCH",
    "DELETE",
)  # the owner's turn comes after the stranger's: so what ends things is last


@pytest.fixture
def ids(api: Api, receiver: Receiver) -> dict[str, list[str]]:
    """The test merchant, with something of every kind."""
    return populate(api, receiver)


@pytest.fixture(params=["session", "key"])
def stranger(request: pytest.FixtureRequest, other: Api) -> Api:
    """The other merchant, signed in one way or the other."""
    return request.getfixturevalue("other_dashboard") if request.param == "session" else other


def routes(app: Flask) -> list[tuple[str, str]]:
    """Method and pattern of all that one has to sign in for."""
    every = set(routes_of(app)) - PUBLIC - {("GET", "/api/v1/openapi.json")}
    shortened = [(method, path.removeprefix("/api/v1")) for method, path in every]
    return sorted(shortened, key=lambda each: (METHODS.index(each[0]), -len(each[1]), each[1]))


def addressed(app: Flask, ids: dict[str, list[str]]) -> list[tuple[str, str, str]]:
    """Method, pattern and path of every request about one of these."""
    every = []
    for method, pattern in routes(app):
        names = re.findall(r"{(\w+)}", pattern)
        if names:
            for values in product(*(ids[name] for name in names)):
                every.append((method, pattern, pattern.format(**dict(zip(names, values, strict=True)))))
    return every


def body_of(pattern: str, password: str) -> dict[str, Any]:
    return BODIES.get(pattern, {}) | ({"password": password} if pattern.endswith("/reveal") else {})


def seen(client: Api, app: Flask, **query: Any) -> set[str]:
    """Every id that any list, figure or file of the merchant's tells."""
    every: set[str] = set()
    for method, pattern in routes(app):
        if method == "GET" and "{" not in pattern:
            answer = client.get(pattern, **query)
            assert answer.status_code == 200 or pattern.startswith("/session"), answer.text
            every |= set(AN_ID.findall(answer.text))
    return every


def test_nothing_of_anybody_elses_is_found_by_its_id(
    app: Flask, api: Api, ids: dict[str, list[str]], stranger: Api
) -> None:
    every = addressed(app, ids)
    patterns = {(method, pattern) for method, pattern, _ in every}
    assert len(patterns) >= 24
    assert {name for pattern in patterns for name in re.findall(r"{(\w+)}", pattern[1])} == set(ids)
    before = stored(app)
    for method, pattern, path in every:
        answer = ask(stranger, method, path, body_of(pattern, OTHER_PASSWORD))
        refused(answer, 404, "NOT_FOUND_ERROR")
        assert not set(AN_ID.findall(answer.text)) & set(path.split("/")), answer.text
    after = stored(app)
    for used in ("sessions", "api_keys"):  # when they were used last
        before.pop(used), after.pop(used)
    assert after == before


def test_each_of_them_is_found_by_its_owner(
    app: Flask, api: Api, dashboard: Dashboard, ids: dict[str, list[str]]
) -> None:
    """So that the test above says something."""
    for method, pattern, path in addressed(app, ids):
        for client in (dashboard, api):
            answer = ask(client, method, path, body_of(pattern, TEST_PASSWORD))
            if (method, pattern, client) == ("DELETE", "/webhook_endpoints/{endpoint_id}", api):
                assert answer.status_code == 404  # the session has deleted it
            else:
                assert answer.status_code not in (401, 403, 404), (method, path, answer.text)
                assert answer.status_code < 500, answer.text


def test_no_list_figure_or_file_tells_of_it(
    app: Flask, api: Api, dashboard: Dashboard, ids: dict[str, list[str]], stranger: Api
) -> None:
    ours = seen(api, app) | seen(dashboard, app)
    assert set(chain(*ids.values())) <= ours
    assert len({id_.partition("_")[0] for id_ in ours}) == 12
    theirs = seen(stranger, app)
    assert not theirs & ours
    for path in ("/orders", "/payments", "/payments/list", "/refunds", "/events", "/ledger", "/webhooks"):
        assert found(stranger.get(path))["data"] == [], path
    for path in ("/webhook_endpoints", "/webhooks/retries", "/balance"):
        assert found(stranger.get(path))["data"] == [], path
    assert stranger.get("/payments/export").headers["X-Total-Rows"] == "0"
    assert found(stranger.get("/payments/stats", days=7))["period"]["transactions"] == 0
    assert found(stranger.get("/webhooks/stats"))["endpoints"] == []
    queues = found(stranger.get("/jobs"))["queues"].values()
    assert not [queue for queue in queues if any(queue.values())]


def test_nor_does_any_filter_or_search(
    app: Flask, api: Api, ids: dict[str, list[str]], stranger: Api
) -> None:
    names = {"order_id", "payment_id", "refund_id", "endpoint_id", "event_id", "retry_id", "subject_id"}
    ours = seen(api, app)
    for each in chain(*ids.values()):
        assert not seen(stranger, app, q=each, **dict.fromkeys(names, each)) & ours, each
    for words in ("held-1", "captured-1", "cap", "4242", "success@upi"):
        assert not seen(stranger, app, q=words) & ours


def test_nor_does_any_page_begin_with_it(
    app: Flask, dashboard: Dashboard, ids: dict[str, list[str]], other_dashboard: Dashboard
) -> None:
    pages = 0
    for method, pattern in routes(app):
        if method != "GET" or "{" in pattern:
            continue
        page = dashboard.get(pattern).get_json(silent=True)
        if not isinstance(page, dict) or "next_cursor" not in page:
            continue
        pages += 1
        cursor = page["data"][0]["id"]
        found(dashboard.get(pattern, starting_after=cursor))
        answer = other_dashboard.get(pattern, starting_after=cursor)
        refused(answer, 400, "BAD_REQUEST_ERROR", "starting_after")
    assert pages >= 11
