"""PostgreSQL stopped without a word, under load: what was acknowledged is there, the rest is asked again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from jobs.work import LEASE_S
from tests.faults.bank import BankServer
from tests.faults.shop import Shop
from tests.faults.stack import Stack
from tests.processes import wait_until

RESTARTS = 3


def test_postgres_restarted_immediately_under_load(
    gateway: Stack, bank: BankServer, shop: Shop, seed: int, conclude: Callable[..., None]
) -> None:
    chance = random.Random(seed)
    bank.latency_s = lambda _ask: chance.uniform(0.02, 0.2)
    took_s = 0.0
    with shop.open(rate=40):
        for restart in range(RESTARTS):
            wait_until(lambda: len(shop.book) >= 200 * (restart + 1), 120)  # noqa: B023
            since = time.monotonic()
            gateway.restart_postgres()
            wait_until(lambda: gateway.running.health()["status"] == "healthy", 30)
            took_s = max(took_s, time.monotonic() - since)
        wait_until(lambda: len(shop.book) >= 200 * (RESTARTS + 1), 120)
    assert shop.repeated > 0
    conclude(
        6,
        "PostgreSQL `restart -m immediate`",
        injected=f"{RESTARTS} times",
        since=since,
        limit_s=LEASE_S + 30,
        load=f"{len(shop.book)} payments at 40/s",
        remark=f"healthy again within {took_s:.1f} s",
    )
