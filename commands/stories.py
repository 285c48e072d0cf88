"""What happens in a made-up shop: who buys when and for how much, and what becomes of each order.

Told step by step by the models' own verbs; `flask seed` writes it down (see commands/seed.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any, TypeVar

from jobs.acquirers import Declined
from jobs.acquirers.simulator import (
    ANY,
    CANCELLED,
    DECLINES,
    NOT_APPROVED,
    OTP_EXPIRES_S,
    PHONE_ANSWERS,
    UPI_EXPIRES_S,
)
from models import direct
from models.base import db, now
from models.instruments import Card
from models.orders import UPI_CURRENCY, Order
from models.payments import HOLD_DAYS, Payment
from models.refunds import Refund

# --- when, by the shop's clock -------------------------------------------------------------------

SHOP_TIME = timezone(timedelta(hours=5, minutes=30))
BY_HOUR = (2, 1, 1, 1, 1, 2, 4, 7, 10, 13, 15, 16, 15, 14, 13, 13, 14, 16, 19, 22, 23, 19, 12, 6)
WEEKEND = 0.6  # of a weekday
GROWTH = 1.0  # by so much more at the end than at the beginning
LAST_ORDER = timedelta(minutes=30)  # before the end: whoever begins to pay is done in this time

# --- what, in shares of one ----------------------------------------------------------------------

# Of orders: the payments that are made, one after the other, or that nobody pays.
OUTCOMES: Mapping[tuple[str, ...], float] = {
    ("paid",): 0.84,
    ("failed", "paid"): 0.055,
    ("failed",): 0.025,
    (): 0.05,
    ("expired",): 0.03,
}
METHODS = {"upi": 0.55, "card": 0.45}
FLOWS = {"collect": 0.70, "intent": 0.18, "qr": 0.12}
ONE_TIME_PASSWORD = 0.15  # of card payments; of the others the bank is sure
NETWORKS = {"visa": 0.40, "mastercard": 0.30, "rupay": 0.25, "amex": 0.05}
CURRENCIES = {"upi": {UPI_CURRENCY: 1.0}, "card": {UPI_CURRENCY: 0.92, "USD": 0.05, "EUR": 0.03}}
MANUAL_CAPTURE = {"upi": 0.02, "card": 0.15}
DECISIONS = {"capture": 0.60, "capture part": 0.20, "void": 0.12, "forget": 0.08}  # about what is held
REASONS = {
    "upi": {
        "payment_declined": 0.28,
        "insufficient_funds": 0.27,
        "incorrect_pin": 0.16,
        "payment_timed_out": 0.14,
        "declined_by_payer": 0.10,
        "payment_cancelled": 0.05,
    },
    "card": {
        "card_declined": 0.28,
        "insufficient_funds": 0.27,
        "authentication_failed": 0.18,
        "incorrect_cvc": 0.09,
        "expired_card": 0.07,
        "payment_cancelled": 0.05,
        "processing_error": 0.04,
        "lost_card": 0.01,
        "stolen_card": 0.01,
    },
}
# What the shopper did, or did not do, when it was asked to act.
BY_SHOPPER = {
    *("incorrect_pin", "declined_by_payer", "authentication_failed"),
    *("payment_timed_out", "payment_cancelled"),
}
# Of captured payments: the parts in which they are refunded.
REFUNDS: Mapping[tuple[float, ...], float] = {(): 0.93, (1.0,): 0.041, (0.3,): 0.022, (0.25, 0.5): 0.007}
REFUND_ENDS = {"processed": 0.965, "failed": 0.025, "comes back": 0.01}
REFUND_REASONS = (None, "returned", "one item returned", "out of stock", "ordered twice", "arrived damaged")

# --- who, and how much ---------------------------------------------------------------------------

FIRST_NAMES = """
    Aarav Aditi Aisha Akash Amit Ananya Anil Anjali Arjun Asha Deepak Dev Divya Fatima Gauri Harish Imran Isha
    Karan Kavya Kiran Lakshmi Manish Meera Mohan Nandini Neha Nikhil Nisha Omkar Pooja Pranav Priya Rahul
    Rajesh Rohan Sana Sanjay Sneha Suresh Tanvi Varun Vikram Zoya
