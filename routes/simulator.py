"""The simulated phone: where whoever plays the shopper approves or refuses a UPI payment.

It belongs to the simulated acquirer (jobs/acquirers/simulator.py), and is there as long as that is in use.
"""

from __future__ import annotations

from flask import request, send_from_directory
from marshmallow import validate

from config import ROOT
from jobs.acquirers.simulator import PHONE_ANSWERS
from jobs.payments import app_acquirer
from models.errors import not_found
from models.payments import Payment, PublicPaymentSchema
from routes.checkout import awaiting, qr_code
from routes.fields import Blueprint, Body, Text
from routes.limits import limited_by_address
from routes.pages import guarded
from routes.payments import processing_delay_ms
from routes.writes import writes

FILES = ROOT / "static/sim"

blp = Blueprint("simulator", __name__, url_prefix="/sim/upi")


class Answer(Body):
    answer = Text(required=True, validate=validate.OneOf(list(PHONE_ANSWERS)))


@blp.before_request
def _only_for_the_simulator():
    if not app_acquirer().simulated:
        raise not_found("Simulated phone")


@blp.get("/<id:payment_id>")
def get_phone(payment_id):  # noqa: ARG001 (the page finds it in its address)
    return guarded(send_from_directory(FILES, "index.html"))


@blp.get("/<id:payment_id>/qr.svg")
def get_phone_qr_code(payment_id):
    """The phone's own address, so that a real phone can play the shopper's."""
    return qr_code(f"{request.host_url}sim/upi/{Payment.public(payment_id).id}")


@blp.post("/<id:payment_id>")
@limited_by_address
@writes
@blp.arguments(Answer)
@blp.response(200, PublicPaymentSchema)
def answer_on_phone(body, payment_id):
    """Approve, decline, type a wrong PIN, or let the time run out."""
    awaiting(payment_id, "upi")
    payment = Payment.lock(None, payment_id)
    payment.resume(PHONE_ANSWERS[body["answer"]], look_up=True, delay_ms=processing_delay_ms())
    return payment
