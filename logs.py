"""Logging, as text or as one JSON object a line, which names the request or job that it is about.

Without what must never be logged: card numbers and security codes are masked in every line. Nothing of ours
logs a card. But an exception's text, or a web server that quotes the bytes it could not understand, may hold
what a client sent. Nor a row that PostgreSQL refused, which its error quotes.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Any

from flask import g, has_request_context
from gunicorn.glogging import Logger as GunicornBaseLogger
from pythonjsonlogger.orjson import OrjsonFormatter
from rq import get_current_job

from models.luhn import luhn

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

# Digits in a row, as a card number may be written or quoted; and what follows the name of a security code.
DIGITS = re.compile(r"(?<!\d)\d(?:(?:[ .+-]|%20|\xa0){0,2}\d){12,}")
SECURITY_CODE = re.compile(r"(?i)(cvv2?|cvc2?|security_code)(\w*)(\W{1,8})\d{3,4}(?!\d)")
FAILING_ROW = re.compile(r"(Failing row contains )\(.*\)\.", re.DOTALL)  # PostgreSQL's DETAIL
QUOTED_REQUEST = re.compile(r"(Invalid request from ip=\S+?): .*", re.DOTALL)
CARD_LENGTHS = range(13, 20)  # ISO/IEC 7812-1


def scrub(text: str) -> str:
    """The text with card numbers and security codes masked."""
    if "Invalid request" in text:
        text = QUOTED_REQUEST.sub(r"\1: it is not HTTP", text)
    return _mask_cards(text)


def _mask_cards(text: str) -> str:
    if "Failing row" in text:
        text = FAILING_ROW.sub(r"\1[not shown]", text)
    lower = text.lower()
    if "cv" in lower or "security" in lower:  # looked for first: most lines are about neither
        text = SECURITY_CODE.sub(r"\1\2\3***", text)
    return DIGITS.sub(_mask_card, text)


def _mask_card(match: re.Match[str]) -> str:
    """Masked if groups of it are a card number; times and counts are for the operator to read."""
    groups = re.split(r"\D+", match[0].replace("%20", " "))
    for first in range(len(groups)):
        for last in range(first + 1, min(first + CARD_LENGTHS.stop, len(groups) + 1)):
            number = "".join(groups[first:last])
            if len(number) in CARD_LENGTHS and luhn(number):
                return "[number]"
    return match[0]


class TextFormatter(logging.Formatter):
    """For people. Masks the whole line, traceback and all."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        return scrub(super().format(record))


class JsonFormatter(OrjsonFormatter):
    """For machines: `time`, `level`, `logger`, `message`, `exc_info`, and the ids of what it is about."""

    def __init__(self) -> None:
        names = {"asctime": "time", "levelname": "level", "name": "logger"}
        super().__init__(["asctime", "levelname", "name", "message"], rename_fields=names)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return log_data | {"message": scrub(log_data["message"])} | about()

    def serialize_log_record(self, log_data: dict[str, Any]) -> str:
        return _mask_cards(super().serialize_log_record(log_data))


def about() -> dict[str, Any]:
    """The ids of the request or the job that goes on."""
    if has_request_context():
        ids = {"request_id": g.get("request_id"), "merchant_id": g.get("merchant_id")} | g.get("ids", {})
        return {name: value for name, value in ids.items() if value is not None}
    job = get_current_job()
    return {"job_id": job.id} if job else {}


def add(**ids: str) -> None:
    """Name what the request turned out to be about, in every line that follows."""
    g.setdefault("ids", {}).update(ids)


def set_up(level: str, form: str) -> None:
    """One handler for everything, to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter := JsonFormatter() if form == "json" else TextFormatter())
    GunicornLogger.formatter = formatter
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # No line names its thread or process: they need not be looked up.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.getLogger("rq").setLevel(logging.WARNING)


class GunicornLogger(GunicornBaseLogger):
    """The web server's own words, in the same form."""

    formatter: logging.Formatter = TextFormatter()

    def setup(self, cfg: object) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(self.formatter)
