"""Fixtures: one real PostgreSQL and one real Valkey for the whole run, a clean slate for every test."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import Context
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg2
import psycopg2.extensions
import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, make_url, text
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import TestResponse

import config
import local
from app import create_app
from jobs.clock import WORKS
from jobs.wake import fast_redis
from jobs.work import Work
from models import vault
from models.api_keys import ApiKey
from models.base import db
from models.merchants import (
    TEST_API_KEY,
    TEST_API_SECRET,
    TEST_EMAIL,
    TEST_MERCHANT_ID,
    TEST_PASSWORD,
    Merchant,
)
from models.verification import Verification
from tests.processes import wait_until
from tests.receiver import Receiver, running_receiver, served

KEPT_TABLES = {"alembic_version", "merchants", "api_keys"}

# What a gateway needs, beside its servers, to start in production.
PRODUCTION = {
    "APP_ENV": "production",
    "SECRET_KEY": "a-secret-of-quite-sufficient-length-0123456789",
    "DASHBOARD_URL": "https://dashboard.example",
    "CHECKOUT_URL": "https://pay.example",
    "TEST_ENDPOINTS": "false",
}

OTHER_MERCHANT_ID = "mer_OtherMerchant001"
OTHER_EMAIL = "other@example.com"
OTHER_PASSWORD = "other-merchant-password"
# Checked in no time, unlike the test merchant's: for tests that give many passwords.
QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

# Started in the background of a script, we and each process that a test interrupts would ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


def settings_of(environ: dict[str, str]) -> config.Settings:
    """The settings that a process with this environment, and no `.env`, would have."""
    with mock.patch.dict(os.environ, environ, clear=True):
        return config.load(dotenv=False)


@dataclass
class Servers:
    database_url: str
    redis_url: str


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that an embedded PostgreSQL can use.

    Not one of pytest's: it closes its own to other users at every start, and as root PostgreSQL is one.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The embedded servers, started by the same code as `make run`."""
    with temporary_folder() as folder:
        gateway = local.Gateway(settings_of({"DATA_DIR": str(folder)}))
        try:
            servers = Servers(local.start_postgres(gateway), local.start_valkey(gateway))
            with administration(servers.database_url) as administer:
                # The tests' rows need not outlive the machine: on a busy disk a TRUNCATE waits for seconds.
                administer("ALTER SYSTEM SET fsync = off")
                administer("SELECT pg_reload_conf()")
            yield servers
        finally:
            local.stop(gateway)


@contextmanager
def administration(database_url: str) -> Iterator[Callable[[str], None]]:
    """Runs statements about whole databases, which take their time: outside transactions, with no timeout."""
    with closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        yield connection.cursor().execute


