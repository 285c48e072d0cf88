"""A crash at every statement: whoever does it is killed there, and all ends as it would have without.

Each act is run through once: that gives its points (see tests/crashing.py) and how all ends. Then it is begun
anew for each point, and its process killed there. At once, the database must be right; and when time has
passed, the workers have come and the client has repeated its request, nothing may tell that it was killed.

Beside it, what is worse than a crash: a process that is frozen, and wakes up when others have done its work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from jobs.acquirers import Declined
from jobs.payments import PAYMENTS
from jobs.refunds import REFUNDS
from jobs.wake import fast_redis
from jobs.webhooks import WEBHOOKS
from jobs.work import Work
from tests.conftest import Api, breaks, drain_all, found, in_sql, made, settings_of, stored, temporary_folder
from tests.crashing import APPLICATION, Act, BookedBank, Job, Nursery, Post, Sweep, read_book
from tests.receiver import Receiver, running_receiver

SETTINGS = {
    "FEE_PERCENT": "2",
    "WEBHOOK_RETRY_SCHEDULE": "0,60",  # two attempts: a delivery that fails comes to its end soon
}
TOGETHER = 8  # runs that are begun and recovered together; 16 claims would take up an endpoint's share
ROUNDS_MAX = 5  # of time that passes until all is done: there are two attempts and two looks at most
COMES_BACK = "4000000000005126"  # its refund is processed, then fails
TABLES = {"payments": "payments", "refunds": "refunds", "webhooks": "webhook_deliveries"}  # of each queue

# --- what is true of one run: of the orders whose receipt is its name --------------------------------

MINE = "WITH mine AS (SELECT id FROM orders WHERE receipt = :name)"
MY_PAYMENTS = "SELECT id FROM payments WHERE order_id IN (SELECT id FROM mine)"
MY_REFUNDS = "SELECT id FROM refunds WHERE order_id IN (SELECT id FROM mine)"
MY_DELIVERIES = "SELECT id FROM webhook_deliveries WHERE order_id IN (SELECT id FROM mine)"
WHICH = {
    "orders": "receipt = :name",
    "payments": "order_id IN (SELECT id FROM mine)",
    "refunds": "order_id IN (SELECT id FROM mine)",
    "acquirer_answers": f"payment_id IN ({MY_PAYMENTS})",
    "ledger_entries": f"payment_id IN ({MY_PAYMENTS})",
    "events": "order_id IN (SELECT id FROM mine)",
    "webhook_deliveries": "order_id IN (SELECT id FROM mine)",
    "webhook_attempts": f"delivery_id IN ({MY_DELIVERIES})",
    "audit_log": f"subject_id IN ({MY_PAYMENTS} UNION ALL {MY_REFUNDS})",
    "idempotency_keys": "key = :name",
}
FACTS = f"{MINE} " + " UNION ALL ".join(
    f"SELECT jsonb_build_object('{table}', to_jsonb(each))::text FROM {table} each WHERE {which}"
    for table, which in WHICH.items()
)
# What is another in each run: whether there is one is all that can be compared.
ITS_OWN = re.compile(
    r"id|\w+_id|\w+_at|seq|receipt|key|fingerprint|timestamp|checkout_url|\w*reference|response_body"
)
UNTOLD = {"tries", "duration_ms"}  # how often it was tried until it was done, and how long that took


def plain(value: Any) -> Any:
    """A fact, without what is another in each run."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    facts = {}
    for name, fact in value.items():
        if name == "payload":
            facts[name] = plain(json.loads(fact))
        elif ITS_OWN.fullmatch(name):
            facts[name] = fact is not None
        elif name not in UNTOLD:
            facts[name] = plain(fact)
    return facts


# --- the shop, and what surrounds it ---------------------------------------------------------------

# What the bank was asked for, though the database does not tell that it might have been.
UNFORESEEN = """
    SELECT a.id || ' ' || a.operation
    FROM unnest(CAST(:ids AS text[]), CAST(:operations AS text[])) AS a (id, operation)
    WHERE NOT EXISTS (SELECT 1 FROM acquirer_answers k
                      WHERE coalesce(k.refund_id, k.payment_id) = a.id AND k.operation = a.operation)
      AND NOT EXISTS (SELECT 1 FROM payments p
                      WHERE p.id = a.id AND p.operation = a.operation AND p.claim_id IS NOT NULL)
      AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.id = a.id AND r.claim_id IS NOT NULL)"""
