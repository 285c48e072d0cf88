"""GET /metrics: each figure moves with what it measures; who may read them."""

from __future__ import annotations

import platform
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from flask import Flask
from prometheus_client.metrics_core import Sample
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from config import VERSION
from jobs.clock import CLOCK_LOCK, Clock
from jobs.work import LEASE_S
from models.base import db
from models.workers import ALIVE_S
from tests.conftest import (
    Api,
    administration,
    another_database,
    drain_all,
    in_sql,
    made,
    refused,
    settings_of,
)
from tests.processes import gateway, wait_until
from tests.receiver import Receiver
from tests.test_config import PRODUCTION
from tests.test_jobs_route import add_worker, unanswered_payment, unanswered_refund, unknown_for

TOKEN = "0123456789abcdef0123456789abcdef"
QUEUES = ("payments", "refunds", "webhooks")
KINDS = ("payment", "refund")
METHODS = ("upi", "card")
OUTCOMES = ("approved", "failed")


def metrics(app: Flask) -> dict[str, Any]:
    """The value of each metric but those of requests; of one that has labels, the values by them."""
    values: dict[str, Any] = {}
    for sample in samples(app):
        labels = tuple(sample.labels.values())
        if sample.name.startswith("gateway_http_"):
            continue
        if not labels:
            values[sample.name] = sample.value
        else:
            values.setdefault(sample.name, {})[labels[0] if len(labels) == 1 else labels] = sample.value
    return values


def samples(app: Flask) -> list[Sample]:
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200, answer.text
    families = list(text_string_to_metric_families(answer.text))
    assert all(family.documentation.endswith(".") for family in families)
    assert {family.type for family in families} <= {"gauge", "counter", "histogram"}
    return [sample for family in families for sample in family.samples]


def counted(app: Flask) -> Counter[tuple[str, ...]]:
    """How many requests there were, by method, route and status."""
    name = "gateway_http_request_seconds_count"
    return Counter(
        {tuple(each.labels.values()): int(each.value) for each in samples(app) if each.name == name}
    )


# --- the figures ---------------------------------------------------------------------------------


def test_while_nothing_is_to_be_done_all_is_zero(app: Flask) -> None:
    none = dict.fromkeys(QUEUES, 0.0)
    assert metrics(app) == {
        "gateway_unknown_outcomes": dict.fromkeys(KINDS, 0.0),
        "gateway_unknown_outcomes_flagged": dict.fromkeys(KINDS, 0.0),
        "gateway_due_rows": none,
        "gateway_oldest_due_seconds": none,
        "gateway_overdue_rows": none,
        "gateway_workers_alive": 0.0,
        "gateway_clock_alive": 0.0,
        "gateway_rescued_rows_total": none,
        "gateway_settled_payments": dict.fromkeys(product(METHODS, OUTCOMES), 0.0),
        "gateway_webhook_attempts": {"accepted": 0.0, "failed": 0.0},
        "gateway_redis_up": 1.0,
        "gateway_database_up": 1.0,
        "gateway_build_info": {(platform.python_version(), VERSION): 1.0},
    }


def test_it_is_in_the_format_that_prometheus_reads(app: Flask) -> None:
    answer = app.test_client().get("/metrics")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert '\ngateway_due_rows{queue="payments"} 0.0\n' in answer.text


def test_what_has_no_answer_is_counted_and_after_a_day_flagged(app: Flask, api: Api) -> None:
    payment, refund = unanswered_payment(api), unanswered_refund(api)
    unanswered_refund(api)
    told = metrics(app)
    assert told["gateway_unknown_outcomes"] == {"payment": 1, "refund": 2}
    assert told["gateway_unknown_outcomes_flagged"] == {"payment": 0, "refund": 0}
    unknown_for(app, payment, "1 day")
    assert metrics(app)["gateway_unknown_outcomes_flagged"] == {"payment": 1, "refund": 0}
    unknown_for(app, refund, "2 days")
    assert metrics(app)["gateway_unknown_outcomes_flagged"] == {"payment": 1, "refund": 1}
    in_sql(app, "UPDATE payments SET due_at = now() WHERE due_at IS NOT NULL")
    drain_all()
    after = metrics(app)
    assert after["gateway_unknown_outcomes"] == {"payment": 0, "refund": 2}
    assert after["gateway_unknown_outcomes_flagged"] == {"payment": 0, "refund": 1}


def test_what_waits_is_counted_in_its_queue(app: Flask, api: Api, receiver: Receiver) -> None:
    refunded = api.paid()
    api.endpoint(receiver.url, events=["payment.created", "refund.created"])
    for _ in range(2):
        api.upi(api.order()["id"])
    made(api.post(f"/payments/{refunded['id']}/refunds"))
    assert metrics(app)["gateway_due_rows"] == {"payments": 2, "refunds": 1, "webhooks": 3}
    drain_all()
    assert metrics(app)["gateway_due_rows"] == dict.fromkeys(QUEUES, 0)


