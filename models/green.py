"""What the web server's event loop needs: that nothing holds it up. Elsewhere nothing changes, and gevent,
which gunicorn.conf.py imports before all else, is not even loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import psycopg2.extensions

Result = TypeVar("Result")


def wait_for_postgres() -> None:
    """While one request waits for PostgreSQL, others go on: the driver's own hook for that."""
    from gevent.socket import wait_read, wait_write  # noqa: PLC0415

    def wait(connection: Any, timeout: float | None = None) -> None:
        while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
            for_it = wait_read if state == psycopg2.extensions.POLL_READ else wait_write
            for_it(connection.fileno(), timeout=timeout)

    psycopg2.extensions.set_wait_callback(wait)


def off_the_loop(work: Callable[..., Result], *args: Any) -> Result:
    """Do what takes the processor for long, without Python, in a real thread."""
    if not _has_loop():
        return work(*args)
    from gevent import get_hub  # noqa: PLC0415

    return get_hub().threadpool.apply(work, args)


def soon(seconds: float, call: Callable[[], object]) -> bool:
    """Call it after so many seconds, beside the requests. False: there is no event loop to do it."""
    if not _has_loop():
        return False
    from gevent import spawn_later  # noqa: PLC0415

    spawn_later(seconds, call)
    return True


def within(seconds: float, error: type[Exception]) -> AbstractContextManager[Any]:
    """Raises the error when what is in it has waited for so long. Without an event loop it is let wait."""
    if not _has_loop():
        return nullcontext()
    from gevent import Timeout  # noqa: PLC0415

    return Timeout(seconds, error)


def give_way() -> None:
    """Let the requests that can go on do so first, each until it waits for something."""
    if _has_loop():
        from gevent import sleep  # noqa: PLC0415

        sleep(0)


def _has_loop() -> bool:
    return "gevent" in sys.modules
