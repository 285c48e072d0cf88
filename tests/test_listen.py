"""`flask listen`, as the process that a developer starts."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from click.testing import CliRunner
from flask import Flask
from sqlalchemy import text
from standardwebhooks import Webhook

from commands.listen import listen as listen_command
from config import ROOT
from jobs.payments import PAYMENTS
from models.base import db
from models.events import Event
from models.merchants import TEST_MERCHANT_ID
from models.webhook_endpoints import WebhookEndpoint
from tests.conftest import Api, drain, found
from tests.processes import gateway, wait_until
from tests.receiver import Receiver, hang_until

OF_A_PAYMENT = ["payment.created", "payment.success", "payment.captured", "order.paid"]
NOBODY = "http://127.0.0.1:1/"


@dataclass
class Listening:
    """One `flask listen` that runs."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def secret(self) -> str:
        found = re.search(r"^Signed with (whsec_\S+)$", self.said, re.MULTILINE)
        assert found, self.said
        return found[1]

    @property
    def lines(self) -> list[str]:
        """One for each event."""
        return [line for line in self.said.splitlines() if re.match(r"\d\d:\d\d:\d\d  ", line)]

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(5)


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "flask", "listen", *options]


@contextmanager
def listening(environ: dict[str, str], folder: Path, *options: str) -> Iterator[Listening]:
    output = folder / "listen.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            command(*options), cwd=ROOT, env=environ, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        listening = Listening(process, output)
        wait_until(lambda: process.poll() is not None or "Ctrl-C ends it." in listening.said)
        assert process.poll() is None, listening.said
        yield listening
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def listen(environ: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    return lambda *options: listening(environ, tmp_path, *options)


def refusal(environ: dict[str, str], *options: str) -> str:
    result = CliRunner().invoke(listen_command, options, env=environ)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    return result.output.strip().splitlines()[-1]


def pay(api: Api) -> None:
    api.upi(api.order()["id"])
    drain(PAYMENTS)


def test_new_events_are_forwarded_once_in_order_and_verify(
    context: None, api: Api, receiver: Receiver, listen: Any
) -> None:
    pay(api)  # before it listens: not forwarded
    with listen("--forward-to", receiver.url) as listening:
        pay(api)
        wait_until(lambda: len(listening.lines) == 4)
        assert receiver.events == OF_A_PAYMENT
        events = {event["id"]: event["event"] for event in found(api.get("/events", limit=4))["data"]}
        assert {r.headers["webhook-id"]: r.event["event"] for r in receiver.received} == events
        for received, line in zip(receiver.received, listening.lines, strict=True):
            Webhook(listening.secret).verify(received.body, received.headers)
            words = rf"{received.event['event']} +{received.event['id']}  answered 200, \d+ ms"
            assert re.search(words + "$", line), line
        assert f"Forwarding events of Test Merchant ({TEST_MERCHANT_ID}) to {receiver.url}" in listening.said
        assert listening.interrupt() == 0
        assert listening.said.endswith("\nforwarded 4, of which 0 failed\n")
    assert found(api.get("/webhooks"))["total"] == 0


def test_only_what_is_asked_for_is_forwarded(
    context: None, api: Api, receiver: Receiver, listen: Any
) -> None:
    with listen("--forward-to", receiver.url, "--events", "order.paid, payment.created") as listening:
        pay(api)
        wait_until(lambda: len(listening.lines) == 2)
        pay(api)
        wait_until(lambda: len(listening.lines) == 4)
    assert receiver.events == ["payment.created", "order.paid"] * 2


def test_other_merchants_events_are_theirs(
    context: None, api: Api, other: Api, receiver: Receiver, listen: Any
) -> None:
    with listen("--forward-to", receiver.url, "--merchant", "mer_OtherMerchant001") as listening:
        pay(api)
        pay(other)
        wait_until(lambda: len(listening.lines) == 4)
    assert {r.event["data"].get("payment", {}).get("merchant_id") for r in receiver.received[:3]} == {
        "mer_OtherMerchant001"
    }


def test_the_secret_is_the_same_on_every_run_unless_it_is_given(
    receiver: Receiver, app: Flask, listen: Any
) -> None:
    secrets = []
    for options in ([], [], ["--secret", "whsec_c2VjcmV0"]):
        with listen("--forward-to", receiver.url, *options) as listening:
            secrets.append(listening.secret)
    assert secrets[0] == secrets[1] != secrets[2] == "whsec_c2VjcmV0"


def test_what_fails_is_said_in_plain_words_and_does_not_end_it(
    context: None, api: Api, receiver: Receiver, listen: Any
) -> None:
    receiver.answers = [500, 302]
    with listen("--forward-to", receiver.url) as listening:
        pay(api)
        wait_until(lambda: len(listening.lines) == 4)
        answers = [line.split("  ")[-1].split(",")[0] for line in listening.lines]
        assert answers == ["answered 500", "answered 302", "answered 200", "answered 200"]
        assert listening.interrupt() == 0
        assert "forwarded 4, of which 2 failed" in listening.said
    with listen("--forward-to", NOBODY) as listening:
        pay(api)
        wait_until(lambda: len(listening.lines) == 4)
        assert all("  connection refused, " in line for line in listening.lines)


def test_ctrl_c_ends_it_at_once_also_while_a_receiver_hangs(
    context: None, api: Api, receiver: Receiver, listen: Any
) -> None:
    let_go = threading.Event()
    receiver.answers = [hang_until(let_go)]
    with listen("--forward-to", receiver.url) as listening:
        pay(api)
        wait_until(lambda: receiver.received)
        assert listening.interrupt() == 0
    let_go.set()


def test_an_event_that_becomes_visible_late_is_forwarded_too(
    app: Flask, context: None, api: Api, receiver: Receiver, listen: Any
) -> None:
    """Its transaction began before another one's, and ended after it."""
    endpoint = api.endpoint(NOBODY)["id"]
    with listen("--forward-to", receiver.url) as listening:
        slow = db.session.get_one(WebhookEndpoint, endpoint)
        slow.send_test()
        db.session.flush()
        api.upi(api.order()["id"])
        wait_until(lambda: len(listening.lines) == 1)
        db.session.commit()
        wait_until(lambda: len(listening.lines) == 2)
    assert receiver.events == ["payment.created", "webhook.test"]
    early, late = db.session.query(Event).order_by(Event.created_at)
    assert (early.type, late.type) == ("webhook.test", "payment.created")


def test_a_database_that_goes_and_comes_back_costs_no_event(
    context: None, api: Api, environ: dict[str, str], receiver: Receiver, listen: Any
) -> None:
    endpoint = api.endpoint(NOBODY)["id"]
    with (
        listen("--forward-to", receiver.url) as listening,
        closing(psycopg2.connect(environ["DATABASE_URL"].replace("/payment_gateway", "/postgres"))) as admin,
        admin.cursor() as cursor,
    ):
        admin.autocommit = True
        ours = db.session.scalar(text("SELECT pg_backend_pid()"))
        cursor.execute("ALTER DATABASE payment_gateway ALLOW_CONNECTIONS false")
        try:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = 'payment_gateway' AND pid <> %s",
                (ours,),
            )
            wait_until(lambda: "the database does not answer, trying again: " in listening.said)
            db.session.get_one(WebhookEndpoint, endpoint).send_test()
            db.session.commit()
        finally:
            cursor.execute("ALTER DATABASE payment_gateway ALLOW_CONNECTIONS true")
        wait_until(lambda: listening.lines)
        assert "the database is back" in listening.said
        assert listening.said.count("the database does not answer") == 1
    assert receiver.events == ["webhook.test"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "Missing option '--forward-to'"),
        (["--forward-to", "localhost:4000"], "'--forward-to': Must be an http or https URL."),
        (["--forward-to", "http://u:p@localhost/"], "Must not hold a user name or password."),
        (
            ["--forward-to", NOBODY, "--events", "payment.lost"],
            "'--events': payment.lost is none of: *, order.*",
        ),
        (["--forward-to", NOBODY, "--events", ""], "'--events': nothing is none of: "),
        (["--forward-to", NOBODY, "--secret", "abc"], "'--secret': Must be whsec_ and base64."),
        (["--forward-to", NOBODY, "--secret", "whsec_!"], "'--secret': Must be whsec_ and base64."),
        (["--forward-to", NOBODY, "--merchant", "mer_x"], "--merchant: There is no such merchant."),
    ],
)
def test_a_wrong_option_is_named(app: Flask, environ: dict[str, str], options: list[str], words: str) -> None:
    assert words in refusal(environ, *options)