def test_what_waits_for_its_time_or_is_worked_at_is_not_due(app: Flask, api: Api) -> None:
    api.upi(api.order()["id"])
    assert metrics(app)["gateway_due_rows"]["payments"] == 1
    in_sql(app, "UPDATE payments SET due_at = now() + interval '1 minute'")
    assert metrics(app)["gateway_due_rows"]["payments"] == 0
    in_sql(app, "UPDATE payments SET claim_id = gen_random_uuid()")
    assert metrics(app)["gateway_due_rows"]["payments"] == 0


def test_the_oldest_tells_how_long_it_has_waited(app: Flask, api: Api) -> None:
    for _ in range(2):
        api.upi(api.order()["id"])
    in_sql(app, "UPDATE payments SET due_at = now() - seq * interval '10 seconds'")
    waited = metrics(app)["gateway_oldest_due_seconds"]
    assert 20 <= waited["payments"] < 60
    assert (waited["refunds"], waited["webhooks"]) == (0, 0)


def test_what_waits_longer_than_a_lease_is_overdue(app: Flask, api: Api) -> None:
    api.upi(api.order()["id"])
    for waited_s, overdue in ((0, 0), (LEASE_S - 10, 0), (LEASE_S + 1, 1)):
        in_sql(app, f"UPDATE payments SET due_at = now() - interval '{waited_s} seconds'")
        assert metrics(app)["gateway_overdue_rows"] == {"payments": overdue, "refunds": 0, "webhooks": 0}


def test_workers_are_counted_while_they_are_heard_of(app: Flask) -> None:
    add_worker(app, "a")
    add_worker(app, "b")
    add_worker(app, "silent", silent_s=ALIVE_S + 5)
    assert metrics(app)["gateway_workers_alive"] == 2


def test_payments_are_counted_for_a_minute_when_they_have_ended(app: Flask, api: Api) -> None:
    before = metrics(app)
    api.card(api.order()["id"])
    for vpa in ("success@upi", "success@upi", "failure@upi"):
        api.upi(api.order()["id"], vpa)
    assert metrics(app)["gateway_settled_payments"] == before["gateway_settled_payments"]
    in_sql(app, "UPDATE payments SET created_at = created_at - seq * interval '10 minutes'")
    drain_all()
    told = metrics(app)
    assert told["gateway_settled_payments"] == {
        ("upi", "approved"): 2,
        ("upi", "failed"): 1,
        ("card", "approved"): 1,
        ("card", "failed"): 0,
    }
    took = {labels: round(seconds / 60) for labels, seconds in told["gateway_settle_seconds"].items()}
    assert took == {
        **{("card", "approved", quantile): 10 for quantile in ("0.5", "0.95", "1")},
        **{("upi", "approved", "0.5"): 25, ("upi", "approved", "0.95"): 30, ("upi", "approved", "1"): 30},
        **{("upi", "failed", quantile): 40 for quantile in ("0.5", "0.95", "1")},
    }
    later(app, "events", "created_at")
    assert metrics(app)["gateway_settled_payments"] == before["gateway_settled_payments"]


def later(app: Flask, table: str, column: str) -> None:
    """Let a minute pass over what happened."""
    in_sql(
        app,
        "SET LOCAL session_replication_role = replica; "
        f"UPDATE {table} SET {column} = {column} - interval '61 seconds'",
    )


def test_webhooks_are_counted_for_a_minute_and_endpoints_where_they_fail(
    app: Flask, api: Api, receiver: Receiver
) -> None:
    good = api.endpoint(receiver.url, events=["payment.created"])["id"]
    for _ in range(2):
        api.upi(api.order()["id"])
        drain_all()
    assert metrics(app)["gateway_webhook_attempts"] == {"accepted": 2, "failed": 0}
    assert "gateway_failing_endpoint_attempts" not in metrics(app)
    bad = api.endpoint("http://127.0.0.1:1/", events=["payment.created"])["id"]
    api.upi(api.order()["id"])
    drain_all()
    told = metrics(app)
    assert told["gateway_webhook_attempts"] == {"accepted": 3, "failed": 1}
    assert told["gateway_failing_endpoint_attempts"] == {(bad, "accepted"): 0, (bad, "failed"): 1}
    assert good not in str(told)
    later(app, "webhook_attempts", "attempted_at")
    assert metrics(app)["gateway_webhook_attempts"] == {"accepted": 0, "failed": 0}


