"""Starting on an empty database: from several processes at once, and with a key that does not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from threading import Event, Thread

import pytest
from flask import Flask
from sqlalchemy import func, select

from app import create_app
from config import ROOT, ConfigError
from models.base import db
from models.context import core_app
from models.merchants import Merchant
from models.schema import prepare_database, wait_for_schema
from models.webhook_endpoints import WebhookEndpoint
from tests.conftest import another_database, settings_of


@pytest.fixture
def empty_database(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """The settings of a gateway whose database has nothing in it yet."""
    with another_database(environ, "empty") as settings:
        yield settings


def test_several_processes_start_at_once_and_one_seeds(empty_database: dict[str, str]) -> None:
    command = [sys.executable, "-c", "from app import create_app; create_app()"]
    environ = empty_database | {"PATH": os.environ["PATH"]}
    processes = [subprocess.Popen(command, cwd=ROOT, env=environ) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    with core_app(settings_of(empty_database)).app_context():
        assert db.session.scalar(select(func.count()).select_from(Merchant)) == 1
        assert db.session.scalar(select(func.count()).select_from(WebhookEndpoint)) == 1
        db.session.remove()
        db.engine.dispose()


def test_the_web_server_says_what_is_wrong_in_a_line(environ: dict[str, str]) -> None:
    unreachable = "postgresql://gateway:hidden-password@127.0.0.1:1/payment_gateway"
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py"],
        cwd=ROOT,
        env=environ | {"PATH": os.environ["PATH"], "DATABASE_URL": unreachable, "SERVICE_WAIT_S": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "error: DATABASE_URL: The database cannot be reached: " in done.stderr
    assert "Connection refused" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hidden-password" not in done.stdout + done.stderr


def test_a_worker_waits_for_the_tables(empty_database: dict[str, str]) -> None:
    app = core_app(settings_of(empty_database))
    stop = Event()
    ready = []

    def wait() -> None:
        with app.app_context():
            wait_for_schema(stop)
            ready.append(not stop.is_set())
            db.engine.dispose()

    waiting = Thread(target=wait)
    waiting.start()
    assert not ready
    with app.app_context():
        prepare_database()
    waiting.join(10)
    assert ready == [True]


def test_another_secret_key_than_the_databases_is_named(app: Flask, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"^SECRET_KEY: Is not the one"):
        create_app(settings_of(environ | {"SECRET_KEY": "another-secret-key-of-good-length-000"}))


def test_the_callers_address_is_believed_from_our_own_proxies_only(
    app: Flask, environ: dict[str, str]
) -> None:
    limits = {"PUBLIC_RATE_LIMIT_PER_ADDRESS": "1 per hour"}

    def statuses(proxies: str) -> list[int]:
        client = create_app(settings_of(environ | limits | {"TRUSTED_PROXIES": proxies})).test_client()
        return [
            client.post(
                "/api/v1/payments/public", json={}, headers={"X-Forwarded-For": f"6.6.6.6, 10.0.0.{n}"}
            ).status_code
            for n in (1, 2)
        ]

    assert statuses("0") == [400, 429]
    assert statuses("1") == [400, 400]
