"""Cards and VPAs: networks, check digits, expiry, and that a card never shows its number."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from models.errors import Refused
from models.instruments import Card, card_network, check_card, check_vpa
from models.luhn import luhn


@pytest.mark.parametrize(
    ("prefix", "network"),
    [
        ("4", "visa"),
        *((str(n), "mastercard") for n in (51, 55, 2221, 2500, 2720)),
        *((str(n), "unknown") for n in (50, 56, 2220, 2721, 66, 1, 9)),
        *((str(n), "amex") for n in (34, 37)),
        *((str(n), "rupay") for n in (60, 65, 81, 82, 508, 6521)),
        *((str(n), "diners") for n in (36, 38, 300, 305)),
        *((str(n), "discover") for n in (6011, 644, 649)),
        *((str(n), "unknown") for n in (306, 643, 35, 39)),
    ],
)
def test_the_network_is_told_by_the_prefix(prefix: str, network: str) -> None:
    assert card_network(prefix.ljust(16, "0")) == network


def test_luhn_catches_every_single_wrong_digit() -> None:
    number = "4242424242424242"
    assert luhn(number)
    for place, digit in enumerate(number):
        for other in set("0123456789") - {digit}:
            assert not luhn(number[:place] + other + number[place + 1 :])


@pytest.mark.parametrize(
    ("month", "year", "valid"),
    [("11", "2026", True), (11, 26, True), ("1", "27", True), ("10", "2026", False), ("12", "25", False)],
)
def test_a_card_is_good_through_its_month(month: int | str, year: int | str, valid: bool) -> None:
    facts: dict[str, Any] = {
        "number": "4242424242424242",
        "cvv": "123",
        "holder_name": "A",
        "today": date(2026, 11, 30),
    }
    if valid:
        assert check_card(expiry_month=month, expiry_year=year, **facts).expiry_year in (2026, 2027)
    else:
        with pytest.raises(Refused) as refusal:
            check_card(expiry_month=month, expiry_year=year, **facts)
        assert refusal.value.code == "EXPIRED_CARD"


def test_a_printed_card_shows_neither_number_nor_cvv_nor_name() -> None:
    card = Card(number="4242424242424242", expiry_month=1, expiry_year=2030, cvv="987", holder_name="Asha")
    assert repr(card) == "Card(expiry_month=1, expiry_year=2030)"


@pytest.mark.parametrize("vpa", ["ab@upi", "asha.rao-1_x@okhdfcbank", "9876543210@ybl", "a" * 256 + "@upi"])
def test_a_vpa_is_taken_as_it_is(vpa: str) -> None:
    assert check_vpa(vpa) == vpa


@pytest.mark.parametrize("vpa", ["a" * 257 + "@upi", "ab@upi\n", "ab@u", "ab@" + "u" * 65])
def test_a_vpa_has_its_limits(vpa: str) -> None:
    with pytest.raises(Refused):
        check_vpa(vpa)
