"""What many ask at the same moment, done at once: one transaction, and one wait for the disk, for all.

While one group is being written, whoever comes waits, and these are the next group. So nobody waits for
company, and the more there is to do, the less each costs: what databases call a group commit. Whoever comes
first leads: it does the work of its group, in its own session, and hands on to the first of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Final, Generic, TypeVar

from flask import current_app
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models.base import db
from models.green import give_way

GROUP_MAX = 64

Wish = TypeVar("Wish")
Done = TypeVar("Done")


class Alone:
    """Instead of an outcome: it can't be done in a group without holding that up."""


ALONE: Final = Alone()


class Together(Generic[Wish, Done]):
    """One kind of act, done in groups.

    `do_all` does several in one transaction, commits it, and waits for no lock: for each it gives what was
    done, or an exception that refuses it, or ALONE. `do_one` does one, in the session's transaction, which
    whoever called commits.
    """

    def __init__(
        self,
        do_all: Callable[[Sequence[Wish]], Sequence[Done | Exception | Alone]],
        do_one: Callable[[Wish], Done],
    ):
        self._do_all, self._do_one = do_all, do_one

    def __call__(self, wish: Wish) -> Done:
        """Do it: within the session's transaction if there is one, else with others, and committed."""
        if db.session.registry.has() and db.session().in_transaction():
            return self._do_one(wish)
        outcome = self._line().wait_for(wish, self._do_group)
        if isinstance(outcome, Alone):
            return self._do_one(wish)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _line(self) -> _Line[Wish, Done]:
        """That of this app."""
        lines: dict[Any, Any] = current_app.extensions
        if self not in lines:
            lines[self] = _Line()
        return lines[self]

    def _do_group(self, wishes: Sequence[Wish]) -> Sequence[Done | Exception | Alone]:
        try:
            return self._do_all(wishes)
        except Exception as error:
            db.session.rollback()
            # Nothing is written: only the one at fault shall fail. If the database is gone, who knows.
            is_gone = isinstance(error, OperationalError | InterfaceError | PoolTimeout)
            return [error if is_gone or len(wishes) == 1 else ALONE] * len(wishes)


class _Place(Generic[Wish, Done]):
    """One who asks, and what became of it. Whoever waits is called when that is known, or to lead."""

    def __init__(self, wish: Wish, *, waits: bool):
        self.wish = wish
        self.outcome: Done | Exception | Alone | None = None
        self._called = Lock() if waits else None
        self.wait()

    def wait(self) -> None:
        if self._called is not None:
            self._called.acquire()

    def call(self) -> None:
        if self._called is not None:
            self._called.release()


class _Line(Generic[Wish, Done]):
    """Those who wait in one process, first come first served."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._places: list[_Place[Wish, Done]] = []
        self._is_led = False

    def wait_for(
        self, wish: Wish, do_group: Callable[[Sequence[Wish]], Sequence[Done | Exception | Alone]]
    ) -> Done | Exception | Alone:
        with self._lock:
            place = _Place[Wish, Done](wish, waits=self._is_led)
            self._places.append(place)
            leads, self._is_led = not self._is_led, True
        if not leads:
            place.wait()
        if place.outcome is None:
            self._lead(do_group)
        assert place.outcome is not None
        return place.outcome

    def _lead(self, do_group: Callable[[Sequence[Wish]], Sequence[Done | Exception | Alone]]) -> None:
        group = self._places[:1]  # itself
        outcomes: Sequence[Done | Exception | Alone] = []
        try:
            give_way()  # whoever is about to ask the same comes along
            group = self._places[:GROUP_MAX]
            outcomes = do_group([place.wish for place in group])
        finally:
            with self._lock:
                del self._places[: len(group)]
                following = self._places[:1]
                self._is_led = bool(following)
            for number, place in enumerate(group):
                place.outcome = outcomes[number] if outcomes else RuntimeError("the leader was stopped")
            for place in [*group, *following]:
                place.call()
