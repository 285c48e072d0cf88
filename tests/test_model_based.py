"""Whatever is done, by how many at once, and whatever breaks meanwhile: the gateway does as the model says.

Hypothesis draws sequences of requests, workers and faults (RuleBasedStateMachine). After each step the model
(tests/model.py) must explain the answers and what the API shows, the proof must hold, and the bank's book
must agree; at the end of each example all faults stop, time passes, and everything has come to its end.

Nothing that is drawn depends on what happened before: `pick` chooses among what is there by then. So a
failing example replays and shrinks, as far as threads allow it. To run one again, or for longer:

    MODEL_BLOB='AXic...' pytest tests/test_model_based.py     (what the failure printed)
    MODEL_EXAMPLES=2000 MODEL_STEPS=60 pytest tests/test_model_based.py
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field, replace
from itertools import pairwise, zip_longest
from typing import Any

import hypothesis
import psycopg2
import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, reproduce_failure, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from jobs.acquirers import Approved, Ask, Declined, NeedsAction, NotFound, Result, Unknown
from jobs.acquirers.simulator import CANCELLED, NOT_APPROVED
from jobs.clock import WORKS, Clock, sweep
from jobs.posting import Post
from jobs.wake import fast_redis, rq_queue
from jobs.webhooks import WEBHOOKS
from jobs.work import LEASE_S, SLOTS, Task, Work
from models.base import db
from models.payments import TRANSITIONS
from models.webhooks import AttemptResult
from tests.bank import ANSWER, DECLINED, LOSE, MISS, Bank, decide
from tests.conftest import KEPT_TABLES, Api, Servers, at_once, breaks, card_body, found, in_sql, stored
from tests.model import CLOSE_S, Answer, Order, Payment, Refund, Request, State, Step
from tests.processes import wait_until

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "25"))
STEPS = int(os.environ.get("MODEL_STEPS", "30"))
BLOB = os.environ.get("MODEL_BLOB")
SHRINK_S = 600  # hypothesis shrinks for 300 s at most, and then explains what it found
EXAMPLE_S = 15  # of the machine on which everything else runs too

OTP_CARD = "4000000000003220"
WAIT_S = 100  # how long the bank gives a shopper, and an expiring order lasts
CHECK_AGAIN_S = 5
RETRY_OF_WEBHOOKS_S = 8000  # longer than any pause between two attempts
QUIET_AFTER = 12  # times as long: five attempts of a delivery, each begun by the first of another one
CLOSE_TURNS_S = 0.0001  # of threads in one step: a request of 5 ms meets the others in many places
HOLD_IS_OVER_S = 8 * 24 * 3600
NEGLECT_S = 200  # what is due may wait so long until it counts as stuck (models/verification.py: 300 s)
# Let pass at once: a lease, an action or an order's life, and whatever has to do with days. No sum of them
# comes close to a limit.
PAUSES_S = (40, 40, 40, 1000, 1000, 4000, HOLD_IS_OVER_S)
# A shop's answers, and how long they take (ms).
TROUBLE = ((500, 1), (429, 1), (410, 1), (200, 2000), (500, 2000))

GONE = "server closed the connection unexpectedly"
CHECKED_AGAIN = Declined("REFUND_FAILED", "returned", "The shopper's bank sent it back.")
# What a merchant or a shopper may wish, by verb. By these amounts, the bank decides.
UNLUCKY, RETURNED, WATCHED = 113, 217, 319
WISHES = {
    "order": ("automatic", "manual", "expiring", "expiring manual"),
    "pay": ("success@upi", "failure@upi", "pending@upi", "card", "otp card"),
    "capture": ("all", "half", "too much", "unlucky"),
    "void": ("all",),
    "refund": ("all", "half", "too much", "unlucky", "returned", "watched"),
    "otp": ("1234", "12"),
    "phone": ("approve", "decline"),
    "cancel": ("",),
}
SHOPPER = ("otp", "phone", "cancel")
LIES: dict[str, tuple[Any, ...]] = {
    "payments": (Declined("LIE", "lie", "A lie."), Approved("lie"), NotFound(), NeedsAction(60)),
    "refunds": (Declined("LIE", "lie", "A lie."), Approved("lie"), NotFound(), Unknown()),
    "webhooks": tuple(
        AttemptResult("http://lie/", duration_ms=1, status_code=status, error=error, gone=status == 410)
        for status, error in ((200, None), (500, "lie"), (410, "lie"), (None, "lie"))
    ),
}


@dataclass(frozen=True)
class Wish:
    """Something to be asked for, of the `pick`th that it is fit for."""

    verb: str
    how: str
    pick: int
    keyed: bool = False


PICKS = st.integers(0, 15)
MOSTLY = 12  # a pick below that is among what is fit, the newest first; any other among all
QUEUES = st.sampled_from([work.queue for work in WORKS])


def wishes(*verbs: str) -> st.SearchStrategy[Wish]:
    hows = {verb: st.sampled_from(WISHES[verb]) for verb in verbs}
    return st.one_of(
        [st.builds(Wish, st.just(verb), how, PICKS, st.booleans()) for verb, how in hows.items()]
    )


CROWDS = st.sampled_from([("pay",), ("capture", "void", "refund"), SHOPPER]).flatmap(
    lambda verbs: st.lists(
        wishes(*verbs) | st.sampled_from(["payments", "refunds", "webhooks", "sweep", "zombie"]),
        min_size=2,
        max_size=4,
    )
)

# --- the outside world ---------------------------------------------------------------------------


@dataclass
class Acquirer(Bank):
    """The bank, with shoppers who must act, captures that it refuses and refunds that come back.

    `fates` befall its next requests. Implements tests.model.Book as well.
    """

    simulated: bool = True  # so that there is a phone
    fates: deque[str] = field(default_factory=deque)
    _waited: set[str] = field(default_factory=set)
    _returned: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.fate = self._next_fate

    def lookup(self, ask: Ask) -> Result:
        return self._decided(ask, looked_up=True)

    def _ask(self, ask: Ask) -> Result:
        return self._decided(ask, looked_up=False)

    def _decided(self, ask: Ask, *, looked_up: bool) -> Result:
        fate = self.fate(ask, looked_up)
        if fate == MISS:
            return Unknown()
        key = ask.idempotency_key
        with self._one_writes:
            before = self.book[key][1] if key in self.book else None
            if before is None and looked_up:
                result: Result = NotFound()
            else:
                result = self._decide(ask, before, looked_up)
                self.book[key] = (ask, result)
        return result if fate == ANSWER else Unknown()

    def _decide(self, ask: Ask, before: Result | None, looked_up: bool) -> Result:
        if isinstance(before, NeedsAction) or (before is None and needs_shopper(ask)):
            self._waited.add(ask.payment_id)
            return answer_of_shopper(ask, looked_up)
        if before is None:
            if ask.operation == "capture" and ask.amount == UNLUCKY:
                return DECLINED
            watched = ask.operation == "refund" and ask.amount in (RETURNED, WATCHED)
            return Approved(f"bank_{ask.id}", CHECK_AGAIN_S) if watched else decide(ask)
        if looked_up and ask.operation == "refund" and ask.amount == RETURNED:
            self._returned.add(ask.idempotency_key)
            return CHECKED_AGAIN
        return replace(before, check_again_s=None) if isinstance(before, Approved) and looked_up else before

    def _next_fate(self, _ask: Ask, _looked_up: bool) -> str:
        try:
            return self.fates.popleft()
        except IndexError:
            return ANSWER

    # --- its book ----------------------------------------------------------------------------------

    def approved(self, key: str) -> bool:
        return self._said(key, Approved) or key in self._returned

    def declined(self, key: str) -> bool:
        return self._said(key, Declined)

    def waited(self, payment_id: str) -> bool:
        return payment_id in self._waited

    def _said(self, key: str, kind: type) -> bool:
        with self._one_writes:
            return key in self.book and isinstance(self.book[key][1], kind)


def needs_shopper(ask: Ask) -> bool:
    waiting = (ask.vpa or "").startswith("pending@") or (ask.token or "").startswith("tok_3220")
    return ask.operation == "authorize" and waiting


def answer_of_shopper(ask: Ask, looked_up: bool) -> Result:
    """What the token says of an OTP that was typed, or of a phone that was touched."""
    token = ask.token or ""
    if token.endswith(("_good", "sim_success")):
        return Approved(f"bank_{ask.id}", vpa=ask.vpa)
    if token.endswith(("_bad", "sim_declined_by_payer")):
        return DECLINED
    if token.endswith("_cancelled"):
        return CANCELLED
    return NOT_APPROVED if looked_up and ask.age_s >= WAIT_S else NeedsAction(WAIT_S)


@dataclass
class Shop:
    """The receiver of webhooks: takes down what comes, and answers as told, then with 200."""

    answers: deque[tuple[int, int]] = field(default_factory=deque)  # status, and how long it takes (ms)
    accepted: dict[tuple[str, str], str] = field(default_factory=dict)  # by URL and event

    def act(self, post: Post) -> AttemptResult:
        if not post.secrets:
            return AttemptResult(post.url, duration_ms=0, error="endpoint disabled")
        try:
            status, duration_ms = self.answers.popleft()
        except IndexError:
            status, duration_ms = 200, 1
        if status == 200:
            self.accepted[post.url, post.message_id] = post.body.decode()
        return AttemptResult(
            post.url,
            duration_ms=duration_ms,
            status_code=status,
            error=None if status == 200 else f"answered {status}",
            retry_after_s=30 if status == 429 else None,
            gone=status == 410,
        )


@dataclass
class Fault:
    """What breaks the database under whatever runs, once: at the nth statement, or the nth commit."""

    how: str  # statement, kill, before commit or after commit
    nth: int
    _count: int = field(default=0, repr=False)
    _one_counts: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @contextmanager
    def armed(self, app: Flask, servers: Servers) -> Iterator[None]:
        with app.app_context():
            engine = db.engine
        do_commit = engine.dialect.do_commit

        def execute(*_args: Any) -> None:
            if self._is_due():
                if self.how == "kill":
                    kill_backends(servers)
                else:
                    raise psycopg2.OperationalError(GONE)

        def commit(connection: Any) -> None:
            due = self._is_due()
            if not due or self.how == "after commit":
                do_commit(connection)
            if due:
                raise psycopg2.OperationalError(GONE)

        if self.how in ("statement", "kill"):
            event.listen(engine, "do_execute", execute)
        else:
            engine.dialect.do_commit = commit  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            if self.how in ("statement", "kill"):
                event.remove(engine, "do_execute", execute)
            else:
                engine.dialect.do_commit = do_commit  # type: ignore[method-assign]

    def _is_due(self) -> bool:
        with self._one_counts:
            self._count += 1
            return self._count == self.nth


def kill_backends(servers: Servers) -> None:
    """End every connection to the database, and wait until they are gone."""
    outside = psycopg2.connect(servers.database_url)
    with outside, outside.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database() AND backend_type = 'client backend'"
        )
    outside.close()


FAULTS = st.one_of(
    st.builds(Fault, st.sampled_from(["statement", "kill"]), st.integers(1, 20)),
    st.builds(Fault, st.sampled_from(["before commit", "after commit"]), st.integers(1, 3)),
)


# --- the machine ---------------------------------------------------------------------------------


@dataclass
class Zombie:
    """A worker that has claimed a row, and was never heard of since."""

    work: Work[Any, Any]
    task: Task[Any]
    holds_until_s: float  # nobody else gets it before


class Gateway(RuleBasedStateMachine):
    """The gateway under test, all around it, and what the model believes of it."""

    def __init__(self, app: Flask, servers: Servers, monkeypatch: pytest.MonkeyPatch):
        super().__init__()
        self.app, self.servers = app, servers
        self.api = Api(app.test_client())
        self.bank, self.shop = Acquirer(), Shop()
        monkeypatch.setitem(app.extensions, "acquirer", self.bank)
        monkeypatch.setattr(WEBHOOKS, "act", self.shop.act)
        empty(app)
        self.states = [State()]  # where it may stand: alike in all that can be seen
        self.keyed: list[Request] = []
        self.zombies: list[Zombie] = []
        self.passed_s = self.neglected_s = 0
        self.numbered = 0
        self.told: list[str] = []
        self.shown = State()
        self._before = sys.exc_info()[1]

    @property
    def state(self) -> State:
        return self.states[0]

    # --- what merchants and shoppers do ----------------------------------------------------------------

    @initialize(endpoint=st.booleans())
    def open_shop(self, endpoint: bool) -> None:
        if endpoint:
            self.api.endpoint("https://shop.example/0")

    @rule(order=wishes("order"), pay=wishes("pay"))
    def check_out(self, order: Wish, pay: Wish) -> None:
        self._ask(order)
        self._ask(replace(pay, pick=0))

    @rule(wish=wishes("pay"))
    def pay(self, wish: Wish) -> None:
        self._ask(wish)

    @rule(wish=wishes("capture"))
    def capture(self, wish: Wish) -> None:
        self._ask(wish)

    @rule(wish=wishes("void"))
    def void(self, wish: Wish) -> None:
        self._ask(wish)

    @rule(wish=wishes("refund"))
    def refund(self, wish: Wish) -> None:
        self._ask(wish)

    @rule(wish=wishes(*SHOPPER))
    def shopper_acts(self, wish: Wish) -> None:
        self._ask(wish)

    @rule(pick=PICKS, changed=st.booleans())
    def again(self, pick: int, changed: bool) -> None:
        """The same request under the same key; or another one."""
        if not self.keyed:
            self.check_out(Wish("order", "automatic", 0, keyed=True), Wish("pay", "card", 0, keyed=True))
        request = self.keyed[-1 - pick % len(self.keyed)]
        if changed:
            request = replace(request, body=request.body | {"amount": 1 + request.body.get("amount", 0)})
        self._run(request)

    @rule(wish=wishes("pay", "capture", "void", "refund"), times=st.integers(2, 4))
    def rush(self, wish: Wish, times: int) -> None:
        """The same thing several times at once: under one key, or none."""
        if request := self._request(wish):
            self._run(*[request] * times, together=True)

    @rule(acts=CROWDS, on_one=st.none() | PICKS, one_key=st.booleans())
    def crowd(self, acts: list[Wish | str], on_one: int | None, one_key: bool) -> None:
        """Several things at once, of one object or of many; under keys of their own, or all under one."""
        chosen: list[Request | Callable[[], None]] = []
        key = self._new_key() if one_key else None
        for act in acts:
            if isinstance(act, str):
                chosen.append(self._act(act))
            elif request := self._request(act if on_one is None else replace(act, pick=on_one), key):
                chosen.append(request)
        self._run(*chosen, together=True)

    @rule(how=st.sampled_from(["new", "off", "on", "delete", "retry"]), pick=PICKS)
    def webhooks(self, how: str, pick: int) -> None:
        endpoints = found(self.api.get("/webhook_endpoints"))["data"]
        if how == "retry":
            assert self.api.post("/webhooks/retry", {"since": "2020-01-01T00:00:00Z"}).status_code == 202
        elif how == "new" and len(endpoints) < 3:
            self.api.endpoint(f"https://shop.example/{self._new_key()}")
        elif endpoints:
            path = f"/webhook_endpoints/{endpoints[pick % len(endpoints)]['id']}"
            if how == "delete":
                assert self.api.delete(path).status_code == 204
            else:
                found(self.api.patch(path, {"enabled": how != "off"}))
        self._run()

    # --- workers ---------------------------------------------------------------------------------------

    @rule(how=st.sampled_from(["once", "once", "twice", "thrice", "not at all"]))
    def workers_are_woken(self, how: str) -> None:
        """More than once: they come at once. Not at all, for Redis was emptied: the clock sees to it."""
        times = ("not at all", "once", "twice", "thrice").index(how)
        acts = [self._act(work.queue) for work in WORKS] * times
        if times:
            self._run(*acts, together=times > 1)
            return
        with self.app.app_context():
            fast_redis().flushall()
            due = [work for work in WORKS if work.has_due()]
        self._run(self._tick)
        with self.app.app_context():
            for work in due:
                assert rq_queue(work.queue, fast_redis()).count or not work.has_due()

    @rule(seconds=st.sampled_from(PAUSES_S))
    def time_passes(self, seconds: int) -> None:
        self._let_pass(seconds)

    # --- faults ----------------------------------------------------------------------------------------

    @rule(
        under=wishes("order", "pay", "capture", "void", "refund", *SHOPPER) | QUEUES | st.just("sweep"),
        fault=FAULTS,
    )
    def database_breaks(self, under: Wish | str, fault: Fault) -> None:
        """Under one request or worker. A merchant who got no answer asks again under the same key."""
        if isinstance(under, str):
            self._run(self._act(under), fault=fault)
        elif request := self._request(under):
            (answer,) = self._run(request, fault=fault)
            if answer.status == 503 and request.key is not None:
                self._run(request)

    @rule(
        bank=st.lists(st.sampled_from([LOSE, MISS]), max_size=4),
        shop=st.lists(st.sampled_from(TROUBLE), max_size=4),
    )
    def others_are_in_trouble(self, bank: list[str], shop: list[tuple[int, int]]) -> None:
        """What becomes of the bank's next requests, and of the next deliveries."""
        self.bank.fates.extend(bank)
        self.shop.answers.extend(shop)

    @rule(queue=QUEUES, limit=st.sampled_from([1, SLOTS]), acted=st.booleans())
    def worker_dies(self, queue: str, limit: int, acted: bool) -> None:
        """Between its claim and its act, or between its act and its settle."""
        self._keep_busy()
        self._run(self._death(work_of(queue), limit, acted))

    @rule(pick=PICKS, lease=st.sampled_from(["runs", "over", "taken over", "done"]), lie=st.integers(0, 3))
    def zombie_rises(self, pick: int, lease: str, lie: int) -> None:
        """A worker that slept settles at last: if it slept through its lease, it changes nothing, whatever
        it says.
        """
        if not self.zombies:
            self._keep_busy()
            self._run(*(self._death(work, SLOTS, acted=False) for work in WORKS))
        zombie = self.zombies[pick % len(self.zombies)]
        if lease != "runs":
            self._run(self._leases_end)
        if lease == "taken over":
            self._run(self._death(zombie.work, SLOTS, acted=False))
        elif lease == "done":
            self._run(self._act(zombie.work.queue))
        self.zombies.remove(zombie)
        if self._still_holds(zombie):
            self._run(self._settle_of(zombie, None))
            return
        assert zombie.holds_until_s < self._now_s(), f"{zombie} lost its claim before its time"
        before = stored(self.app)
        self._run(self._settle_of(zombie, lie), workers=False)
        assert stored(self.app) == before

    # --- what always holds -----------------------------------------------------------------------------

    @invariant()
    def all_is_right(self) -> None:
        assert breaks(self.app) == []
        self._the_api_shows_what_is_there()
        self._the_bank_was_asked_for_nothing_wrong()

    def _the_api_shows_what_is_there(self) -> None:
        """And of all that it shows, each agrees with the rest."""
        state = self.state
        if replace(state, keys={}) == self.shown:
            return
        self.shown = replace(state, keys={})
        refunded = {each: state.refunded(each) for each in state.payments}
        self._lists("orders", "id", "amount", "capture", "status", "amount_paid")(
            (each.id, each.amount, each.capture, state.status(each), state.paid(each.id))
            for each in state.orders.values()
        )
        self._lists(
            *("payments", "id", "order_id", "amount", "method", "status"),
            *("captured", "amount_captured", "amount_refunded", "refund_status"),
        )(
            (
                *(each.id, each.order_id, each.amount, each.method, each.status),
                *(each.captured > 0, each.captured, refunded[each.id]),
                {each.captured: "full", 0: None}.get(refunded[each.id], "partial"),
            )
            for each in state.payments.values()
        )
        self._lists("refunds", "id", "payment_id", "amount", "status")(
            (each.id, each.payment_id, each.amount, each.status) for each in state.refunds.values()
        )
        pending = sum(each.amount for each in state.refunds.values() if each.status == "pending")
        captured = sum(each.captured for each in state.payments.values())
        held = sum(each.amount for each in state.payments.values() if each.awaits_capture)
        balance = {"captured": captured, "refunded": sum(refunded.values()), "refunds_pending": pending}
        balance |= {"held": held, "available": captured - sum(refunded.values()) - pending}
        for shown in found(self.api.get("/balance"))["data"] or [dict.fromkeys(balance, 0)]:
            assert {name: shown[name] for name in balance} == balance

    def _the_bank_was_asked_for_nothing_wrong(self) -> None:
        money = self.bank.money()
        state = self.state
        assert money.keys() <= state.payments.keys()
        for order in state.orders.values():
            moved = [money[each.id] for each in state.payments_of(order.id) if each.id in money]
            assert sum(each.held + each.taken for each in moved) <= order.amount, order
        done = Counter(ask.payment_id for ask in self._done_by_bank("capture", "void"))
        assert max(done.values(), default=0) <= 1, done
        for payment in state.payments.values():
            if payment.id in money:
                account = money[payment.id]
                assert payment.captured <= account.taken, payment
                assert account.returned <= account.taken, payment
        known = {key for each in state.payments.values() for key in keys_of(each)}
        known |= {refund.key for refund in state.refunds.values()}
        captures = {ask.idempotency_key for ask, _ in self.bank.book.values() if ask.operation == "capture"}
        assert self.bank.book.keys() - captures <= known

    # --- the end of each example -----------------------------------------------------------------------

    def teardown(self) -> None:
        failure = sys.exc_info()[1]
        if failure is self._before:
            self.bank.fates.clear()
            self.shop.answers.clear()
            self._come_to_an_end()
            self._let_pass(HOLD_IS_OVER_S)
            self._come_to_an_end()
            assert not any(payment.awaits_capture for payment in self.state.payments.values())
        elif isinstance(failure, Exception):  # threads may not fail alike when it is replayed: tell it now
            failure.add_note("\n".join(self.told))

    def _come_to_an_end(self) -> None:
        """Time passes, until nothing is left to do; then all is done."""
        for _ in range(QUIET_AFTER):
            self._let_pass(RETRY_OF_WEBHOOKS_S)
            if not self._unfinished():
                break
        self._all_is_done()

    def _unfinished(self) -> list[str]:
        return [
            row_id
            for work in WORKS
            for row_id in in_sql(
                self.app,
                f"SELECT id FROM {work.model.__tablename__} WHERE due_at IS NOT NULL OR claim_id IS NOT NULL",
            )
        ]

    def _all_is_done(self) -> None:
        """Everything that was accepted took effect once, the bank says the same, and it was told of."""
        self.all_is_right()
        assert self._unfinished() == []
        state, money = self.state, self.bank.money()
        for payment in state.payments.values():
            assert payment.status in ("success", "failed", "voided"), payment
            assert payment.operation is None, payment
            held = payment.amount if payment.awaits_capture else 0
            account = money.get(payment.id)
            there = (account.held, account.taken, account.returned) if account else (0, 0, 0)
            assert there == (held, payment.captured, state.refunded(payment.id)), payment
        for refund in state.refunds.values():
            assert refund.status == ("failed" if self.bank.declined(refund.key) else "processed"), refund
        self._events_tell_the_way()
        self._deliveries_came_to_an_end()

    def _events_tell_the_way(self) -> None:
        """The events of each payment tell of one legal way to where it is."""
        ways: dict[str, list[str]] = {}
        for (payload,) in rows_of(self.app, "SELECT payload FROM events ORDER BY seq"):
            if payment := json.loads(payload)["data"].get("payment"):
                ways.setdefault(payment["id"], []).append(payment["status"])
        for payment in self.state.payments.values():
            way = ways[payment.id]
            assert way[0] == "pending"
            assert way[-1] == payment.status
            assert all(one == next_ or next_ in TRANSITIONS[one] for one, next_ in pairwise(way)), way

    def _deliveries_came_to_an_end(self) -> None:
        attempts = len(self.app.config["GATEWAY"].webhook_retry_schedule_s)
        payloads = dict(rows_of(self.app, "SELECT id, payload FROM events"))
        deliveries = rows_of(
            self.app,
            "SELECT url, event_id, d.status, attempts, last_error FROM webhook_deliveries d "
            "JOIN webhook_endpoints e ON e.id = endpoint_id",
        )
        for url, event_id, status, tried, error in deliveries:
            if status == "success":
                assert self.shop.accepted[url, event_id] == payloads[event_id]
            else:
                gave_up = error == "answered 410" or error.startswith("the endpoint is off")
                assert status == "failed", event_id
                assert tried >= attempts or gave_up, event_id

    # --- from a wish to a request ----------------------------------------------------------------------

    def _ask(self, wish: Wish) -> None:
        if request := self._request(wish):
            self._run(request)

    def _provide(self, verb: str) -> None:
        """Something that the verb is fit for."""
        self._ask(Wish("order", "manual" if verb in ("capture", "void") else "automatic", 0))
        if verb != "pay":
            how = {"otp": "otp card", "phone": "pending@upi", "cancel": "pending@upi"}.get(
                verb, "success@upi"
            )
            self._ask(Wish("pay", how, 0))
            self._run(self._act("payments"))

    def _keep_busy(self) -> None:
        """Something to do for every kind of worker."""
        self._ask(Wish("refund", "half", 0))
        self.check_out(Wish("order", "automatic", 0), Wish("pay", "success@upi", 0))

    def _request(self, wish: Wish, key: str | None = None) -> Request | None:
        """What the wish comes to as things are; None if there is nothing that it could be about."""
        on, amount = "", 0
        if wish.verb != "order":
            every, fit = self._things(wish.verb)
            if not fit and wish.pick < MOSTLY:
                self._provide(wish.verb)
                every, fit = self._things(wish.verb)
            among = fit if fit and wish.pick < MOSTLY else every
            if not among:
                return None
            thing = among[-1 - wish.pick % len(among)]
            on = thing.id
            amount = self.state.left(thing) if wish.verb == "refund" else thing.amount
        if not wish.keyed or wish.verb in SHOPPER:
            return Request(wish.verb, on, body_of(wish, amount))
        self.keyed.append(Request(wish.verb, on, body_of(wish, amount), key or self._new_key()))
        return self.keyed[-1]

    def _new_key(self) -> str:
        self.numbered += 1
        return f"key-{self.numbered}"

    def _things(self, verb: str) -> tuple[list[Any], list[Any]]:
        """All that the verb could be about, and what is fit for it; of both, the best at the end."""
        state = self.state
        if verb == "pay":
            orders: list[Any] = list(state.orders.values())
            return orders, [each for each in orders if not each.expired and state.live(each.id) is None]
        every: list[Any] = list(state.payments.values())
        awaiting = [each for each in every if each.awaits_capture]
        if verb == "void":
            return every, awaiting
        if verb == "capture":  # those that are captured, too: it may be repeated
            return every, [*(each for each in every if each.captured), *awaiting] if awaiting else []
        if verb == "refund":
            return every, [each for each in every if state.left(each) > 0]
        return every, [each for each in every if each.status == "requires_action"]

    def _send(self, request: Request) -> Answer:
        if request.verb in SHOPPER:
            shopper = self.app.test_client()
            path = {"phone": f"/sim/upi/{request.on}"}.get(
                request.verb, f"/api/v1/payments/{request.on}/public/{request.verb}"
            )
            response = Context().run(shopper.post, path, json=request.body)
        else:
            path = {
                "order": "/orders",
                "pay": "/payments",
                "refund": f"/payments/{request.on}/refunds",
            }.get(request.verb, f"/payments/{request.on}/{request.verb}")
            body = request.body | ({"order_id": request.on} if request.verb == "pay" else {})
            response = Api(self.app.test_client()).post(path, body, key=request.key)
        replayed = response.headers.get("Idempotent-Replayed") == "true"
        return Answer(response.status_code, response.get_json(), replayed)

    # --- what workers do -------------------------------------------------------------------------------

    def _act(self, name: str) -> Callable[[], None]:
        if name == "zombie":
            if not self.zombies:
                return self._act("payments")
            zombie = self.zombies.pop()
            return self._settle_of(zombie, None if self._still_holds(zombie) else 0)
        do = sweep if name == "sweep" else work_of(name).run

        def act() -> None:
            with self.app.app_context():
                do()

        act.__name__ = name
        return act

    def _death(self, work: Work[Any, Any], limit: int, acted: bool) -> Callable[[], None]:
        """A worker claims, acts perhaps, and is not heard of for long."""

        def die() -> None:
            with self.app.app_context():
                tasks = work._claim(limit)
            for task in tasks:
                if acted:
                    work.act(task.data)
                # A shopper who acts takes a payment from whoever looks it up.
                waits = (
                    task.id in self.state.payments
                    and self.state.payments[task.id].status == "requires_action"
                )
                lease_s = 0 if waits else LEASE_S - CLOSE_S
                self.zombies.append(Zombie(work, task, self._now_s() + lease_s))

        return die

    def _leases_end(self) -> None:
        for table in (work.model.__tablename__ for work in WORKS):
            in_sql(self.app, f"UPDATE {table} SET due_at = now() WHERE claim_id IS NOT NULL")
        for zombie in self.zombies:
            zombie.holds_until_s = 0

    def _tick(self) -> None:
        clock = Clock(self.app)
        with self.app.app_context():
            clock.tick()
        clock.join()

    def _still_holds(self, zombie: Zombie) -> bool:
        table = zombie.work.model.__tablename__
        query = f"SELECT claim_id FROM {table} WHERE id = :id"
        return in_sql(self.app, query, id=zombie.task.id) == [zombie.task.claim_id]

    def _settle_of(self, zombie: Zombie, lie: int | None) -> Callable[[], None]:
        """Its late settle: with what it really learnt, or with a lie."""

        def settle() -> None:
            outcome = zombie.work.act(zombie.task.data) if lie is None else LIES[zombie.work.queue][lie]
            with self.app.app_context():
                zombie.work._settle([(zombie.task, outcome)])

        return settle

    def _let_pass(self, seconds: int) -> None:
        """Everything becomes older; the clock sweeps, and workers come before anything counts as stuck."""

        def pass_() -> None:
            make_older(self.app, seconds)
            self.passed_s += seconds

        acts = [pass_, self._act("sweep")]
        self.neglected_s += seconds
        if self.neglected_s > NEGLECT_S:
            self.neglected_s = 0
            acts += [self._drain, self._act("sweep")]  # what ended by that may be over as well
        self._run(*acts)

    def _drain(self) -> None:
        """As tests.conftest.drain_all."""
        with self.app.app_context():
            while sum(work.drain() for work in WORKS):
                self._wait_for_workers()

    @staticmethod
    def _wait_for_workers() -> None:
        if any(work._running for work in WORKS):
            wait_until(lambda: not any(work._running for work in WORKS))

    # --- a step, and its explanation -------------------------------------------------------------------

    def _run(
        self,
        *acts: Request | Callable[[], None],
        together: bool = False,
        fault: Fault | None = None,
        workers: bool = True,
    ) -> list[Answer]:
        """Do them, one after the other or all at once; then the model must explain what came of it."""
        trouble = bool(self.bank.fates) or fault is not None
        results: list[Any] = []
        with fault.armed(self.app, self.servers) if fault else nothing_breaks():
            if together and acts:
                with closely():
                    results = at_once(len(acts), lambda number: self._result(acts[number]))
            else:
                results = [self._result(act) for act in acts]
        self._wait_for_workers()
        for result in results:
            if isinstance(result, Exception) and not (fault and isinstance(result, DBAPIError)):
                raise result
        requests = [act for act in acts if isinstance(act, Request)]
        answers = [result for result in results if isinstance(result, Answer)]
        self._tell(acts, results, together, fault)
        self._explain(
            list(zip(requests, answers, strict=True)),
            together=together,
            workers=workers and len(requests) < len(acts),
            swept=len(requests) < len(acts),
            trouble=trouble,
            broken=fault is not None,
        )
        return answers

    def _tell(self, acts: Sequence[Any], results: list[Any], together: bool, fault: Fault | None) -> None:
        """What the step was, for whoever reads the failure."""
        before = [f"under {fault}"] * (fault is not None) + ["at once"] * together
        told = []
        for act, result in zip(acts, results, strict=True):
            what = f"{act}" if isinstance(act, Request) else act.__name__
            said = f"{result.said}{' replayed' * result.replayed}" if isinstance(result, Answer) else result
            told.append(f"{what} -> {said}" if said is not None else what)
        self.told.append("    " + "; ".join([*before, *told]))

    def _result(self, act: Request | Callable[[], None]) -> Any:
        try:
            return self._send(act) if isinstance(act, Request) else act()
        except Exception as error:
            return error

    def _explain(self, done: list[tuple[Request, Answer]], **facts: bool) -> None:
        step = Step(self.bank, self._seen(), self._now_s(), **facts)
        # What a key is bound to is not seen: there may be several states.
        several = step.broken or any(request.key and request.asks_acquirer for request, _ in done)
        after: list[State] = []
        for before in self.states:
            for state in before.explanations(done, step):
                if state not in after:
                    after.append(state)
                if not several:
                    break
        if not after:
            raise AssertionError(unexplained(self.state, done, step))
        self.states = after

    def _lists(self, name: str, *facts: str) -> Callable[[Iterable[tuple[Any, ...]]], None]:
        """Fails where the API shows anything else than `these`; of each, the first fact is its id."""
        rows = [tuple(each[fact] for fact in facts) for each in self._all(name)]

        def these(expected: Iterable[tuple[Any, ...]]) -> None:
            for shown, there in zip_longest(sorted(rows), sorted(expected)):
                assert shown == there, f"{name}: {shown} instead of {there}"

        return these

    def _all(self, name: str) -> list[dict[str, Any]]:
        """Everything in a list of the API, the newest first."""
        rows: list[dict[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            page = found(self.api.get(f"/{name}", limit=100, **more))
            rows += page["data"]
            if not page["has_more"]:
                return rows
            more = {"starting_after": page["next_cursor"]}

    def _now_s(self) -> float:
        return time.time() + self.passed_s

    def _seen(self) -> State:
        """What is there; its times as if none had been let pass."""
        with self.app.app_context():
            orders, payments, refunds = (
                {row[0]: row for row in db.session.execute(text(query), {"passed_s": self.passed_s})}
                for query in (ORDERS, PAYMENTS, REFUNDS)
            )
        return State(
            {each: Order(*row) for each, row in orders.items()},
            {each: payment_of(*row) for each, row in payments.items()},
            {each: Refund(*row) for each, row in refunds.items()},
        )

    def _done_by_bank(self, *operations: str) -> list[Ask]:
        book = list(self.bank.book.values())
        return [ask for ask, result in book if ask.operation in operations and isinstance(result, Approved)]


# --- helpers -------------------------------------------------------------------------------------


def body_of(wish: Wish, amount: int) -> dict[str, Any]:
    """`amount` is what is there to be captured or refunded."""
    match wish.verb:
        case "order":
            capture = "manual" if "manual" in wish.how else "automatic"
            body: dict[str, Any] = {"amount": 2000 + 100 * wish.pick, "capture": capture}
            return body | ({"expires_in": WAIT_S} if "expiring" in wish.how else {})
        case "pay" if "@" in wish.how:
            return {"method": "upi", "vpa": wish.how}
        case "pay":
            return {"method": "card", "card": card_body(*[OTP_CARD] * (wish.how == "otp card"))}
        case "otp":
            return {"otp": wish.how}
        case "phone":
            return {"answer": wish.how}
    amounts = {
        "half": max(amount // 2, 1),
        "too much": amount + 1,
        "unlucky": UNLUCKY,
        "returned": RETURNED,
        "watched": WATCHED,
    }
    return {"amount": amounts[wish.how]} if wish.how in amounts else {}


def keys_of(payment: Payment) -> list[str]:
    return [payment.key_of(verb, payment.amount) for verb in ("authorize", "void")]


def work_of(queue: str) -> Work[Any, Any]:
    return next(work for work in WORKS if work.queue == queue)


@contextmanager
def closely() -> Iterator[None]:
    """Threads take turns far more often than they would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(CLOSE_TURNS_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def nothing_breaks() -> Iterator[None]:
    yield


def unexplained(before: State, done: list[tuple[Request, Answer]], step: Step) -> str:
    """Why no order of the requests explains it: for whoever reads the failure."""
    lines = ["Nothing explains what was answered and seen."]
    for request, answer in done:
        lines.append(f"{request}\n    was answered {answer}")
        if request.on in before.orders or request.on in before.payments or request.verb == "order":
            lines.append(f"    alone, it should be answered one of {before.expected(request, step)}")
    for kind in ("orders", "payments", "refunds"):
        one, other = getattr(before, kind), getattr(step.seen, kind)
        for each in sorted(one.keys() | other.keys()):
            if one.get(each) != other.get(each):
                lines.append(f"before {one.get(each)}\nafter  {other.get(each)}")
    return "\n".join(lines)


def rows_of(app: Flask, statement: str) -> list[Any]:
    """The rows that one statement gives."""
    with app.app_context():
        return list(db.session.execute(text(statement)).all())


def empty(app: Flask) -> None:
    """What the `app` fixture does for each test, for each example."""
    with app.app_context():
        names = ", ".join(tables())
        db.session.execute(text("SET LOCAL session_replication_role = replica"))
        db.session.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
        db.session.commit()
        fast_redis().flushall()
    app.extensions.pop("wake", None)


def make_older(app: Flask, seconds: int) -> None:
    """Let time pass: every time that is written down lies so much further back."""
    with app.app_context():
        columns: dict[str, list[str]] = {}
        for table, column in db.session.execute(text(TIMES)):
            columns.setdefault(table, []).append(f"{column} = {column} - make_interval(secs => {seconds})")
        db.session.execute(text("SET LOCAL session_replication_role = replica"))
        for table in tables():
            if table in columns:
                db.session.execute(text(f"UPDATE {table} SET {', '.join(columns[table])}"))
        db.session.commit()


def payment_of(*facts: Any) -> Payment:
    *visible, operation, amount, hold_ends_at_s, action_ends_at_s = facts
    asked = None if operation is None else (operation, amount)
    return replace(
        Payment(*visible), operation=asked, hold_ends_at_s=hold_ends_at_s, action_ends_at_s=action_ends_at_s
    )


def since_beginning_s(column: str) -> str:
    return f"round(extract(epoch FROM {column}) + :passed_s, 3)::float8"


ORDERS = f"""
    SELECT id, amount, capture, {since_beginning_s("expires_at")}, status = 'expired' FROM orders ORDER BY seq
"""
PAYMENTS = f"""
    SELECT id, order_id, amount, capture, method, status, amount_captured,
        CASE WHEN operation IN ('capture', 'void') THEN operation END,
        coalesce(operation_amount, amount),
        {since_beginning_s("hold_expires_at")}, {since_beginning_s("action_expires_at")}
    FROM payments ORDER BY seq
"""
REFUNDS = "SELECT id, payment_id, amount, status FROM refunds ORDER BY seq"

TIMES = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = 'public' AND data_type = 'timestamp with time zone'
"""


def tables() -> list[str]:
    names = db.session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
    return sorted(set(names) - KEPT_TABLES)


# --- the test ------------------------------------------------------------------------------------


@pytest.mark.timeout(SHRINK_S + EXAMPLE_S * EXAMPLES)
def test_whatever_happens_it_does_as_the_model_says(
    app: Flask, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def machine() -> Gateway:
        return Gateway(app, servers, monkeypatch)

    if BLOB is not None:
        reproduce_failure(hypothesis.__version__, BLOB.encode())(machine)
    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]  # any function that makes one, says its documentation
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=False,
            database=None,
            print_blob=True,
            report_multiple_bugs=False,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
