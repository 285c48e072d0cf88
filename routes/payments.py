"""Payments: begin, get, list, capture, void."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

from flask import g
from marshmallow import Schema, fields, validate
from sqlalchemy import Date, cast, func, select

from config import settings
from jobs.payments import PAYMENTS, app_acquirer
from models.base import db, now
from models.errors import bad_request
from models.instruments import check_card, check_vpa
from models.orders import METHODS, Order
from models.payments import FLOWS, TRANSITIONS, Payment, PaymentSchema
from routes.auth import authenticated
from routes.fields import Amount, AmountOrAll, Blueprint, Body, Currency, Text, WholeNumber
from routes.pagination import PageQuery, page, page_of
from routes.writes import commit_on_the_way, writes

blp = Blueprint("payments", __name__, url_prefix="/api/v1", description="Attempts to pay an order.")


class NumberOrText(Text):
    """`12` and `"12"` alike: card forms send either."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**20
        return super()._deserialize(str(value) if number else value, *args, **kwargs)


class CardBody(Body):
    number = NumberOrText(required=True, validate=validate.Length(max=40))
    expiry_month = NumberOrText(required=True, validate=validate.Length(max=4))
    expiry_year = NumberOrText(required=True, validate=validate.Length(max=6))
    cvv = NumberOrText(required=True, validate=validate.Length(max=8))
    holder_name = Text(load_default="", validate=validate.Length(max=255))


class NewPayment(Body):
    order_id = Text(required=True, validate=validate.Length(max=80))
    method = Text(required=True, validate=validate.OneOf(METHODS))
    flow = Text(
        allow_none=True,
        validate=validate.OneOf(FLOWS),
        metadata={
            "description": "With method upi. `collect`, the default, asks the app of `vpa`; `qr`, `intent` "
            "become `requires_action`, with an `upi_link` to show as a QR code or to open."
        },
    )
    vpa = Text(
        allow_none=True, metadata={"description": "With method upi, flow collect.", "example": "success@upi"}
    )
    card = fields.Nested(CardBody, allow_none=True, metadata={"description": "With method card."})


class Capture(AmountOrAll):
    amount = Amount(least=1, allow_none=True, metadata={"description": "All of it, if left out."})


class PaymentQuery(PageQuery):
    status = Text(validate=validate.OneOf(list(TRANSITIONS)))
    method = Text(validate=validate.OneOf(METHODS))
    order_id = Text()


class StatsQuery(Body):
    currency = Currency(load_default="INR")  # amounts of two currencies have no sum
    days = WholeNumber(
        validate=validate.Range(min=1, max=366),
        metadata={"description": "Adds a series, one entry a UTC day."},
    )


class DaySchema(Schema):
    date = fields.Date()
    transactions = fields.Integer()
    amount = fields.Integer()
    successRate = fields.Float()


class StatsSchema(Schema):
    currency = fields.String()
    totalTransactions = fields.Integer(metadata={"description": "All payments in this currency."})
    totalAmount = fields.Integer(metadata={"description": "Sum of those captured, in minor units."})
    successRate = fields.Float(metadata={"description": "Per cent of the settled ones that were approved."})
    days = fields.List(fields.Nested(DaySchema))


# --- beginning -----------------------------------------------------------------------------------


@blp.post("/payments")
@authenticated
@writes
@blp.arguments(NewPayment)
@blp.response(201, PaymentSchema)
def create_payment(body):
    """Begin a payment of an order. It is `pending` now and settles later; poll it, or await the webhook."""
    return begin_payment(body, g.merchant_id)


def begin_payment(body: dict[str, Any], merchant_id: str | None) -> Payment:
    """Check the instrument, hand a card to the acquirer, and begin the payment."""
    method = body["method"]
    flow = (body.get("flow") or "collect") if method == "upi" else None
    for other in ("vpa", "flow") if method == "card" else ("card",):
        if body.get(other) is not None:
            raise bad_request(f"{other}: Does not go with method {method}.", field=other)
    vpa, card, token = None, None, None
    if flow == "collect":
        vpa = check_vpa(_required(body, "vpa"))
    elif flow is not None and body.get("vpa") is not None:
        raise bad_request(f"vpa: Does not go with flow {flow}; the UPI app knows its own.", field="vpa")
    elif method == "card":
        card = check_card(**_required(body, "card"), today=_today_somewhere())
        token = app_acquirer().tokenize(card)
    order = Order.lock(body["order_id"], merchant_id)
    return Payment.begin(
        order,
        method=method,
        flow=flow,
        vpa=vpa,
        card=card,
        acquirer_token=token,
        # A code or a link is there at once: the bank takes its time over the answer.
        delay_ms=0 if flow in ("qr", "intent") and not settings.test_mode else processing_delay_ms(),
    )


