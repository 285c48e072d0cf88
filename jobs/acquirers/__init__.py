"""Acquirers: who really moves the money. One narrow interface; the simulator is the default one.

ACQUIRER names another: a class that is made with the settings and does what `Acquirer` says.
Every call is idempotent by `Ask.idempotency_key`: asking twice moves money once and gives the same answer.
No call is made inside a database transaction. One that waits for no network may say `instant = True`: it is
asked about hundreds of payments in a row then, and not by as many threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from config import SIMULATOR, ConfigError, Settings
from models.instruments import Card


@dataclass(frozen=True)
class Approved:
    """Done. `check_again_s`: it may still be reversed; look it up once more after so many seconds.
    `vpa` is the payer's, where only the acquirer knows it.
    """

    reference: str
    check_again_s: float | None = None
    vpa: str | None = None


@dataclass(frozen=True)
class Declined:
    """Refused for good, with the contract's error code, the reason, and words for the shopper."""

    code: str
    reason: str
    description: str


@dataclass(frozen=True)
class NeedsAction:
    """The shopper must act first, within so many seconds: type an OTP, or approve in a UPI app.

    `upi_link` is what the app opens or scans (NPCI's UPI Linking Specification: `upi://pay?...`).
    """

    expires_in_s: int
    upi_link: str | None = None


@dataclass(frozen=True)
class Unknown:
    """No definite answer, as after a timeout. Not a decline: look it up, then decide."""


@dataclass(frozen=True)
class NotFound:
    """To a look-up: it never heard of it, so nothing has happened. It is asked again, as the first time."""


Result = Approved | Declined | NeedsAction | Unknown | NotFound


@dataclass(frozen=True)
class Ask:
    """What the acquirer is asked about. Amounts in minor units; `age_s` counts from its creation."""

    id: str  # the payment's or the refund's
    payment_id: str
    operation: str  # authorize, capture, void or refund
    amount: int
    currency: str
    method: str
    vpa: str | None
    token: str | None
    age_s: float
    capture: str = "automatic"  # of an authorization: taken in the same step; `manual`: held for a capture
    flow: str | None = None
    payee: str = ""  # the merchant's name, as the shopper's bank shows it

    @property
    def idempotency_key(self) -> str:
        """What tells the acquirer that it is asked the same thing again, and not the next thing."""
        return f"{self.id}:{self.operation}:{self.amount}"


class Acquirer(Protocol):
    """What the gateway needs of an acquirer."""

    simulated: bool  # no money moves

    def tokenize(self, card: Card) -> str:
        """Hand the card over, in the request that brought it; keep only what this returns."""
        ...

    def authenticate(self, token: str | None, otp: str) -> str:
        """Hand over a shopper's OTP, in the request that brought it; keep only what this returns."""
        ...

    def cancel(self, token: str | None) -> str:
        """The shopper does not want to go on. What became of it, a look-up tells: it may be too late."""
        ...

    def authorize(self, ask: Ask) -> Result: ...
    def capture(self, ask: Ask) -> Result: ...
    def void(self, ask: Ask) -> Result: ...
    def refund(self, ask: Ask) -> Result: ...

    def lookup(self, ask: Ask) -> Result:
        """What became of `ask.operation`, without asking for it anew."""
        ...


def is_instant(acquirer: Acquirer) -> bool:
    """Whether it answers without waiting for anything."""
    return getattr(acquirer, "instant", False)


def get_acquirer(settings: Settings) -> Acquirer:
    """The acquirer that the settings choose.

    Raises:
        ConfigError: there is no such class.
    """
    if settings.acquirer == SIMULATOR:
        from jobs.acquirers.simulator import Simulator  # noqa: PLC0415 (an acquirer loads when chosen)

        return Simulator(settings)
    module, _, name = settings.acquirer.partition(":")
    try:
        return getattr(import_module(module), name)(settings)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"ACQUIRER: {settings.acquirer} cannot be loaded: {error}.") from None
