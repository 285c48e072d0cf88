"""Many acts at once, by no more threads than they need.

Threads that mostly wait on a network cost little; those that do not wait take Python's lock from each other.
So a few begin, each doing one act after the other; only where acts do wait is there a thread for each.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

FEW = 6  # begin: while one waits for an answer others send theirs; more would only want the lock
MOMENT_S = 0.01  # an act that takes longer waits for something

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


class Crew(Generic[Task, Outcome]):
    """Threads that do acts, `size` at once at most."""

    def __init__(self, size: int, name: str):
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)

    def act(
        self,
        act: Callable[[Task], Outcome],
        tasks: Sequence[Task],
        *,
        patience_s: float,
        late: Callable[[Task, Outcome], None],
    ) -> list[tuple[Task, Outcome]]:
        """Do them all, and return those that are done within `patience_s`, with their outcomes.

        The others go on; each is handed to `late` when it is done, in its thread.
        """
        shift = _Shift(act, tasks, late)
        try:
            for _ in tasks[:FEW]:
                self._pool.submit(shift.work)
            if shift.is_stuck():
                for _ in tasks[FEW:]:
                    self._pool.submit(shift.work)
            return shift.end(patience_s)
        except BaseException:  # RQ ends a job that takes too long so
            shift.end(0)
            raise

    def close(self) -> None:
        """Wait for what goes on, and end the threads."""
        self._pool.shutdown()


class _Shift(Generic[Task, Outcome]):
    """What is to be done, and how far it is."""

    def __init__(
        self, act: Callable[[Task], Outcome], tasks: Sequence[Task], late: Callable[[Task, Outcome], None]
    ):
        self._act, self._late = act, late
        self._waiting = deque(tasks)
        self._count = len(tasks)
        self._done: list[tuple[Task, Outcome]] = []
        self._all_done = threading.Event()
        self._lock = threading.Lock()
        self._is_over = False

    def work(self) -> None:
        """Do one after the other, until nothing waits."""
        while True:
            try:
                task = self._waiting.popleft()
            except IndexError:
                return
            outcome = self._act(task)
            with self._lock:
                is_late = self._is_over
                if not is_late:
                    self._done.append((task, outcome))
                    if len(self._done) == self._count:
                        self._all_done.set()
            if is_late:
                try:
                    self._late(task, outcome)
                except Exception:
                    log.exception("what came late was lost")

    def is_stuck(self) -> bool:
        """Wait until nothing waits to be begun: False; or until acts take more than a moment each."""
        before = 0
        while not self._all_done.wait(MOMENT_S) and self._waiting:
            done = len(self._done)
            if done - before < FEW:
                return True
            before = done
        return False

    def end(self, patience_s: float) -> list[tuple[Task, Outcome]]:
        """Wait for all, or for so long."""
        self._all_done.wait(patience_s)
        with self._lock:
            self._is_over = True
            return self._done
