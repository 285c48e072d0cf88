"""The web server killed between commit and answer; and many requests for the same, at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import at_once
from tests.faults.report import Row, keep
from tests.faults.shop import Client, Purchase, Shop
from tests.faults.stack import Stack

KILL = {"X-Sabotage": "kill-after-commit"}
PAYMENTS, REFUNDS, CAPTURES = 30, 10, 10
SAME_KEY = 100
REFUNDED_PAYMENTS, REFUNDS_AT_ONCE = 200, 50


def killed(shop: Shop, client: Client, path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
    """Ask; the process that committed it dies before it can answer. Then ask again, under the same key."""
    headers = {"Idempotency-Key": key}
    status, _ = client.once("POST", path, body, headers | KILL)
    assert status == 0
    return client.post(path, body, key)


def test_the_web_server_killed_between_commit_and_answer(
    gateway: Stack, shop: Shop, conclude: Callable[..., None]
) -> None:
    with shop.client() as client, shop.open(rate=10):  # others are served meanwhile, by the same processes
        for number in range(PAYMENTS):
            order = client.post("/orders", {"amount": 10000 + number}, f"killed-order-{number}")
            body = {"order_id": order["id"], "method": "upi", "vpa": "success@upi"}
            payment = killed(shop, client, "/payments", body, f"killed-pay-{number}")
            amount = order["amount"]
            purchase = Purchase(-number, amount, None, order["id"], payment["id"], "success", amount)
            shop.book.append(purchase)
            if number < REFUNDS:
                _wait(client, purchase)
                path = f"/payments/{payment['id']}/refunds"
                refund = killed(shop, client, path, {"amount": 3000}, f"killed-refund-{number}")
                purchase.refunds[refund["id"]] = 3000
        captures = [_approved(client, number) for number in range(CAPTURES)]
        for purchase in captures:
            shop.book.append(purchase)

        def capture(number: int, **sabotage: str) -> int:
            """Killed once the wish is committed: a worker takes it over, the client asks until it is done."""
            path, key = f"/payments/{captures[number].payment_id}/capture", f"killed-capture-{number}"
            with shop.client() as own:
                if sabotage:
                    return own.once("POST", path, {"amount": 5000}, {"Idempotency-Key": key} | sabotage)[0]
                own.post(path, {"amount": 5000}, key)
            captures[number].captured = 5000
            return 200

        assert [capture(number, **KILL) for number in range(CAPTURES)] == [0] * CAPTURES
        at_once(CAPTURES, capture)
        since = time.monotonic()
    conclude(
        7,
        "Web process killed between commit and answer",
        injected=f"{PAYMENTS + REFUNDS + CAPTURES} times: {PAYMENTS} payments, {REFUNDS} refunds, "
        f"{CAPTURES} captures",
        since=since,
        limit_s=40,
        remark="each repetition got the first answer's object",
    )


def _approved(client: Client, number: int) -> Purchase:
    order = client.post("/orders", {"amount": 10000, "capture": "manual"}, f"held-order-{number}")
    body = {"order_id": order["id"], "method": "upi", "vpa": "success@upi"}
    payment = client.post("/payments", body, f"held-pay-{number}")
    purchase = Purchase(-1000 - number, 10000, "capture", order["id"], payment["id"], "success", 0)
    _wait(client, purchase)
    return purchase


def _wait(client: Client, purchase: Purchase) -> None:
    while client.get(f"/payments/{purchase.payment_id}")["status"] == "pending":
        time.sleep(0.05)


@pytest.mark.timeout(900)
def test_many_at_once(gateway: Stack, shop: Shop, conclude: Callable[..., None]) -> None:
    clients = [Client(shop) for _ in range(SAME_KEY)]
    try:
        answers = at_once(
            SAME_KEY,
            lambda n: clients[n].once("POST", "/orders", {"amount": 5000}, {"Idempotency-Key": "the same"}),
        )
        assert {status for status, _ in answers} <= {201, 409}
        assert len({answer["id"] for status, answer in answers if status == 201}) == 1
        assert gateway.query("SELECT count(*) FROM orders") == [(1,)]

        shop.plain = True
        with shop.open(purchases=REFUNDED_PAYMENTS):
            pass
        gateway.seconds_until(shop.settled_payments, 60)
        paid = [purchase for purchase in shop.book if purchase.then is None]
        refused: Counter[str] = Counter()
        one_writes = threading.Lock()
        for purchase in paid:
            part = purchase.captured * 3 // 10

            def refund(n: int, purchase: Purchase = purchase, part: int = part) -> None:
                path, key = f"/payments/{purchase.payment_id}/refunds", f"many-{purchase.number}-{n}"
                status, answer = clients[n].once("POST", path, {"amount": part}, {"Idempotency-Key": key})
                with one_writes:
                    if status == 201:
                        purchase.refunds[answer["id"]] = part
                    else:
                        refused[f"{status} {answer['error'].get('reason')}"] += 1

            at_once(REFUNDS_AT_ONCE, refund)
            assert len(purchase.refunds) == 3
        since = time.monotonic()
        assert refused.keys() == {"400 amount_too_large"}, refused
        conclude(
            9,
            f"{REFUNDS_AT_ONCE} refunds of 30 % at once",
            injected=f"of {len(paid)} payments",
            since=since,
            limit_s=30,
            load=f"{len(paid) * REFUNDS_AT_ONCE} requests",
            remark="exactly 3 refunds each",
        )
        keep(
            Row(
                10,
                f"{SAME_KEY} equal POSTs at once under one key",
                "once",
                f"{SAME_KEY} requests",
                0,
                0,
                None,
                "1 row",
                f"1 row; {Counter(status for status, _ in answers)[409]} were told to wait (409)",
            )
        )
    finally:
        for client in clients:
            client.close()
