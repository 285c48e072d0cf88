"""Refunds: all or part of a captured payment, sent back asynchronously."""

from __future__ import annotations

from flask import g
from marshmallow import validate
from sqlalchemy import select

import logs
from models.payments import Payment
from models.refunds import TRANSITIONS, Refund, RefundSchema
from models.search import refunds_like
from routes.audit import note
from routes.auth import authenticated
from routes.fields import Amount, AmountOrAll, Blueprint, Text
from routes.pagination import SEARCH_MAX_LENGTH, PageQuery, filtered, page, page_of
from routes.payments import processing_delay_ms
from routes.writes import writes

blp = Blueprint("refunds", __name__, url_prefix="/api/v1", description="Money on its way back.")


class NewRefund(AmountOrAll):
    amount = Amount(least=1, allow_none=True, metadata={"description": "What is left, if left out."})
    reason = Text(allow_none=True, validate=validate.Length(max=255))


class RefundQuery(PageQuery):
    q = Text(
        validate=validate.Length(min=1, max=SEARCH_MAX_LENGTH),
        metadata={"description": "The id of a refund, payment or order."},
    )
    status = Text(
        validate=validate.OneOf(list(TRANSITIONS)), metadata={"description": "Only those in this state."}
    )
    payment_id = Text(metadata={"description": "Only those of this payment."})


@blp.post("/payments/<id:payment_id>/refunds")
@authenticated
@writes
@blp.arguments(NewRefund)
@blp.response(201, RefundSchema)
def create_refund(body, payment_id):
    """Refund a captured payment, all or part of it. The refund is `pending` now and settles later."""
    payment = Payment.lock(g.merchant_id, payment_id)
    refund = Refund.begin(
        payment, amount=body.get("amount"), reason=body.get("reason"), delay_ms=processing_delay_ms()
    )
    note("refund.requested", refund.id, amount=refund.amount)
    logs.add(refund_id=refund.id)
    return refund


@blp.get("/payments/<id:payment_id>/refunds")
@authenticated
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(RefundSchema))
def list_refunds_of_payment(args, payment_id):
    """List the refunds of a payment, newest first."""
    payment = Payment.of_merchant(g.merchant_id, payment_id)
    return page(select(Refund).where(Refund.payment_id == payment.id), Refund, args)


@blp.get("/refunds")
@authenticated
@blp.arguments(RefundQuery, location="query")
@blp.response(200, page_of(RefundSchema))
def list_refunds(args):
    """List refunds, newest first."""
    query = select(Refund).where(Refund.merchant_id == g.merchant_id)
    query = filtered(query, Refund, args, "status", "payment_id")
    if "q" in args:
        query = query.where(Refund.id.in_(refunds_like(g.merchant_id, args["q"])))
    return page(query, Refund, args)


@blp.get("/refunds/<id:refund_id>")
@authenticated
@blp.response(200, RefundSchema)
def get_refund(refund_id):
    """Get a refund."""
    return Refund.of_merchant(g.merchant_id, refund_id)
