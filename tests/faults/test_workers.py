"""Workers killed with their claims in hand, and workers frozen beyond their lease."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

from jobs.work import LEASE_S
from tests.faults.bank import BankServer
from tests.faults.shop import Shop
from tests.faults.stack import Stack
from tests.processes import wait_until

PURCHASES = 2000
KILLS = 20
SETTLE_S = 5.0  # beyond the lease, until what a dead worker held is settled
ZOMBIES = 5


def test_workers_killed_inside_claimed_batches(
    gateway: Stack, bank: BankServer, shop: Shop, seed: int, conclude: Callable[..., None]
) -> None:
    chance = random.Random(seed)
    bank.latency_s = lambda _ask: chance.uniform(0.02, 0.2)
    with shop.open(purchases=PURCHASES):
        for kill in range(KILLS):  # the last one as the last purchases are made
            due = (PURCHASES - 10) * (kill + 1) // KILLS
            wait_until(lambda: len(shop.book) >= due, 300)  # noqa: B023
            os.kill(bank.somebody_waits(gateway.workers), signal.SIGKILL)
        since = time.monotonic()
    conclude(
        1,
        "`kill -9` of a worker that holds claims",
        injected=f"{KILLS} times",
        since=since,
        limit_s=LEASE_S + SETTLE_S,
    )
    wait_until(lambda: len(gateway.workers()) == 2)


def test_a_worker_frozen_beyond_its_lease_changes_nothing(
    gateway: Stack, bank: BankServer, shop: Shop, conclude: Callable[..., None]
) -> None:
    """It sleeps while the bank answers; another one takes its rows over; then it wakes up."""
    bank.latency_s = lambda _ask: 0.5
    for number in range(ZOMBIES):
        with shop.open(purchases=20):
            zombie = bank.somebody_waits(gateway.workers)
            os.kill(zombie, signal.SIGSTOP)
        try:
            wait_until(lambda: gateway.unsettled() == 0, LEASE_S + SETTLE_S)
            wait_until(lambda: gateway.undelivered() == 0, LEASE_S + SETTLE_S)
            before = everything(gateway)
        finally:
            os.kill(zombie, signal.SIGCONT)
            since = time.monotonic()
        wait_until(lambda: zombie in gateway.workers())  # noqa: B023 (it is awake: its heart beats)
        wait_until(lambda: gateway.running.log.count("its outcome is left alone") > number)  # noqa: B023
        assert everything(gateway) == before
    conclude(
        8,
        "A worker frozen beyond its lease, then thawed",
        injected=f"{ZOMBIES} times",
        since=since,
        limit_s=5,
    )


def everything(gateway: Stack) -> list[tuple]:
    """Each row that tells of money or history, as text."""
    tables = ("orders", "payments", "refunds", "ledger_entries", "events", "acquirer_answers")
    rows = (gateway.query(f"SELECT '{table}', t::text FROM {table} t ORDER BY 2") for table in tables)
    return [row for each in rows for row in each]
