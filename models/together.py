"""What many ask at the same moment, done at once: one transaction, and one wait for the disk, for all.

While one group is being written, whoever comes waits, and these are the next group. So nobody waits for
company, and the more there is to do, the less each costs: what databases call a group commit. Whoever comes
first leads: it does the work of its group, in its own session, and hands on to the first of the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Final, Generic, TypeVar

from flask import current_app
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from models.base import db
from models.green import give_way

log = logging.getLogger(__name__)

GROUP_MAX = 64  # whoever came first is answered before a crowd is done

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
            if len(wishes) == 1 or not _is_of_one(error):
                return [error] * len(wishes)
            log.warning("a group of %d broke (%s): each goes alone", len(wishes), type(error).__name__)
            return [ALONE] * len(wishes)


def _is_of_one(error: Exception) -> bool:
    """Whether one wish is at fault: its rows were refused, or our own code broke over it.

    Nothing is written then. Of anything else from the database or on the way to it, nobody knows that.
    """
    return isinstance(error, IntegrityError | DataError) or not isinstance(error, SQLAlchemyError | OSError)


class _Place(Generic[Wish, Done]):
    """One who asks, and what became of it. Whoever waits is called when that is known, or to lead."""

    def __init__(self, wish: Wish, *, leads: bool):
        self.wish = wish
        self.leads = leads
        self.is_gone = False
        self.outcome: Done | Exception | Alone | None = None
        self._called = None if leads else Lock()
        if self._called is not None:
            self._called.acquire()

    def wait(self) -> None:
        if self._called is not None:
            self._called.acquire()

    def call(self) -> None:
        if self._called is not None:
            self._called.release()


class _Line(Generic[Wish, Done]):
    """Those who wait in one process, first come first served. The first one leads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._places: list[_Place[Wish, Done]] = []

    def wait_for(
        self, wish: Wish, do_group: Callable[[Sequence[Wish]], Sequence[Done | Exception | Alone]]
    ) -> Done | Exception | Alone:
        with self._lock:
            place = _Place[Wish, Done](wish, leads=not self._places)
            self._places.append(place)
        if not place.leads:
            try:
                place.wait()
            except BaseException:  # stopped while it waited
                with self._lock:
                    place.is_gone = True
                    if place.leads:
                        self._hand_on()
                raise
        if place.leads:
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
            stopped = RuntimeError("the leader was stopped")
            for number, place in enumerate(group):
                place.outcome = outcomes[number] if number < len(outcomes) else stopped
            with self._lock:
                del self._places[: len(group)]
                self._hand_on()
            for place in group[1:]:
                place.call()

    def _hand_on(self) -> None:
        """Have the next one lead, if there is one. Under the lock."""
        self._places = [place for place in self._places if not place.is_gone]
        if self._places:
            self._places[0].leads = True
            self._places[0].call()
