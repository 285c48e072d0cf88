"""What the dashboard asks for is found by indexes, however much there is of the merchant's and of others."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import text

from app import create_app
from bench.dashboard import BIG_TABLES, SEQ_SCAN, Ask, Client, fill, plans, requests_of
from commands.seed import analyze
from models.base import Model, db
from models.merchants import TEST_MERCHANT_ID
from tests.conftest import administration, another_database, settings_of

PAYMENTS = 300  # made by the models' verbs, which takes its time; the others are copies
COPIES = 25
OWN = 5  # so many copies are our merchant's too; each of the others has one

POINTED = {"q", "order_id", "payment_id", "refund_id", "event_id", "subject_id", "receipt"}
REMOVED = re.compile(r"Rows Removed by Filter: (\d+)")
REMOVED_MAX = 400  # rows that a query may look at in vain. Our merchant has some thousand of each


@pytest.fixture(scope="module")
def busy(environ: dict[str, str]) -> Iterator[Flask]:
    """A gateway of some merchants, each of whom has a past; ours has the longest."""
    with another_database(environ, "busy") as its_environ:
        with administration(its_environ["DATABASE_URL"]) as administer:
            # A disk of these days. By the default, four times as much, small tables are not worth an index.
            administer("ALTER DATABASE busy SET random_page_cost = 1.1")
        app = create_app(settings_of(its_environ))
        with app.app_context():
            fill(PAYMENTS)
            for table in ("merchants", "webhook_endpoints", *BIG_TABLES):
                copy(table, COPIES * (5 if table == "refunds" else 1))  # few payments are refunded
            analyze()
        yield app
        with app.app_context():
            db.engine.dispose()


def copy(table: str, copies: int) -> None:
    """Copy all rows, under ids of their own, in the order of time, as they would have been written."""

    def value(name: str) -> str:
        if name == "merchant_id":
            return f"CASE WHEN n <= {OWN} THEN merchant_id ELSE {another(name)} END"
        if name == "receipt":
            return "receipt || n"
        return another(name) if name == "id" or name.endswith("_id") else name

    def another(name: str) -> str:
        return f"split_part({name}, '_', 1) || '_' || substr(md5({name} || n), 1, 16)"

    columns = {column.name: value(column.name) for column in Model.metadata.tables[table].columns}
    for name in ("seq", "claim_id", "retry_id"):
        columns.pop(name, None)
    if table == "merchants":
        columns["email"] = "n || email"
    time = "created_at" if "created_at" in columns else "attempted_at"
    db.session.execute(text("SET LOCAL session_replication_role = replica"))  # no triggers: copies are right
    db.session.execute(
        text(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} "
            f"FROM {table}, generate_series(1, :copies) AS n ORDER BY {time}"
        ),
        {"copies": copies},
    )
    db.session.commit()


@pytest.fixture(scope="module")
def asks(busy: Flask) -> list[Ask]:
    with busy.app_context():
        return requests_of(TEST_MERCHANT_ID)


def is_pointed(ask: Ask) -> bool:
    """Whether it names what it wants, and so must not look at anything else."""
    return bool(POINTED & ask.query.keys()) or re.search(r"/\w+_\w{16}", ask.path) is not None


def test_no_table_is_read_from_end_to_end(busy: Flask, asks: list[Ask]) -> None:
    client = Client(busy)
    read_through = [
        f"{ask}: {line.strip()}"
        for ask in asks
        if not ask.as_operator  # who sees everybody's
        for _, plan in plans(busy, lambda: client.get(ask))  # noqa: B023
        for line in plan
        if SEQ_SCAN.search(line)
    ]
    assert not read_through


def test_what_is_named_is_found_without_looking_at_the_rest(busy: Flask, asks: list[Ask]) -> None:
    client = Client(busy)
    pointed = [ask for ask in asks if is_pointed(ask)]
    assert len(pointed) > 20
    in_vain = [
        f"{ask}: {line.strip()} by {statement}"
        for ask in pointed
        for statement, plan in plans(busy, lambda: client.get(ask), "ANALYZE")  # noqa: B023
        for line in plan
        if (removed := REMOVED.search(line)) and int(removed[1]) > REMOVED_MAX
    ]
    assert not in_vain


def test_a_missing_index_is_noticed(busy: Flask) -> None:
    """Else the tests above would prove nothing."""

    def ask() -> None:
        with busy.app_context():
            db.session.execute(text("SELECT count(*) FROM payments WHERE work_error = 'none'"))

    ((_, plan),) = plans(busy, ask, "ANALYZE")
    assert any(SEQ_SCAN.search(line) for line in plan)
    assert any((removed := REMOVED.search(line)) and int(removed[1]) > REMOVED_MAX for line in plan)
