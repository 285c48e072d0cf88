"""How many statements a request takes: each is a round trip to the database, which others wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from models import direct
from models.base import db
from models.direct import PREPARED_MAX
from tests.conftest import Api, drain_all, found, made


@pytest.fixture
def count(api: Api, statements: list[str]) -> Callable[[Callable[[], Any]], int]:
    def count(act: Callable[[], Any]) -> int:
        found(api.get("/orders"))  # who is signed in is known, for a moment
        statements.clear()
        act()
        return len(statements)

    return count


def test_to_create_an_order_takes_one(api: Api, count: Callable[..., int]) -> None:
    assert count(api.order) == 1


def test_under_an_idempotency_key_it_takes_four(api: Api, count: Callable[..., int]) -> None:
    """Take the lock, look for an answer, do it, keep the answer."""
    assert count(lambda: made(api.post("/orders", {"amount": 10000}, key="k1"))) == 4


def test_to_create_a_payment_takes_four_at_most(api: Api, count: Callable[..., int]) -> None:
    order_id = api.order()["id"]
    assert count(lambda: api.upi(order_id, "failure@upi")) == 3
    drain_all()
    assert count(lambda: api.card(order_id)) == 4  # the order had one before


def test_to_create_a_payment_that_is_told_takes_no_more(
    api: Api, count: Callable[..., int], statements: list[str]
) -> None:
    made(api.post("/webhook_endpoints", {"url": "http://127.0.0.1:1/", "events": ["*"]}))
    order_id = api.order()["id"]
    assert count(lambda: api.upi(order_id)) == 3
    assert "webhook_deliveries" not in statements[0]


def test_to_get_a_payment_takes_one(api: Api, count: Callable[..., int]) -> None:
    payment_id = api.paid()["id"]
    assert count(lambda: found(api.get(f"/payments/{payment_id}"))) == 1


def test_a_page_of_payments_takes_one(api: Api, count: Callable[..., int]) -> None:
    api.paid()
    assert count(lambda: found(api.get("/payments"))) == 1


def test_who_is_signed_in_is_looked_up_once_for_many_requests(api: Api, statements: list[str]) -> None:
    for _ in range(5):
        found(api.get("/orders"))
    assert sum("FROM api_keys" in statement for statement in statements) == 1


def test_a_batch_of_payments_is_settled_in_as_many_statements_as_one(api: Api, statements: list[str]) -> None:
    counts = []
    for payments in (1, 20):
        for _ in range(payments):
            api.upi(api.order()["id"])
        statements.clear()
        drain_all()
        counts.append(len(statements))
    assert counts[0] == counts[1]


def test_a_connection_prepares_so_many_statements_and_no_more(app: Flask, context: None) -> None:
    db.session.connection()
    for number in range(PREPARED_MAX + 5):
        assert direct.rows(f"SELECT {number}, %s::text", ("x",)) == [(number, "x")]
    kept = direct.rows("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE %s", ("direct_%",))
    assert kept == [(PREPARED_MAX,)]
    db.session.remove()
    db.engine.dispose()  # whoever comes next has connections that can prepare


@pytest.mark.parametrize("begun", [True, False], ids=["in a transaction", "outside of one"])
def test_a_connection_that_is_lost_is_an_error_and_then_forgotten(
    app: Flask, context: None, begun: bool
) -> None:
    if begun:
        db.session.connection()
    with pytest.raises(OperationalError):
        direct.rows("SELECT pg_terminate_backend(pg_backend_pid()), %s::text", ("x",))
    db.session.rollback()
    assert direct.rows("SELECT %s::text", ("alive",)) == [("alive",)]


def test_equal_work_is_an_equal_statement_whatever_comes_first(api: Api, statements: list[str]) -> None:
    sent = []
    for vpas in (("success@upi", "failure@upi"), ("failure@upi", "success@upi")):
        for vpa in vpas:
            api.upi(api.order()["id"], vpa)
        statements.clear()
        drain_all()
        sent.append([each.partition("(")[0] for each in statements if each.startswith("EXECUTE")])
    assert sent[0] == sent[1]
    assert sent[0]
