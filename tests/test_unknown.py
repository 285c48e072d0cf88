"""What has no definite answer: it is looked up ever more rarely, flagged after a day, and never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from jobs.acquirers import Approved, Ask, Result, Unknown
from jobs.payments import PAYMENTS
from jobs.refunds import REFUNDS
from jobs.work import LOOK_UP_MAX_S, backoff_s
from models.base import db
from models.unknown import UNKNOWN_FLAGGED_AFTER, count_unknown, unknown_outcomes
from tests.conftest import Api, drain, drain_all, found, in_sql, made
from tests.test_acquirer_answers import DECLINED, Scripted

DAY_S = int(UNKNOWN_FLAGGED_AFTER.total_seconds())
KINDS = ("payment", "refund")


class Silent(Scripted):
    """Says nothing definite, until it knows."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Result = Approved("ref")

    def _answer(self, call: str, ask: Ask) -> Result:
        self.asked.append((call, ask.operation, ask.amount))
        return self.answer


@pytest.fixture
def acquirer(app: Flask) -> Silent:
    app.extensions["acquirer"] = silent = Silent()
    return silent


@dataclass
class Four:
    """One payment of each operation, and a refund."""

    authorized: str
    captured: str
    voided: str
    refunded: str
    refund: str


@pytest.fixture
def four(api: Api, acquirer: Silent) -> Four:
    """Of each of them, the acquirer was asked once, and nothing was learnt."""
    captured, voided = (api.paid(capture="manual")["id"] for _ in range(2))
    refunded = api.paid()["id"]
    acquirer.asked.clear()
    acquirer.answer = Unknown()
    assert api.post(f"/payments/{captured}/capture", {"amount": 6000}).status_code == 202
    assert api.post(f"/payments/{voided}/void").status_code == 202
    refund = made(api.post(f"/payments/{refunded}/refunds", {"amount": 4000}))["id"]
    authorized = api.upi(api.order()["id"])["id"]
    drain_all()
    assert sorted(acquirer.asked) == [
        ("authorize", "authorize", 10000),
        ("capture", "capture", 6000),
        ("refund", "refund", 4000),
        ("void", "void", 10000),
    ]
    acquirer.asked.clear()
    return Four(authorized, captured, voided, refunded, refund)


PAUSES = """
    WITH waits AS (
        SELECT id, due_at FROM payments WHERE unknown_since IS NOT NULL
        UNION ALL SELECT id, due_at FROM refunds WHERE unknown_since IS NOT NULL
    ), last AS (
        SELECT coalesce(refund_id, payment_id) AS id, max(answered_at) AS at FROM acquirer_answers GROUP BY 1
    )
    SELECT DISTINCT extract(epoch FROM due_at - at) FROM waits JOIN last USING (id)
"""


def pause_s() -> int:
    """How long they all wait after their last answer."""
    [pause] = db.session.scalars(text(PAUSES))
    assert pause == int(pause)
    return int(pause)


def pass_time(seconds: int) -> None:
    """Let so much time pass for all that is unknown."""
    back = "due_at = due_at - :passed, unknown_since = unknown_since - :passed"
    for table in ("payments", "refunds"):
        statement = text(f"UPDATE {table} SET {back} WHERE unknown_since IS NOT NULL")
        db.session.execute(statement, {"passed": timedelta(seconds=seconds)})
    db.session.commit()


def look_up() -> int:
    """Do what is due; how many rows that were."""
    return drain(PAYMENTS) + drain(REFUNDS)


def look_up_again(times: int, acquirer: Silent) -> list[int]:
    """Look up each of the four when it is due, so often; the pauses that there were before."""
    pauses = []
    for _ in range(times):
        pauses.append(pause_s())
        pass_time(pauses[-1])
        acquirer.asked.clear()
        assert look_up() == 4
        assert sorted(acquirer.asked) == [
            ("lookup", "authorize", 10000),
            ("lookup", "capture", 6000),
            ("lookup", "refund", 4000),
            ("lookup", "void", 10000),
        ]
    return pauses


def flagged() -> list[int]:
    return [count_unknown(kind, None).flagged for kind in KINDS]