@contextmanager
def another_database(
    environ: dict[str, str], name: str, template: str = "template1"
) -> Iterator[dict[str, str]]:
    """The settings of a gateway whose database has nothing in it yet, or what the template has."""
    url = make_url(environ["DATABASE_URL"]).set(database=name).render_as_string(hide_password=False)
    with administration(environ["DATABASE_URL"]) as administer:
        administer(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield environ | {"DATABASE_URL": url}
        finally:
            administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def environ(servers: Servers) -> dict[str, str]:
    """Settings under which nothing waits and nothing is left to chance."""
    return {
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "SECRET_KEY": PRODUCTION["SECRET_KEY"],
        "PROCESSING_DELAY_MS": "0-0",
        "UPI_SUCCESS_RATE": "1",
        "CARD_SUCCESS_RATE": "1",
        "PUBLIC_RATE_LIMIT_PER_ADDRESS": "10000 per minute",
        "PUBLIC_RATE_LIMIT_PER_ORDER": "10000 per minute",
        "PUBLIC_RATE_LIMIT_PER_CARD": "10000 per minute",
    }


@pytest.fixture(scope="session")
def shared_app(environ: dict[str, str]) -> Flask:
    return create_app(settings_of(environ))


@pytest.fixture
def app(shared_app: Flask) -> Flask:
    """The app on empty tables, with nothing but the test merchant and its key."""
    with shared_app.app_context():
        tables = db.session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        names = ", ".join(sorted(set(tables) - KEPT_TABLES))
        db.session.execute(text("SET LOCAL session_replication_role = replica"))  # history may not be emptied
        db.session.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
        as_seeded = "replaced_by = NULL, expires_at = NULL, revoked_at = NULL, last_used_at = NULL"
        db.session.execute(text(f"UPDATE api_keys SET {as_seeded}"))
        db.session.execute(text("DELETE FROM api_keys WHERE id <> :id"), {"id": TEST_API_KEY})
        db.session.execute(text("DELETE FROM merchants WHERE id <> :id"), {"id": TEST_MERCHANT_ID})
        db.session.commit()
        fast_redis().flushall()
    for made_at_need in (
        "wake",
        "acquirer",
        "signed_in",
        "key_uses",
        "rate_limits",
    ):  # whatever the test before this one left there
        shared_app.extensions.pop(made_at_need, None)
    return shared_app


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    """An app context, for tests that speak to models and jobs directly."""
    with app.app_context():
        yield


class Api:
    """A merchant's client: signs in, speaks JSON, and remembers nothing."""

    def __init__(self, client: FlaskClient, key: str = TEST_API_KEY, secret: str = TEST_API_SECRET):
        self._client = client
        self.headers = {"X-Api-Key": key, "X-Api-Secret": secret}

    def get(self, path: str, **query: Any) -> TestResponse:
        return self._call("GET", path, query_string=query)

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> TestResponse:
        headers = {"Idempotency-Key": key} if key is not None else {}
        return self._call("POST", path, headers, json={} if body is None else body)

    def patch(self, path: str, body: Any) -> TestResponse:
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> TestResponse:
        return self._call("DELETE", path)

    def _call(
        self, method: str, path: str, headers: dict[str, str] | None = None, **kwargs: Any
    ) -> TestResponse:
        """In an empty context: else Flask would run the request in the test's own, with its session."""
        headers = self.headers | (headers or {})
        kwargs |= {"headers": headers, "buffered": True}  # what is streamed is read in that context, too
        return Context().run(self._client.open, "/api/v1" + path, method=method, **kwargs)

    # --- factories: the usual things, made through the API ---

    def order(self, amount: int = 10000, **facts: Any) -> dict[str, Any]:
        return made(self.post("/orders", {"amount": amount, **facts}))

    def upi(self, order_id: str, vpa: str = "success@upi") -> dict[str, Any]:
        return made(self.post("/payments", {"order_id": order_id, "method": "upi", "vpa": vpa}))

    def card(self, order_id: str, number: str = "4242424242424242", **facts: Any) -> dict[str, Any]:
        card = card_body(number, **facts)
        return made(self.post("/payments", {"order_id": order_id, "method": "card", "card": card}))

    def paid(self, amount: int = 10000, number: str | None = None, **order: Any) -> dict[str, Any]:
        """A payment that the acquirer has approved (and captured, unless the order says otherwise)."""
        order_id = self.order(amount, **order)["id"]
        payment = self.card(order_id, number) if number else self.upi(order_id)
        drain_all()
        return self.payment(payment["id"])

    def payment(self, payment_id: str) -> dict[str, Any]:
        return found(self.get(f"/payments/{payment_id}"))

    def endpoint(self, url: str, **facts: Any) -> dict[str, Any]:
        """A webhook endpoint, with its secret."""
        return made(self.post("/webhook_endpoints", {"url": url, **facts}))

    def only_delivery(self) -> dict[str, Any]:
        """The one delivery that the log has, with its attempts."""
        (row,) = found(self.get("/webhooks"))["data"]
        return found(self.get(f"/webhooks/{row['id']}"))


class Dashboard(Api):
    """A merchant's browser: signs in with the password, keeps the cookie, and sends the CSRF token along."""

    def __init__(self, app: Flask, email: str = TEST_EMAIL, password: str = TEST_PASSWORD):
        super().__init__(app.test_client())
        self.headers = {}
        self.sign_in(email, password)

    def sign_in(self, email: str = TEST_EMAIL, password: str = TEST_PASSWORD) -> dict[str, Any]:
        signed_in = made(self.post("/session", {"email": email, "password": password}))
        self.headers["X-CSRF-Token"] = signed_in["csrf_token"]
        return signed_in

    def with_token(self, token: str | None) -> Dashboard:
        """The same browser, whose page sends another CSRF token, or none."""
        same = copy(self)
        same.headers = {} if token is None else {"X-CSRF-Token": token}
        return same

    def in_background(self) -> Dashboard:
        """The same browser, whose page asks by itself."""
        same = copy(self)
        same.headers = self.headers | {"X-Background": "true"}
        return same

    @property
    def token(self) -> str:
        """What the cookie holds."""
        cookie = self._client.get_cookie("gateway_session")
        assert cookie is not None
        return cookie.value


def card_body(number: str = "4242424242424242", **facts: Any) -> dict[str, Any]:
    return {
        "number": number,
        "expiry_month": "12",
        "expiry_year": "2049",
        "cvv": "123",
        "holder_name": "Asha Rao",
    } | facts


def made(response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 201, response.text
    return response.get_json()


def found(response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return response.get_json()


def refused(response: TestResponse, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """The error of a refusal, in the one shape that all have."""
    assert response.status_code == status, response.text
    error = response.get_json()["error"]
    assert error["code"] == code, error
    assert error.get("field") == field, error
    assert error["description"]
    assert error["request_id"] == response.headers["X-Request-Id"]
    assert set(error) <= {"code", "description", "field", "reason", "request_id"}
    return error


def populate(api: Api, receiver: Receiver) -> dict[str, list[str]]:
    """Give a merchant something of every kind. Returns the ids, by what the routes call them."""
    endpoint = api.endpoint(receiver.url)
    receiver.answers = [500]
    held = api.paid(capture="manual", receipt="held-1")
    captured = api.paid(number="4242424242424242", receipt="captured-1")
    refund = made(api.post(f"/payments/{captured['id']}/refunds", {"amount": 1}))
    drain_all()
    key = made(api.post("/api_keys", {"name": "Shop"}))
    retry = api.post("/webhooks/retry", {"since": "2020-01-01T00:00:00Z"}).get_json()
    event = found(api.get("/events"))["data"][0]
    delivery = found(api.get("/webhooks", status="pending"))["data"][0]
    return {
        "order_id": [held["order_id"], captured["order_id"]],
        "payment_id": [held["id"], captured["id"]],
        "refund_id": [refund["id"]],
        "endpoint_id": [endpoint["id"]],
        "event_id": [event["id"]],
        "delivery_id": [delivery["id"]],
        "retry_id": [retry["id"]],
        "key_id": [key["id"]],
    }


def stored(app: Flask) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    with app.app_context():
        tables = db.session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        return {
            table: sorted(db.session.scalars(text(f"SELECT each::text FROM {table} each")))
            for table in sorted(tables)
        }


def in_sql(app: Flask, statement: str, **values: Any) -> Any:
    """What one statement gives, or how many rows it changed: for what no route does, as letting time pass."""
    with app.app_context():
        result = db.session.execute(text(statement), values)
        answer = result.scalars().all() if result.returns_rows else result.rowcount  # type: ignore[attr-defined]
        db.session.commit()
        return answer


def breaks(app: Flask) -> list[str]:
    """Whatever in the database must never be, in words."""
    with app.app_context():
        findings = Verification.run()
    assert findings is not None
    return [str(each) for finding in findings for each in finding.breaks]


@pytest.fixture
def statements(app: Flask) -> Iterator[list[str]]:
    """All that are sent, whoever sends them; but not BEGIN and COMMIT, nor PREPARE, which is sent once."""
    sent: list[str] = []

    class Cursor(psycopg2.extensions.cursor):
        def execute(self, query: Any, values: Any = None) -> None:
            words = query.decode() if isinstance(query, bytes) else query
            if not words.startswith("PREPARE "):
                sent.append(words)
            super().execute(query, values)

    with cursors(app, Cursor):
        yield sent


@contextmanager
def cursors(app: Flask, factory: type[psycopg2.extensions.cursor]) -> Iterator[None]:
    """Within it, every statement of the app goes through such a cursor, whoever sends it."""

    def watch(connection: Any, *_: Any) -> None:
        connection.cursor_factory = factory

    with app.app_context():
        engine = db.engine
    event.listen(engine, "checkout", watch)
    try:
        yield
    finally:
        event.remove(engine, "checkout", watch)
        engine.dispose()


@pytest.fixture
def proven(app: Flask) -> Iterator[None]:
    """Whatever the test did, and whatever went wrong meanwhile: the money is right at its end."""
    yield
    assert breaks(app) == []


_current: list[Flask] = []


def drain_all() -> None:
    """Do all work that is due now, as the workers would, in this process, to its end."""
    with _current[-1].app_context():
        while sum(drain(work) for work in WORKS):
            pass


def drain(work: Work[Any, Any]) -> int:
    """Do what is due of one kind, the slow acts too, which go on after a drain. Returns the rows."""
    claimed = work.drain()
    wait_until(lambda: not work._running)
    return claimed


@pytest.fixture
def api(app: Flask) -> Iterator[Api]:
    with api_of(app) as api:
        yield api


@contextmanager
def api_of(app: Flask) -> Iterator[Api]:
    """The test merchant's client; within it, it is this app whose work drain_all() does."""
    _current.append(app)
    try:
        yield Api(app.test_client())
    finally:
        _current.pop()


@pytest.fixture
def other(app: Flask) -> Api:
    """Another merchant of the same gateway."""
    with app.app_context():
        db.session.add(
            Merchant(
                id=OTHER_MERCHANT_ID,
                name="Other",
                email=OTHER_EMAIL,
                password_hash=QUICK_HASHER.hash(OTHER_PASSWORD),
            )
        )
        db.session.flush()
        db.session.add(
            ApiKey(
                id="key_other",
                merchant_id=OTHER_MERCHANT_ID,
                secret_encrypted=vault.seal("secret_other"),
            )
        )
        db.session.commit()
    return Api(app.test_client(), "key_other", "secret_other")


@pytest.fixture
def dashboard(app: Flask) -> Dashboard:
    """The test merchant, an operator, signed in."""
    return Dashboard(app)


@pytest.fixture
def other_dashboard(app: Flask, other: Api) -> Dashboard:
    """The other merchant, an ordinary one, signed in."""
    return Dashboard(app, OTHER_EMAIL, OTHER_PASSWORD)


@pytest.fixture
def make_due(app: Flask) -> Callable[[str], None]:
    """Let time pass for a table: everything that waits is due now."""

    def make_due(table: str) -> None:
        with app.app_context():
            db.session.execute(text(f"UPDATE {table} SET due_at = now() WHERE due_at > now()"))
            db.session.commit()

    return make_due


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


class Quiet(WSGIRequestHandler):
    def log(self, *_args: Any, **_kwargs: Any) -> None:
        pass


@pytest.fixture
def live(app: Flask) -> Iterator[str]:
    """The address of the app on a real server, which is also where deliveries find its inboxes."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    server.daemon_threads = False  # type: ignore[attr-defined]  # wait for them at the end: they use the tables
    address = f"http://127.0.0.1:{server.server_port}"
    before = app.config["GATEWAY"]
    app.config["GATEWAY"] = replace(before, port=server.server_port, inbox_url=address)
    with served(server):
        yield address
    app.config["GATEWAY"] = before


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Run `act(0) ... act(count - 1)` in so many threads, all let go at the same moment."""
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        barrier.wait()
        results[number] = act(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture
def root() -> Path:
    return config.ROOT
