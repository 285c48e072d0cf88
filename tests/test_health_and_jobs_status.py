"""GET /health, and the two test endpoints: the seeded merchant, and how much work waits and runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from app import create_app
from models.base import db
from models.merchants import TEST_MERCHANT_ID, TEST_WEBHOOK_URL
from models.workers import ALIVE_S
from routes.health import stopping
from tests.conftest import Api, administration, another_database, drain_all, found, made, refused, settings_of
from tests.receiver import Receiver

NOTHING = {"pending": 0, "processing": 0, "completed": 0, "failed": 0}


def in_sql(app: Flask, statement: str, **values: Any) -> None:
    with app.app_context():
        db.session.execute(text(statement), values)
        db.session.commit()


def add_worker(app: Flask, worker_id: str, silent_s: int) -> None:
    """A worker process that was last heard of so many seconds ago."""
    in_sql(
        app,
        "INSERT INTO workers (id, hostname, pid, queues, beat_at) "
        "VALUES (:id, 'host', 1, '{payments}', now() - make_interval(secs => :silent_s))",
        id=worker_id,
        silent_s=silent_s,
    )


def health(app: Flask) -> dict[str, Any]:
    return found(app.test_client().get("/health"))


def jobs(app: Flask) -> dict[str, Any]:
    return found(app.test_client().get("/api/v1/test/jobs/status"))


# --- health (without its database: see test_errors.py) -------------------------------------------


def test_with_workers_and_redis_it_is_healthy(app: Flask) -> None:
    add_worker(app, "a", silent_s=0)
    add_worker(app, "b", silent_s=ALIVE_S - 5)
    answer = health(app)
    asked_at = datetime.fromisoformat(answer.pop("timestamp"))
    assert answer == {"status": "healthy", "database": "connected", "redis": "connected", "workers": 2}
    assert abs((datetime.now(UTC) - asked_at).total_seconds()) < 60


def test_a_worker_that_is_silent_does_not_count(app: Flask) -> None:
    add_worker(app, "alive", silent_s=0)
    add_worker(app, "silent", silent_s=ALIVE_S + 5)
    assert (health(app)["status"], health(app)["workers"]) == ("healthy", 1)
    in_sql(app, "DELETE FROM workers WHERE id = 'alive'")
    assert (health(app)["status"], health(app)["workers"]) == ("degraded", 0)


def test_without_workers_it_is_degraded(app: Flask) -> None:
    answer = health(app)
    answer.pop("timestamp")
    assert answer == {"status": "degraded", "database": "connected", "redis": "connected", "workers": 0}


def test_without_redis_it_is_degraded_and_still_takes_payments(app: Flask, environ: dict[str, str]) -> None:
    add_worker(app, "a", silent_s=0)
    alone = create_app(settings_of(environ | {"REDIS_URL": "redis://127.0.0.1:1/0"}))
    answer = health(alone)
    answer.pop("timestamp")
    assert answer == {"status": "degraded", "database": "connected", "redis": "disconnected", "workers": 1}
    api = Api(alone.test_client())
    assert api.upi(api.order()["id"])["status"] == "pending"
    with alone.app_context():
        db.engine.dispose()


# --- for who sends requests here -----------------------------------------------------------------


def test_a_process_that_answers_is_alive_and_ready(app: Flask) -> None:
    assert found(app.test_client().get("/live")) == {"status": "live"}
    assert found(app.test_client().get("/ready")) == {"status": "ready"}


def test_to_be_alive_asks_nothing_of_the_database(app: Flask, statements: list[str]) -> None:
    found(app.test_client().get("/live"))
    assert statements == []
    found(app.test_client().get("/ready"))
    assert len(statements) == 1


def test_without_the_database_it_is_alive_and_not_ready(environ: dict[str, str]) -> None:
    with (
        another_database(environ, "away") as its_environ,
        administration(environ["DATABASE_URL"]) as administer,
    ):
        away = create_app(settings_of(its_environ))
        found(away.test_client().get("/ready"))
        administer("ALTER DATABASE away ALLOW_CONNECTIONS false")
        administer("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'away'")
        refused(away.test_client().get("/ready"), 503, "SERVICE_UNAVAILABLE")
        found(away.test_client().get("/live"))
        with away.app_context():
            db.engine.dispose()


def test_told_to_end_it_is_not_ready_and_answers(app: Flask, api: Api) -> None:
    stopping.set()
    try:
        answer = app.test_client().get("/ready")
        assert (answer.status_code, answer.get_json()) == (503, {"status": "stopping"})
        found(app.test_client().get("/live"))
        api.order()
    finally:
        stopping.clear()


# --- the test merchant ---------------------------------------------------------------------------


@pytest.fixture
def fresh(environ: dict[str, str]) -> Iterator[Flask]:
    """An app on a database of its own, just seeded."""
    with another_database(environ, "fresh") as settings:
        fresh = create_app(settings_of(settings))
        yield fresh
        with fresh.app_context():
            db.engine.dispose()


def test_the_test_merchant_has_all_it_takes_to_try_the_gateway(fresh: Flask) -> None:
    merchant = found(fresh.test_client().get("/api/v1/test/merchant"))
    names = ("id", "email", "password", "api_key", "api_secret", "webhook_secret")
    assert set(names) <= set(merchant)
    assert (merchant["id"], merchant["email"]) == (TEST_MERCHANT_ID, "test@example.com")
    assert merchant["webhook_secret"].startswith("whsec_")
    api = Api(fresh.test_client(), merchant["api_key"], merchant["api_secret"])
    assert api.order()["merchant_id"] == merchant["id"]
    [endpoint] = found(api.get("/webhook_endpoints"))["data"]
    assert endpoint["id"] == merchant["webhook_endpoint_id"]
    assert (endpoint["url"], endpoint["enabled"]) == (TEST_WEBHOOK_URL, False)


def test_it_is_seeded_once(fresh: Flask) -> None:
    first = found(fresh.test_client().get("/api/v1/test/merchant"))
    again = create_app(fresh.config["GATEWAY"])
    assert found(again.test_client().get("/api/v1/test/merchant")) == first
    assert len(found(Api(again.test_client()).get("/webhook_endpoints"))["data"]) == 1
    with again.app_context():
        db.engine.dispose()


# --- the jobs' status ----------------------------------------------------------------------------


def test_an_idle_gateway_has_nothing_to_do(app: Flask) -> None:
    queues = {"payments": NOTHING, "refunds": NOTHING, "webhooks": NOTHING}
    assert jobs(app) == NOTHING | {"worker_status": "stopped", "queues": queues}


def test_it_says_whether_workers_run(app: Flask) -> None:
    add_worker(app, "silent", silent_s=ALIVE_S + 5)
    assert jobs(app)["worker_status"] == "stopped"
    add_worker(app, "alive", silent_s=0)
    assert jobs(app)["worker_status"] == "running"


def test_a_payment_moves_from_pending_over_processing_to_completed(app: Flask, api: Api) -> None:
    api.upi(api.order()["id"])
    assert jobs(app)["queues"]["payments"] == NOTHING | {"pending": 1}
    in_sql(app, "UPDATE payments SET claim_id = gen_random_uuid()")
    assert jobs(app)["queues"]["payments"] == NOTHING | {"processing": 1}
    in_sql(app, "UPDATE payments SET claim_id = NULL, work_error = 'RuntimeError'")
    assert jobs(app)["queues"]["payments"] == NOTHING | {"failed": 1}
    drain_all()
    assert jobs(app)["queues"]["payments"] == NOTHING | {"completed": 1}


def test_a_declined_payment_is_completed_work(app: Flask, api: Api) -> None:
    api.upi(api.order()["id"], "failure@upi")
    drain_all()
    assert jobs(app)["queues"]["payments"] == NOTHING | {"completed": 1}


def test_a_refund_moves_too(app: Flask, api: Api) -> None:
    made(api.post(f"/payments/{api.paid()['id']}/refunds"))
    assert jobs(app)["queues"]["refunds"] == NOTHING | {"pending": 1}
    drain_all()
    assert jobs(app)["queues"]["refunds"] == NOTHING | {"completed": 1}


def test_a_webhook_is_completed_or_failed(app: Flask, api: Api, receiver: Receiver) -> None:
    receiver.answers = [200, 410]
    made(api.post("/webhook_endpoints", {"url": receiver.url, "events": ["payment.created"]}))
    api.upi(api.order()["id"])
    assert jobs(app)["queues"]["webhooks"] == NOTHING | {"pending": 1}
    drain_all()
    assert jobs(app)["queues"]["webhooks"] == NOTHING | {"completed": 1}
    api.upi(api.order()["id"])
    drain_all()
    assert jobs(app)["queues"]["webhooks"] == NOTHING | {"completed": 1, "failed": 1}


def test_the_totals_are_the_sums_over_the_queues(app: Flask, api: Api, receiver: Receiver) -> None:
    made(api.post("/webhook_endpoints", {"url": receiver.url, "events": ["payment.created"]}))
    made(api.post(f"/payments/{api.paid()['id']}/refunds"))
    api.upi(api.order()["id"])
    status = jobs(app)
    assert status["queues"] == {
        "payments": NOTHING | {"pending": 1, "completed": 1},
        "refunds": NOTHING | {"pending": 1},
        "webhooks": NOTHING | {"pending": 1, "completed": 1},
    }
    assert {name: status[name] for name in NOTHING} == NOTHING | {"pending": 3, "completed": 2}


# --- where they are not wanted -------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/test/merchant", "/api/v1/test/jobs/status"])
def test_elsewhere_the_test_endpoints_are_not_there(app: Flask, environ: dict[str, str], path: str) -> None:
    found(app.test_client().get(path))
    elsewhere = create_app(settings_of(environ | {"TEST_ENDPOINTS": "false"}))
    answer = elsewhere.test_client().get(path)
    refused(answer, 404, "NOT_FOUND_ERROR")
    assert "secret" not in answer.text
    with elsewhere.app_context():
        db.engine.dispose()