""".split()  # noqa: SIM905 (a list of strings would be a page long)
LAST_NAMES = """
    Agarwal Bhat Bose Chatterjee Das Desai Fernandes Gill Gupta Iyer Jain Joshi Kapoor Khan Kulkarni Kumar
    Mehta Menon Mishra Nair Naidu Patel Pillai Rao Reddy Saxena Shah Sharma Shetty Singh Thomas Varma Verma
    Yadav
""".split()  # noqa: SIM905 (as above)
UPI_HANDLES = ("okhdfc", "oksbi", "okicici", "okaxis", "ybl", "ibl", "paytm", "apl", "upi")
CARD_PREFIXES = {"visa": "4", "mastercard": "53", "rupay": "65", "amex": "37"}
CHANNELS = ("web", "android", "ios", "store")
MEDIAN_PRICE = {UPI_CURRENCY: 799, "USD": 35, "EUR": 32}  # major units
PRICE_SPREAD = 1.0  # sigma of the logarithm: one in 40 costs more than seven times as much
PRICE_MIN, PRICE_MAX = 9, 90_000  # major units; UPI moves no more than 100,000 rupees at once

Choice = TypeVar("Choice")


def pick(chance: Random, shares: Mapping[Choice, float]) -> Choice:
    return chance.choices(list(shares), list(shares.values()))[0]


def payments_of(outcome: tuple[str, ...]) -> tuple[str, ...]:
    """The payments among what becomes of an order."""
    return () if outcome == ("expired",) else outcome


def outcomes(payments: int, chance: Random) -> Iterator[tuple[str, ...]]:
    """What becomes of each order, until there are so many payments."""
    while payments > 0:
        outcome = pick(chance, OUTCOMES)
        outcome = outcome if len(payments_of(outcome)) <= payments else outcome[-payments:]
        payments -= len(payments_of(outcome))
        yield outcome


def order_times(number: int, start: datetime, end: datetime, chance: Random) -> list[datetime]:
    """When so many orders are made: most on weekday evenings, ever more in the course of time."""
    hours = [start + timedelta(hours=hour) for hour in range(int((end - start) / timedelta(hours=1)))]
    weights = []
    for place, hour in enumerate(hours):
        there = hour.astimezone(SHOP_TIME)
        weekend = WEEKEND if there.weekday() >= 5 else 1
        weights.append(BY_HOUR[there.hour] * weekend * (1 + GROWTH * place / len(hours)))
    chosen = chance.choices(hours, weights, k=number)
    return sorted(hour + timedelta(seconds=chance.uniform(0, 3600)) for hour in chosen)


def price(currency: str, chance: Random) -> int:
    """An amount in minor units, which ends in 9 as prices do."""
    major = chance.lognormvariate(math.log(MEDIAN_PRICE[currency]), PRICE_SPREAD)
    return 100 * int(min(max(round(major, -1) - 1, PRICE_MIN), PRICE_MAX))


@dataclass(frozen=True)
class Customer:
    """Somebody who comes again, with the same UPI address and the same card."""

    name: str
    vpa: str
    card: Card

    @classmethod
    def make(cls, chance: Random, year: int) -> Customer:
        first, last = chance.choice(FIRST_NAMES), chance.choice(LAST_NAMES)
        suffix = chance.choice(["", "", str(chance.randint(1, 99))])
        vpa = f"{first}.{last}{suffix}@{chance.choice(UPI_HANDLES)}".lower()
        network = pick(chance, NETWORKS)
        length = 15 if network == "amex" else 16
        number = CARD_PREFIXES[network].ljust(length - 10, "0") + f"{chance.randrange(10**10):010}"
        card = Card(number, chance.randint(1, 12), year + chance.randint(1, 5), cvv="", holder_name="")
        return cls(f"{first} {last}", vpa, card)


@dataclass(frozen=True)
class Pause:
    """How long a story waits. `at_rest`: as it stands until then it may be committed, and left for ever."""

    length: timedelta
    at_rest: bool = False


class Story:
    """One order and what becomes of it. A step is what happens at one moment; between them time passes.

    What the acquirer answers is added to `answers`, for it can't be written before what it refers to. A story
    that would go on after `end` stays as it is, at a pause that is at rest.
    """

    payment: Payment | None = None
    refund: Refund | None = None

    def __init__(
        self,
        outcome: tuple[str, ...],
        who: Customer,
        chance: Random,
        *,
        merchant_id: str,
        receipt: str,
        end: datetime,
        answers: list[tuple[datetime, dict[str, Any]]],
    ):
        """The order is made, now."""
        self._payments = payments_of(outcome)
        self._who = who
        self._chance = chance
        self._end = end
        self._answers = answers
        self._method = pick(chance, METHODS)
        currency = pick(chance, CURRENCIES[self._method])
        facts = Order.create(
            merchant_id,
            amount=price(currency, chance),
            currency=currency,
            receipt=receipt,
            notes={"customer": who.name, "channel": chance.choice(CHANNELS)} if chance.random() < 0.6 else {},
            capture="manual" if chance.random() < MANUAL_CAPTURE[self._method] else "automatic",
            expires_in=60 * chance.choice([15, 30, 60]) if outcome == ("expired",) else None,
        )
        self.order = direct.detached(Order, facts)
        db.session.add(self.order)

    def steps(self) -> Iterator[Pause]:
        if self.order.expires_at is not None:
            over = self.order.expires_at - self.order.created_at
            yield Pause(over + self._a_moment(0, 5), at_rest=self.order.expires_at > self._end)
            self.order.expire()
        for outcome in self._payments:
            yield Pause(self._a_moment(10, 240))
            yield from self._pay(pick(self._chance, REASONS[self._method]) if outcome == "failed" else None)
        if self.payment is not None and self.payment.hold_expires_at is not None:
            yield from self._decide(self.payment)
        if self.payment is not None and self.payment.captured:
            yield from self._refund(self.payment)

    def _pay(self, reason: str | None) -> Iterator[Pause]:
        """A payment, which is declined for this reason, or approved."""
        by_upi = self._method == "upi"
        flow = pick(self._chance, FLOWS) if by_upi else None
        self.payment = payment = Payment.begin(
            self.order,
            method=self._method,
            flow=flow,
            vpa=self._who.vpa if flow == "collect" else None,
            card=None if by_upi else self._who.card,
            acquirer_token=None if by_upi else ANY,
            delay_ms=1,  # at once, but waking nobody
        )
        yield Pause(self._a_moment(1, 3))
        looked_up = False
        must_act = flow in ("intent", "qr") or (not by_upi and self._chance.random() < ONE_TIME_PASSWORD)
        if must_act or reason in BY_SHOPPER:
            expires_s = UPI_EXPIRES_S if by_upi else OTP_EXPIRES_S
            payment.require_action(expires_s, self._upi_link() if flow in ("intent", "qr") else None)
            self._answer("needs_action", "authorize")
            looked_up = by_upi or reason in ("payment_timed_out", "payment_cancelled")
            if reason == "payment_timed_out":
                yield Pause(timedelta(seconds=expires_s) + self._a_moment(0, 1))
            else:
                yield Pause(self._a_moment(8, 150))
                token = PHONE_ANSWERS["approve"] if reason is None else f"sim_{reason}"
                payment.resume(token, look_up=looked_up, delay_ms=1)
                yield Pause(self._a_moment(1, 3))
        if reason is not None:
            declined = declined_for(reason)
            payment.decline(declined.code, declined.reason, declined.description)
            self._answer("declined", "authorize", reason=reason, looked_up=looked_up)
        else:
            reference = self._reference()
            payment.approve(self.order, reference, self._who.vpa if by_upi else None)
            self._answer("approved", "authorize", reference=reference, looked_up=looked_up)

    def _decide(self, payment: Payment) -> Iterator[Pause]:
        """An approval is held: it is captured or voided in the next days, or the hold runs out."""
        expires_at = payment.hold_expires_at
        decision = pick(self._chance, DECISIONS)
        hours = min(self._chance.lognormvariate(math.log(20), 1), 24 * HOLD_DAYS - 1)
        forgotten = timedelta(days=HOLD_DAYS) + self._a_moment(0, 5)
        yield Pause(
            forgotten if decision == "forget" else timedelta(hours=hours),
            # One whose hold is over would be voided by the clock, if it were left so.
            at_rest=expires_at is not None and expires_at > self._end,
        )
        if decision.startswith("capture"):
            part = 1.0 if decision == "capture" else self._chance.uniform(0.2, 0.9)
            if not payment.request_capture(share(payment.amount, part)):
                return  # somebody was quicker
            yield Pause(self._a_moment(0.2, 1))
            payment.take(self.order)
            self._answer("approved", "capture", reference=self._reference())
        else:
            if not payment.request_void():
                return
            yield Pause(self._a_moment(0.2, 1))
            payment.void()
            self._answer("approved", "void", reference=self._reference())

    def _refund(self, payment: Payment) -> Iterator[Pause]:
        """Some of the money goes back, days later."""
        captured = payment.amount_captured
        for part in pick(self._chance, REFUNDS):
            days = self._chance.lognormvariate(math.log(4), 0.8)
            yield Pause(timedelta(days=days), at_rest=True)
            reason = self._chance.choice(REFUND_REASONS)
            self.refund = refund = Refund.begin(
                payment, amount=share(captured, part), reason=reason, delay_ms=1
            )
            ends = pick(self._chance, REFUND_ENDS)
            yield Pause(self._a_moment(2, 60))
            if ends == "failed":
                refund.fail(payment, "account_closed")
                self._answer("declined", "refund", reason="account_closed")
                continue
            refund.process(payment, self._reference())
            self._answer("approved", "refund", reference=refund.acquirer_reference)
            if ends == "comes back":
                yield Pause(timedelta(days=self._chance.uniform(1, 4)), at_rest=True)
                refund.fail(payment, "account_closed")
                self._answer("declined", "refund", reason="account_closed", looked_up=True)

    # --- helpers -----------------------------------------------------------------------------------

    def _answer(self, answer: str, operation: str, *, looked_up: bool = False, **facts: str | None) -> None:
        ids = {"payment_id": self.payment and self.payment.id, "operation": operation}
        if operation == "refund" and self.refund is not None:
            ids["refund_id"] = self.refund.id
        self._answers.append((now(), {"answer": answer, "looked_up": looked_up, **ids, **facts}))

    def _a_moment(self, least_s: float, most_s: float) -> timedelta:
        return timedelta(seconds=self._chance.uniform(least_s, most_s))

    def _reference(self) -> str:
        return f"sim_{self._chance.getrandbits(64):016x}"

    def _upi_link(self) -> str:
        amount = f"{self.order.amount // 100}.{self.order.amount % 100:02}"
        return f"upi://pay?pa=gateway@simulator&am={amount}&cu={self.order.currency}"


def share(amount: int, part: float) -> int:
    """A part of an amount, in whole major units if it can be."""
    return max(1, int(amount * part) // 100 * 100) if part < 1 else amount


def declined_for(reason: str) -> Declined:
    """What the simulated acquirer says of it."""
    special = {declined.reason: declined for declined in (NOT_APPROVED, CANCELLED)}
    return special.get(reason) or Declined("PAYMENT_DECLINED", reason, DECLINES[reason])
