"""A bank with a book of its own: an acquirer whose answers come late, get lost or never come, as a test says.

What it did stands in its book, whatever it answered: the tests hold that against the gateway's ledger.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.acquirers import Approved, Ask, Declined, NotFound, Result, Unknown
from models.instruments import Card

DECLINED = Declined("PAYMENT_DECLINED", "payment_declined", "The payment was declined.")
REFUND_DECLINED = Declined("REFUND_FAILED", "account_closed", "The account is closed.")
UNLUCKY_REFUND = 13  # a refund whose amount ends in these minor units is declined

# What becomes of a request:
ANSWER = "answer"  # it is done, and answered
LOSE = "lose"  # it is done, and the answer is lost
MISS = "miss"  # it never arrives
Fate = Callable[[Ask, bool], str]  # the request, and whether it is a look-up -> one of these


@dataclass
class Money:
    """What became of one payment's money, by the bank's book. Minor units."""

    held: int = 0
    taken: int = 0
    returned: int = 0


@dataclass
class Bank:
    """Implements jobs.acquirers.Acquirer. `fate` says what becomes of each request."""

    fate: Fate = lambda _ask, _looked_up: ANSWER
    simulated: bool = False
    book: dict[str, tuple[Ask, Result]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)  # by idempotency key, look-ups not counted
    _one_writes: threading.Lock = field(default_factory=threading.Lock)

    def tokenize(self, card: Card) -> str:
        return f"tok_{card.last4}"

    def authenticate(self, token: str | None, otp: str) -> str:
        return f"{token}_{'good' if len(otp) >= 4 else 'bad'}"

    def cancel(self, token: str | None) -> str:
        return f"{token}_cancelled"

    def authorize(self, ask: Ask) -> Result:
        return self._ask(ask)

    def capture(self, ask: Ask) -> Result:
        return self._ask(ask)

    def void(self, ask: Ask) -> Result:
        return self._ask(ask)

    def refund(self, ask: Ask) -> Result:
        return self._ask(ask)

    def lookup(self, ask: Ask) -> Result:
        with self._one_writes:
            done = self.book.get(ask.idempotency_key)
        if self.fate(ask, True) != ANSWER:
            return Unknown()
        return NotFound() if done is None else done[1]

    def _ask(self, ask: Ask) -> Result:
        fate = self.fate(ask, False)
        if fate == MISS:
            return Unknown()
        with self._one_writes:
            self.asked[ask.idempotency_key] += 1
            result = self.book.setdefault(ask.idempotency_key, (ask, decide(ask)))[1]
        return result if fate == ANSWER else Unknown()

    def money(self) -> dict[str, Money]:
        """Each payment's money."""
        accounts: defaultdict[str, Money] = defaultdict(Money)
        with self._one_writes:
            done = list(self.book.values())
        for ask, result in done:
            if not isinstance(result, Approved):
                continue
            account = accounts[ask.payment_id]
            match ask.operation:
                case "authorize" if ask.capture == "automatic":
                    account.taken += ask.amount
                case "authorize":
                    account.held += ask.amount
                case "capture":
                    account.held, account.taken = 0, account.taken + ask.amount
                case "void":
                    account.held = 0
                case "refund":
                    account.returned += ask.amount
        return dict(accounts)


def decide(ask: Ask) -> Result:
    """The bank's decision, by what it is asked: the same each time."""
    if ask.operation == "authorize" and (ask.vpa or "").startswith("failure@"):
        return DECLINED
    if ask.operation == "refund" and ask.amount % 100 == UNLUCKY_REFUND:
        return REFUND_DECLINED
    reference = hashlib.sha256(ask.idempotency_key.encode()).hexdigest()[:16]
    return Approved(f"bank_{reference}", vpa=ask.vpa)