# What was sent, though the database does not tell that it might have been.
UNANNOUNCED = """
    SELECT r.id || ' to ' || r.url
    FROM unnest(CAST(:ids AS text[]), CAST(:urls AS text[])) AS r (id, url)
    WHERE NOT EXISTS (SELECT 1 FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id
                      WHERE d.event_id = r.id AND e.url = r.url
                        AND (d.claim_id IS NOT NULL OR d.attempts > 0))"""
# The work of one run is due, and no other's; and each run is the first one that an endpoint fails in.
ITS_TURN = "UPDATE webhook_endpoints SET failing_since = NULL, quick = false; " + "; ".join(
    f"UPDATE {table} SET due_at = now() + CASE WHEN order_id IN (SELECT id FROM orders WHERE receipt = :name)"
    f" THEN interval '0' ELSE interval '1 hour' END WHERE due_at IS NOT NULL"
    for table in TABLES.values()
)
LET_TIME_PASS = "; ".join(
    f"UPDATE {table} SET due_at = now() WHERE due_at IS NOT NULL" for table in TABLES.values()
)
UNDONE = " UNION ALL ".join(f"SELECT id FROM {table} WHERE due_at IS NOT NULL" for table in TABLES.values())
ALIVE = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{APPLICATION}'"


@dataclass
class Shop:
    """A merchant, its bank, and who hears of it."""

    app: Flask
    api: Api
    nursery: Nursery
    bank: BookedBank
    book: Path
    accepts: Receiver
    refuses: Receiver

    @property
    def receivers(self) -> tuple[Receiver, Receiver]:
        return self.accepts, self.refuses

    def listen(self, event_type: str) -> None:
        """Two endpoints hear of such events: one says yes to all that it is sent, the other one no."""
        for receiver in self.receivers:
            self.api.endpoint(receiver.url, events=[event_type])

    def pay(self, names: list[str], vpa: str = "success@upi") -> None:
        """Begin a payment in each run."""
        for name in names:
            self.api.upi(self.api.order(receipt=name)["id"], vpa)

    def paid(self, names: list[str], number: str = "4242424242424242", **order: Any) -> list[str]:
        """An approved payment in each run."""
        orders = [self.api.order(receipt=name, **order)["id"] for name in names]
        payments = [self.api.card(order_id, number)["id"] for order_id in orders]
        drain_all()
        return payments

    def refund(self, payments: list[str]) -> None:
        for payment_id in payments:
            made(self.api.post(f"/payments/{payment_id}/refunds", {"amount": 4000}))

    def turn_to(self, name: str) -> None:
        """Let the next worker find the work of this run, and of no other; and nobody be woken yet."""
        in_sql(self.app, ITS_TURN, name=name)
        with self.app.app_context():
            fast_redis().flushall()

    def bury(self) -> None:
        """Wait until PostgreSQL has seen that the one who was killed is gone: in a moment."""
        while in_sql(self.app, ALIVE):
            pass

    def check(self) -> None:
        """All is right at this moment, whoever has just died."""
        assert breaks(self.app) == []
        asked = [(asked_id, operation) for asked_id, operation, _ in read_book(self.book)]
        ids, operations = [each for each, _ in asked], [each for _, each in asked]
        assert in_sql(self.app, UNFORESEEN, ids=ids, operations=operations) == []
        sent = [(each.headers["webhook-id"], to.url) for to in self.receivers for each in to.received]
        ids, urls = [each for each, _ in sent], [each for _, each in sent]
        assert in_sql(self.app, UNANNOUNCED, ids=ids, urls=urls) == []
        with self.app.app_context():
            woken = [queue for queue in TABLES if fast_redis().exists(f"wake:{queue}")]
        for queue in woken:
            due = in_sql(self.app, f"SELECT id FROM {TABLES[queue]} WHERE due_at <= now()")
            assert due != [], f"{queue}: woken for nothing"

    def recover(self) -> None:
        """Time passes: leases run out, the clock ticks, workers come, until nothing is left to do."""
        Sweep()(self.app)
        for _ in range(ROUNDS_MAX):
            if not in_sql(self.app, UNDONE):
                return
            in_sql(self.app, LET_TIME_PASS)
            drain_all()
        raise AssertionError("work is left that does not end")

    def check_webhooks(self) -> None:
        """Nothing was sent that is not history, byte for byte; and what is said to have arrived has."""
        history = dict(in_sql(self.app, "SELECT ARRAY[id, payload] FROM events"))
        for each in (*self.accepts.received, *self.refuses.received):
            assert history[each.headers["webhook-id"]] == each.body.decode()
        delivered = in_sql(self.app, "SELECT event_id FROM webhook_deliveries WHERE status = 'success'")
        assert {each.headers["webhook-id"] for each in self.accepts.received} == set(delivered)

    def balance(self) -> dict[str, int]:
        """Where the merchant stands, in minor units of its only currency."""
        balances = found(self.api.get("/balance"))["data"]
        return {name: amount for each in balances for name, amount in each.items() if name != "currency"}


