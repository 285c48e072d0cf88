"""`make soak`: half an hour at 70 % of the highest load, a fault every two minutes; memory hardly grows."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median

import pytest

from jobs.work import LEASE_S
from tests.bank import ANSWER, LOSE
from tests.faults.bank import BankServer
from tests.faults.shop import Shop
from tests.faults.stack import Stack
from tests.processes import wait_until

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
SHARE = 0.70  # of the highest load
RAMP_S = 20  # so long the highest load is measured
EVERY_S = float(os.environ.get("SOAK_EVERY_S", "120"))
CLIENTS = 32  # some of them wait for a settlement at any time
SAMPLE_S = 5
GROWTH_MAX_MB = 20  # of all processes of one kind, from the first third to the last one

pytestmark = pytest.mark.timeout(MINUTES * 60 + 900)


class Faults:
    """Ten of those of the other tests, each for some seconds, in turn and at random."""

    def __init__(self, gateway: Stack, shop: Shop, seed: int):
        self._gateway = gateway
        self._bank: BankServer = gateway.bank
        self._shop = shop
        self._chance = random.Random(seed)
        self.log: list[str] = []
        self._kinds: list[Callable[[], None]] = [
            *(self.a_worker_is_killed, self.redis_is_emptied, self.postgres_is_restarted),
            *(self.a_web_process_is_killed, self.redis_is_stopped, self.a_worker_freezes),
            *(self.the_bank_is_silent, self.the_clock_is_killed, self.redis_freezes, self.the_receiver_fails),
        ]
        self._left: list[Callable[[], None]] = []

    def next(self) -> None:
        if not self._left:
            self._left = self._chance.sample(self._kinds, len(self._kinds))
        fault = self._left.pop()
        self.log.append(fault.__name__.replace("_", " "))
        print(f"{time.strftime('%H:%M:%S')} {self.log[-1]}", flush=True)
        fault()

    def a_worker_is_killed(self) -> None:
        os.kill(self._bank.somebody_waits(self._gateway.workers), signal.SIGKILL)

    def the_clock_is_killed(self) -> None:
        os.kill(wait_until(self._gateway.clock), signal.SIGKILL)

    def a_web_process_is_killed(self) -> None:
        os.kill(self._chance.choice(sorted(self._gateway.web_workers())), signal.SIGKILL)

    def a_worker_freezes(self) -> None:
        pid = self._bank.somebody_waits(self._gateway.workers)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(LEASE_S + 5)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def redis_is_emptied(self) -> None:
        self._gateway.valkey.client.flushall()

    def redis_is_stopped(self) -> None:
        self._gateway.valkey.stop()
        time.sleep(20)
        self._gateway.valkey.start()

    def redis_freezes(self) -> None:
        with self._gateway.valkey.frozen():
            time.sleep(15)

    def postgres_is_restarted(self) -> None:
        self._gateway.restart_postgres()

    def the_bank_is_silent(self) -> None:
        self._bank.bank.fate = lambda _ask, _looked_up: LOSE
        time.sleep(10)
        self._bank.bank.fate = lambda _ask, _looked_up: ANSWER

    def the_receiver_fails(self) -> None:
        self._shop.receiver.answers = [500] * 50


def highest_load(shop: Shop) -> float:
    """Purchases a second, as fast as the clients can."""
    before, started = len(shop.book), time.monotonic()
    with shop.open():
        time.sleep(RAMP_S)
        bought = len(shop.book) - before
        took_s = time.monotonic() - started
    return bought / took_s


@pytest.mark.soak
def test_half_an_hour_of_faults_under_load(
    gateway: Stack, bank: BankServer, shop: Shop, seed: int, conclude: Callable[..., None]
) -> None:
    chance, shop.clients = random.Random(seed), CLIENTS
    bank.latency_s = lambda _ask: chance.uniform(0.005, 0.05)
    with shop.open(purchases=200):  # all is loaded, all connections are made
        pass
    most = highest_load(shop)
    faults = Faults(gateway, shop, seed)
    samples: list[tuple[float, dict[str, float]]] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            with suppress(Exception):  # a process ended while it was looked at
                samples.append((time.monotonic(), gateway.memory_mb()))

    sampler = threading.Thread(target=sample)
    begun = time.monotonic()
    sampler.start()
    try:
        with shop.open(rate=SHARE * most):
            number = 1
            while (number + 0.5) * EVERY_S < MINUTES * 60:  # after the last one, it goes on for a while
                over.wait(begun + number * EVERY_S - time.monotonic())
                faults.next()
                number += 1
            over.wait(begun + MINUTES * 60 - time.monotonic())
            since = time.monotonic()
    finally:
        over.set()
        sampler.join()
    growth = {name: growth_mb(samples, name, begun, MINUTES * 60) for name in ("web", "worker")}
    conclude(
        17,
        f"{len(set(faults.log))} kinds of fault in turn, for {MINUTES:g} minutes (`make soak`)",
        injected=f"{len(faults.log)} faults, one every {EVERY_S:g} s",
        since=since,
        limit_s=LEASE_S * 2 + 60,
        load=f"{len(shop.book)} payments at {SHARE * most:.0f}/s, {SHARE:.0%} of the highest load",
        remark=", ".join(f"memory of {name} {mb:+.1f} MB" for name, mb in growth.items())
        + f" from the first third to the last (limit {GROWTH_MAX_MB} MB)",
    )
    assert all(mb < GROWTH_MAX_MB for mb in growth.values()), growth


def growth_mb(
    samples: list[tuple[float, dict[str, float]]], name: str, begun: float, length_s: float
) -> float:
    """How much more it holds in the last third than in the first: the medians, as processes come and go."""
    first = [sizes[name] for at, sizes in samples if at - begun < length_s / 3]
    last = [sizes[name] for at, sizes in samples if at - begun > length_s * 2 / 3]
    return median(last) - median(first)
