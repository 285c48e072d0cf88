"""The clock: one small loop beside the workers, which sees to it that what is due gets its turn.

Several may run (one a worker command); an advisory lock in Postgres elects the one that ticks. A tick
wakes every queue that has due rows: this is how a later `due_at` gets its turn, and how a wake-up that
Redis lost is made up for. While Redis can't be reached, and whenever rows stay due for seconds, the clock
drains the queues itself. Less often, it sweeps; and once a night it proves that all is right.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from flask import Flask
from sqlalchemy import Connection, exists, func, select, text, update
from sqlalchemy.exc import DBAPIError

from jobs.payments import PAYMENTS
from jobs.refunds import REFUNDS
from jobs.wake import WAKE_TTL_S, wake
from jobs.webhooks import WEBHOOKS
from jobs.work import Work, commit, stopping
from models.base import db, mark_due, now
from models.idempotency import IdempotencyKey
from models.orders import Order
from models.passwords import PasswordFailure
from models.payments import LIVE, Payment
from models.rescues import Rescue
from models.sessions import Session
from models.verification import Verification
from models.workers import Worker

log = logging.getLogger(__name__)

TICK_S = 0.1  # how late a delayed payment may be noticed; a tick is one cheap query a queue
SWEEP_S = 5.0
VERIFY_S = 60.0  # how often it is asked whether the night's verification is due
SWEEP_BATCH = 500  # rows a sweep: a backlog is worked off in several short transactions
PATIENCE_S = 5.0  # Redis silent, or rows due, for so long: the clock does the work itself
BREAKS_LOGGED = 20  # of one check: the command prints them all
RETRY_S = 1.0  # after a database error, and between attempts to become the clock
HANGS_S = 8.0  # a clock that does not tick for so long is none: far longer than a tick, or a sweep
CLOCK_LOCK = 7_264_001  # the advisory lock that elects the clock; any number that nobody else uses

WORKS: tuple[Work, ...] = (PAYMENTS, REFUNDS, WEBHOOKS)


class Clock:
    """See the module. `tick()` is one turn of the loop, for tests as well."""

    def __init__(self, app: Flask):
        self._app = app
        self._next_sweep = 0.0
        self._next_verification = 0.0
        self._silent_since: float | None = None
        self._distrusted_until = 0.0
        self._threads: dict[str, threading.Thread] = {}

    def run(self) -> None:
        """Tick until the process is told to stop; survive every outage of Postgres and Redis."""
        while not stopping.is_set():
            try:
                with self._app.app_context(), db.engine.connect() as connection:
                    self._reign(connection)
            except DBAPIError as error:
                log.warning("the clock lost the database, it tries again: %s", error.orig)
            except Exception:
                log.exception("the clock broke, it goes on")
            stopping.wait(RETRY_S)
        self.join()

    def tick(self) -> None:
        """Wake every queue that has due rows; drain what nobody comes for; sweep when it is time."""
        due = [work for work in WORKS if work.has_due()]
        waiting = [work for work in due if work.has_due(late_s=PATIENCE_S)]
        db.session.remove()
        heard = [wake(work.queue) for work in due]
        if due:
            self._listen(all(heard))
        # Whatever the reason: Redis away, a job lost while its wake lives on, workers hung or suspended.
        for work in due if self._alone() else waiting:
            self._drain_inline(work)
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + SWEEP_S
            sweep()

    def _listen(self, heard: bool) -> None:
        """Note whether Redis hears us. One that comes back may hold wakes whose jobs never came: until they
        have expired, it is not relied on.
        """
        now_s = time.monotonic()
        if not heard:
            self._silent_since = self._silent_since or now_s
        elif self._silent_since is not None:
            self._silent_since, self._distrusted_until = None, now_s + WAKE_TTL_S

    def _alone(self) -> bool:
        """Whether the clock has to do the work itself."""
        now_s = time.monotonic()
        silent = self._silent_since is not None and now_s - self._silent_since >= PATIENCE_S
        return silent or now_s < self._distrusted_until

    def _reign(self, connection: Connection) -> None:
        """Hold the lock as long as its connection lives, and tick."""
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()  # from the pool: when it is closed, the lock is really given up
        if not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": CLOCK_LOCK}):
            return
        # One that hangs, or is suspended, lets go of the lock too. The name is for pg_stat_activity.
        connection.execute(text(f"SET idle_session_timeout = '{HANGS_S:g}s'"))
        connection.execute(text(f"SET application_name = 'gateway clock {os.getpid()}'"))
        log.info("this process is the clock now")
        while not stopping.is_set():
            connection.execute(text("SELECT 1"))  # raises when the lock's connection is gone
            self.tick()
            if time.monotonic() >= self._next_verification:
                self._next_verification = time.monotonic() + VERIFY_S
                self.verify_nightly()
            stopping.wait(TICK_S)

    def verify_nightly(self) -> None:
        """Prove that all is right, if that was not done this night."""
        if Verification.is_due():
            self._beside("verification", verify)
        db.session.remove()

    def join(self) -> None:
        """Wait for what is done beside the ticks."""
        for thread in self._threads.values():
            thread.join()

    def _drain_inline(self, work: Work) -> None:
        """Drain in a thread of its own, one a queue: slow webhooks must not hold up payments."""
        if self._beside(work.queue, lambda: rescue(work)):
            log.warning("nobody comes for %s, the clock drains it itself", work.queue)

    def _beside(self, name: str, act: Callable[[], object]) -> bool:
        """Begin it in a thread of its own. False: the last one is not over."""
        running = self._threads.get(name)
        if running is not None and running.is_alive():
            return False
        thread = threading.Thread(target=self._act, args=(name, act), name=f"clock-{name}")
        self._threads[name] = thread
        thread.start()
        return True

    def _act(self, name: str, act: Callable[[], object]) -> None:
        with self._app.app_context():
            try:
                act()
            except Exception:
                log.exception("%s broke", name)


def is_ticking() -> bool:
    """Whether any process is the clock now."""
    held = text(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = :lock "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted)"
    )
    return bool(db.session.scalar(held, {"lock": CLOCK_LOCK}))


def verify() -> None:
    """One verification. What it finds is an error in the log, and a metric until there is a better one."""
    findings = Verification.run() or []
    for finding in findings:
        for each in finding.breaks[:BREAKS_LOGGED]:
            log.error("broken: %s", each)
        if finding.count > BREAKS_LOGGED:
            log.error("broken: %s: %d in all; see `flask verify`", finding.check.name, finding.count)


def rescue(work: Work) -> None:
    """Work off what nobody comes for, and count it: that should never be needed."""
    rescued = work.drain(PATIENCE_S)
    if rescued:
        Rescue.add(work.queue, rescued)
        commit()


def sweep() -> None:
    """What is over: orders nobody paid, holds nobody captured, keys, sessions, workers. Each by itself."""
    for step in (expire_orders, release_holds, forget, report_overdue):
        try:
            step()
        except DBAPIError as error:
            log.warning("the sweep %s failed, the next one comes: %s", step.__name__, error.orig)
        finally:
            db.session.remove()


def expire_orders() -> None:
    """Expire what nobody paid in time, unless a payment of it is still under way."""
    live = exists().where(Payment.order_id == Order.id, Payment.status.in_(LIVE))
    overdue = db.session.scalars(
        select(Order)
        .where(Order.status.in_(["created", "attempted"]), Order.expires_at <= func.now(), ~live)
        .order_by(Order.expires_at)
        .limit(SWEEP_BATCH)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    # Asked again now that they are locked: a payment that began meanwhile is seen, none can begin any more.
    begun = select(Payment.order_id).where(
        Payment.order_id.in_([order.id for order in overdue]), Payment.status.in_(LIVE)
    )
    busy = set(db.session.scalars(begun)) if overdue else set()
    for order in overdue:
        if order.id not in busy:
            order.expire()
    commit()


def release_holds() -> None:
    """Ask to void approvals whose hold is over."""
    ids = (
        select(Payment.id)
        .where(Payment.hold_expires_at <= func.now(), Payment.operation.is_(None))
        .limit(SWEEP_BATCH)
        .with_for_update(skip_locked=True, key_share=True)
    )
    released = db.session.execute(
        update(Payment).where(Payment.id.in_(ids)).values(operation="void", due_at=now(), tries=0)
    )
    if released.rowcount:  # type: ignore[attr-defined]
        mark_due(PAYMENTS.queue)
    commit()


def forget() -> None:
    IdempotencyKey.forget_expired(limit=SWEEP_BATCH)
    Worker.forget_dead()
    Session.forget_ended()
    PasswordFailure.forget_old()
    commit()


def report_overdue() -> None:
    for work in WORKS:
        overdue = work.count_overdue()
        if overdue:
            log.warning("%s: %d rows are overdue by more than a lease", work.queue, overdue)
