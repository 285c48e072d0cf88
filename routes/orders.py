"""Orders: create, get, list, and what the checkout page may see."""

from __future__ import annotations

from flask import g
from marshmallow import ValidationError, fields, validate
from sqlalchemy import select

import logs
from models.money import AMOUNT_MIN_MINOR
from models.orders import METHODS, Order, OrderSchema
from models.payments import Payment, PaymentSchema
from models.search import orders_like
from routes.auth import authenticated
from routes.fields import SET, Amount, Blueprint, Body, Currency, HttpUrl, Text, each_once
from routes.pagination import SEARCH_MAX_LENGTH, PageQuery, filtered, page, page_of
from routes.writes import writes

EXPIRES_IN_MIN_S = 60
EXPIRES_IN_MAX_S = 90 * 24 * 3600
NOTES_MAX = 15
NOTE_MAX_LENGTH = 256

blp = Blueprint("orders", __name__, url_prefix="/api/v1", description="What is to be paid.")


def few_pairs(notes: dict[str, str]) -> None:
    if len(notes) > NOTES_MAX:
        raise ValidationError(f"Must be at most {NOTES_MAX} pairs.")


class NewOrder(Body):
    amount = Amount(least=AMOUNT_MIN_MINOR, required=True, metadata={"example": 10000})
    currency = Currency(load_default="INR")
    receipt = Text(allow_none=True, validate=validate.Length(max=255))
    notes = fields.Dict(
        keys=Text(validate=validate.Length(min=1, max=NOTE_MAX_LENGTH)),
        values=Text(validate=validate.Length(max=NOTE_MAX_LENGTH)),
        load_default=dict,
        validate=few_pairs,  # not Length, which OpenAPI would be told is the length of a text
        metadata={"maxProperties": NOTES_MAX},
    )
    capture = Text(load_default="automatic", validate=validate.OneOf(["automatic", "manual"]))
    expires_in = fields.Integer(
        strict=True,
        allow_none=True,
        validate=validate.Range(min=EXPIRES_IN_MIN_S, max=EXPIRES_IN_MAX_S),
        metadata={"description": "Seconds. Without it, the order never expires."},
    )
    methods = fields.List(
        Text(validate=validate.OneOf(METHODS)),
        load_default=lambda: list(METHODS),
        validate=[
            validate.Length(min=1, error="Must name at least one method."),
            each_once,
        ],
        metadata=SET,
    )
    callback_url = HttpUrl(allow_none=True)


class OrderQuery(PageQuery):
    q = Text(
        validate=validate.Length(min=1, max=SEARCH_MAX_LENGTH),
        metadata={
            "description": "The id of an order or payment; a receipt, or its first three or more characters."
        },
    )
    status = Text(
        validate=validate.OneOf(["created", "attempted", "paid", "expired"]),
        metadata={"description": "Only those in this state."},
    )
    receipt = Text(metadata={"description": "Only those with this very receipt."})


@blp.post("/orders")
@authenticated
@writes
@blp.arguments(NewOrder)
@blp.response(201, OrderSchema)
def create_order(body):
    """Create an order."""
    order = Order.create(g.merchant_id, **body)
    logs.add(order_id=order["id"])
    return Order.json_of(order)


@blp.get("/orders")
@authenticated
@blp.arguments(OrderQuery, location="query")
@blp.response(200, page_of(OrderSchema))
def list_orders(args):
    """List orders, newest first."""
    query = select(Order).where(Order.merchant_id == g.merchant_id)
    query = filtered(query, Order, args, "status", "receipt")
    if "q" in args:
        query = query.where(Order.id.in_(orders_like(g.merchant_id, args["q"])))
    return page(query, Order, args)


@blp.get("/orders/<id:order_id>")
@authenticated
@blp.response(200, OrderSchema)
def get_order(order_id):
    """Get an order."""
    return Order.of_merchant(g.merchant_id, order_id)


@blp.get("/orders/<id:order_id>/payments")
@authenticated
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(PaymentSchema))
def list_payments_of_order(args, order_id):
    """List the attempts to pay an order, newest first."""
    order = Order.of_merchant(g.merchant_id, order_id)
    return page(select(Payment).where(Payment.order_id == order.id), Payment, args)