def test_of_many_endpoints_that_fail_only_the_worst_are_told(app: Flask, api: Api) -> None:
    ids = [api.endpoint("http://127.0.0.1:1/", events=["payment.created"])["id"] for _ in range(12)]
    api.upi(api.order()["id"])
    drain_all()
    worst = ids[-1]
    in_sql(
        app,
        "INSERT INTO webhook_attempts (delivery_id, number, url, duration_ms, error) "
        f"SELECT id, 99, '', 0, 'no' FROM webhook_deliveries WHERE endpoint_id = '{worst}'",
    )
    told = metrics(app)
    assert told["gateway_webhook_attempts"]["failed"] == 13
    failing = {endpoint for endpoint, _ in told["gateway_failing_endpoint_attempts"]}
    assert len(failing) == 10
    assert worst in failing


def test_what_the_clock_does_itself_is_counted_for_ever(app: Flask, api: Api) -> None:
    for number in (1, 3):
        for _ in range(number):
            api.upi(api.order()["id"])
        in_sql(app, "UPDATE payments SET due_at = now() - interval '6 seconds' WHERE due_at IS NOT NULL")
        clock = Clock(app)
        with app.app_context():
            clock.tick()
        clock.join()
    assert metrics(app)["gateway_rescued_rows_total"] == {"payments": 4, "refunds": 0, "webhooks": 0}


def test_the_clock_is_alive_as_long_as_it_holds_its_lock(app: Flask) -> None:
    with app.app_context(), db.engine.connect() as connection:
        connection.execute(db.text(f"SELECT pg_advisory_lock({CLOCK_LOCK})"))
        assert metrics(app)["gateway_clock_alive"] == 1
        connection.execute(db.text(f"SELECT pg_advisory_unlock({CLOCK_LOCK})"))
    assert metrics(app)["gateway_clock_alive"] == 0


def test_the_latest_verification_is_told(app: Flask) -> None:
    insert = (
        "INSERT INTO verifications (started_at, finished_at, breaks) VALUES "
        "(now() - interval '2 hours', now() - interval '{}', {})"
    )
    in_sql(app, insert.format("90 minutes", 3))
    told = metrics(app)
    assert told["gateway_verification_breaks"] == 3
    assert 5400 <= told["gateway_verification_age_seconds"] < 5460
    in_sql(app, insert.format("1 minute", 0))
    told = metrics(app)
    assert told["gateway_verification_breaks"] == 0
    assert 60 <= told["gateway_verification_age_seconds"] < 120


def test_each_is_documented(app: Flask, api: Api, receiver: Receiver, root: Path) -> None:
    in_sql(app, "INSERT INTO verifications (started_at, finished_at, breaks) VALUES (now(), now(), 0)")
    api.paid()
    receiver.answers = [500]
    api.endpoint(receiver.url, events=["payment.created"])
    api.upi(api.order()["id"])
    drain_all()
    names = set(metrics(app)) | {"gateway_http_request_seconds"}
    assert len(names) == 18
    chapter = (root / "docs/operations.md").read_text().split("## What to watch")[1].split("###")[0]
    table = "".join(line for line in chapter.splitlines() if line.startswith("| `"))
    assert names == set(re.findall(r"`(gateway_\w+)(?:{[\w, ]+})?`", table))


def test_they_are_of_the_whole_gateway(app: Flask, api: Api, other: Api) -> None:
    unanswered_payment(api)
    unanswered_payment(other)
    assert metrics(app)["gateway_unknown_outcomes"]["payment"] == 2


def test_the_version_is_that_of_the_project(root: Path) -> None:
    assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_without_redis_that_is_told(environ: dict[str, str]) -> None:
    alone = create_app(settings_of(environ | {"REDIS_URL": "redis://127.0.0.1:1/0"}))
    assert metrics(alone)["gateway_redis_up"] == 0
    with alone.app_context():
        db.engine.dispose()


# --- requests ------------------------------------------------------------------------------------


def test_requests_are_counted_by_their_route_and_how_they_end(app: Flask, api: Api) -> None:
    before = counted(app)
    order = api.order()
    for path in (f"/orders/{order['id']}", "/orders/order_0000000000000000"):
        api.get(path)
    refused(api.post("/orders", {"amount": 1}), 400, "BAD_REQUEST_ERROR", "amount")
    assert counted(app) - before == {
        ("POST", "/api/v1/orders", "2xx"): 1,
        ("POST", "/api/v1/orders", "4xx"): 1,
        ("GET", "/api/v1/orders/{order_id}", "2xx"): 1,
        ("GET", "/api/v1/orders/{order_id}", "4xx"): 1,
        ("GET", "/metrics", "2xx"): 1,
    }


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nothing/here"), ("DELETE", "/api/v1/orders"), ("ODD", "/live")]
)
def test_whatever_is_at_no_address_of_ours_is_one_label(app: Flask, method: str, path: str) -> None:
    before = counted(app)
    assert app.test_client().open(path, method=method).status_code in (404, 405)
    assert counted(app) - before == {("any", "unmatched", "4xx"): 1, ("GET", "/metrics", "2xx"): 1}