@dataclass
class Run:
    """One act, from its beginning until all is settled."""

    shop: Shop
    name: str
    act: Act
    point: str = ""  # where it was killed
    answer: tuple[int, str] | None = None  # what the client was told in the end

    def repeat(self) -> None:
        """The client repeats its request. Once it has an answer, that never changes."""
        if not isinstance(self.act, Post):
            return
        status, body = self.act(self.shop.app)
        if self.answer is not None:
            assert (status, body) == self.answer
        elif status == 409:
            assert json.loads(body)["error"]["reason"] == "operation_in_progress"
        else:
            self.answer = status, body

    def result(self) -> dict[str, Any]:
        """How it ended."""
        rows = in_sql(self.shop.app, FACTS, name=self.name)
        ids = in_sql(self.shop.app, f"{MINE} {MY_PAYMENTS} UNION ALL {MY_REFUNDS}", name=self.name)
        asked = read_book(self.shop.book)
        return {
            "facts": sorted(json.dumps(plain(json.loads(row)), sort_keys=True) for row in rows),
            "asked": {(operation, amount) for each, operation, amount in asked if each in ids},
            "answer": self.answer and (self.answer[0], plain(json.loads(self.answer[1]))),
        }


@pytest.fixture(scope="module")
def book() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder / "book"


@pytest.fixture(scope="module")
def nursery(environ: dict[str, str], book: Path) -> Iterator[Nursery]:
    nursery = Nursery(environ | SETTINGS, book)
    yield nursery
    nursery.close()


@pytest.fixture
def shop(app: Flask, api: Api, environ: dict[str, str], nursery: Nursery, book: Path) -> Iterator[Shop]:
    settings = settings_of(environ | SETTINGS)
    bank = BookedBank(settings, book)
    before = app.config["GATEWAY"]
    app.config["GATEWAY"], app.extensions["acquirer"] = settings, bank
    book.write_text("")
    with running_receiver() as accepts, running_receiver() as refuses:
        refuses.answers = [500] * 1000  # more than it will ever be asked
        yield Shop(app, api, nursery, bank, book, accepts, refuses)
    app.config["GATEWAY"] = before


# --- acts: each is brought to its beginning, in several runs ------------------------------------------


def settle(shop: Shop, names: list[str]) -> list[Act]:
    shop.pay(names)
    return [Job("payments") for _ in names]


def decline(shop: Shop, names: list[str]) -> list[Act]:
    shop.pay(names, "failure@upi")
    return [Job("payments") for _ in names]


def refund(shop: Shop, names: list[str]) -> list[Act]:
    shop.refund(shop.paid(names))
    return [Job("refunds") for _ in names]


def take_a_refund_back(shop: Shop, names: list[str]) -> list[Act]:
    shop.refund(shop.paid(names, COMES_BACK))
    drain_all()
    assert set(in_sql(shop.app, "SELECT status FROM refunds WHERE due_at IS NOT NULL")) == {"processed"}
    return [Job("refunds") for _ in names]


def deliver(shop: Shop, names: list[str]) -> list[Act]:
    shop.pay(names)
    return [Job("webhooks") for _ in names]


def capture(shop: Shop, names: list[str]) -> list[Act]:
    paid = zip(names, shop.paid(names, capture="manual"), strict=True)
    return [Post(f"/payments/{payment_id}/capture", {"amount": 6000}, name) for name, payment_id in paid]


