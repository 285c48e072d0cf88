"""What a flush writes at once is what the ORM would have written, or nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from models.base import RowSchema, db, new_id
from models.events import Event
from models.orders import Order, OrderSchema
from models.payments import Payment, PaymentSchema
from models.webhooks import WebhookDelivery
from tests.conftest import Api, drain_all, made

NOBODY = "http://127.0.0.1:1/"


def events() -> int:
    return db.session.scalar(select(func.count()).select_from(Event)) or 0


def described(row: Any, schema: RowSchema) -> Any:
    """As marshmallow writes what the schema describes."""
    return super(RowSchema, schema).dump(row)


def test_a_row_is_shown_as_its_schema_describes_it(api: Api, context: None) -> None:
    api.paid(capture="manual")
    api.upi(api.order(receipt="r", notes={"a": "b"}, expires_in=60)["id"], "pending@upi")
    api.card(api.order()["id"], "4000000000003220")
    api.upi(api.order()["id"], "failure@upi")
    drain_all()
    api.upi(api.order()["id"])
    payments, orders = db.session.scalars(select(Payment)).all(), db.session.scalars(select(Order)).all()
    assert {payment.status for payment in payments} == {"success", "requires_action", "failed", "pending"}
    for payment in payments:
        assert payment.as_json() == described(payment, PaymentSchema())
    for order in orders:
        assert order.as_json() == described(order, OrderSchema())


def test_what_json_would_not_carry_is_refused_by_name(api: Api, context: None) -> None:
    payment = Payment.lock(None, api.paid()["id"])
    payment.fee = Decimal(1)  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"payments\.fee: JSON would not carry a Decimal"):
        db.session.flush()
    db.session.rollback()


def test_a_row_that_is_gone_is_noticed(api: Api, context: None) -> None:
    made(api.post("/webhook_endpoints", {"url": NOBODY, "events": ["order.paid"]}))
    api.paid()
    delivery = db.session.scalars(select(WebhookDelivery)).one()
    db.session.execute(text("DELETE FROM webhook_attempts"))
    db.session.execute(text("DELETE FROM webhook_deliveries"))
    delivery.tries += 1
    with pytest.raises(StaleDataError):
        db.session.flush()
    db.session.rollback()


def test_what_was_rolled_back_is_not_written_later(app: Flask, api: Api, context: None) -> None:
    payment = Payment.lock(None, api.paid()["id"])
    before = events()
    payment._tell("payment.failed")
    db.session.rollback()
    db.session.execute(text("SELECT 1"))
    db.session.commit()
    assert events() == before


def test_all_of_a_flush_is_refused_if_one_row_is(api: Api, context: None) -> None:
    payment = Payment.lock(None, api.paid()["id"])
    before = events()
    payment._tell("payment.captured")
    payment.amount_refunded = payment.amount + 1
    with pytest.raises(IntegrityError):
        db.session.commit()
    db.session.rollback()
    assert events() == before


def test_a_written_row_belongs_to_the_session_and_is_not_loaded_again(api: Api, context: None) -> None:
    order = Order.lock(api.order()["id"])
    payment = Payment.begin(order, method="upi", flow="collect", vpa="a@upi")
    db.session.commit()
    payment.approve(order, "reference")
    db.session.commit()
    db.session.expire_all()
    assert (payment.status, payment.order_id, order.status) == ("success", order.id, "paid")


def test_ids_of_one_time_lie_together_and_none_is_drawn_twice() -> None:
    ids = [new_id("pay") for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert len({each[:9] for each in ids}) <= 3  # seconds that it took
    assert {len(each) for each in ids} == {20}