def test_their_time_is_measured(app: Flask, api: Api) -> None:
    def told() -> dict[str, float]:
        wanted = {"route": "/api/v1/balance", "status": "2xx"}.items()  # others may have been refused
        mine = [each for each in samples(app) if each.labels.items() >= wanted]
        return {
            each.name.removeprefix("gateway_http_request_seconds_") + each.labels.get("le", ""): each.value
            for each in mine
        }

    api.get("/balance")
    before = told()
    api.headers["X-Simulate"] = "latency=30"
    api.get("/balance")
    after = told()
    assert after["count"] - before["count"] == after["bucket10.0"] - before["bucket10.0"] == 1
    assert after["bucket0.025"] == before["bucket0.025"]
    assert after["sum"] - before["sum"] >= 0.03


@pytest.mark.slow
def test_every_web_process_tells_of_all_and_of_those_that_have_died(tmp_path: Path) -> None:
    with gateway(tmp_path / "data", WEB_WORKERS="2") as running:

        def told() -> str:
            """Over a connection of its own: any process may answer."""
            name = 'gateway_http_request_seconds_count{method="POST",route="/api/v1/orders",status="2xx"}'
            with urlopen(f"http://127.0.0.1:{running.port}/metrics") as answer:
                return next(line.split()[-1] for line in answer.read().decode().splitlines() if name in line)

        for _ in range(20):
            running.post("/orders", {"amount": 100})
        assert {told() for _ in range(10)} == {"20.0"}
        web = [each for each in running.processes() if "gunicorn" in " ".join(each.cmdline())]
        pids = {each.pid for each in web}
        for process in [each for each in web if each.ppid() in pids]:
            process.kill()
        wait_until(lambda: running.health()["status"] == "healthy")
        running.post("/orders", {"amount": 100})
        assert {told() for _ in range(10)} == {"21.0"}


# --- who may read them ---------------------------------------------------------------------------


@pytest.fixture
def with_token(app: Flask) -> Iterator[Flask]:
    """The app, with a token set."""
    before = app.config["GATEWAY"]
    app.config["GATEWAY"] = replace(before, metrics_token=TOKEN)
    yield app
    app.config["GATEWAY"] = before


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_token_they_are_read(with_token: Flask, scheme: str) -> None:
    answer = with_token.test_client().get("/metrics", headers={"Authorization": f"{scheme} {TOKEN}"})
    assert answer.status_code == 200
    assert "gateway_due_rows" in answer.text


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}0",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer é",
    ],
)
def test_without_it_they_are_not(with_token: Flask, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = with_token.test_client().get("/metrics", headers=headers)
    refused(answer, 401, "AUTHENTICATION_ERROR")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "gateway_" not in answer.text


def test_nor_with_the_credentials_of_a_merchant(with_token: Flask, api: Api) -> None:
    refused(with_token.test_client().get("/metrics", headers=api.headers), 401, "AUTHENTICATION_ERROR")


def test_in_production_without_a_token_there_are_none(app: Flask) -> None:
    before = app.config["GATEWAY"]
    try:
        for none in ({}, {"METRICS_TOKEN": ""}):
            app.config["GATEWAY"] = settings_of(PRODUCTION | none)
            for authorization in ("Bearer None", "Bearer "):
                answer = app.test_client().get("/metrics", headers={"Authorization": authorization})
                refused(answer, 404, "NOT_FOUND_ERROR")
        app.config["GATEWAY"] = settings_of(PRODUCTION | {"METRICS_TOKEN": TOKEN})
        answer = app.test_client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200
    finally:
        app.config["GATEWAY"] = before


def test_without_the_database_the_rest_is_told(environ: dict[str, str]) -> None:
    with (
        another_database(environ, "measured") as its_environ,
        administration(environ["DATABASE_URL"]) as administer,
    ):
        measured = create_app(settings_of(its_environ))
        assert metrics(measured)["gateway_workers_alive"] == 0
        administer("ALTER DATABASE measured ALLOW_CONNECTIONS false")
        administer("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'measured'")
        told = metrics(measured)
        assert told.keys() == {"gateway_build_info", "gateway_redis_up", "gateway_database_up"}
        assert (told["gateway_database_up"], told["gateway_redis_up"]) == (0, 1)
        assert counted(measured)["GET", "/metrics", "2xx"] > 0
        with measured.app_context():
            db.engine.dispose()
