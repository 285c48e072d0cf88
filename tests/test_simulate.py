"""X-Simulate: a merchant's client meets late, wrong and lost answers, and nothing happens twice."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection, RemoteDisconnected
from typing import Any

import pytest
import requests
from flask import Flask
from werkzeug.test import TestResponse

from app import create_app
from config import ROOT
from jobs.wake import fast_redis
from models.base import db
from models.merchants import TEST_API_KEY, TEST_API_SECRET
from routes import simulate
from routes.simulate import COUNT_TTL_S, MAX_LATENCY_MS, MAX_TIMES
from tests.conftest import Api, Dashboard, found, in_sql, made, refused, settings_of, stored, temporary_folder
from tests.processes import Running, gateway
from tests.test_readme import SHELL_BLOCK

ORDER = {"amount": 10000}
PAGE = (ROOT / "docs/testing-retries.md").read_text()
SIGNED_IN = {"X-Api-Key": TEST_API_KEY, "X-Api-Secret": TEST_API_SECRET}


def ask(
    api: Api, method: str, path: str, value: str, *, key: str | None = None, body: Any = None
) -> TestResponse:
    headers = {"X-Simulate": value} | ({} if key is None else {"Idempotency-Key": key})
    return api._call(method, path, headers, **({} if body is None else {"json": body}))


def post(api: Api, value: str, *, key: str | None = None, body: Any = ORDER) -> TestResponse:
    return ask(api, "POST", "/orders", value, key=key, body=body)


def orders(app: Flask) -> int:
    return in_sql(app, "SELECT count(*) FROM orders")[0]


def genuine(answer: TestResponse) -> bool:
    return "X-Simulated" not in answer.headers


def replayed(answer: TestResponse) -> bool:
    made(answer)
    return answer.headers.get("Idempotent-Replayed") == "true"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that answers would have been late by; none is."""
    slept: list[float] = []
    monkeypatch.setattr(simulate, "sleep", slept.append)
    return slept


# --- status --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "retry_after"),
    [
        (400, "BAD_REQUEST_ERROR", None),
        (401, "AUTHENTICATION_ERROR", None),
        (404, "NOT_FOUND_ERROR", None),
        (409, "CONFLICT_ERROR", None),
        (418, "BAD_REQUEST_ERROR", None),
        (422, "IDEMPOTENCY_ERROR", None),
        (429, "RATE_LIMIT_ERROR", "1"),
        (499, "BAD_REQUEST_ERROR", None),
        (500, "SERVER_ERROR", None),
        (502, "SERVER_ERROR", None),
        (503, "SERVICE_UNAVAILABLE", "1"),
        (599, "SERVER_ERROR", None),
    ],
)
def test_a_status_is_answered_and_nothing_is_done(
    app: Flask, api: Api, status: int, code: str, retry_after: str | None
) -> None:
    before = stored(app)
    answer = post(api, f"status={status}", key="k1")
    assert refused(answer, status, code)["reason"] == "simulated"
    assert answer.headers["X-Simulated"] == f"status={status}"
    assert answer.headers.get("Retry-After") == retry_after
    assert stored(app) == before
    first = api.post("/orders", ORDER, key="k1")
    assert genuine(first)
    assert not replayed(first)


def test_a_status_comes_before_everything_but_reading_the_request(app: Flask, api: Api) -> None:
    stranger = Api(app.test_client(), "key_unknown", "wrong")
    for method, path in (("GET", "/orders"), ("DELETE", "/webhook_endpoints/none"), ("POST", "/nowhere")):
        refused(ask(stranger, method, path, "status=503"), 503, "SERVICE_UNAVAILABLE")
    refused(post(api, "status=503", body=[1]), 400, "BAD_REQUEST_ERROR")


def test_an_error_carries_the_id_of_its_request(app: Flask) -> None:
    headers = {"X-Simulate": "status=500", "X-Request-Id": "mine-1"}
    answer = app.test_client().get("/api/v1/orders", headers=headers)
    assert refused(answer, 500, "SERVER_ERROR")["request_id"] == "mine-1"


