"""Deadlines: each cuts its own connection when its time is over, and no other."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from jobs import deadlines
from jobs.deadlines import Deadline
from tests.conftest import at_once

SOON_S = 0.1
LATE_S = 5.0  # for a slow machine: it is no measure of how exact the watchdog is


@pytest.fixture
def line() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def is_cut(line: socket.socket, within_s: float) -> bool:
    """Whether it ends, or is ended, within that time."""
    return bool(select.select([line], [], [], within_s)[0])


def test_a_deadline_cuts_its_connection(line: socket.socket) -> None:
    with Deadline(SOON_S) as deadline:
        deadline.watch(line)
        assert not is_cut(line, 0)
        assert is_cut(line, LATE_S)
        assert deadline.over
        assert not deadline.end()


def test_one_that_is_taken_off_cuts_nothing(line: socket.socket) -> None:
    with Deadline(SOON_S) as deadline:
        deadline.watch(line)
        assert deadline.end()
    assert not is_cut(line, 4 * SOON_S)
    assert not deadline.over


def test_one_that_lets_go_of_a_connection_leaves_it_alone(line: socket.socket) -> None:
    with Deadline(SOON_S) as deadline:
        deadline.watch(line)
        deadline.watch(None)
        assert not is_cut(line, 4 * SOON_S)
        assert deadline.over


def test_a_connection_that_comes_too_late_is_cut_at_once(line: socket.socket) -> None:
    with Deadline(0) as deadline:
        wait_until_over(deadline)
        deadline.watch(line)
        assert is_cut(line, 0)


def test_a_short_one_does_not_wait_for_a_long_one(line: socket.socket) -> None:
    with Deadline(60), Deadline(SOON_S) as deadline:
        deadline.watch(line)
        assert is_cut(line, LATE_S)


def test_of_many_at_once_each_cuts_its_own() -> None:
    def one(number: int) -> bool:
        ours, theirs = socket.socketpair()
        fires = number % 2 == 0
        with ours, theirs, Deadline(SOON_S * (1 + number % 5) if fires else 60) as deadline:
            deadline.watch(ours)
            return is_cut(ours, LATE_S if fires else 10 * SOON_S) == fires == deadline.over

    assert all(at_once(100, one))


def test_one_thread_watches_them_all() -> None:
    def watchers() -> int:
        return sum(thread.name == "deadlines" for thread in threading.enumerate())

    def one(_: int) -> int:
        with Deadline(60):
            return watchers()

    assert set(at_once(20, one)) == {1}


def test_it_works_after_a_fork(line: socket.socket) -> None:
    def cuts() -> bool:
        with Deadline(SOON_S) as deadline:
            deadline.watch(line)
            return is_cut(line, LATE_S)

    with Deadline(60):  # the parent's thread runs, and is not in the child
        assert in_a_fork(cuts)


def test_it_works_after_a_fork_while_the_lock_was_held() -> None:
    def ends() -> bool:
        with Deadline(60) as deadline:
            return deadline.end()

    with deadlines._watchdog.lock:
        assert in_a_fork(ends)


def test_a_watchdog_that_died_is_replaced(line: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = threading.Thread(target=lambda: None)
    dead.start()
    dead.join()
    monkeypatch.setattr(deadlines._watchdog, "_thread", dead)
    with Deadline(SOON_S) as deadline:
        deadline.watch(line)
        assert is_cut(line, LATE_S)


def wait_until_over(deadline: Deadline) -> None:
    started = time.monotonic()
    while not deadline.over:
        assert time.monotonic() - started < LATE_S
        time.sleep(0.01)


def in_a_fork(good: Callable[[], bool]) -> bool:
    """What a child process of this one says."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if good() else 1)
        finally:
            os._exit(2)
    started = time.monotonic()
    while time.monotonic() - started < LATE_S:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False
