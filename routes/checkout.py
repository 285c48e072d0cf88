"""What the shopper's page calls, without a secret: whoever knows an order may look at it and pay it."""

from __future__ import annotations

import io

import segno
from flask import Response
from marshmallow import validate

from jobs.payments import app_acquirer
from models.base import db
from models.checkout import Checkout, CheckoutSchema
from models.errors import conflict
from models.payments import Payment, PublicPaymentSchema
from routes.errors import refuses
from routes.fields import Blueprint, Body, Color, Text
from routes.limits import limited_as_card_testing, limited_by_address
from routes.payments import BAD_INSTRUMENT, NewPayment, begin_payment, processing_delay_ms
from routes.writes import writes

OTP_MAX_LENGTH = 10

blp = Blueprint("checkout", __name__, url_prefix="/api/v1", description="What the shopper's page calls.")


class CheckoutQuery(Body):
    key = Text(
        validate=validate.Length(max=80),
        metadata={"description": "The id of an API key, which then has to be one of the order's merchant."},
    )
    color = Color(metadata={"description": "An accent instead of the merchant's.", "example": "#1a56c4"})


class Otp(Body):
    otp = Text(
        required=True,
        validate=validate.Regexp(
            rf"[0-9]{{1,{OTP_MAX_LENGTH}}}\Z", error=f"Must be 1 to {OTP_MAX_LENGTH} digits."
        ),
        metadata={"pattern": rf"^[0-9]{{1,{OTP_MAX_LENGTH}}}$"},  # without Python's own \Z
    )


@blp.get("/orders/<id:order_id>/public")
@refuses("AUTHENTICATION_ERROR")
@blp.doc(security=[])
@blp.arguments(CheckoutQuery, location="query")
@blp.response(200, CheckoutSchema)
def get_public_order(args, order_id):
    """Get what the checkout page shows of an order."""
    key, color = args.get("key"), args.get("color")
    return Checkout.of(order_id, key=key, color=color, simulated=app_acquirer().simulated)


@blp.post("/payments/public")
@refuses("NOT_FOUND_ERROR", *BAD_INSTRUMENT)
@blp.doc(security=[])
@limited_as_card_testing
@writes
@blp.arguments(NewPayment)
@blp.response(201, PublicPaymentSchema)
def create_public_payment(body):
    """Begin a payment from the checkout page: whoever knows the order may pay it."""
    return begin_payment(body, None)


@blp.get("/payments/<id:payment_id>/public")
@blp.doc(security=[])
@blp.response(200, PublicPaymentSchema)
def get_public_payment(payment_id):
    """Get what the shopper's page may know of its payment."""
    return Payment.public(payment_id)


@blp.post("/payments/<id:payment_id>/public/otp")
@blp.doc(security=[])
@limited_by_address
@writes
@blp.arguments(Otp)
@blp.response(200, PublicPaymentSchema)
def submit_otp(body, payment_id):
    """Answer the challenge of a card payment with the one-time password that the bank sent. One try."""
    payment = awaiting(payment_id, "card")
    token = app_acquirer().authenticate(payment.acquirer_token, body["otp"])
    payment = Payment.lock(None, payment_id)
    payment.resume(token, look_up=False, delay_ms=processing_delay_ms())
    return payment


@blp.post("/payments/<id:payment_id>/public/cancel")
@blp.doc(security=[])
@limited_by_address
@writes
@blp.response(200, PublicPaymentSchema)
def cancel_payment(payment_id):
    """Give up a payment that waits for the shopper. The acquirer decides: it may have been paid already."""
    payment = awaiting(payment_id)
    token = app_acquirer().cancel(payment.acquirer_token)
    payment = Payment.lock(None, payment_id)
    payment.resume(token, look_up=True)
    return payment


@blp.get("/payments/<id:payment_id>/public/qr.svg")
@refuses("CONFLICT_ERROR")
@blp.doc(security=[])
@blp.response(200, {"type": "string"}, content_type="image/svg+xml")
def get_qr_code(payment_id):
    """Get the `upi_link` of a payment as a QR code."""
    payment = Payment.public(payment_id)
    if payment.upi_link is None:
        raise conflict("The payment has no link to be scanned now.", reason="no_action_required")
    return qr_code(payment.upi_link)


def awaiting(payment_id: str, method: str | None = None) -> Payment:
    """The payment, if the shopper may act on it now. Ends its transaction: the acquirer is asked next."""
    payment = Payment.public(payment_id)
    payment.check_awaits_action()
    if method not in (None, payment.method):
        raise conflict(f"A {payment.method} payment has no challenge of this kind.", reason="wrong_method")
    db.session.commit()
    return payment


def qr_code(content: str) -> Response:
    """An SVG, dark on light whatever the page is, with the quiet zone that scanners need (ISO/IEC 18004)."""
    image = io.BytesIO()
    segno.make(content, error="m", micro=False).save(
        image, kind="svg", scale=8, border=4, dark="#000", light="#fff", svgclass=None, lineclass=None
    )
    response = Response(image.getvalue(), mimetype="image/svg+xml")
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"  # for pages of a merchant's own, too
    return response