def processing_delay_ms() -> int:
    """How long the simulated acquirer takes over this one."""
    if settings.test_mode:
        return settings.test_processing_delay_ms
    return random.randint(*settings.processing_delay_ms)  # noqa: S311 (not a secret)


def _required(body: dict[str, Any], name: str) -> Any:
    if body.get(name) is None:
        raise bad_request(f"{name}: Missing; method {body['method']} needs it.", field=name)
    return body[name]


def _today_somewhere() -> date:
    """Today's date where it is earliest (UTC-12): a card is not expired while its month lasts anywhere."""
    return (datetime.now(UTC) - timedelta(hours=12)).date()


# --- reading -------------------------------------------------------------------------------------


@blp.get("/payments/list", endpoint="list_payments_for_dashboards")
@blp.get("/payments")
@authenticated
@blp.arguments(PaymentQuery, location="query")
@blp.response(200, page_of(PaymentSchema))
def list_payments(args):
    """List payments, newest first. `/payments/list` is the address that existing dashboards call."""
    query = select(Payment).where(Payment.merchant_id == g.merchant_id)
    for name in ("status", "method", "order_id"):
        if name in args:
            query = query.where(getattr(Payment, name) == args[name])
    return page(query, Payment, args)


@blp.get("/payments/stats")
@authenticated
@blp.arguments(StatsQuery, location="query")
@blp.response(200, StatsSchema)
def get_stats(args):
    """Get totals in one currency, and with `days` a series a day."""
    approved = func.count().filter(Payment.status.in_(["success", "voided"]))
    settled = func.count().filter(Payment.status.in_(["success", "voided", "failed"]))
    rate = func.round(100.0 * approved / func.nullif(settled, 0), 2)
    figures = (
        func.count(),
        func.coalesce(func.sum(Payment.amount_captured), 0),
        func.coalesce(rate, 0),
    )
    mine = (Payment.merchant_id == g.merchant_id) & (Payment.currency == args["currency"])
    total, amount, rate = db.session.execute(select(*figures).where(mine)).one()
    stats: dict[str, Any] = {
        "currency": args["currency"],
        "totalTransactions": total,
        "totalAmount": int(amount),
        "successRate": float(rate),
    }
    if "days" in args:
        day = cast(func.timezone("UTC", Payment.created_at), Date)
        first = now().astimezone(UTC).date() - timedelta(days=args["days"] - 1)
        rows = db.session.execute(
            select(day, *figures)
            .where(mine, Payment.created_at >= datetime.combine(first, datetime.min.time(), UTC))
            .group_by(day)
        )
        by_day = {row[0]: row[1:] for row in rows}
        stats["days"] = [
            {"date": date, "transactions": n, "amount": int(a), "successRate": float(r)}
            for date in (first + timedelta(days=i) for i in range(args["days"]))
            for n, a, r in [by_day.get(date, (0, 0, 0))]
        ]
    return stats


@blp.get("/payments/<id:payment_id>")
@authenticated
@blp.response(200, PaymentSchema)
def get_payment(payment_id):
    """Get a payment."""
    return Payment.of_merchant(g.merchant_id, payment_id)


# --- capture and void ----------------------------------------------------------------------------


@blp.post("/payments/<id:payment_id>/capture")
@authenticated
@writes
@blp.arguments(Capture)
@blp.response(200, PaymentSchema)
@blp.alt_response(
    202, schema=PaymentSchema, description="The acquirer has not answered yet; poll the payment."
)
def capture_payment(body, payment_id):
    """Capture an approved payment, all or part of it. What is left of the approval is released."""
    payment = Payment.lock(g.merchant_id, payment_id)
    return ask_acquirer_now(payment) if payment.request_capture(body.get("amount")) else payment


@blp.post("/payments/<id:payment_id>/void")
@authenticated
@writes
@blp.response(200, PaymentSchema)
@blp.alt_response(
    202, schema=PaymentSchema, description="The acquirer has not answered yet; poll the payment."
)
def void_payment(payment_id):
    """Void an approved payment that was not captured. The order can be paid again."""
    payment = Payment.lock(g.merchant_id, payment_id)
    return ask_acquirer_now(payment) if payment.request_void() else payment


def ask_acquirer_now(payment: Payment) -> Any:
    """Commit the wish, then do its work in this request. If we die on the way, a worker takes it over."""
    operation = payment.operation
    commit_on_the_way()
    PAYMENTS.run_one(payment.id)
    payment = Payment.of_merchant(payment.merchant_id, payment.id)
    if payment.operation is not None:
        return payment, 202
    if not payment.captured and payment.status != "voided":
        raise bad_request(f"The acquirer refused the {operation}.", reason=f"{operation}_refused")
    return payment
