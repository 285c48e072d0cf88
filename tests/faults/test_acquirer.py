"""An acquirer that is late, answers twice, or never: what it did is settled once, and never guessed."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

from jobs.acquirers import Ask
from tests.bank import ANSWER, LOSE, MISS
from tests.faults.bank import ANSWER_TIMEOUT_S, BankServer
from tests.faults.shop import Shop
from tests.faults.stack import Stack
from tests.processes import wait_until

PURCHASES = 200
SILENT_S = 40  # so long some payments get no answer at all: half a dozen look-ups
LOST, MISSED, LATE, TOO_LATE, TWICE, NEVER = 0.10, 0.10, 0.10, 0.03, 0.10, 0.10  # shares of the requests
LATE_S, TOO_LATE_S = 2.0, ANSWER_TIMEOUT_S + 2


def test_an_acquirer_that_is_late_answers_twice_or_never(
    gateway: Stack, bank: BankServer, shop: Shop, seed: int, conclude: Callable[..., None]
) -> None:
    chance, silent, injected = random.Random(seed), [True], Counter[str]()

    def never(ask: Ask) -> bool:
        """The same payments each time: those get no answer to anything while it is silent."""
        return silent[0] and random.Random(f"{seed} {ask.payment_id}").random() < NEVER

    def fate(ask: Ask, looked_up: bool) -> str:
        draw = chance.random()
        if never(ask):
            injected["unanswered look-ups" if looked_up else "asked in vain"] += 1
            return LOSE if draw < 0.5 else MISS
        if draw < LOST:
            injected["answers lost"] += 1
            return LOSE
        if draw < LOST + MISSED:
            injected["requests lost"] += 1
            return MISS
        return ANSWER

    def times(_ask: Ask) -> int:
        if chance.random() >= TWICE:
            return 1
        injected["requests doubled"] += 1
        return 2

    def latency_s(_ask: Ask) -> float:
        draw = chance.random()
        if draw < TOO_LATE:
            injected["answers after the timeout"] += 1
            return TOO_LATE_S
        if draw < TOO_LATE + LATE:
            injected["answers late"] += 1
            return LATE_S
        return 0.02

    bank.bank.fate, bank.latency_s, bank.times = fate, latency_s, times
    begun, shop.plain = time.monotonic(), True
    with shop.open(rate=20, purchases=PURCHASES):
        pass
    wait_until(lambda: time.monotonic() - begun > SILENT_S, SILENT_S)
    waiting = gateway.query("SELECT id, status FROM payments WHERE unknown_since < now() - interval '20 s'")
    assert len(waiting) > 5
    assert {status for _, status in waiting} == {"pending"}
    silent[0], shop.plain = False, False
    with shop.open(rate=20, purchases=PURCHASES):  # with refunds, captures and voids
        pass
    bank.bank.fate, bank.latency_s, bank.times = (
        lambda _ask, _looked_up: ANSWER,
        lambda _ask: 0.02,
        lambda _ask: 1,
    )
    since = time.monotonic()
    conclude(
        11,
        "An acquirer that is late, loses requests and answers, answers twice, or never",
        injected=", ".join(f"{count} {name}" for name, count in sorted(injected.items())),
        since=since,
        limit_s=130,  # the next look-up may be two minutes away: the pauses double
        remark=f"{len(waiting)} payments had no answer for over 20 s and stayed pending",
    )
    assert gateway.query("SELECT count(*) FROM payments WHERE status = 'failed'") == [(0,)]
