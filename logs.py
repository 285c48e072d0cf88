"""Logging, without what must never be logged: card numbers and security codes are masked in every line.

Nothing of ours logs a card. But an exception's text, or a web server that quotes the bytes it could not
understand, may hold what a client sent.
"""

from __future__ import annotations

import logging
import re

from gunicorn.glogging import Logger as GunicornBaseLogger

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

# 12 to 19 digits in a row, as a card number is written; and what follows the name of a security code.
CARD_NUMBER = re.compile(r"(?<![\w.])\d(?:[ -]?\d){11,18}(?!\w)")
SECURITY_CODE = re.compile(r"(?i)\b(cvv2?|cvc2?)\b(\W{1,8})\d{3,4}(?!\d)")
QUOTED_REQUEST = re.compile(r"(Invalid request from ip=\S+?): .*", re.DOTALL)


def scrub(text: str) -> str:
    """The text with card numbers and security codes masked."""
    text = QUOTED_REQUEST.sub(r"\1: it is not HTTP", text)
    text = SECURITY_CODE.sub(r"\1\2***", text)
    return CARD_NUMBER.sub("[number]", text)


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
