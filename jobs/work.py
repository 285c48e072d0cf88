"""The work protocol: the database decides what is due, RQ only decides who looks.

A row with work to do carries `due_at`. A worker

1. claims: up to N due rows in one statement (`FOR UPDATE SKIP LOCKED`), writing a fresh `claim_id`,
   pushing `due_at` ahead by a lease, counting the try; commits;
2. acts, outside any transaction: asks the acquirer, posts the webhook. Every act is idempotent by the
   row's id, for a worker that dies here leaves a row that is claimed again when its lease is over;
3. settles, in one transaction: only rows whose `claim_id` is still the claim's, so that a worker that
   slept through its lease changes nothing; commits; wakes what comes next.

Payments, refunds and webhook deliveries are three uses of it: subclasses of `Work`.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID, uuid4

from flask import Flask, current_app
from sqlalchemy import Row, func, select, text

from config import settings
from jobs.crew import Crew
from jobs.wake import wake, wake_soon, woken
from models.base import db, now, take_due

log = logging.getLogger(__name__)

LEASE_S = 30  # longer than any act may take (10 s), with room for a slow settle
SLOTS = 128  # acts at once in one process: each is a thread that mostly waits on a network
BATCH = 256  # rows at once, where an act waits for nothing: what each statement costs is shared by so many
PATIENCE_S = 0.25  # acts slower than this settle by themselves and hold nobody up
BUDGET_S = 0.5  # a job goes on that long while there is more, then the next queue has its turn
LATE_SETTLES = 4  # at once in one process: each takes a database connection
POSTPONE_MAX_S = 300  # a row that breaks us is tried again, ever more rarely
ASK_AGAIN_S = 1.0  # after "never heard of it": that is an answer, and whoever gives it can be asked
LOOK_UP_MAX_S = 300  # an answer may stay out for days, and each look-up of it leaves a row (acquirer_answers)

DUE = "now() - make_interval(secs => :late_s)"  # in due_sql: due for so long; 0 = due now

stopping = threading.Event()  # set on SIGTERM: claim nothing new

TaskData = TypeVar("TaskData")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Task(Generic[TaskData]):
    """One claimed row, with all that its act needs to know: acts touch no session."""

    id: str
    claim_id: UUID
    data: TaskData

    @property
    def key(self) -> tuple[str, UUID]:
        return self.id, self.claim_id


@dataclass(frozen=True)
class Broke:
    """The act raised something unexpected: our bug, not the acquirer's answer."""

    error: Exception


@dataclass(frozen=True)
class Backlog:
    """How many rows wait for a worker, how long the first has, and how many were missed (`count_overdue`)."""

    due: int
    oldest_s: float
    overdue: int


def commit() -> None:
    """Commit, then wake the queues whose rows the transaction made due."""
    if not db.session.registry.has():
        return  # nobody began one
    db.session.flush()
    due = take_due()
    db.session.commit()
    for queue in sorted(due):
        wake_soon(queue)


