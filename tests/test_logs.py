"""What log lines say; and that none shows a card, whatever brought it there."""

from __future__ import annotations

import io
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextvars import Context
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app import create_app
from jobs.clock import WORKS
from logs import JsonFormatter, TextFormatter, scrub
from models.base import db
from tests.conftest import Api, found, settings_of
from tests.processes import gateway, wait_until


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


def test_a_long_line_of_digits_takes_no_time() -> None:
    began_s = time.perf_counter()
    scrub("1." * 20_000)
    assert time.perf_counter() - began_s < 5


def test_it_masks_tracebacks_too() -> None:
    try:
        raise ValueError("4242424242424242")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "broke", None, (type(error), error, None))
    line = TextFormatter().format(record)
    assert "ValueError: [number]" in line


@pytest.mark.parametrize("form", [TextFormatter, JsonFormatter])
def test_a_row_that_was_refused_is_not_shown(context: None, form: type[logging.Formatter]) -> None:
    """Its secrets are sealed, but its addresses are not."""
    email = "somebody (at home)\nx@example.com"
    statement = text(
        "INSERT INTO merchants (id, name, email, role) VALUES ('mer_1', 'Asha', :email, 'admin')"
    )
    with pytest.raises(IntegrityError) as refusal:
        db.session.execute(statement, {"email": email})
    record = logging.LogRecord("x", logging.ERROR, "", 0, "broke", None, None)
    record.exc_info = (refusal.type, refusal.value, None)
    line = form().format(record)
    assert "Failing row contains [not shown]" in line
    assert "violates check constraint" in line
    assert "home" not in line
    assert "example.com" not in line


# --- JSON ----------------------------------------------------------------------------------------


@pytest.fixture
def lines(app: Flask, environ: dict[str, str]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What has been written since, by a gateway that logs in JSON."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel("INFO")

    def read() -> list[dict[str, Any]]:
        told = written.getvalue()
        written.seek(0)
        written.truncate()
        return [json.loads(line) for line in told.splitlines()]

    yield read
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.fixture
def telling(environ: dict[str, str]) -> Iterator[Flask]:
    """The same gateway, with a line for each request."""
    app = create_app(settings_of(environ | {"REQUEST_LOG": "true"}))
    yield app
    with app.app_context():
        db.engine.dispose()


def test_a_request_is_one_line_with_all_its_ids(api: Api, telling: Flask, lines: Callable) -> None:
    client = Api(telling.test_client())
    order = client.order()
    payment = client.upi(order["id"])
    found(client.get(f"/payments/{payment['id']}"))
    ordered, paid, looked = lines()
    assert datetime.fromisoformat(ordered["time"]).tzinfo
    assert (ordered["level"], ordered["logger"], ordered["method"]) == ("INFO", "routes.requests", "POST")
    assert (ordered["route"], ordered["status"]) == ("/api/v1/orders", 201)
    assert ordered["duration_ms"] > 0
    assert ordered["order_id"] == paid["order_id"] == order["id"]
    assert paid["payment_id"] == looked["payment_id"] == payment["id"]
    assert looked["route"] == "/api/v1/payments/<id:payment_id>"
    assert {line["merchant_id"] for line in (ordered, paid, looked)} == {order["merchant_id"]}
    assert len({line["request_id"] for line in (ordered, paid, looked)}) == 3


def test_a_refusal_is_one_too_and_tells_nothing_that_the_caller_wrote(
    api: Api, telling: Flask, lines: Callable
) -> None:
    client = telling.test_client()
    for path in ("/api/v1/orders?pan=4242424242424242", "/nowhere/4242424242424242", "/api/v1/orders/\0"):
        Context().run(client.get, path, headers={"X-Request-Id": "mine"})
    told = lines()
    assert [line["status"] for line in told] == [401, 404, 404]
    assert {line["request_id"] for line in told} == {"mine"}
    assert "4242" not in json.dumps(told)


def test_a_settled_batch_is_one_with_the_ids_of_its_rows(telling: Flask, api: Api, lines: Callable) -> None:
    payments = [api.upi(api.order()["id"]) for _ in range(2)]
    lines()
    with telling.app_context():
        WORKS[0].drain()
    [settled] = [line for line in lines() if "settled" in line["message"]]
    assert settled["message"] == "payments: settled 2"
    assert settled["ids"] == sorted(payment["id"] for payment in payments)
    assert settled["merchant_ids"] == [payments[0]["merchant_id"]]


def test_json_masks_too_and_stays_json(lines: Callable) -> None:
    try:
        raise ValueError("4242424242424242")
    except ValueError:
        logging.getLogger("x").exception("cvv: %s", 739, extra={"odd": "pan 5555555555554444", "n": 1})
    [line] = lines()
    assert line["message"] == "cvv: ***"
    assert "ValueError: [number]" in line["exc_info"]
    assert (line["odd"], line["n"]) == ("pan [number]", 1)


@pytest.mark.slow
def test_web_server_and_worker_write_nothing_but_json(tmp_path: Path) -> None:
    with gateway(tmp_path / "data", LOG_FORMAT="json", REQUEST_LOG="true") as running:
        order = running.post("/orders", {"amount": 10000})
        payment = running.post("/payments", {"order_id": order["id"], "method": "upi", "vpa": "success@upi"})
        wait_until(lambda: running.get(f"/payments/{payment['id']}")["status"] == "success")
        with socket.create_connection(("127.0.0.1", running.port)) as broken:
            broken.sendall(b"4242424242424242 / HTTP/9\r\n\r\n")
            broken.recv(1024)
    said = [line for line in running.log.splitlines() if line.startswith("{")]
    told = [json.loads(line) for line in said]
    [settled] = [line for line in told if line["message"] == "payments: settled 1"]
    assert settled["job_id"]
    assert settled["ids"] == [payment["id"]]
    [paid] = [line for line in told if line.get("status") == 201 and line.get("payment_id")]
    assert (paid["payment_id"], paid["order_id"]) == (payment["id"], order["id"])
    assert any(line["logger"] == "gunicorn.error" for line in told)
    assert "4242424242424242" not in running.log
