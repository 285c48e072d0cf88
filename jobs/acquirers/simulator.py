"""The simulated acquirer: a bank in a box, so that the gateway runs with no account anywhere.

Test numbers and addresses have fixed outcomes; anything else is random by the success rates. Chance is
drawn from the payment's id, so that asking twice gives the same answer. It keeps no state.
"""

from __future__ import annotations

import hashlib

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
}
TIMED_OUT = Declined("PAYMENT_TIMEOUT", "payment_timed_out", "The bank did not answer in time.")
NOT_APPROVED = Declined("PAYMENT_TIMEOUT", "payment_timed_out", "The payment was not approved in time.")

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

REFUND_PENDING_S = 10  # how long the refund of card ...7726 stays without an answer
REFUND_FAILS_AFTER_S = 5  # how long the refund of card ...5126 looks processed


class Simulator:
    """See the module. Implements jobs.acquirers.Acquirer."""

    def __init__(self, settings: Settings):
        self._success_rates = {"upi": settings.upi_success_rate, "card": settings.card_success_rate}
        self._forced = settings.test_payment_success if settings.test_mode else None

    def tokenize(self, card: Card) -> str:
        return TEST_CARDS.get(card.number, ANY)

    def authorize(self, ask: Ask) -> Result:
        outcome = self._outcome(ask)
        if outcome == "sim_timeout":
            return Unknown()
        if outcome == "sim_requires_action":
            return NeedsAction()
        reason = outcome.removeprefix("sim_")
        if reason in DECLINES:
            return Declined("PAYMENT_DECLINED", reason, DECLINES[reason])
        return _approved(ask)

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
            if outcome == "sim_requires_action":
                return NOT_APPROVED
            return self.authorize(ask)
        if ask.operation == "refund" and ask.token == "sim_refund_pending":
            return _approved(ask) if ask.age_s >= REFUND_PENDING_S else Unknown()
        if ask.operation == "refund" and ask.token == "sim_refund_fails":
            return Declined("REFUND_FAILED", "account_closed", "The shopper's bank sent the money back.")
        return _approved(ask)

    def _outcome(self, ask: Ask) -> str:
        """The outcome of an authorization, as a token."""
        token = ask.token or ANY
        if ask.vpa is not None:
            token = TEST_VPA_NAMES.get(ask.vpa.partition("@")[0].lower(), ANY)
        if token != ANY:
            return token
        succeeds = _chance(ask.id) < self._success_rates[ask.method] if self._forced is None else self._forced
        if succeeds:
            return "sim_success"
        return "sim_card_declined" if ask.method == "card" else "sim_payment_declined"


def _approved(ask: Ask) -> Approved:
    return Approved(_reference(ask))


def _reference(ask: Ask) -> str:
    return "sim_" + _digest(f"{ask.operation}:{ask.id}").hex()[:16]


def _chance(payment_id: str) -> float:
    """A number in [0, 1), always the same for one payment."""
    return int.from_bytes(_digest(payment_id)[:8], "big") / 2**64


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
