"""The proof that all is right: it holds for whatever the gateway does, and each break of it is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from sqlalchemy import text

from commands.verify import verify
from jobs.clock import Clock
from models.base import at as time_is
from models.base import db
from models.verification import CHECKS, NIGHTLY_AT_HOUR, ONE_AT_A_TIME_LOCK, Verification
from tests.conftest import Api, breaks, drain_all, found, in_sql, made
from tests.receiver import Receiver

COMES_BACK = "4000000000005126"  # its refund is processed, then fails


def tamper(app: Flask, statement: str, **values: Any) -> None:
    """Change what nothing may change: past the triggers and the foreign keys, as a broken disk would."""
    with app.app_context():
        db.session.execute(text("SET LOCAL session_replication_role = replica"))
        assert db.session.execute(text(statement), values).rowcount > 0  # type: ignore[attr-defined]
        db.session.commit()


@pytest.fixture
def busy(api: Api, receiver: Receiver, make_due: Callable[[str], None]) -> dict[str, str]:
    """Something of all that there is, in every state. Gives some of the ids."""
    endpoint = api.endpoint(receiver.url)
    paid = api.paid()
    held = api.paid(capture="manual")
    part = api.paid(capture="manual")
    found(api.post(f"/payments/{part['id']}/capture", {"amount": 6000}))
    voided = api.paid(capture="manual")
    found(api.post(f"/payments/{voided['id']}/void"))
    failed = api.upi(api.order()["id"], "failure@upi")
    acting = api.card(api.order()["id"], "4000000000003220")
    drain_all()
    back = api.paid(number=COMES_BACK)
    refund = made(api.post(f"/payments/{paid['id']}/refunds", {"amount": 4000}))
    made(api.post(f"/payments/{back['id']}/refunds", {"amount": 10}))
    drain_all()
    make_due("refunds")
    expired = api.order(expires_in=60)
    drain_all()
    waits = made(api.post(f"/payments/{part['id']}/refunds", {"amount": 1}))
    pending = api.upi(api.order()["id"])
    return {
        **{"paid": paid["id"], "order": paid["order_id"], "held": held["id"], "part": part["id"]},
        **{"voided": voided["id"], "failed": failed["id"], "acting": acting["id"], "pending": pending["id"]},
        **{"refund": refund["id"], "waits": waits["id"], "expired": expired["id"]},
        "endpoint": endpoint["id"],
    }


def test_whatever_the_gateway_does_is_proven(app: Flask, busy: dict[str, str]) -> None:
    assert breaks(app) == []
    drain_all()
    assert breaks(app) == []


def test_an_empty_gateway_is_proven(app: Flask) -> None:
    assert breaks(app) == []


# What is done to the database -> what is found. {names} are ids of `busy`.
BREAKS = {
    "a posting of one side": (
        "DELETE FROM ledger_entries "
        "WHERE payment_id = '{paid}' AND kind = 'capture' AND account = 'acquirer'",
        ["postings: post_", "ledger: {paid}: captured in the ledger is 0, should be 10000"],
    ),
    "a posting that is gone": (
        "DELETE FROM ledger_entries WHERE payment_id = '{paid}' AND kind = 'capture'",
        [
            "ledger: {paid}: captured in the ledger is 0, should be 10000",
            "ledger: {paid}: owed to the merchant is -4000, should be 6000",
            "balances: mer_",
        ],
    ),
    "a capture that is posted twice": (
        "INSERT INTO ledger_entries "
        "(id, posting_id, merchant_id, kind, account, amount, currency, payment_id) "
        "SELECT 'led_twice' || lpad(seq::text, 11, '0'), posting_id, merchant_id, kind, account, amount, "
        "currency, payment_id FROM ledger_entries WHERE payment_id = '{paid}' AND kind = 'capture'",
        ["ledger: {paid}: captured in the ledger is 20000, should be 10000", "balances: mer_"],
    ),
    "a hold that was not released": (
        "DELETE FROM ledger_entries WHERE payment_id = '{voided}' AND kind = 'void'",
        ["ledger: {voided}: held in the ledger is 10000, should be 0"],
    ),
    "a fee that was not posted": (
        "UPDATE payments SET fee = 7 WHERE id = '{paid}'",
        ["ledger: {paid}: the fee in the ledger is 0, should be 7", "balances: mer_"],
    ),
    "a refund that was counted twice": (
        "UPDATE payments SET amount_refunded = 8000 WHERE id = '{paid}'",
        [
            "ledger: {paid}: refunded in the ledger is 4000, should be 8000",
            "ledger: {paid}: the sum of its processed refunds is 4000, should be 8000",
        ],
    ),
    "refunds beyond what was captured": (
        "UPDATE refunds SET amount = 10001 WHERE id = '{refund}'",
        ["refunds: {paid}: 10001 is refunded or about to be, of 10000 captured"],
    ),
    "an order that is paid with another amount": (
        "UPDATE orders SET amount_paid = 9999 WHERE id = '{order}'",
        ["orders: {order}: its amount paid is 9999, should be 10000"],
    ),
    "an order that expired while it was paid": (
        "UPDATE orders SET status = 'expired', expires_at = now() WHERE id = (SELECT order_id FROM payments "
        "WHERE id = '{held}')",
        ["orders: order_", "history: order_"],
    ),
    "an order that forgot its payment": (
        "UPDATE orders SET status = 'created' "
        "WHERE id = (SELECT order_id FROM payments WHERE id = '{failed}')",
        ["orders: order_"],
    ),
    "a change that nobody was told of": (
        "DELETE FROM events WHERE payment_id = '{paid}' AND type = 'payment.captured'",
        ["history: {paid}: payment.captured was told 0 times, should be 1"],
    ),
    "a change that was told twice": (
        "INSERT INTO events (id, merchant_id, type, order_id, payment_id, payload, deliveries) "
        "SELECT 'evt_0000000000000000', merchant_id, type, order_id, payment_id, payload, 0 "
        "FROM events WHERE payment_id = '{paid}' AND type = 'payment.success'",
        ["history: {paid}: payment.success was told 2 times, should be 1"],
    ),
    "a refund that nobody was told of": (
        "DELETE FROM events WHERE refund_id = '{refund}' AND type = 'refund.processed'",
        ["history: {refund}: refund.processed was told 0 times, should be 1"],
    ),
    "an order whose payment nobody was told of": (
        "DELETE FROM events WHERE order_id = '{order}' AND type = 'order.paid'",
        ["history: {order}: order.paid was told 0 times, should be 1"],
    ),
    "an action that was never asked for": (
        "DELETE FROM events WHERE payment_id = '{acting}' AND type = 'payment.requires_action'",
        ["history: {acting}: required action 0 times and was resumed 0 times, and is requires_action"],
    ),
    "an approval without the acquirer's word": (
        "UPDATE acquirer_answers SET answer = 'unknown' WHERE payment_id = '{held}'",
        ["evidence: {held}: no answer says: authorize approved"],
    ),
    "a refund without the acquirer's word": (
        "DELETE FROM acquirer_answers WHERE refund_id = '{refund}'",
        ["evidence: {refund}: no answer says: refund approved"],
    ),
    "a delivery that is gone": (
        "DELETE FROM webhook_deliveries WHERE event_id = "
        "(SELECT id FROM events WHERE payment_id = '{failed}' AND type = 'payment.failed')",
        ["deliveries: evt_"],
    ),
    "an endpoint that was passed over": (
        "UPDATE webhook_endpoints SET created_at = now() - interval '1 day', updated_at = now() - "
        "interval '1 day' WHERE id = '{endpoint}'; UPDATE events SET deliveries = 0 WHERE id = "
        "(SELECT min(id) FROM events); DELETE FROM webhook_deliveries WHERE event_id = "
        "(SELECT min(id) FROM events)",
        ["deliveries: evt_"],
    ),
    "an attempt that was not written down": (
        "DELETE FROM webhook_attempts WHERE delivery_id = (SELECT min(id) FROM webhook_deliveries "
        "WHERE status = 'success')",
        ["deliveries: whd_", "deliveries: whd_"],
    ),
    "an event that another merchant is told of": (
        "INSERT INTO merchants (id, name, email) VALUES ('mer_0000000000000000', 'B', 'b@there.example'); "
        "UPDATE events SET merchant_id = 'mer_0000000000000000' WHERE payment_id = '{failed}'",
        ["owners: evt_", "owners: whd_"],
    ),
    "a payment that nobody settles": (
        "UPDATE payments SET due_at = now() - interval '6 minutes' WHERE id = '{pending}'",
        ["stuck: {pending}: has been due since "],
    ),
    "a refund that nobody sends": (
        "UPDATE refunds SET due_at = now() - interval '6 minutes' WHERE id = '{waits}'",
        ["stuck: {waits}: has been due since "],
    ),
    "a hold that nobody releases": (
        "UPDATE payments SET hold_expires_at = now() - interval '2 hours' WHERE id = '{held}'",
        ["stuck: {held}: is held, though its hold ended at "],
    ),
    "an order that never expires": (
        "UPDATE orders SET expires_at = now() - interval '2 hours' WHERE id = '{expired}'",
        ["stuck: {expired}: is not expired, though its time ended at "],
    ),
}


@pytest.mark.parametrize(("statement", "said"), BREAKS.values(), ids=BREAKS.keys())
def test_it_finds(app: Flask, busy: dict[str, str], statement: str, said: list[str]) -> None:
    tamper(app, statement.format(**busy))
    found_breaks = breaks(app)
    for each in said:
        assert any(line.startswith(each.format(**busy)) for line in found_breaks), found_breaks
    assert {line.partition(":")[0] for line in found_breaks} >= {each.partition(":")[0] for each in said}


def test_every_check_is_broken_by_one_of_these_tests() -> None:
    broken = {said.partition(":")[0] for _, each in BREAKS.values() for said in each}
    assert broken == {check.name for check in CHECKS}


# --- running it ----------------------------------------------------------------------------------


def test_the_command_says_what_is_proven(app: Flask, environ: dict[str, str], busy: dict[str, str]) -> None:
    result = CliRunner().invoke(verify, env=environ)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split("  ")[1] for line in lines[:-1]] == [check.says for check in CHECKS]
    assert {line.split("  ")[0] for line in lines[:-1]} == {"proven"}
    assert lines[-1] == "no breaks"


def test_the_command_prints_each_break_and_exits_with_1(
    app: Flask, environ: dict[str, str], busy: dict[str, str]
) -> None:
    tamper(app, f"UPDATE orders SET amount_paid = 9999 WHERE id = '{busy['order']}'")
    result = CliRunner().invoke(verify, env=environ)
    assert result.exit_code == 1
    assert f"        {busy['order']}: its amount paid is 9999, should be 10000\n" in result.output
    assert result.output.splitlines()[-1] == "1 break"


def test_each_verification_is_written_down(app: Flask, busy: dict[str, str]) -> None:
    breaks(app)
    tamper(app, f"UPDATE orders SET amount_paid = 9999 WHERE id = '{busy['order']}'")
    breaks(app)
    assert in_sql(app, "SELECT breaks FROM verifications ORDER BY id") == [0, 1]


def test_it_sees_one_moment_and_holds_nobody_up(app: Flask, api: Api) -> None:
    """While a verification reads, payments go on: its snapshot has none of their halves."""
    with app.app_context(), db.engine.connect() as held:
        held.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ONE_AT_A_TIME_LOCK})
        assert Verification.run() is None  # another one runs
        api.paid()
    assert breaks(app) == []


def moment(day: int, hour: int) -> datetime:
    return datetime.fromisoformat(f"2026-05-{day:02}T{hour:02}:30:00+00:00")


@pytest.mark.parametrize(
    ("last", "at", "due"),
    [
        (None, moment(10, 12), True),
        (moment(10, NIGHTLY_AT_HOUR), moment(10, 12), False),
        (moment(10, NIGHTLY_AT_HOUR), moment(11, NIGHTLY_AT_HOUR - 1), False),
        (moment(10, NIGHTLY_AT_HOUR), moment(11, NIGHTLY_AT_HOUR), True),
        (moment(10, NIGHTLY_AT_HOUR - 1), moment(10, NIGHTLY_AT_HOUR), True),
        (moment(8, 12), moment(10, 1), True),
    ],
)
def test_it_is_due_once_a_night(context: None, last: datetime | None, at: datetime, due: bool) -> None:
    if last is not None:
        db.session.add(Verification(started_at=last, finished_at=last + timedelta(seconds=1), breaks=0))
        db.session.flush()
    with time_is(at):
        assert Verification.is_due() is due


def test_the_clock_does_it_when_it_is_due_and_says_what_is_broken(
    app: Flask, busy: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    tamper(app, f"UPDATE orders SET amount_paid = 9999 WHERE id = '{busy['order']}'")
    clock = Clock(app)
    for _ in range(2):
        with app.app_context():
            clock.verify_nightly()
        clock.join()
    assert in_sql(app, "SELECT breaks FROM verifications") == [1]
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said == [f"broken: orders: {busy['order']}: its amount paid is 9999, should be 10000"]
