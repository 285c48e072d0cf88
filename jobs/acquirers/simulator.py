"""The simulated acquirer: a bank in a box, so that the gateway runs with no account anywhere.

Test numbers and addresses have fixed outcomes; anything else is random by the success rates. Chance is
drawn from the payment's id, so that asking twice gives the same answer. It keeps no state: what a shopper
answered, in an OTP or on the simulated phone (routes/simulator.py), is in the payment's token.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote, urlencode

from config import Settings
from jobs.acquirers import Approved, Ask, Declined, NeedsAction, Result, Unknown
from models.instruments import Card

DECLINES = {
    "card_declined": "The bank declined the card.",
    "insufficient_funds": "The account does not hold enough money.",
    "lost_card": "The card was reported lost.",
    "stolen_card": "The card was reported stolen.",
    "expired_card": "The bank says that the card has expired.",
    "incorrect_cvc": "The security code is not correct.",
    "processing_error": "The bank could not process the card just now.",
    "payment_declined": "The payment was declined.",
    "authentication_failed": "The one-time password is not correct.",
    "incorrect_pin": "The UPI PIN was not correct.",
    "declined_by_payer": "The payment was declined in the UPI app.",
}
TIMED_OUT = Declined("PAYMENT_TIMEOUT", "payment_timed_out", "The bank did not answer in time.")
NOT_APPROVED = Declined("PAYMENT_TIMEOUT", "payment_timed_out", "The payment was not approved in time.")
CANCELLED = Declined("PAYMENT_CANCELLED", "payment_cancelled", "The payment was cancelled.")

# Test card -> the token that stands for it. The token names the outcome; the number is not kept.
TEST_CARDS = {
    "4242424242424242": "sim_success",
    "4111111111111111": "sim_success",
    "5555555555554444": "sim_success",
    "6527658900001005": "sim_success",
    "4000000000000002": "sim_card_declined",
    "4000000000009995": "sim_insufficient_funds",
    "4000000000009987": "sim_lost_card",
    "4000000000009979": "sim_stolen_card",
    "4000000000000069": "sim_expired_card",
    "4000000000000127": "sim_incorrect_cvc",
    "4000000000000119": "sim_processing_error",
    "4000000000003220": "sim_requires_action",
    "4000000000007726": "sim_refund_pending",
    "4000000000005126": "sim_refund_fails",
    "4100280000090000": "sim_timeout",
}
TEST_VPA_NAMES = {
    "success": "sim_success",
    "failure": "sim_payment_declined",
    "pending": "sim_requires_action",
}
ANY = "sim_any"

# What the shopper may answer on the simulated phone -> the token that says so.
PHONE_ANSWERS = {
    "approve": "sim_success",
    "decline": "sim_declined_by_payer",
    "wrong_pin": "sim_incorrect_pin",
    "expire": "sim_not_approved",
}
PASSING_OTP = re.compile(r"[0-9]{4,10}")

OTP_EXPIRES_S = 900  # what card networks give the shopper of a 3-D Secure challenge, or more
UPI_EXPIRES_S = 300  # the usual life of a collect request or a dynamic code
PAYEE_VPA = "gateway@simulator"
PAYEE_NAME_MAX = 99  # characters: longer ones make the code too dense to scan
PAYER_VPA = "shopper@simulator"  # whose phone the simulated one is

REFUND_PENDING_S = 10  # how long the refund of card ...7726 stays without an answer
REFUND_FAILS_AFTER_S = 5  # how long the refund of card ...5126 looks processed


class Simulator:
    """See the module. Implements jobs.acquirers.Acquirer."""

    simulated = True
    instant = True

    def __init__(self, settings: Settings):
        self._success_rates = {"upi": settings.upi_success_rate, "card": settings.card_success_rate}
        self._forced = settings.test_payment_success if settings.test_mode else None

    def tokenize(self, card: Card) -> str:
        return TEST_CARDS.get(card.number, ANY)

    def authenticate(self, token: str | None, otp: str) -> str:  # noqa: ARG002 (a bank would need it)
        return "sim_success" if PASSING_OTP.fullmatch(otp) else "sim_authentication_failed"

    def cancel(self, token: str | None) -> str:  # noqa: ARG002 (a bank would need it)
        return "sim_cancelled"

    def authorize(self, ask: Ask) -> Result:
        outcome = self._outcome(ask)
        if outcome == "sim_timeout":
            return Unknown()
        if outcome == "sim_requires_action" and ask.method == "upi":
            return NeedsAction(UPI_EXPIRES_S, _upi_link(ask) if ask.flow != "collect" else None)
        if outcome == "sim_requires_action":
            return NeedsAction(OTP_EXPIRES_S)
        if outcome == "sim_cancelled":
            return CANCELLED
        reason = outcome.removeprefix("sim_")
        if reason in DECLINES:
            return Declined("PAYMENT_DECLINED", reason, DECLINES[reason])
        return Approved(_reference(ask), vpa=ask.vpa or PAYER_VPA if ask.method == "upi" else None)

    def capture(self, ask: Ask) -> Result:
        return _approved(ask)

    def void(self, ask: Ask) -> Result:
        return _approved(ask)

    def refund(self, ask: Ask) -> Result:
        if ask.token == "sim_refund_pending":
            return Unknown()
        if ask.token == "sim_refund_fails":
            return Approved(_reference(ask), check_again_s=REFUND_FAILS_AFTER_S)
        return _approved(ask)

    def lookup(self, ask: Ask) -> Result:
        if ask.operation == "authorize":
            outcome = self._outcome(ask)
            if outcome == "sim_timeout":
                return TIMED_OUT
            if outcome in ("sim_requires_action", "sim_not_approved"):
                return NOT_APPROVED
            return self.authorize(ask)
        if ask.operation == "refund" and ask.token == "sim_refund_pending":
            return _approved(ask) if ask.age_s >= REFUND_PENDING_S else Unknown()
        if ask.operation == "refund" and ask.token == "sim_refund_fails":
            return Declined("REFUND_FAILED", "account_closed", "The shopper's bank sent the money back.")
        return _approved(ask)

    def _outcome(self, ask: Ask) -> str:
        """The outcome of an authorization, as a token."""
        token = ask.token or TEST_VPA_NAMES.get((ask.vpa or "").partition("@")[0].lower(), ANY)
        if token != ANY:
            return token
        if self._forced is None and ask.flow in ("qr", "intent"):
            return "sim_requires_action"
        succeeds = _chance(ask.id) < self._success_rates[ask.method] if self._forced is None else self._forced
        if succeeds:
            return "sim_success"
        return "sim_card_declined" if ask.method == "card" else "sim_payment_declined"


def _upi_link(ask: Ask) -> str:
    """What a UPI app needs to pay this (NPCI, UPI Linking Specification): to whom, how much, what for."""
    facts = {
        "pa": PAYEE_VPA,
        "pn": ask.payee[:PAYEE_NAME_MAX],
        "tr": ask.payment_id,
        "am": f"{ask.amount // 100}.{ask.amount % 100:02}",
        "cu": ask.currency,
        "tn": f"Payment {ask.payment_id}",
    }
    return "upi://pay?" + urlencode(facts, quote_via=quote, safe="@")


def _approved(ask: Ask) -> Approved:
    return Approved(_reference(ask))


def _reference(ask: Ask) -> str:
    return "sim_" + _digest(f"{ask.operation}:{ask.id}").hex()[:16]


def _chance(payment_id: str) -> float:
    """A number in [0, 1), always the same for one payment."""
    return int.from_bytes(_digest(payment_id)[:8], "big") / 2**64


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
