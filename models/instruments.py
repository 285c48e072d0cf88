"""What a shopper pays with: a UPI address (VPA) or a card. Pure checks, no storage.

A card's number and CVV live in a `Card` for the length of one request; nothing here keeps or prints them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date

from models import vault
from models.errors import Refused, bad_request
from models.luhn import luhn

VPA_PATTERN = re.compile(r"[a-zA-Z0-9._-]{2,256}@[a-zA-Z][a-zA-Z0-9]{2,63}")
CARD_NUMBER_PATTERN = re.compile(r"[0-9]{13,19}")  # ISO/IEC 7812-1
MAX_YEARS_AHEAD = 50  # an expiry beyond this is a slip of the finger


@dataclass(frozen=True)
class Card:
    """A card as the shopper typed it, checked. Only what `kept()` gives may be stored."""

    number: str = field(repr=False)
    expiry_month: int
    expiry_year: int
    cvv: str = field(repr=False)
    holder_name: str = field(repr=False)

    @property
    def network(self) -> str:
        return card_network(self.number)

    @property
    def last4(self) -> str:
        return self.number[-4:]

    @property
    def fingerprint(self) -> str:
        """The same for the same number, and useless without the gateway's key."""
        return vault.keyed_hash("card fingerprint", self.number.encode()).hex()[:32]


def check_vpa(vpa: str) -> str:
    """The VPA, or a refusal (INVALID_VPA). The form is NPCI's `name@handle`."""
    if not VPA_PATTERN.fullmatch(vpa):
        raise Refused("INVALID_VPA", "The VPA must look like name@bank.", field="vpa")
    return vpa


def check_card(
    *, number: str, expiry_month: int | str, expiry_year: int | str, cvv: str, holder_name: str, today: date
) -> Card:
    """A valid card, or a refusal that names the field.

    Raises:
        Refused: INVALID_CARD, EXPIRED_CARD or INVALID_CVV.
    """
    digits = re.sub(r"[ -]", "", number)
    if not CARD_NUMBER_PATTERN.fullmatch(digits) or not luhn(digits):
        raise Refused("INVALID_CARD", "The card number is not valid.", field="card.number")
    month, year = _expiry(expiry_month, expiry_year)
    if (year, month) < (today.year, today.month):
        raise Refused("EXPIRED_CARD", "The card has expired.", field="card.expiry_month")
    if year > today.year + MAX_YEARS_AHEAD:
        raise Refused("INVALID_CARD", "The expiry year is too far ahead.", field="card.expiry_year")
    cvv_length = 4 if card_network(digits) == "amex" else 3
    if not re.fullmatch(rf"[0-9]{{{cvv_length}}}", cvv):
        raise Refused("INVALID_CVV", f"The CVV must have {cvv_length} digits.", field="card.cvv")
    if re.search(r"\d{12,}", re.sub(r"[ -]", "", holder_name)):
        raise bad_request("The holder's name must not hold a number.", field="card.holder_name")
    return Card(number=digits, expiry_month=month, expiry_year=year, cvv=cvv, holder_name=holder_name)


# Issuer prefixes, as (first, last) of the leading digits. The first match wins.
NETWORK_PREFIXES = (
    ("amex", ("34", "34"), ("37", "37")),
    ("diners", ("300", "305"), ("36", "36"), ("38", "38")),
    ("rupay", ("60", "60"), ("65", "65"), ("81", "82"), ("508", "508")),
    ("discover", ("6011", "6011"), ("644", "649")),
    ("mastercard", ("51", "55"), ("2221", "2720")),
    ("visa", ("4", "4")),
)


def card_network(digits: str) -> str:
    """The network by the number's prefix, `unknown` if none fits. RuPay's 60 holds Discover's 6011."""
    if digits.startswith("6011"):
        return "discover"
    for network, *ranges in NETWORK_PREFIXES:
        if any(first <= digits[: len(first)] <= last for first, last in ranges):
            return network
    return "unknown"


def _expiry(month: int | str, year: int | str) -> tuple[int, int]:
    """Month 1-12, and a year of two or four digits."""
    if not re.fullmatch(r"0?[1-9]|1[0-2]", str(month)):
        raise Refused("INVALID_CARD", "The expiry month must be 1 to 12.", field="card.expiry_month")
    if not re.fullmatch(r"[0-9]{1,2}|20[0-9]{2}", str(year)):
        raise Refused(
            "INVALID_CARD", "The expiry year must have two or four digits.", field="card.expiry_year"
        )
    return int(month), int(year) % 100 + 2000
