"""Payments: begin, get, list, capture, void."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from flask import g
from marshmallow import Schema, fields, validate
from sqlalchemy import Select, select

import logs
from config import settings
from jobs.payments import PAYMENTS, app_acquirer
from jobs.work import commit
from models.base import db
from models.errors import Refused, bad_request
from models.instruments import check_card, check_vpa
from models.orders import METHODS, Order
from models.payments import FLOWS, TRANSITIONS, Payment, PaymentSchema
from models.search import payments_like
from models.timeline import TimelineEntrySchema, timeline
from models.together import ALONE, Alone, Together
from routes.audit import note
from routes.auth import authenticated
from routes.errors import refuses
from routes.fields import Amount, AmountOrAll, Blueprint, Body, Currency, MinorUnits, Text
from routes.pagination import SEARCH_MAX_LENGTH, PageQuery, filtered, page, page_of
from routes.writes import commit_on_the_way, writes

blp = Blueprint("payments", __name__, url_prefix="/api/v1", description="Attempts to pay an order.")

BAD_INSTRUMENT = ("INVALID_VPA", "INVALID_CARD", "EXPIRED_CARD", "INVALID_CVV")


class NumberOrText(Text):
    """`12` and `"12"` alike: card forms send either."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"type": ["string", "integer"]}, **kwargs)

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
    q = Text(
        validate=validate.Length(min=1, max=SEARCH_MAX_LENGTH),
        metadata={
            "description": "The id of a payment, order or refund; a card's last four digits; a receipt or a "
            "UPI ID, or the beginning of one, of at least three characters."
        },
    )
    status = Text(
        validate=validate.OneOf(list(TRANSITIONS)), metadata={"description": "Only those in this state."}
    )
    method = Text(validate=validate.OneOf(METHODS), metadata={"description": "Only those paid so."})
    currency = Currency(metadata={"description": "Only those in it."})
    amount_min = MinorUnits(metadata={"description": "Minor units, included."})
    amount_max = MinorUnits(metadata={"description": "Minor units, included."})
    order_id = Text(metadata={"description": "Only those of this order."})


class TimelineSchema(Schema):
    data = fields.List(fields.Nested(TimelineEntrySchema))


# --- beginning -----------------------------------------------------------------------------------


@blp.post("/payments")
@refuses("NOT_FOUND_ERROR", *BAD_INSTRUMENT)
@authenticated
@writes
@blp.arguments(NewPayment)
@blp.response(201, PaymentSchema)
def create_payment(body):
    """Begin a payment of an order. It is `pending` now and settles later; poll it, or await the webhook."""
    return begin_payment(body, g.merchant_id)


@dataclass(frozen=True)
class Wish:
    """A payment to begin: of which order, whose (None: whose ever it is), and what `Payment.begin` wants."""

    order_id: str
    merchant_id: str | None
    facts: dict[str, Any]


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
    facts = {
        "method": method,
        "flow": flow,
        "vpa": vpa,
        "card": card,
        "acquirer_token": token,
        # A code or a link is there at once: the bank takes its time over the answer.
        "delay_ms": 0 if flow in ("qr", "intent") and not settings.test_mode else processing_delay_ms(),
    }
    payment = begin(Wish(body["order_id"], merchant_id, facts))
    logs.add(order_id=payment.order_id, payment_id=payment.id)
    return payment


def _begin_one(wish: Wish) -> Payment:
    return Payment.begin(Order.lock(wish.order_id, wish.merchant_id), **wish.facts)


def _begin_all(wishes: Sequence[Wish]) -> list[Payment | Exception | Alone]:
    """Of orders that nobody else holds; of each one payment, for a second one has to see the first."""
    orders = Order.lock_free({wish.order_id for wish in wishes})
    outcomes: list[Payment | Exception | Alone] = []
    for wish in wishes:
        order = orders.pop(wish.order_id, None)
        if order is None or wish.merchant_id not in (None, order.merchant_id):
            outcomes.append(ALONE)
            continue
        try:
            outcomes.append(Payment.begin(order, **wish.facts))
        except Refused as refusal:
            outcomes.append(refusal)
    commit()
    db.session.remove()  # most of the payments are other requests': none may ask this session for more
    return outcomes


begin = Together(_begin_all, _begin_one)


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
    """List payments, newest first. `/payments/list` is the same, for clients that were written for it."""
    return page(chosen_payments(args), Payment, args)


def chosen_payments(args: dict[str, Any]) -> Select[Any]:
    """A query for the merchant's payments that the filters leave."""
    query = select(Payment).where(Payment.merchant_id == g.merchant_id)
    query = filtered(query, Payment, args, "status", "method", "currency", "order_id")
    if "amount_min" in args:
        query = query.where(Payment.amount >= args["amount_min"])
    if "amount_max" in args:
        query = query.where(Payment.amount <= args["amount_max"])
    if "q" in args:
        query = query.where(Payment.id.in_(payments_like(g.merchant_id, args["q"])))
    return query


@blp.get("/payments/<id:payment_id>")
@authenticated
@blp.response(200, PaymentSchema)
def get_payment(payment_id):
    """Get a payment."""
    return Payment.shown(g.merchant_id, payment_id)


@blp.get("/payments/<id:payment_id>/timeline")
@authenticated
@blp.response(200, TimelineSchema)
def get_timeline(payment_id):
    """Get all that happened to a payment, the oldest first, and who did it."""
    return {"data": timeline(Payment.of_merchant(g.merchant_id, payment_id))}


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
    if not payment.request_capture(body.get("amount")):
        return payment
    note("payment.capture_requested", payment.id, amount=payment.operation_amount)
    return ask_acquirer_now(payment)


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
    if not payment.request_void():
        return payment
    note("payment.void_requested", payment.id)
    return ask_acquirer_now(payment)


def ask_acquirer_now(payment: Payment) -> Any:
    """Commit the wish, then do its work in this request. If we die on the way, a worker takes it over."""
    operation, amount = payment.operation, payment.operation_amount
    commit_on_the_way()
    PAYMENTS.run_one(payment.id)
    db.session.refresh(payment)  # a worker may have been quicker, and the session still holds the wish
    # And since it was settled, another request may have had its wish: what it did is no answer to ours.
    if (payment.operation, payment.operation_amount) == (operation, amount):
        return payment, 202
    done = payment.status == "voided" if operation == "void" else payment.amount_captured == amount
    if not done:
        raise bad_request(f"The acquirer refused the {operation}.", reason=f"{operation}_refused")
    return payment
