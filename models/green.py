"""What the web server's event loop needs: that nothing holds it up. Where there is none, nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import psycopg2.extensions
from gevent import get_hub, monkey, spawn_later
from gevent.socket import wait_read, wait_write

Result = TypeVar("Result")


def wait_for_postgres() -> None:
    """While one request waits for PostgreSQL, others go on: the driver's own hook for that."""
    psycopg2.extensions.set_wait_callback(_wait)


def off_the_loop(work: Callable[..., Result], *args: Any) -> Result:
    """Do what takes the processor for long, without Python, in a real thread."""
    if not monkey.is_module_patched("threading"):
        return work(*args)
    return get_hub().threadpool.apply(work, args)


def soon(seconds: float, call: Callable[[], object]) -> bool:
    """Call it after so many seconds, beside the requests. False: there is no event loop to do it."""
    if not monkey.is_module_patched("threading"):
        return False
    spawn_later(seconds, call)
    return True


def _wait(connection: Any, timeout: float | None = None) -> None:
    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        wait = wait_read if state == psycopg2.extensions.POLL_READ else wait_write
        wait(connection.fileno(), timeout=timeout)
