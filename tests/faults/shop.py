"""A merchant's client under load, with a book of its own: what it asked for, and what it was answered.

It does what a careful client does: every POST carries an Idempotency-Key, and is repeated with it until there
is an answer. At the end its book is held against the gateway, the bank and the webhooks that arrived.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from models.merchants import TEST_API_KEY, TEST_API_SECRET
from tests.faults.stack import Stack
from tests.receiver import Receiver

TIMEOUT_S = 15  # of one try
PATIENCE_S = 180  # until a request must have been answered, however often it had to be repeated
PAUSE_S = (0.05, 0.5)  # between tries: growing
POLL_S = 0.1
REFUNDED, CAPTURED, VOIDED = 0.15, 0.10, 0.03  # shares of the purchases that go on so
HEADERS = {
    "X-Api-Key": TEST_API_KEY,
    "X-Api-Secret": TEST_API_SECRET,
    "Content-Type": "application/json",
}


@dataclass
class Purchase:
    """One order and its payment, as the client knows them. Amounts in minor units."""

    number: int
    amount: int
    then: str | None  # refund, capture or void
    order_id: str | None = None
    payment_id: str | None = None
    status: str = "pending"
    captured: int = 0
    refunds: dict[str, int] = field(default_factory=dict)
    paid_at: float = 0.0  # when its payment was acknowledged


@dataclass
class Try:
    """One request that was sent."""

    at: float
    took_s: float
    status: int  # 0: no answer


class Client:
    """One connection of the shop's."""

    def __init__(self, shop: Shop):
        self._shop = shop
        self._line: http.client.HTTPConnection | None = None

    def post(self, path: str, body: dict[str, Any], key: str, **headers: str) -> dict[str, Any]:
        return self._until_answered("POST", path, body, {"Idempotency-Key": key, **headers})

    def get(self, path: str) -> dict[str, Any]:
        return self._until_answered("GET", path, None, {})

    def _until_answered(
        self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]
    ) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        pause_s = PAUSE_S[0]
        while True:
            status, answer = self.once(method, path, body, headers)
            headers.pop("X-Sabotage", None)  # once is enough
            in_flight = (answer.get("error") or {}).get("reason") in (
                "key_in_flight",
                "operation_in_progress",
            )
            if 200 <= status < 300:
                return answer
            if status not in (0, 500, 502, 503, 504) and not in_flight:
                raise AssertionError(f"{method} {path} {body}: {status} {answer}")
            assert time.monotonic() < deadline, f"{method} {path}: not answered within {PATIENCE_S} s"
            self._shop.repeated += 1
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_S[1])

    def once(
        self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """One try: the status (0: none) and the answer."""
        started = time.monotonic()
        status, answer = 0, {}
        try:
            if self._line is None:
                self._line = http.client.HTTPConnection("127.0.0.1", self._shop.port, timeout=TIMEOUT_S)
            self._line.request(
                method, f"/api/v1{path}", None if body is None else json.dumps(body), HEADERS | headers
            )
            response = self._line.getresponse()
            answer = json.loads(response.read() or b"{}")
            status = response.status
        except (OSError, http.client.HTTPException, ValueError):
            self.close()
        self._shop.tries.append(Try(started, time.monotonic() - started, status))
        return status, answer

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


class Shop:
    """See the module. `rate` is purchases a second; None: as fast as `clients` can."""

    def __init__(self, stack: Stack, receiver: Receiver, *, seed: int, clients: int = 8):
        self._stack = stack
        self.receiver = receiver
        self._chance = random.Random(seed)
        self.clients = clients
        self._numbers = 0
        self._one_takes = threading.Lock()
        self._over = threading.Event()
        self._failures: list[BaseException] = []
        self.port = stack.running.port
        self.plain = False  # everybody just pays
        self.book: list[Purchase] = []
        self.tries: list[Try] = []
        self.repeated = 0
        with self.client() as client:
            self.endpoint = client.post("/webhook_endpoints", {"url": receiver.url}, "endpoint")

    @contextmanager
    def client(self) -> Iterator[Client]:
        client = Client(self)
        try:
            yield client
        finally:
            client.close()

    # --- buying ------------------------------------------------------------------------------------

    @contextmanager
    def open(self, *, rate: float | None = None, purchases: int | None = None) -> Iterator[None]:
        """Shoppers come, until the block is over, or so many have come; then those inside are served."""
        self._over.clear()
        begun_at, first = time.monotonic(), self._numbers

        def serve() -> None:
            try:
                with self.client() as client:
                    while True:
                        with self._one_takes:
                            if self._over.is_set() or (purchases and self._numbers - first >= purchases):
                                return
                            number = self._numbers
                            self._numbers += 1
                            purchase = self._next(number)
                            self.book.append(purchase)
                        if rate and self._over.wait(
                            max(0.0, begun_at + (number - first) / rate - time.monotonic())
                        ):
                            self.book.remove(purchase)
                            return
                        self.buy(client, purchase)
            except BaseException as error:
                self._failures.append(error)

        threads = [threading.Thread(target=serve) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            if purchases is None:
                self._over.set()
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]

    def _next(self, number: int) -> Purchase:
        draw = 1.0 if self.plain else self._chance.random()
        then = None
        for share, what in ((REFUNDED, "refund"), (CAPTURED, "capture"), (VOIDED, "void")):
            if draw < share:
                then = what
                break
            draw -= share
        return Purchase(number, 1000 * self._chance.randrange(1, 100), then)  # 30 % of it is a whole number

    def buy(self, client: Client, purchase: Purchase) -> None:
        """Order and pay; then perhaps wait for the approval, and refund, capture or void."""
        capture = "manual" if purchase.then in ("capture", "void") else "automatic"
        order = client.post(
            "/orders", {"amount": purchase.amount, "capture": capture}, f"order-{purchase.number}"
        )
        purchase.order_id = order["id"]
        body = {"order_id": order["id"], "method": "upi", "vpa": "success@upi"}
        purchase.payment_id = client.post("/payments", body, f"pay-{purchase.number}")["id"]
        purchase.paid_at = time.monotonic()
        purchase.status, purchase.captured = "success", purchase.amount if capture == "automatic" else 0
        if purchase.then is not None:
            self._go_on(client, purchase)

    def _go_on(self, client: Client, purchase: Purchase) -> None:
        path = f"/payments/{purchase.payment_id}"
        deadline = time.monotonic() + PATIENCE_S
        while client.get(path)["status"] == "pending":
            assert time.monotonic() < deadline, f"{path}: not settled within {PATIENCE_S} s"
            time.sleep(POLL_S)
        part = purchase.amount * 3 // 10
        match purchase.then:
            case "refund":
                refund = client.post(f"{path}/refunds", {"amount": part}, f"refund-{purchase.number}")
                purchase.refunds[refund["id"]] = part
            case "capture":
                client.post(f"{path}/capture", {"amount": part}, f"capture-{purchase.number}")
                purchase.captured = part
            case _:
                client.post(f"{path}/void", {}, f"void-{purchase.number}")
                purchase.status = "voided"

    # --- the reckoning -------------------------------------------------------------------------------

    def settled_payments(self) -> bool:
        return self._stack.unsettled() == 0

    def reckon(self) -> Reckoning:
        """Hold the book against the gateway, the bank, and what arrived. All is settled and delivered."""
        lost, doubled = [], []
        with self.client() as client:
            payments = {each["id"]: each for each in self._all(client, "/payments")}
            refunds = {each["id"]: each for each in self._all(client, "/refunds")}
        money = self._stack.bank.bank.money()
        for purchase in self.book:
            payment = payments.pop(purchase.payment_id or "", None)
            if payment is None:
                lost.append(f"payment {purchase.payment_id} of purchase {purchase.number}")
                continue
            returned = sum(purchase.refunds.values())
            seen = (
                *(payment["order_id"], payment["amount"], payment["status"]),
                *(payment["amount_captured"], payment["amount_refunded"]),
            )
            expected = (
                *(purchase.order_id, purchase.amount, purchase.status),
                *(purchase.captured, returned),
            )
            if seen != expected:
                lost.append(f"{payment['id']} is {seen}, should be {expected}")
            at_bank = money.pop(payment["id"], None)
            if at_bank is None or (at_bank.taken, at_bank.returned) != (purchase.captured, returned):
                lost.append(f"{payment['id']}: the bank says {at_bank}, should be {expected}")
            for refund_id, amount in purchase.refunds.items():
                refund = refunds.pop(refund_id, None)
                if refund is None or (refund["status"], refund["amount"]) != ("processed", amount):
                    lost.append(f"refund {refund_id} of {amount}: {refund}")
        doubled += [f"a payment that nobody asked for: {payment_id}" for payment_id in payments]
        doubled += [f"a refund that nobody asked for: {refund_id}" for refund_id in refunds]
        doubled += [f"money that the gateway does not know of: {payment_id}" for payment_id in money]
        lost += self._unheard()
        return Reckoning(len(self.book), lost, doubled, self.repeated)

    def _unheard(self) -> list[str]:
        """Events of which no webhook arrived, or different ones under one id."""
        bodies: defaultdict[str, set[bytes]] = defaultdict(set)
        for received in list(self.receiver.received):
            bodies[received.headers["webhook-id"]].add(received.body)
        events = self._stack.query("SELECT id, type, payload FROM events WHERE order_id IS NOT NULL")
        return [
            f"event {event_id} ({kind}) arrived as {len(bodies[event_id])} different bodies"
            for event_id, kind, payload in events
            if bodies[event_id] != {payload.encode()}
        ]

    def _all(self, client: Client, path: str) -> Iterator[dict[str, Any]]:
        after = ""
        while True:
            page = client.get(f"{path}?limit=100{after}")
            yield from page["data"]
            if not page["has_more"]:
                return
            after = f"&starting_after={page['next_cursor']}"

    # --- how it went ---------------------------------------------------------------------------------

    def latencies(self, since: float, until: float) -> list[float]:
        """Seconds of each try that was sent in between, the quickest first."""
        return sorted(each.took_s for each in self.tries if since <= each.at < until)

    def statuses(self, since: float, until: float) -> Counter[int]:
        return Counter(each.status for each in self.tries if since <= each.at < until)


@dataclass
class Reckoning:
    """What was lost and what was doubled, in words; and how often a request had to be repeated."""

    payments: int
    lost: list[str]
    doubled: list[str]
    repeated: int


def percentile(values: list[float], share: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))]
