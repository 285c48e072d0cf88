"""Clocks: processes that are wrong about the time, two that tick at once, one that dies, one that hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from statistics import median

import psutil

from config import ROOT
from tests.faults.report import Row, keep
from tests.faults.shop import Shop
from tests.faults.stack import Stack, stack
from tests.processes import wait_until
from tests.receiver import Receiver, answer

OFF_S = 600
DELAY_S, LATE_S = 1.0, 0.5  # of each payment; and how much later than due it may be settled, in the middle
RETRY_S = 3
TAKEOVER_S = 10.0
TWO_CLOCKS = "import jobs.clock, jobs.worker; jobs.clock.CLOCK_LOCK += 1; jobs.worker.main()"


@contextmanager
def another_worker(gateway: Stack, *command: str, **environ: str) -> Iterator[psutil.Process]:
    """A second worker command beside the gateway's own."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=gateway.environ | environ, start_new_session=True
    )
    try:
        wait_until(lambda: len(gateway.workers()) == 4)
        yield psutil.Process(process.pid)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGCONT)
            process.terminate()
        process.wait(30)


def test_processes_that_are_wrong_about_the_time(listener: Receiver, seed: int) -> None:
    """The web server and one worker are ten minutes ahead, another worker is ten minutes behind."""
    delay = f"{DELAY_S * 1000:.0f}-{DELAY_S * 1000:.0f}"
    settings = {"PROCESSING_DELAY_MS": delay, "WEBHOOK_RETRY_SCHEDULE": f"0,{RETRY_S},{RETRY_S}"}
    with stack(**settings, CLOCK_OFF_S=str(OFF_S)) as gateway:
        shop = Shop(gateway, listener, seed=seed)
        shop.plain = True
        stamps: list[float] = []

        def once(handler: BaseHTTPRequestHandler) -> None:
            stamps.append(int(handler.headers["webhook-timestamp"]) - time.time())
            answer(500)(handler)

        with another_worker(gateway, "-m", "jobs.worker", CLOCK_OFF_S=str(-OFF_S)):
            listener.answers = [once] * 10
            with shop.open(rate=10):
                wait_until(lambda: len(shop.book) >= 200, 60)
            since = time.monotonic()
            wait_until(lambda: gateway.unsettled() == 0 and gateway.undelivered() == 0, 30)
            drained_s = time.monotonic() - since
            thinks = gateway.running.health()["timestamp"]
        gateway.verify()
        reckoning = shop.reckon()
        took = gateway.query(
            "SELECT extract(epoch FROM e.created_at - p.created_at)::float FROM payments p "
            "JOIN events e ON e.payment_id = p.id AND e.type = 'payment.success'"
        )
        pauses = gateway.query(
            "SELECT extract(epoch FROM b.attempted_at - a.attempted_at)::float FROM webhook_attempts a "
            "JOIN webhook_attempts b ON b.delivery_id = a.delivery_id AND b.number = a.number + 1"
        )
    late = sorted(seconds - DELAY_S for (seconds,) in took)
    assert thinks[:16] != time.strftime("%Y-%m-%dT%H:%M", time.gmtime())  # the clocks were really wrong
    assert late[0] >= 0
    assert median(late) < LATE_S
    assert len(pauses) == len(stamps) == 10
    assert all(RETRY_S <= seconds < RETRY_S * 1.1 + 2 for (seconds,) in pauses), pauses
    assert all(abs(seconds) < 5 for seconds in stamps), stamps
    keep(
        Row(
            13,
            "Process clocks wrong: web and one worker 10 min ahead, another worker 10 min behind",
            "throughout",
            f"{len(shop.book)} payments at 10/s",
            len(reckoning.lost),
            len(reckoning.doubled),
            drained_s,
            "due times right",
            f"settled {median(late) * 1000:.0f} ms after they were due (median), none too early; "
            "webhooks were retried and stamped by the database's clock",
            seed,
        )
    )
    assert (reckoning.lost, reckoning.doubled) == ([], [])


def test_two_clocks_at_once(gateway: Stack, shop: Shop, conclude: Callable[..., None]) -> None:
    """As when the lock's connection is gone and the old clock has not noticed: for the whole of the test."""
    with another_worker(gateway, "-c", TWO_CLOCKS):
        with shop.open(rate=40):
            wait_until(lambda: len(shop.book) >= 600, 60)
        since = time.monotonic()
        conclude(14, "Two clocks that both tick", injected="throughout", since=since, limit_s=15)


def test_a_standby_takes_over_from_a_clock_that_dies_or_hangs(
    gateway: Stack, shop: Shop, conclude: Callable[..., None]
) -> None:
    took: dict[str, float] = {}
    with another_worker(gateway, "-m", "jobs.worker"), shop.open(rate=20):
        for what, signum in (("killed", signal.SIGKILL), ("hung", signal.SIGSTOP)):
            before = wait_until(gateway.clock)
            clock, command = psutil.Process(before), psutil.Process(before).parent()
            assert command is not None
            command.send_signal(signal.SIGSTOP)  # else it would at once start another one
            clock.send_signal(signum)
            since = time.monotonic()
            try:
                wait_until(lambda: gateway.clock() not in (None, before), TAKEOVER_S)  # noqa: B023
                took[what] = time.monotonic() - since
            finally:
                clock.send_signal(signal.SIGCONT)  # a zombie does not mind
                command.send_signal(signal.SIGCONT)
    conclude(
        15,
        "The clock killed; the clock hung",
        injected="once each",
        since=since,
        limit_s=40,
        remark="a standby took over after "
        + ", ".join(f"{seconds:.1f} s ({what})" for what, seconds in took.items())
        + f" (limit {TAKEOVER_S:g} s)",
    )