@pytest.mark.parametrize("path", ["/health", "/dashboard/"])
def test_what_is_not_the_api_is_answered_as_ever(app: Flask, path: str) -> None:
    for value in ("status=418", "nonsense"):
        answer = app.test_client().get(path, headers={"X-Simulate": value}, buffered=True)
        assert answer.status_code not in (400, 418)
        assert genuine(answer)


# --- latency -------------------------------------------------------------------------------------


def test_an_answer_is_late(api: Api) -> None:
    started = time.monotonic()
    answer = post(api, "latency=150")
    assert time.monotonic() - started >= 0.15
    assert made(answer)["amount"] == 10000
    assert answer.headers["X-Simulated"] == "latency=150"


def test_what_a_late_answer_tells_of_is_done_and_nothing_is_held_meanwhile(
    app: Flask, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(seconds: float) -> None:
        connections = db.engine.pool.checkedout()  # type: ignore[attr-defined]
        seen.append((seconds, connections, replayed(api.post("/orders", ORDER, key="k1"))))

    monkeypatch.setattr(simulate, "sleep", look)
    made(post(api, "latency=30000", key="k1"))
    found(ask(api, "GET", "/orders", "latency=0"))
    assert seen == [(30.0, 0, True), (0.0, 0, True)]
    assert orders(app) == 1


def test_a_refusal_is_late_as_well(api: Api, slept: list[float]) -> None:
    answer = post(api, "latency=20", body={"amount": 1})
    refused(answer, 400, "BAD_REQUEST_ERROR", "amount")
    assert (slept, answer.headers["X-Simulated"]) == ([0.02], "latency=20")


# --- drop-after-commit ---------------------------------------------------------------------------


def test_an_answer_is_dropped_and_the_effect_exists_once_after_a_retry(app: Flask, api: Api) -> None:
    with pytest.raises(ConnectionResetError, match="X-Simulate"):
        post(api, "drop-after-commit", key="k1")
    assert orders(app) == 1
    again = post(api, "drop-after-commit", key="k1")
    assert replayed(again)
    assert genuine(again)
    assert orders(app) == 1


def test_without_a_key_each_attempt_takes_effect_and_is_dropped(app: Flask, api: Api) -> None:
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            post(api, "drop-after-commit")
    assert orders(app) == 2


def test_what_committed_nothing_is_not_dropped(api: Api) -> None:
    found(ask(api, "GET", "/orders", "drop-after-commit"))
    refused(post(api, "drop-after-commit", body={"amount": 1}), 400, "BAD_REQUEST_ERROR", "amount")
    refused(ask(api, "DELETE", "/webhook_endpoints/we_none", "drop-after-commit"), 404, "NOT_FOUND_ERROR")


def test_a_change_and_an_answer_without_a_body_are_dropped_too(app: Flask, api: Api) -> None:
    path = f"/webhook_endpoints/{api.endpoint('https://shop.example/webhook')['id']}"
    with pytest.raises(ConnectionResetError):
        ask(api, "PATCH", path, "drop-after-commit", body={"enabled": False})
    assert found(api.get(path))["enabled"] is False
    with pytest.raises(ConnectionResetError):
        ask(api, "DELETE", path, "drop-after-commit")
    refused(ask(api, "DELETE", path, "drop-after-commit"), 404, "NOT_FOUND_ERROR")


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_the_connection_is_closed_by_werkzeugs_server_without_a_word(
    app: Flask, api: Api, live: str, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = f"/api/v1/webhook_endpoints/{api.endpoint('https://shop.example/webhook')['id']}"
    headers = SIGNED_IN | {"X-Simulate": "drop-after-commit", "Content-Type": "application/json"}
    body = '{"enabled": false}' if method == "PATCH" else None
    with closing(HTTPConnection(live.removeprefix("http://"), timeout=20)) as connection:
        connection.request(method, path, body=body, headers=headers)
        with pytest.raises(RemoteDisconnected):
            connection.getresponse()
    assert capfd.readouterr().err == ""


def test_what_was_dropped_is_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="routes.simulate"), pytest.raises(ConnectionResetError):
        post(api, "drop-after-commit")
    assert caplog.messages == ["simulated for POST /api/v1/orders: drop-after-commit"]


# --- together ------------------------------------------------------------------------------------


def test_an_error_may_be_late(app: Flask, api: Api, slept: list[float]) -> None:
    answer = post(api, "status=500,latency=40")
    refused(answer, 500, "SERVER_ERROR")
    assert (slept, answer.headers["X-Simulated"]) == ([0.04], "latency=40, status=500")
    assert orders(app) == 0


def test_an_answer_may_be_dropped_late_and_once(app: Flask, api: Api, slept: list[float]) -> None:
    value = "times=1 ,\tdrop-after-commit, latency=40"
    with pytest.raises(ConnectionResetError):
        post(api, value)
    assert slept == [0.04]
    assert genuine(post(api, value))
    assert slept == [0.04]
    assert orders(app) == 2


# --- times ---------------------------------------------------------------------------------------


def statuses(api: Api, value: str, count: int, path: str = "/orders", **facts: Any) -> list[int]:
    return [ask(api, "POST", path, value, body=ORDER, **facts).status_code for _ in range(count)]


def test_the_first_of_the_same_requests_meet_it_and_the_rest_are_answered(app: Flask, api: Api) -> None:
    for count in (1, 2):
        answer = post(api, "status=503, times=2", key="k1")
        refused(answer, 503, "SERVICE_UNAVAILABLE")
        assert answer.headers["X-Simulated"] == f"status=503 ({count} of 2)"
    first, again = (post(api, "status=503, times=2", key="k1") for _ in range(2))
    assert genuine(first)
    assert not replayed(first)
    assert replayed(again)
    assert orders(app) == 1


def test_other_requests_are_counted_apart(api: Api, other: Api) -> None:
    once = "status=503, times=1"
    assert statuses(api, once, 2, key="k1") == [503, 201]
    assert statuses(api, once, 2, key="k2") == [503, 201]
    assert statuses(api, once, 2) == [503, 201]
    assert statuses(other, once, 2, key="k1") == [503, 201]
    assert statuses(api, "status=500,times=1", 2, key="k1") == [500, 201]
    assert statuses(api, once, 2, path="/webhooks/test", key="k1") == [503, 422]
    for query in ("", "?limit=1"):
        answers = [ask(api, "GET", f"/orders{query}", once, key="k1") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [503, 200]


def test_two_sessions_are_counted_apart(app: Flask, dashboard: Dashboard, other_dashboard: Dashboard) -> None:
    for session in (dashboard, other_dashboard, Dashboard(app)):
        answers = [ask(session, "GET", "/orders", "status=503, times=1") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [503, 200]


def test_the_count_is_forgotten_after_an_hour_and_tells_no_secret(api: Api, context: None) -> None:
    post(api, "status=503, times=1", key="my-key")
    (name,) = fast_redis().scan_iter("simulate:*")
    assert re.fullmatch(rb"simulate:[0-9a-f]{64}", name)
    assert 0 < fast_redis().ttl(name) <= COUNT_TTL_S == 3600
    fast_redis().delete(name)
    assert post(api, "status=503, times=1", key="my-key").status_code == 503


def test_what_can_not_be_counted_is_not_simulated(
    app: Flask, environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    alone = Api(create_app(settings_of(environ | {"REDIS_URL": "redis://127.0.0.1:1/0"})).test_client())
    answer = post(alone, "status=503, latency=30000, times=1")
    assert made(answer)["amount"] == 10000
    assert genuine(answer)
    (warning,) = [each for each in caplog.records if each.name == "routes.simulate"]
    assert warning.levelname == "WARNING"
    assert "nothing is simulated" in warning.message
    refused(post(alone, "status=503"), 503, "SERVICE_UNAVAILABLE")


# --- what is refused, and where it is not there --------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        "status=503,",
        "nonsense",
        "status",
        "status=",
        "status=abc",
        "status=399",
        "status=600",
        "status=200",
        "status=-503",
        "status=+503",
        "status=5e2",
        "status = 503",
        "status=503 times=2",
        "status=503;times=2",
        "Status=503",
        "status=503,status=503",
        "latency=30001",
        "latency=-1",
        "latency=1.5",
        "latency=1s",
        "latency=" + "9" * 5000,
        "latency=\u00b2",
        "times=2",
        "status=503,times=0",
        "status=503,times=101",
        "drop-after-commit=",
        "drop-after-commit=1",
        "drop-after-commit,drop-after-commit",
        "drop-after-commit,status=503",
        "drop",
    ],
)
def test_it_refuses_what_it_does_not_know_and_does_nothing(app: Flask, api: Api, value: str) -> None:
    before = stored(app)
    answer = post(api, value, key="k1")
    error = refused(answer, 400, "BAD_REQUEST_ERROR", "X-Simulate")
    for allowed in ("latency=0 to 30000", "status=400 to 599", "drop-after-commit", "times=1 to 100"):
        assert allowed in error["description"]
    assert genuine(answer)
    assert stored(app) == before


@pytest.mark.parametrize("value", ["status=400", "status=599", f"status=418,times={MAX_TIMES}"])
def test_it_takes_the_least_and_the_most(api: Api, slept: list[float], value: str) -> None:
    assert not genuine(post(api, f"{value},latency={MAX_LATENCY_MS}"))
    assert not genuine(post(api, f"{value},latency=0"))
    assert slept == [30, 0]


def offered(app: Flask) -> set[str]:
    """The operations that take the header by the specification."""
    spec = found(app.test_client().get("/api/v1/openapi.json"))
    return {
        f"{method} {path}"
        for path, operations in spec["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
        for each in operation.get("parameters", [])
        if each == {"$ref": "#/components/parameters/X-Simulate"}
    }


@pytest.mark.parametrize("value", ["status=503", "drop-after-commit", "latency=30000", "nonsense", ""])
def test_a_gateway_that_is_not_made_for_testing_ignores_the_header(
    app: Flask, environ: dict[str, str], value: str
) -> None:
    serious = create_app(settings_of(environ | {"TEST_ENDPOINTS": "false", "TEST_MODE": "false"}))
    answer = post(Api(serious.test_client()), value, key="k1")
    assert made(answer)["amount"] == 10000
    assert genuine(answer)
    assert offered(serious) == set()


@pytest.mark.parametrize(("endpoints", "mode"), [("false", "true"), ("true", "false")])
def test_either_setting_makes_it_one_for_testing(
    app: Flask, environ: dict[str, str], endpoints: str, mode: str
) -> None:
    testing = create_app(settings_of(environ | {"TEST_ENDPOINTS": endpoints, "TEST_MODE": mode}))
    refused(post(Api(testing.test_client()), "status=503"), 503, "SERVICE_UNAVAILABLE")
    assert {"post /api/v1/orders", "get /api/v1/orders", "delete /api/v1/session"} <= offered(testing)
    assert "get /health" not in offered(testing)


# --- the real web server, and what docs/testing-retries.md shows ---------------------------------


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """With one process and few connections to the database: one that was lost would be missed."""
    settings = {"WEB_WORKERS": "1", "WEB_CONNECTIONS": "2", "LOG_LEVEL": "INFO"}
    with temporary_folder() as folder, gateway(folder / "data", **settings) as running:
        yield running


@pytest.fixture
def order_count(running: Running) -> Callable[[], int]:
    """How many orders the test has made."""
    before = len(running.get("/orders?limit=100")["data"])
    return lambda: len(running.get("/orders?limit=100")["data"]) - before


@pytest.mark.slow
def test_gunicorn_closes_the_connection_and_goes_on(running: Running, order_count: Callable[[], int]) -> None:
    logged = len(running.log)
    headers = SIGNED_IN | {"X-Simulate": "drop-after-commit", "Content-Type": "application/json"}
    for number in range(5):
        headers["Idempotency-Key"] = f"dropped-{number}"
        with closing(HTTPConnection("127.0.0.1", running.port, timeout=20)) as connection:
            connection.request("GET", "/api/v1/orders", headers=headers)
            assert connection.getresponse().read()
            kept = connection.sock
            connection.request("POST", "/api/v1/orders", body='{"amount":10000}', headers=headers)
            assert connection.sock is kept
            with pytest.raises(RemoteDisconnected):  # not one byte came
                connection.getresponse()
    assert order_count() == 5
    url = f"http://127.0.0.1:{running.port}/api/v1/orders"
    again = requests.post(url, json=ORDER, headers=headers, timeout=20)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert order_count() == 5
    log = running.log[logged:]
    assert log.count("simulated for POST /api/v1/orders: drop-after-commit") == 5
    for trouble in ("Traceback", "ERROR", "WARNING", "Exception"):
        assert trouble not in log


def test_the_page_tells_the_limits_and_every_value(api: Api) -> None:
    table = PAGE.split("## The header")[1].split("## ")[0]
    for limit in (f"0 to {MAX_LATENCY_MS}", "400 to 599", f"1 to {MAX_TIMES}"):
        assert limit in table
    shown = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(shown) == 4
    description = refused(post(api, "?"), 400, "BAD_REQUEST_ERROR", "X-Simulate")["description"]
    assert all(value.partition("=")[0] in description for value in shown)


@pytest.mark.slow
def test_the_commands_of_the_page_do_what_it_says(running: Running, order_count: Callable[[], int]) -> None:
    script = as_here("\n".join(SHELL_BLOCK.findall(PAGE)), running)
    done = subprocess.run(
        ["bash", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    outcomes = re.findall(
        r"^HTTP/1.1 (\d+)|^curl: (\(\d+\))|^(Idempotent-Replayed)", done.stdout, re.MULTILINE
    )
    assert ["".join(outcome) for outcome in outcomes] == [
        *("503", "503", "201"),
        *("(52)", "201", "Idempotent-Replayed"),
        *("(28)", "201", "Idempotent-Replayed"),
    ], done.stdout
    assert "Empty reply from server" in done.stdout
    assert done.stdout.count("X-Simulated: status=503 (2 of 2)") == 1
    assert order_count() == 3


def as_here(code: str, running: Running) -> str:
    assert "localhost:8000" in code
    return code.replace("localhost:8000", f"localhost:{running.port}")


def run_client(running: Running, changes: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The client of the page, as it is shown but for these changes."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for shown, instead in changes.items():
        assert code.count(shown) == 1
        code = code.replace(shown, instead)
    command = [sys.executable, "-c", as_here(code, running)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_the_client_of_the_page_survives_it(running: Running, order_count: Callable[[], int]) -> None:
    done = run_client(running, {})
    assert (done.returncode, done.stderr) == (0, "")
    (shown,) = re.findall(r"^It prints\n\n```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert re.sub(r"order_\w{16}", "order", done.stdout) == re.sub(r"order_\w{16}", "order", shown)
    assert order_count() == 2


ONLY_DROPPED = {'("status=503, times=2", "drop-after-commit")': '("drop-after-commit",)'}
NO_METHODS = {'    allowed_methods=["GET", "POST", "PATCH", "DELETE"],\n': ""}
NO_KEY = {'"Idempotency-Key": str(uuid.uuid4()), ': "", "total=5": "total=2"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "error", "orders_made"),
    [
        (NO_METHODS, "HTTPError: 503", 0),
        (NO_METHODS | ONLY_DROPPED, "ConnectionError: ", 1),
        (NO_KEY | ONLY_DROPPED, "ConnectionError: ", 3),
    ],
    ids=["a POST is not repeated after a status", "nor after a lost answer", "without a key"],
)
def test_a_client_without_what_the_page_says_it_needs_does_not(
    running: Running, order_count: Callable[[], int], changes: dict[str, str], error: str, orders_made: int
) -> None:
    done = run_client(running, changes)
    assert done.returncode == 1
    assert error in done.stderr
    assert order_count() == orders_made
