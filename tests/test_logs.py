"""No log line shows a card, whatever brought it there."""

from __future__ import annotations

import logging

import pytest

from logs import FORMAT, ScrubbingFormatter, scrub


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("4242424242424242", "[number]"),
        ("pan=4242 4242 4242 4242.", "pan=[number]."),
        ('{"number":"5555-5555-5555-4444","x":1}', '{"number":"[number]","x":1}'),
        ("4242424242424242 739", "[number]"),
        (r"b'\\t4242424242424242'", r"b'\\t[number]'"),
        ("card_4242424242424242abc", "card_[number]abc"),
        ("4242%204242%204242%204242", "[number]"),
        ("card_cvv=739&cvvNumber: 739", "card_cvv=***&cvvNumber: ***"),
        ('{"cvv": "123", "cvc":4567}', '{"cvv": "***", "cvc":***}'),
        (
            "Invalid request from ip=10.0.0.1: Invalid line: 'a card'",
            "Invalid request from ip=10.0.0.1: it is not HTTP",
        ),
    ],
)
def test_it_masks(text: str, masked: str) -> None:
    assert scrub(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "order_4242424242424241",
        "10000 in 2026-11-23 08:35:19,204",
        "took 1614265330 ns",
        "ports 8500 3500 3501",
        "amount 999999999999",
    ],
)
def test_it_leaves_alone(text: str) -> None:
    assert scrub(text) == text


def test_it_masks_tracebacks_too() -> None:
    try:
        raise ValueError("4242424242424242")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "broke", None, (type(error), error, None))
    line = ScrubbingFormatter(FORMAT).format(record)
    assert "ValueError: [number]" in line