def test_without_a_test_merchant_it_wants_to_know_whose_events(app: Flask, environ: dict[str, str]) -> None:
    words = refusal(environ | {"TEST_ENDPOINTS": "false"}, "--forward-to", NOBODY)
    assert words == "Error: --merchant is needed: there is no test merchant here."


def test_a_database_that_is_not_there_is_a_line(environ: dict[str, str]) -> None:
    nowhere = {"DATABASE_URL": "postgresql://gateway:hidden@127.0.0.1:1/payment_gateway"}
    words = refusal(environ | nowhere, "--forward-to", NOBODY)
    assert words.startswith("Error: DATABASE_URL: ")
    assert "Connection refused" in words
    assert "hidden" not in words


def test_without_a_gateway_it_says_how_to_start_one(environ: dict[str, str], tmp_path: Path) -> None:
    nothing = {"DATABASE_URL": "", "DATA_DIR": str(tmp_path)}
    words = refusal(environ | nothing, "--forward-to", NOBODY)
    assert words == "Error: the gateway is not running; start it with: make run"


@pytest.mark.slow
def test_it_finds_the_database_of_the_gateway_that_runs(tmp_path: Path, receiver: Receiver) -> None:
    with (
        gateway(tmp_path / "data") as running,
        listening(running.environ, tmp_path, "--forward-to", receiver.url) as forwarding,
    ):
        running.pay()
        wait_until(lambda: len(forwarding.lines) == 4)
        assert receiver.events == OF_A_PAYMENT
        assert forwarding.interrupt() == 0
