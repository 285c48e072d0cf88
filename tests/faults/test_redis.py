"""Redis emptied, stopped, frozen and full: it speeds the gateway up, and nothing else depends on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest

from jobs.wake import rq_queue
from tests.faults.shop import Shop, percentile
from tests.faults.stack import Stack
from tests.processes import wait_until

FLUSHES = 5
CAUGHT_UP_S = 3.0
RATE = 10.0  # purchases a second: far from the limit, so that what is measured is Redis' absence
BASELINE_S = 20
SLOWER_S = 0.250  # what a request may take longer, of a hundred the slowest
RECONNECT_S = 30.0


def test_redis_emptied_under_load(gateway: Stack, shop: Shop, conclude: Callable[..., None]) -> None:
    workers, slowest = gateway.workers(), 0.0
    with shop.open(rate=30):
        for flush in range(FLUSHES):
            wait_until(lambda: len(shop.book) >= 120 * (flush + 1), 60)  # noqa: B023
            ((at,),) = gateway.query("SELECT now()")
            gateway.valkey.client.flushall()
            since = time.monotonic()

            def caught_up() -> bool:
                waits = "SELECT count(*) FROM payments WHERE due_at IS NOT NULL AND created_at < %s"
                return gateway.query(waits, at) == [(0,)]  # noqa: B023

            slowest = max(slowest, gateway.seconds_until(caught_up, CAUGHT_UP_S))
    assert gateway.workers() == workers
    conclude(
        2,
        "`FLUSHALL`",
        injected=f"{FLUSHES} times",
        since=since,
        limit_s=30,
        load=f"{len(shop.book)} payments at 30/s",
        remark=f"caught up within {slowest:.1f} s (limit {CAUGHT_UP_S:g} s), no worker was restarted",
    )


@contextmanager
def stopped(gateway: Stack) -> Iterator[None]:
    gateway.valkey.stop()
    try:
        yield
    finally:
        gateway.valkey.start()


@dataclass(frozen=True)
class Absence:
    """A way in which Redis can't be used, and for how long."""

    order: int
    words: str
    begin: Callable[[Stack], AbstractContextManager[None]]
    for_s: int


ABSENCES = {
    "stopped": Absence(3, "Redis stopped", stopped, 60),
    "frozen": Absence(4, "Redis frozen (`SIGSTOP`)", lambda gateway: gateway.valkey.frozen(), 30),
    "full": Absence(5, "Redis out of memory", lambda gateway: gateway.valkey.full(), 30),
}


@pytest.mark.parametrize("absence", ABSENCES.values(), ids=ABSENCES.keys())
def test_without_redis_requests_are_answered_and_payments_settle(
    gateway: Stack,
    shop: Shop,
    conclude: Callable[..., None],
    absence: Absence,
) -> None:
    for_s = absence.for_s
    with shop.open(rate=RATE):
        time.sleep(5)  # the first requests of each process are slow; this is a measurement, not a wait
        begun = time.monotonic()
        time.sleep(BASELINE_S)
        with absence.begin(gateway):
            broken = time.monotonic()
            time.sleep(for_s)
            ((settled,),) = gateway.query(
                "SELECT count(*) FROM events WHERE type = 'payment.success' "
                "AND created_at > now() - make_interval(secs => %s)",
                for_s - 10,
            )
        since = time.monotonic()
        wait_until(lambda: redis_is_used(gateway), RECONNECT_S)
        back_s = time.monotonic() - since
    baseline, without = shop.latencies(begun, broken), shop.latencies(broken, since)
    before_s, p99_s = percentile(baseline, 0.99), percentile(without, 0.99)
    statuses = shop.statuses(broken, since)
    assert all(200 <= status < 300 for status in statuses), statuses
    assert settled > 0.8 * RATE * (for_s - 10)
    assert p99_s <= before_s + SLOWER_S
    remark = (
        f"{sum(statuses.values())} answers, all 2xx; "
        f"p99 {p99_s * 1000:.0f} ms, before {before_s * 1000:.0f} ms; "
        f"{settled} settled meanwhile; "
        f"Redis used again after {back_s:.1f} s (limit {RECONNECT_S:g} s)"
    )
    conclude(
        absence.order,
        absence.words,
        injected=f"for {for_s} s",
        since=since,
        limit_s=30,
        load=f"{len(shop.book)} payments at {RATE:g}/s",
        remark=remark,
    )


def redis_is_used(gateway: Stack) -> bool:
    """Whether a job that is put into Redis is taken by a worker, and the web server says it is connected."""
    queue = rq_queue("refunds", gateway.valkey.client)
    queue.enqueue_call("jobs.refunds.run", result_ttl=0)
    wait_until(lambda: queue.count == 0, RECONNECT_S)
    return gateway.running.health()["redis"] == "connected"
