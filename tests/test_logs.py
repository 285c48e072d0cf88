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
    ["order_4242424242424242", "pay_1234567890123456", "10000 in 2026-11-23 08:35:19", "took 1614265330 ns"],
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