class Work(ABC, Generic[TaskData, Outcome]):
    """One kind of work. Subclasses say which rows are due, and how to prepare, act and settle."""

    queue: ClassVar[str]
    model: ClassVar[Any]  # has id, due_at, claim_id, tries and work_error

    # --- what a kind of work decides ---------------------------------------------------------------

    def due_sql(self, *, lock: bool) -> str:
        """A query for the ids of up to `:limit` rows that are due for `:late_s` seconds, oldest first."""
        return (
            f"SELECT id FROM {self.model.__tablename__} WHERE due_at <= {DUE} "  # noqa: S608
            f"ORDER BY due_at LIMIT :limit {'FOR UPDATE SKIP LOCKED' if lock else ''}"
        )

    def before_claim(self) -> None:
        """What else a claim needs at the start of its transaction."""

    @abstractmethod
    def prepare(self, rows: Sequence[Row[Any]]) -> Iterable[tuple[str, TaskData]]:
        """What each act needs, read in the claim's transaction. `rows` are what was claimed, as it now is."""

    @abstractmethod
    def act(self, data: TaskData) -> Outcome:
        """Talk to the outside world. No session, no transaction."""

    @property
    def is_instant(self) -> bool:
        """Whether acts wait for nothing: they need no threads then."""
        return False

    def lock(self, ids: list[str]) -> Sequence[Any]:
        """The rows, locked in one fixed order (with what settling them changes beside)."""
        return self.lock_rows(self.model, ids)

    @abstractmethod
    def settle(self, row: Any, data: TaskData, outcome: Outcome) -> None:
        """Apply the outcome to a row that is still ours, and take `claim_id` off it."""

    # --- the protocol ------------------------------------------------------------------------------

    def __init__(self) -> None:
        self._crew: Crew[Task[TaskData], Any] | None = None  # no threads before there is work
        self._running: set[tuple[str, UUID]] = set()  # the claims whose act goes on
        self._late_settles = threading.BoundedSemaphore(LATE_SETTLES)

    def run(self) -> int:
        """The RQ job: take the wake off, then drain. Returns how many rows it claimed."""
        woken(self.queue)
        return self.drain()

    def drain(self, budget_s: float = BUDGET_S) -> int:
        """Claim, act and settle until nothing is due, or the budget is spent. Returns the rows claimed.

        Acts that take longer than PATIENCE_S go on in their thread and settle themselves.
        """
        deadline = time.monotonic() + budget_s
        claimed = 0
        try:
            while not stopping.is_set():
                if time.monotonic() >= deadline:
                    wake(self.queue)
                    break
                tasks = self._claim(BATCH if self.is_instant else SLOTS - len(self._running))
                if not tasks:
                    break
                claimed += len(tasks)
                self._work_off(tasks)
        finally:
            db.session.remove()  # a worker process outlives its jobs: leave it no rows, no broken transaction
        return claimed

    def run_one(self, row_id: str) -> None:
        """Do the work of one row here and now, due or not, unless somebody else holds it."""
        tasks = self._claim_rows(
            "SELECT :id AS id", {"id": row_id}, extra="AND claim_id IS NULL AND due_at IS NOT NULL"
        )
        self._settle([(task, self._try_act(task)) for task in tasks])

    def has_due(self, late_s: float = 0) -> bool:
        """Whether a claim now would find anything, that has been due for `late_s` seconds."""
        query = text(f"SELECT EXISTS ({self.due_sql(lock=False)})")
        return bool(db.session.scalar(query, {"limit": 1, "late_s": late_s}))

    def count_overdue(self) -> int:
        """Rows that have been due for longer than a lease: wakes, workers and clock all missed them."""
        return self.backlog().overdue

    def backlog(self) -> Backlog:
        """What is due now."""
        due_at = self.model.due_at
        counts = select(
            func.count(),
            func.coalesce(func.extract("epoch", func.now() - func.min(due_at)), 0),
            func.count().filter(due_at < func.now() - timedelta(seconds=LEASE_S)),
        ).where(due_at <= func.now())
        due, oldest_s, overdue = db.session.execute(counts).one()
        return Backlog(due, float(oldest_s), overdue)

    def _claim(self, limit: int) -> list[Task[TaskData]]:
        if limit <= 0:
            return []
        self.before_claim()
        return self._claim_rows(self.due_sql(lock=True), {"limit": limit, "late_s": 0})

    def _claim_rows(self, due: str, params: dict[str, Any], extra: str = "") -> list[Task[TaskData]]:
        claim_id = uuid4()
        # MATERIALIZED: the limit and the locks are taken once, whatever the planner thinks.
        query = text(
            f"WITH due AS MATERIALIZED ({due}) "  # noqa: S608
            f"UPDATE {self.model.__tablename__} SET claim_id = :claim_id, tries = tries + 1, "
            f"due_at = now() + make_interval(secs => {LEASE_S}) "
            f"WHERE id IN (SELECT id FROM due) {extra} RETURNING *"
        )
        rows = db.session.execute(query, {**params, "claim_id": claim_id}).all()
        tasks = [Task(row_id, claim_id, data) for row_id, data in self.prepare(rows)] if rows else []
        commit()
        return tasks

    def _work_off(self, tasks: list[Task[TaskData]]) -> None:
        """Act on all of them at once; settle the quick ones together, let the slow ones go on alone."""
        if self.is_instant:
            self._settle([(task, self._try_act(task)) for task in tasks])
            return
        if self._crew is None:
            self._crew = Crew(SLOTS, self.queue)
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        self._running.update(task.key for task in tasks)
        try:
            done = self._crew.act(
                self._try_act,
                tasks,
                patience_s=PATIENCE_S,
                late=lambda task, outcome: self._settle_late(app, task, outcome),
            )
        except BaseException:
            self._running.difference_update(task.key for task in tasks)
            raise
        self._running.difference_update(task.key for task, _ in done)
        self._settle(done)

    def _settle_late(self, app: Flask, task: Task[TaskData], outcome: Any) -> None:
        try:
            with self._late_settles, app.app_context():
                self._settle([(task, outcome)])
        finally:
            self._running.discard(task.key)

    def _try_act(self, task: Task[TaskData]) -> Outcome | Broke:
        try:
            return self.act(task.data)
        except Exception as error:
            log.exception("%s: acting on %s broke", self.queue, task.id)
            return Broke(error)

    def _settle(self, results: list[tuple[Task[TaskData], Any]]) -> None:
        """Settle all in one transaction; if one of them breaks it, each in its own."""
        if not results:
            return
        try:
            self._settle_together(results)
        except Exception as error:
            db.session.rollback()
            if len(results) > 1:
                for result in results:
                    self._settle([result])
                return
            task = results[0][0]
            log.exception("%s: settling %s broke", self.queue, task.id)
            try:
                self._settle_together([(task, Broke(error))])
            except Exception:  # the database is gone: the lease will bring the row back
                db.session.rollback()
                log.exception("%s: could not postpone %s", self.queue, task.id)

    def _settle_together(self, results: list[tuple[Task[TaskData], Any]]) -> None:
        rows = {row.id: row for row in self.lock([task.id for task, _ in results])}
        for task, outcome in results:
            row = rows.get(task.id)
            if row is None or row.claim_id != task.claim_id:
                log.warning("%s: the claim on %s was lost, its outcome is left alone", self.queue, task.id)
            elif isinstance(outcome, Broke):
                self._postpone(row, outcome.error)
            else:
                self.settle(row, task.data, outcome)
        about = {"merchant_ids": sorted({row.merchant_id for row in rows.values()}), "ids": sorted(rows)}
        commit()
        if settings.request_log:
            log.info("%s: settled %d", self.queue, len(rows), extra=about)

    def _postpone(self, row: Any, error: Exception) -> None:
        row.work_error, row.claim_id = type(error).__name__, None
        row.due_at = now() + timedelta(seconds=min(2**row.tries, POSTPONE_MAX_S))

    @staticmethod
    def lock_rows(model: Any, ids: Iterable[str]) -> Sequence[Any]:
        """Lock rows by id, in the order of their ids: two workers can't wait for each other."""
        query = select(model).where(model.id.in_(set(ids))).order_by(model.id).with_for_update(key_share=True)
        return db.session.scalars(query.execution_options(populate_existing=True)).all()


def backoff_s(tries: int) -> int:
    """Seconds to wait after the n-th try without a definite answer: 1, 2, 4 ... LOOK_UP_MAX_S."""
    return min(2 ** max(tries - 1, 0), LOOK_UP_MAX_S)  # of integers: after 1024 tries a float overflows