def states(api: Api, four: Four) -> list[Any]:
    captured, voided = api.payment(four.captured), api.payment(four.voided)
    return [
        api.payment(four.authorized)["status"],
        (captured["status"], captured["captured"]),
        (voided["status"], voided["captured"]),
        found(api.get(f"/refunds/{four.refund}"))["status"],
    ]


def history(api: Api) -> tuple[int, int]:
    """How many events there are, and how many rows in the ledger."""
    events, ledger = (found(api.get(path, limit=100))["data"] for path in ("/events", "/ledger"))
    return len(events), len(ledger)


def test_in_two_days_it_is_looked_up_flagged_never_guessed_and_settled_once(
    app: Flask, api: Api, acquirer: Silent, four: Four, context: None
) -> None:
    before = history(api)
    pauses = look_up_again(12, acquirer)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    pass_time(DAY_S - sum(pauses) - 450)  # with nobody at work
    assert look_up() == 4
    assert look_up_again(1, acquirer) == [LOOK_UP_MAX_S]
    assert flagged() == [0, 0]
    assert look_up_again(1, acquirer) == [LOOK_UP_MAX_S]
    assert flagged() == [3, 1]
    pass_time(DAY_S)
    assert look_up() == 4
    assert look_up_again(2, acquirer) == [LOOK_UP_MAX_S, LOOK_UP_MAX_S]
    assert states(api, four) == ["pending", ("success", False), ("success", False), "pending"]
    assert history(api) == before

    acquirer.answer = Approved("ref")
    pass_time(pause_s())
    assert look_up() == 4
    assert states(api, four) == ["success", ("success", True), ("voided", False), "processed"]
    assert api.payment(four.captured)["amount_captured"] == 6000
    after = history(api)
    # payment.success, .captured, order.paid; payment.captured, order.paid; payment.voided; refund.processed.
    assert after[0] == before[0] + 7
    assert [count_unknown(kind, None).count for kind in KINDS] == [0, 0]
    left = "SELECT count(due_at) FROM payments UNION ALL SELECT count(due_at) FROM refunds"
    assert in_sql(app, left) == [0, 0]


def test_after_thousands_of_look_ups_a_refusal_is_still_heard(
    app: Flask, api: Api, acquirer: Silent, four: Four, context: None
) -> None:
    for table in ("payments", "refunds"):
        in_sql(app, f"UPDATE {table} SET tries = 5000 WHERE unknown_since IS NOT NULL")
    pass_time(pause_s())
    assert look_up() == 4
    assert pause_s() == LOOK_UP_MAX_S
    broken = "SELECT count(work_error) FROM payments UNION ALL SELECT count(work_error) FROM refunds"
    assert in_sql(app, broken) == [0, 0]
    acquirer.answer = DECLINED
    pass_time(LOOK_UP_MAX_S)
    assert look_up() == 4
    assert states(api, four) == ["failed", ("success", False), ("success", False), "failed"]
    assert api.payment(four.refunded)["amount_refunded"] == 0
    made(api.post(f"/payments/{four.refunded}/refunds", {"amount": 10000}))


def test_the_pauses_grow_up_to_the_longest() -> None:
    pauses = [backoff_s(tries) for tries in range(1, 12)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert all(shorter <= longer for shorter, longer in pairwise(pauses))
    assert backoff_s(100_000) == LOOK_UP_MAX_S


def test_it_is_known_what_was_asked_of_whom_and_how_often(
    app: Flask, acquirer: Silent, four: Four, context: None
) -> None:
    pass_time(1)
    look_up()
    outcomes = {each.id: each for each in unknown_outcomes(None)}
    asked = {each.id: (each.kind, each.payment_id, each.operation, each.amount) for each in outcomes.values()}
    assert asked == {
        four.authorized: ("payment", four.authorized, "authorize", 10000),
        four.captured: ("payment", four.captured, "capture", 6000),
        four.voided: ("payment", four.voided, "void", 10000),
        four.refund: ("refund", four.refunded, "refund", 4000),
    }
    for each in outcomes.values():
        assert (each.currency, each.tries, each.flagged) == ("INR", 2, False)
        assert 1 <= (each.next_look_at - each.since).total_seconds() - 1 <= 60