def void(shop: Shop, names: list[str]) -> list[Act]:
    paid = zip(names, shop.paid(names, capture="manual"), strict=True)
    return [Post(f"/payments/{payment_id}/void", {}, name) for name, payment_id in paid]


def ask_for_a_refund(shop: Shop, names: list[str]) -> list[Act]:
    paid = zip(names, shop.paid(names), strict=True)
    return [Post(f"/payments/{payment_id}/refunds", {"amount": 4000}, name) for name, payment_id in paid]


def pay(shop: Shop, names: list[str]) -> list[Act]:
    orders = [(name, shop.api.order(receipt=name)["id"]) for name in names]
    how = {"method": "upi", "vpa": "success@upi"}
    return [Post("/payments", {"order_id": order_id, **how}, name) for name, order_id in orders]


def order(shop: Shop, names: list[str]) -> list[Act]:
    return [Post("/orders", {"amount": 10000, "receipt": name}, name) for name in names]


def sweep(shop: Shop, names: list[str]) -> list[Act]:
    """Of an order that was not paid in time, and a hold that was not captured in time."""
    held = shop.paid(names, capture="manual")
    for name in names:
        shop.api.order(receipt=name, expires_in=60)
    in_sql(shop.app, "UPDATE orders SET expires_at = now() WHERE receipt = ANY(:names)", names=names)
    in_sql(shop.app, "UPDATE payments SET hold_expires_at = now() WHERE id = ANY(:ids)", ids=held)
    return [Sweep() for _ in names]


@dataclass(frozen=True)
class Scenario:
    """An act, an event that is told of it, how often it commits, and some of its statements.

    The points of a `thorough` one lie after each statement too, and not only before it.
    """

    act: Callable[[Shop, list[str]], list[Act]]
    told: str
    commits: int
    statements: tuple[str, ...]
    thorough: bool = False
    together: int = TOGETHER


CLAIM, CLAIM_REFUND = "UPDATE payments SET claim_id", "UPDATE refunds SET claim_id"
CLAIM_DELIVERY, ATTEMPT = "UPDATE webhook_deliveries SET claim_id", "INSERT INTO webhook_attempts"
ANSWER, EVENT, LEDGER = (f"INSERT INTO {table}" for table in ("acquirer_answers", "events", "ledger_entries"))
DELIVERY, KEY, AUDIT = (
    f"INSERT INTO {table}" for table in ("webhook_deliveries", "idempotency_keys", "audit_log")
)
PAYMENT, REFUND, ORDER = (f"INSERT INTO {table}" for table in ("payments", "refunds", "orders"))
CHANGE = (EVENT, LEDGER, DELIVERY)  # what most of them write
# A worker commits its claim, what came of it, and that there is no more to claim. A request that asks the
# bank commits the wish, the claim, what came of it, and its answer.
SCENARIOS = {
    "a worker settles a payment": Scenario(settle, "order.paid", 3, (CLAIM, ANSWER, *CHANGE), thorough=True),
    "a worker settles a declined payment": Scenario(
        decline, "payment.failed", 3, (CLAIM, ANSWER, EVENT, DELIVERY)
    ),
    "a worker settles a refund": Scenario(
        refund, "refund.processed", 3, (CLAIM_REFUND, ANSWER, *CHANGE), thorough=True
    ),
    "a worker settles a refund that comes back": Scenario(
        take_a_refund_back, "refund.failed", 3, (CLAIM_REFUND, ANSWER, *CHANGE)
    ),
    "a worker delivers": Scenario(
        deliver, "payment.created", 3, (CLAIM_DELIVERY, ATTEMPT, "UPDATE webhook_endpoints"), thorough=True
    ),
    "a request captures": Scenario(
        capture, "payment.captured", 4, (KEY, AUDIT, CLAIM, ANSWER, *CHANGE), thorough=True
    ),
    "a request voids": Scenario(void, "payment.voided", 4, (KEY, AUDIT, CLAIM, ANSWER, *CHANGE)),
    "a request refunds": Scenario(ask_for_a_refund, "refund.created", 1, (KEY, AUDIT, REFUND, *CHANGE)),
    "a request pays": Scenario(pay, "payment.created", 1, (KEY, PAYMENT, EVENT, DELIVERY)),
    "a request orders": Scenario(order, "order.expired", 1, (KEY, ORDER)),
    # Whatever it was killed in is overdue for the next one too.
    "the clock sweeps": Scenario(
        sweep, "order.expired", 2, ("UPDATE orders", EVENT, DELIVERY, "UPDATE payments"), together=1
    ),
}


