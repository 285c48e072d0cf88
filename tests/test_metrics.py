"""GET /metrics: each figure moves with what it measures; who may read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
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
from tests.receiver import Receiver
from tests.test_config import PRODUCTION
from tests.test_jobs_route import add_worker, unanswered_payment, unanswered_refund, unknown_for

TOKEN = "0123456789abcdef0123456789abcdef"
QUEUES = ("payments", "refunds", "webhooks")
KINDS = ("payment", "refund")


def metrics(app: Flask) -> dict[str, Any]:
    """The value of each metric; of one that has labels, the values by label."""
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200, answer.text
    values: dict[str, Any] = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.type == "gauge"
        assert family.documentation.endswith(".")
        for sample in family.samples:
            [label] = sample.labels.values() or [None]
            if label is None:
                values[sample.name] = sample.value
            else:
                values.setdefault(sample.name, {})[label] = sample.value
    return values


def moved(app: Flask, before: dict[str, Any]) -> dict[str, Any]:
    """What differs from before."""
    return {name: value for name, value in metrics(app).items() if before.get(name) != value}


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
    }


def test_it_is_in_the_format_that_prometheus_reads(app: Flask) -> None:
    answer = app.test_client().get("/metrics")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert '\ngateway_due_rows{queue="payments"} 0.0\n' in answer.text


def test_what_has_no_answer_is_counted_and_after_a_day_flagged(app: Flask, api: Api) -> None:
    before = metrics(app)
    payment, refund = unanswered_payment(api), unanswered_refund(api)
    unanswered_refund(api)
    assert moved(app, before) == {"gateway_unknown_outcomes": {"payment": 1, "refund": 2}}
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


def test_each_is_documented(app: Flask, root: Path) -> None:
    in_sql(app, "INSERT INTO verifications (started_at, finished_at, breaks) VALUES (now(), now(), 0)")
    names = set(metrics(app))
    assert len(names) == 8
    documented = re.findall(r"`(gateway_\w+)(?:{\w+})?`", (root / "docs/dashboard.md").read_text())
    assert names == set(documented)


def test_they_are_of_the_whole_gateway(app: Flask, api: Api, other: Api) -> None:
    unanswered_payment(api)
    unanswered_payment(other)
    assert metrics(app)["gateway_unknown_outcomes"]["payment"] == 2


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


def test_without_the_database_it_asks_to_try_again(environ: dict[str, str]) -> None:
    with (
        another_database(environ, "measured") as its_environ,
        administration(environ["DATABASE_URL"]) as administer,
    ):
        measured = create_app(settings_of(its_environ))
        assert metrics(measured)["gateway_workers_alive"] == 0
        administer("ALTER DATABASE measured ALLOW_CONNECTIONS false")
        administer("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'measured'")
        answer = measured.test_client().get("/metrics")
        refused(answer, 503, "SERVICE_UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) >= 1
        with measured.app_context():
            db.engine.dispose()
