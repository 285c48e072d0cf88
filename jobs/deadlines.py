"""Deadlines that cut a connection, all watched by one thread of the process.

A socket's own timeout starts anew with every byte that arrives; these count in all.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress

IDLE_S = 10.0  # between two looks when nothing is watched; no shorter than most deadlines, or each wakes us


class Deadline:
    """For the time of a `with`: cuts what it watches when the time is over."""

    def __init__(self, seconds: float):
        self.at = time.monotonic() + seconds
        self.over = False
        self._line: socket.socket | None = None

    def __enter__(self) -> Deadline:
        _watchdog.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def watch(self, line: socket.socket | None) -> None:
        """Cut this connection from now on, at once if it is too late, and no other."""
        with _watchdog.lock:
            self._line = line
            if self.over:
                self.cut()

    def end(self) -> bool:
        """Cut nothing any more. Returns whether all was in time."""
        self.watch(None)
        _watchdog.remove(self)
        return not self.over

    def cut(self) -> None:
        """For the watchdog alone, and under its lock."""
        self.over = True
        if self._line is not None:
            with suppress(OSError):  # closed meanwhile
                # Not SSLSocket's own: it would drop the TLS layer under the thread that reads.
                socket.socket.shutdown(self._line, socket.SHUT_RDWR)


class _Watchdog:
    """The thread sleeps until the earliest deadline that it saw. Nearly all are taken off before, so it
    wakes about once in the time that a deadline has: neither a new one nor one that is taken off wakes it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._earlier = threading.Condition(self.lock)
        self._watched: set[Deadline] = set()  # one a thread that posts: few, so the earliest is soon found
        self._looks_at = 0.0
        self._thread: threading.Thread | None = None

    def add(self, deadline: Deadline) -> None:
        with self.lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            self._watched.add(deadline)
            if deadline.at < self._looks_at:
                self._earlier.notify()

    def remove(self, deadline: Deadline) -> None:
        with self.lock:
            self._watched.discard(deadline)

    def _run(self) -> None:
        with self.lock:
            while True:
                now = time.monotonic()
                for deadline in [each for each in self._watched if each.at <= now]:
                    self._watched.remove(deadline)
                    deadline.cut()
                self._looks_at = min((each.at for each in self._watched), default=now + IDLE_S)
                self._earlier.wait(self._looks_at - now)


def _start_anew() -> None:
    """A fork has no thread, and a lock that may be held for ever."""
    global _watchdog  # noqa: PLW0603
    _watchdog = _Watchdog()


_watchdog = _Watchdog()
os.register_at_fork(after_in_child=_start_anew)