def numbers(points: list[str], thorough: bool) -> list[int]:
    """The numbers, from 1, of the points to be killed at."""
    between = [point.startswith("after ") and point != "after a commit" for point in points]
    return [number for number, each in enumerate(between, 1) if thorough or not each]


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_after_a_crash_at_any_point_all_ends_as_without(
    shop: Shop, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    shop.listen(scenario.told)
    whole = Run(shop, "run-0", scenario.act(shop, ["run-0"])[0])
    shop.turn_to(whole.name)
    told = shop.nursery.run(whole.act)
    for statement in scenario.statements:
        assert any(point.startswith("before ") and statement in point for point in told.points), told.points
    assert told.points.count("after a commit") >= scenario.commits
    whole.answer = told.answer if isinstance(whole.act, Post) else None
    shop.recover()
    whole.repeat()
    expected, balance = whole.result(), shop.balance()

    points = numbers(told.points, scenario.thorough)
    for first in range(0, len(points), scenario.together):
        batch = points[first : first + scenario.together]
        names = [f"run-{number}" for number in batch]
        runs = [Run(shop, *each) for each in zip(names, scenario.act(shop, names), strict=True)]
        for run, number in zip(runs, batch, strict=True):
            shop.turn_to(run.name)
            run.point = shop.nursery.kill_at(run.act, number).points[-1]
            shop.bury()
            shop.check()
            run.repeat()
        shop.recover()
        for run in runs:
            run.repeat()
            assert run.result() == expected, f"killed {run.point}"
    assert breaks(shop.app) == []
    shop.check_webhooks()
    assert shop.balance() == {name: amount * (len(points) + 1) for name, amount in balance.items()}
    record_property("points", len(points))
    print(f"killed at {len(points)} points", end=" ")


# --- frozen -------------------------------------------------------------------------------------------

REFUSED = Declined("PAYMENT_DECLINED", "card_declined", "The bank declined it.")
OUTCOMES = pytest.mark.parametrize("other", [False, True], ids=["the same outcome", "another outcome"])
ASLEEP = pytest.mark.parametrize("acted", [False, True], ids=["before it acts", "before it settles"])


def freeze(shop: Shop, act: Callable[[Shop, list[str]], list[Act]], *, acted: bool) -> None:
    """Freeze one with its claim in hand: before it asks the bank (or posts), or when it has its answer."""
    (whole,) = act(shop, ["run-0"])
    points = shop.nursery.run(whole).points
    claimed = next(number for number, point in enumerate(points) if " SET claim_id" in point)
    number = points.index("after a commit", claimed) + 1
    assert points[number].startswith("before SELECT"), points  # what it settles, locked
    shop.recover()
    (zombie,) = act(shop, ["run-1"])
    shop.turn_to("run-1")
    shop.nursery.freeze_at(zombie, number + acted)


def take_over(shop: Shop) -> None:
    """The lease is over: another worker does the work."""
    in_sql(shop.app, LET_TIME_PASS)
    drain_all()


@OUTCOMES
@ASLEEP
@pytest.mark.parametrize(
    ("act", "table"), [(settle, "payments"), (refund, "refunds")], ids=["payments", "refunds"]
)
def test_a_worker_that_sleeps_through_its_lease_changes_nothing(
    shop: Shop, act: Callable[[Shop, list[str]], list[Act]], table: str, acted: bool, other: bool
) -> None:
    freeze(shop, act, acted=acted)
    (row_id,) = in_sql(shop.app, f"SELECT id FROM {table} WHERE claim_id IS NOT NULL")
    shop.bank.verdict = REFUSED if other else None
    take_over(shop)
    assert in_sql(shop.app, f"SELECT status FROM {table} WHERE id = :id", id=row_id) == [
        "failed" if other else {"payments": "success", "refunds": "processed"}[table]
    ]
    before = stored(shop.app)
    told = shop.nursery.thaw()
    assert stored(shop.app) == before
    assert told.log == [f"{table}: the claim on {row_id} was lost, its outcome is left alone"]
    assert breaks(shop.app) == []


@pytest.mark.parametrize(
    ("act", "work"),
    [(settle, PAYMENTS), (refund, REFUNDS), (deliver, WEBHOOKS)],
    ids=["payments", "refunds", "webhooks"],
)
def test_a_worker_that_wakes_up_while_another_one_acts_changes_nothing(
    shop: Shop, act: Callable[[Shop, list[str]], list[Act]], work: Work
) -> None:
    shop.api.endpoint(shop.accepts.url, events=["payment.created"])
    freeze(shop, act, acted=True)
    in_sql(shop.app, f"UPDATE {TABLES[work.queue]} SET due_at = now() WHERE claim_id IS NOT NULL")
    with shop.app.app_context():
        (task,) = work._claim(1)
    before = stored(shop.app)
    told = shop.nursery.thaw()
    assert stored(shop.app) == before
    assert told.log == [f"{work.queue}: the claim on {task.id} was lost, its outcome is left alone"]
    with shop.app.app_context():
        work._settle([(task, work._try_act(task))])
    shop.recover()
    assert breaks(shop.app) == []


@OUTCOMES
@ASLEEP
def test_a_delivery_that_sleeps_through_its_lease_changes_nothing(
    shop: Shop, acted: bool, other: bool
) -> None:
    shop.api.endpoint(shop.accepts.url, events=["payment.created"])
    freeze(shop, deliver, acted=acted)
    (delivery_id,) = in_sql(shop.app, "SELECT id FROM webhook_deliveries WHERE claim_id IS NOT NULL")
    # Who took over posts next; and then the one that wakes up, if it has not before.
    shop.accepts.answers = [500, 200] if other else []
    take_over(shop)
    status = in_sql(shop.app, "SELECT status FROM webhook_deliveries WHERE id = :id", id=delivery_id)
    assert status == ["pending" if other else "success"]
    before = stored(shop.app)
    told = shop.nursery.thaw()
    assert stored(shop.app) == before
    assert told.log == [f"webhooks: the claim on {delivery_id} was lost, its outcome is left alone"]
    arrived = [each.headers["webhook-id"] for each in shop.accepts.received]
    assert len(arrived) == 3
    assert arrived[1] == arrived[2]  # the receiver knows it again
    shop.recover()
    assert breaks(shop.app) == []


@OUTCOMES
@ASLEEP
def test_a_capture_that_sleeps_through_its_lease_answers_what_is_true(
    shop: Shop, acted: bool, other: bool
) -> None:
    freeze(shop, capture, acted=acted)
    (payment_id,) = in_sql(shop.app, "SELECT id FROM payments WHERE claim_id IS NOT NULL")
    shop.bank.verdict = REFUSED if other else None
    take_over(shop)
    payment = shop.api.payment(payment_id)
    assert payment["captured"] is not other
    before = stored(shop.app)
    told = shop.nursery.thaw()
    after = stored(shop.app)
    status, body = told.answer
    if other:
        assert (status, json.loads(body)["error"]["reason"]) == (400, "capture_refused")
    else:
        assert (status, json.loads(body)) == (200, payment)
        assert before.pop("idempotency_keys") != after.pop("idempotency_keys")  # the answer is kept
    assert after == before
    assert told.log == [f"payments: the claim on {payment_id} was lost, its outcome is left alone"]
    assert breaks(shop.app) == []


@OUTCOMES
def test_a_capture_that_sleeps_before_its_claim_answers_what_is_true(shop: Shop, other: bool) -> None:
    (whole,) = capture(shop, ["run-0"])
    points = shop.nursery.run(whole).points
    wished = points.index("after a commit", points.index("after a commit") + 1) + 1  # signing in comes first
    shop.recover()
    (zombie,) = capture(shop, ["run-1"])
    shop.turn_to("run-1")
    shop.nursery.freeze_at(zombie, wished)
    (payment_id,) = in_sql(shop.app, "SELECT id FROM payments WHERE operation = 'capture'")
    shop.bank.verdict = REFUSED if other else None
    take_over(shop)
    payment = shop.api.payment(payment_id)
    assert payment["captured"] is not other
    told = shop.nursery.thaw()
    status, body = told.answer
    if other:
        assert (status, json.loads(body)["error"]["reason"]) == (400, "capture_refused")
    else:
        assert (status, json.loads(body)) == (200, payment)
    assert breaks(shop.app) == []
