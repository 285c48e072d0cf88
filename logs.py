"""Logging, without what must never be logged: card numbers and security codes are masked in every line.

Nothing of ours logs a card. But an exception's text, or a web server that quotes the bytes it could not
understand, may hold what a client sent.
"""

from __future__ import annotations

import logging
import re

from gunicorn.glogging import Logger as GunicornBaseLogger

from models.luhn import luhn

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

# Digits in a row, as a card number may be written or quoted; and what follows the name of a security code.
DIGITS = re.compile(r"\d(?:(?:[ .+-]|%20|\xa0){0,2}\d){12,}")
SECURITY_CODE = re.compile(r"(?i)(cvv2?|cvc2?|security_code)(\w*)(\W{1,8})\d{3,4}(?!\d)")
QUOTED_REQUEST = re.compile(r"(Invalid request from ip=\S+?): .*", re.DOTALL)
CARD_LENGTHS = range(13, 20)  # ISO/IEC 7812-1


def scrub(text: str) -> str:
    """The text with card numbers and security codes masked."""
    text = QUOTED_REQUEST.sub(r"\1: it is not HTTP", text)
    text = SECURITY_CODE.sub(r"\1\2\3***", text)
    return DIGITS.sub(_mask_card, text)


def _mask_card(match: re.Match[str]) -> str:
    """Masked if groups of it are a card number; times and counts are for the operator to read."""
    groups = re.split(r"\D+", match[0].replace("%20", " "))
    for first in range(len(groups)):
        for last in range(first + 1, len(groups) + 1):
            number = "".join(groups[first:last])
            if len(number) in CARD_LENGTHS and luhn(number):
                return "[number]"
    return match[0]


class ScrubbingFormatter(logging.Formatter):
    """Masks the whole line, traceback and all."""

    def format(self, record: logging.LogRecord) -> str:
        return scrub(super().format(record))


def set_up(level: str) -> None:
    """One handler for everything, to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(ScrubbingFormatter(FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("rq").setLevel(logging.WARNING)


class GunicornLogger(GunicornBaseLogger):
    """The web server's logger, with the same mask."""

    def setup(self, cfg: object) -> None:
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            for handler in logger.handlers:
                form = handler.formatter
                handler.setFormatter(ScrubbingFormatter(form._fmt if form else FORMAT, form and form.datefmt))
