"""How fast what is due is done: payments a second that are settled, and told.

The rows are written in one transaction, at whose commit they are due; then the workers are woken, as the API
would. It ends when nothing is due any more.
"""

from __future__ import annotations

import time
from contextlib import closing

import psycopg2
from flask import Flask

from bench import rows
from jobs.wake import wake

POLL_S = 0.02  # of some seconds: half a percent
DONE_S = 300
# What pgbench writes is due tomorrow, and no work of the gateway's (see bench/pgbench.py).
DUE = """
    SELECT EXISTS (SELECT 1 FROM (
        SELECT 1 FROM payments WHERE due_at < now() + interval '1 hour' ORDER BY due_at LIMIT 1) AS payment)
    OR EXISTS (SELECT 1 FROM (
        SELECT 1 FROM webhook_deliveries WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1) AS delivery)"""


def settle_rate(app: Flask, count: int, tag: str) -> float:
    """Payments a second: settled, and if an endpoint is on, each delivered to it."""
    rows.pending(url_of(app), count, tag)
    return _rate(app, count, "payments")


def delivery_rate(app: Flask, count: int, tag: str, endpoint_id: str) -> float:
    """Webhooks a second, of payments that are settled already."""
    rows.undelivered(url_of(app), count, tag, endpoint_id=endpoint_id)
    return _rate(app, count, "webhooks")


def wait_until_done(app: Flask) -> None:
    """Wait until nothing is due.

    Raises:
        RuntimeError: that takes more than DONE_S.
    """
    deadline = time.monotonic() + DONE_S
    with closing(psycopg2.connect(url_of(app))) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while True:
            cursor.execute(DUE)
            if cursor.fetchone() == (False,):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"something is still due after {DONE_S} s")
            time.sleep(POLL_S)


def url_of(app: Flask) -> str:
    """Where the app's database is."""
    return str(app.config["GATEWAY"].database_url)


def _rate(app: Flask, count: int, queue: str) -> float:
    started = time.monotonic()
    with app.app_context():
        wake(queue)
    wait_until_done(app)
    return count / (time.monotonic() - started)
