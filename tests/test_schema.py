"""The models say what schema.sql says, and schema.sql refuses what must never be."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from config import ROOT
from models.base import Model, db
from models.context import load_models
from tests.conftest import Api

load_models()

DIALECT = postgresql.dialect()


def test_models_and_schema_have_the_same_tables(context: None) -> None:
    assert {*Model.metadata.tables, "alembic_version"} == set(inspect(db.engine).get_table_names())


def test_a_worker_process_knows_every_table(environ: dict[str, str]) -> None:
    """Only a fresh process shows it: here, the other tests have imported every model."""
    program = (
        "import jobs.worker, config; from models.base import Model; from models.context import core_app; "
        "core_app(config.load()); print(*sorted(Model.metadata.tables))"
    )
    known = subprocess.run(
        [sys.executable, "-c", program], env=environ, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert known.stdout.split() == sorted(Model.metadata.tables)


@pytest.mark.parametrize("table", sorted(Model.metadata.tables))
def test_a_model_has_exactly_the_columns_of_its_table(context: None, table: str) -> None:
    real = {
        column["name"]: (
            column["type"].compile(DIALECT),
            column["nullable"],
            column["default"] is not None or "identity" in column,
        )
        for column in inspect(db.engine).get_columns(table)
    }
    model = {
        column.name: (
            column.type.compile(DIALECT),
            bool(column.nullable),
            column.server_default is not None or column.identity is not None,
        )
        for column in Model.metadata.tables[table].columns
    }
    assert model == real


@pytest.mark.parametrize("table", sorted(Model.metadata.tables))
def test_a_model_has_the_keys_of_its_table(context: None, table: str) -> None:
    def keys(constraints: list) -> set:
        return {(tuple(c["constrained_columns"]), c["referred_table"]) for c in constraints}

    model = Model.metadata.tables[table]
    inspector = inspect(db.engine)
    assert [column.name for column in model.primary_key] == inspector.get_pk_constraint(table)[
        "constrained_columns"
    ]
    foreign = {
        (tuple(column.name for column in key.columns), key.referred_table.name)
        for key in model.foreign_key_constraints
    }
    assert foreign == keys(inspector.get_foreign_keys(table))


BROKEN_PAYMENTS = {
    "captured without being approved": "captured = true, amount_captured = 1, due_at = due_at",
    "captured more than the amount": "status = 'success', captured = true, amount_captured = 10001",
    "refunded more than captured": "amount_refunded = 1, refund_status = 'partial'",
    "failed without a reason": "status = 'failed', operation = NULL, due_at = NULL",
    "pending with nothing due": "operation = NULL, due_at = NULL",
    "due with nothing to do": "operation = NULL",
    "another amount than the order's": "amount = 20000",
    "another currency than the order's": "currency = 'EUR'",
    "a card without its digits": "method = 'card'",
    "an unknown status": "status = 'paid'",
}


@pytest.mark.parametrize("change", BROKEN_PAYMENTS.values(), ids=BROKEN_PAYMENTS.keys())
def test_the_database_refuses_a_payment_that_is(api: Api, context: None, change: str) -> None:
    payment = api.upi(api.order()["id"])
    with pytest.raises(IntegrityError):
        db.session.execute(text(f"UPDATE payments SET {change} WHERE id = :id"), payment)


def test_the_database_refuses_a_second_live_payment_of_an_order(api: Api, context: None) -> None:
    payment = api.upi(api.order()["id"])
    columns = "merchant_id, order_id, amount, currency, capture, method, flow, vpa, operation, due_at"
    copy = f"INSERT INTO payments (id, {columns}) SELECT 'pay_0000000000000000', {columns} FROM payments"
    with pytest.raises(IntegrityError, match="payments_one_live_per_order"):
        db.session.execute(text(f"{copy} WHERE id = :id"), payment)
