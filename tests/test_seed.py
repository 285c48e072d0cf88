"""`flask seed`: a past that is made up, and true in itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from sqlalchemy import func, select, text

from app import create_app
from commands.seed import BATCH, ENDPOINT_URL
from commands.seed import seed as seed_command
from config import ROOT
from jobs.wake import fast_redis
from models.acquirer_answers import AcquirerAnswer
from models.base import db
from models.events import Event
from models.ledger import LedgerEntry
from models.orders import Order
from models.payments import Payment
from models.refunds import Refund
from models.webhook_endpoints import WebhookEndpoint
from models.webhooks import WebhookAttempt, WebhookDelivery
from tests.conftest import PRODUCTION, Api, another_database, breaks, found, settings_of
from tests.processes import wait_until

PAYMENTS = 500
DAYS = 30
NOBODY = "http://127.0.0.1:1/"


def run(environ: dict[str, str], *options: str) -> Result:
    return CliRunner().invoke(seed_command, options, env=environ)


def seeded(environ: dict[str, str], *options: str) -> str:
    result = run(environ, *options)
    assert result.exit_code == 0, result.output
    return result.output.strip().splitlines()[-1]


def refusal(environ: dict[str, str], *options: str) -> str:
    result = run(environ, *options)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    return result.output.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def past(environ: dict[str, str]) -> Iterator[Flask]:
    """A gateway with a past, of a merchant who has an enabled endpoint besides."""
    with another_database(environ, "past") as its_environ:
        app = create_app(settings_of(its_environ))
        Api(app.test_client()).endpoint(NOBODY)
        with app.app_context():
            fast_redis().flushall()
        seeded(its_environ, "--payments", str(PAYMENTS), "--days", str(DAYS), "--random-seed", "7")
        yield app
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def seen(past: Flask) -> Iterator[Api]:
    with past.app_context():
        yield Api(past.test_client())


def number_of(model: Any, *where: Any) -> int:
    return db.session.scalar(select(func.count()).select_from(model).where(*where)) or 0


def all_of(model: Any) -> list[Any]:
    return list(db.session.scalars(select(model).order_by(model.seq)))


# --- what it writes ------------------------------------------------------------------------------


def test_it_writes_as_many_payments_as_it_is_told_of_every_kind(seen: Api) -> None:
    payments = all_of(Payment)
    assert len(payments) == PAYMENTS
    assert {payment.status for payment in payments} == {"success", "failed", "voided"}
    assert {payment.capture for payment in payments} == {"automatic", "manual"}
    assert {payment.flow for payment in payments} == {None, "collect", "qr", "intent"}
    assert {payment.card_network for payment in payments} > {None, "visa", "mastercard", "rupay"}
    assert {payment.currency for payment in payments} == {"INR", "USD", "EUR"}
    assert {payment.refund_status for payment in payments} == {None, "partial", "full"}
    assert len({payment.error_reason for payment in payments}) > 6
    assert any(0 < payment.amount_captured < payment.amount for payment in payments)
    assert any(payment.hold_expires_at for payment in payments)
    by_method = Counter(payment.method for payment in payments)
    assert 0.45 < by_method["upi"] / PAYMENTS < 0.65
    failed = [payment for payment in payments if payment.status == "failed"]
    assert 0.04 < len(failed) / PAYMENTS < 0.13
    assert {order.status for order in all_of(Order)} == {"created", "attempted", "paid", "expired"}
    assert 0.03 < number_of(Refund) / PAYMENTS < 0.1


def test_an_order_may_be_paid_after_a_failure(seen: Api) -> None:
    attempts = select(Payment.order_id, func.count().label("number")).group_by(Payment.order_id).subquery()
    twice = select(Payment.status).where(
        Payment.order_id.in_(select(attempts.c.order_id).where(attempts.c.number == 2))
    )
    assert Counter(db.session.scalars(twice)).keys() >= {"failed", "success"}
    assert not number_of(attempts, attempts.c.number > 2)


def test_all_of_it_is_proven_right(past: Flask, seen: Api) -> None:
    assert number_of(LedgerEntry) > 2 * PAYMENTS * 0.8
    assert breaks(past) == []


def test_the_balance_agrees_with_the_payments(seen: Api) -> None:
    held = func.coalesce(func.sum(Payment.amount).filter(Payment.status == "success", ~Payment.captured), 0)
    columns = (func.sum(Payment.amount_captured), func.sum(Payment.amount_refunded), held)
    rows = db.session.execute(
        select(Payment.currency, *columns).group_by(Payment.currency).order_by(Payment.currency)
    )
    assert found(seen.get("/balance"))["data"] == [
        {
            "currency": currency,
            "captured": captured,
            "fees": 0,
            "refunded": refunded,
            "refunds_pending": 0,
            "held": held,
            "available": captured - refunded,
        }
        for currency, captured, refunded, held in rows
    ]


def test_each_payment_has_one_history_that_ends_as_it_stands(seen: Api) -> None:
    histories: dict[str, list[Event]] = {payment.id: [] for payment in all_of(Payment)}
    for event in all_of(Event):
        if event.payment_id is not None and event.refund_id is None:
            histories[event.payment_id].append(event)
    for payment in all_of(Payment):
        history = histories[payment.id]
        types = [event.type.removeprefix("payment.") for event in history]
        acted = ["requires_action", "pending"] if "pending" in types else []
        acted = acted or ["requires_action"] * types.count("requires_action")
        end = ["failed"] if payment.status == "failed" else ["success"]
        end += ["captured"] * payment.captured + ["voided"] * (payment.status == "voided")
        assert types == ["created", *acted, *end]
        assert history == sorted(history, key=lambda event: event.created_at)
        told = history[-1].data["payment"]
        assert (told["status"], told["captured"]) == (payment.status, payment.captured)
        assert history[0].created_at == payment.created_at
    paid = Counter(event.order_id for event in all_of(Event) if event.type == "order.paid")
    assert paid == Counter(order.id for order in all_of(Order) if order.status == "paid")


def test_the_acquirers_answers_are_kept(seen: Api) -> None:
    asked = select(AcquirerAnswer.payment_id).where(
        AcquirerAnswer.operation == "authorize", AcquirerAnswer.answer.in_(["approved", "declined"])
    )
    assert sorted(db.session.scalars(asked)) == sorted(payment.id for payment in all_of(Payment))
    assert number_of(AcquirerAnswer, AcquirerAnswer.operation == "void") == number_of(
        Payment, Payment.status == "voided"
    )
    refunds = select(AcquirerAnswer.refund_id).where(AcquirerAnswer.operation == "refund")
    assert set(db.session.scalars(refunds)) == {refund.id for refund in all_of(Refund)}


def test_a_refunded_payment_has_a_timeline_in_order(seen: Api) -> None:
    payment_id = db.session.scalars(select(Refund.payment_id)).first()
    entries = found(seen.get(f"/payments/{payment_id}/timeline"))["data"]
    names = [entry["name"] for entry in entries if entry["kind"] == "event"]
    assert names[0] == "payment.created"
    assert names.index("payment.captured") < names.index("refund.created")
    assert {"acquirer", "event", "webhook"} == {entry["kind"] for entry in entries}


# --- what it leaves alone ------------------------------------------------------------------------


def test_nothing_is_due_nor_will_be_woken(seen: Api) -> None:
    for model in (Payment, Refund, WebhookDelivery):
        assert not number_of(model, model.due_at.is_not(None) | model.claim_id.is_not(None))
    assert not number_of(Payment, Payment.hold_expires_at <= func.now())
    assert not number_of(Order, Order.expires_at <= func.now(), Order.status != "expired")
    assert fast_redis().dbsize() == 0


def test_webhooks_are_done_and_only_those_of_its_own_disabled_endpoint(seen: Api) -> None:
    (endpoint,) = db.session.scalars(select(WebhookEndpoint).where(WebhookEndpoint.url == ENDPOINT_URL))
    assert not endpoint.enabled
    deliveries = all_of(WebhookDelivery)
    assert {delivery.endpoint_id for delivery in deliveries} == {endpoint.id}
    wanted = {event.id for event in all_of(Event) if endpoint.wants(event.type)}
    assert {delivery.event_id for delivery in deliveries} == wanted
    assert len(deliveries) == len(wanted) > PAYMENTS
    assert {delivery.status for delivery in deliveries} <= {"success", "failed"}
    assert len(deliveries) > sum(delivery.attempts == 1 for delivery in deliveries) > 0.95 * len(deliveries)
    assert number_of(WebhookAttempt) == sum(delivery.attempts for delivery in deliveries)
    assert set(db.session.scalars(select(WebhookAttempt.url))) == {ENDPOINT_URL}


def test_all_of_it_happened_in_those_days_the_oldest_first(seen: Api) -> None:
    now: datetime = db.session.scalars(select(func.now())).one()
    for times in (
        *(Order.created_at, Order.updated_at, Payment.created_at, Payment.updated_at),
        *(Refund.created_at, Refund.updated_at, Event.created_at, LedgerEntry.created_at),
        *(WebhookDelivery.created_at, WebhookAttempt.attempted_at, AcquirerAnswer.answered_at),
    ):
        first, last = db.session.execute(select(func.min(times), func.max(times))).one()
        assert now - timedelta(days=DAYS, minutes=10) < first < now - timedelta(days=DAYS - 9), times
        assert now - timedelta(days=5) < last < now, times
    made = [order.created_at for order in all_of(Order)]
    assert made == sorted(made)
    receipts = [order.receipt.rpartition("-")[2] for order in all_of(Order)]
    assert receipts == [f"{number:06}" for number in range(1, len(made) + 1)]


# --- the command ---------------------------------------------------------------------------------


def contents() -> list[tuple[Any, ...]]:
    columns = (Payment.amount, Payment.currency, Payment.method, Payment.error_reason, Payment.card_last4)
    return [tuple(row) for row in db.session.execute(select(*columns).order_by(Payment.seq))]


def test_another_run_adds_as_much_and_with_the_same_seed_the_same(
    context: None, environ: dict[str, str]
) -> None:
    options = ("--payments", "40", "--random-seed", "3")
    assert seeded(environ, *options) == "40 payments of Test Merchant (mer_TestMerchant0001) are written."
    seeded(environ, *options)
    seeded(environ, "--payments", "40")
    first, again, other = contents()[:40], contents()[40:80], contents()[80:]
    assert len(other) == 40
    assert first == again != other
    assert number_of(WebhookEndpoint) == 1
    assert number_of(Order) == len({order.receipt for order in all_of(Order)})


def test_it_may_be_another_merchants(other: Api, context: None, environ: dict[str, str]) -> None:
    seeded(environ, "--payments", "5", "--merchant", "mer_OtherMerchant001", "--days", "1")
    assert {payment.merchant_id for payment in all_of(Payment)} == {"mer_OtherMerchant001"}
    assert len(found(other.get("/payments"))["data"]) == 5


def test_ctrl_c_keeps_whole_batches(context: None, environ: dict[str, str]) -> None:
    command = [sys.executable, "-m", "flask", "seed", "--payments", "100000"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ | {"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def is_written() -> int:
        db.session.rollback()
        return number_of(Payment)

    try:
        wait_until(is_written)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert " payments are written." in said
    assert "Traceback" not in said
    assert number_of(Order) % BATCH == 0
    assert not number_of(Payment, Payment.due_at.is_not(None))
    assert not number_of(WebhookDelivery, WebhookDelivery.due_at.is_not(None))
    assert number_of(Event) > number_of(WebhookDelivery) > number_of(Payment)
    assert not number_of(Order, Order.expires_at <= func.now(), Order.status != "expired")
    assert not number_of(Payment, Payment.hold_expires_at <= func.now())


def test_it_does_not_run_in_production(app: Flask, environ: dict[str, str]) -> None:
    words = refusal(environ | PRODUCTION, "--merchant", "mer_TestMerchant0001")
    assert words == "Error: APP_ENV: In production, nothing is made up."


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--payments", "0"], "'--payments': 0 is not in the range"),
        (["--days", "0"], "'--days': 0 is not in the range"),
        (["--merchant", "mer_x"], "--merchant: There is no such merchant."),
    ],
)
def test_a_wrong_option_is_named(app: Flask, environ: dict[str, str], options: list[str], words: str) -> None:
    assert words in refusal(environ, *options)


def test_a_merchant_with_too_many_endpoints_is_told_so(api: Api, environ: dict[str, str]) -> None:
    for _ in range(16):
        api.endpoint(NOBODY)
    assert "at most 16 webhook endpoints" in refusal(environ, "--payments", "1")


def test_the_planner_knows_of_the_rows(past: Flask) -> None:
    with past.app_context():
        analyzed = text("SELECT count(*) FROM pg_stats WHERE tablename = 'payments' AND attname = 'status'")
        assert db.session.scalar(analyzed) == 1
