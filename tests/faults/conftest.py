"""Fixtures of the fault harness. Left out of `make test`: `make faults` runs it, which takes its time."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.bank import BankServer
from tests.faults.report import Row, keep
from tests.faults.shop import Shop
from tests.faults.stack import Stack, stack
from tests.processes import wait_until
from tests.receiver import Receiver, running_receiver

HERE = Path(__file__).parent
RETRIES = "0,1,2,4,8"  # of webhooks, in seconds: a fault may cost an attempt, and no test waits for minutes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(600))


@pytest.fixture
def seed() -> int:
    """Of all that is left to chance. FAULTS_SEED runs a failure again."""
    seed = int(os.environ.get("FAULTS_SEED") or random.randrange(10**6))
    print(f"FAULTS_SEED={seed}")
    return seed


@pytest.fixture
def gateway() -> Iterator[Stack]:
    with stack(WEBHOOK_RETRY_SCHEDULE=RETRIES, PROCESSING_DELAY_MS="0-500") as running:
        yield running


@pytest.fixture
def bank(gateway: Stack) -> BankServer:
    return gateway.bank


@pytest.fixture
def listener() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def shop(gateway: Stack, listener: Receiver, seed: int) -> Shop:
    return Shop(gateway, listener, seed=seed, clients=16)


@pytest.fixture
def conclude(gateway: Stack, shop: Shop, seed: int) -> Callable[..., None]:
    """Wait until all is settled and delivered; hold every book against the others; keep the figures."""

    def conclude(
        order: int,
        fault: str,
        *,
        injected: str,
        since: float,
        limit_s: float,
        load: str = "",
        remark: str = "",
    ) -> None:
        """`since` is when it was injected for the last time, `limit_s` how long all may take from then on."""

        def drained() -> bool:
            return gateway.unsettled() == 0 and gateway.undelivered() == 0

        wait_until(drained, since + limit_s - time.monotonic())
        seconds = time.monotonic() - since
        gateway.verify()
        reckoning = shop.reckon()
        load = load or f"{reckoning.payments} payments"
        remarks = [
            remark,
            f"the longest wait of a payment {gateway.longest_wait_s():.1f} s",
            f"{reckoning.repeated} requests repeated" if reckoning.repeated else "",
        ]
        keep(
            Row(
                order,
                fault,
                injected,
                load,
                len(reckoning.lost),
                len(reckoning.doubled),
                seconds,
                f"{limit_s:g} s",
                "; ".join(filter(None, remarks)),
                seed,
            )
        )
        assert reckoning.lost == []
        assert reckoning.doubled == []

    return conclude
