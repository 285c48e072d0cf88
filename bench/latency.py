"""How long a shop waits: from when it sends a payment until that is settled, and until its webhook is there.

One client begins payments at a steady pace, each of its own order. Meanwhile the database is asked, every
other millisecond, which of those under way are settled; when a webhook came, its receiver wrote down.
Both are seen from outside: time begins before the request is sent, and a commit counts when others see it.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field

import psycopg2

from bench.receiver import Receiver
from models.merchants import TEST_API_KEY, TEST_API_SECRET
from tests.processes import wait_until

POLL_S = 0.002
LATE_S = 120
HEADERS = {
    "Content-Type": "application/json",
    "X-Api-Key": TEST_API_KEY,
    "X-Api-Secret": TEST_API_SECRET,
}


@dataclass
class Sample:
    """What became of some payments: milliseconds since each was sent."""

    settled_ms: list[float] = field(default_factory=list)
    delivered_ms: list[float] = field(default_factory=list)


class Client(threading.Thread):
    """Begins a payment of each order, `per_s` a second, and remembers when it sent each."""

    def __init__(self, port: int, order_ids: list[str], per_s: float):
        super().__init__()
        self._port, self._order_ids, self._per_s = port, order_ids, per_s
        self.sent: dict[str, float] = {}  # by payment, in monotonic seconds
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.error = error

    def _run(self) -> None:
        started = time.monotonic()
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=LATE_S)) as connection:
            for number, order_id in enumerate(self._order_ids):
                time.sleep(max(0.0, started + number / self._per_s - time.monotonic()))
                body = json.dumps({"order_id": order_id, "method": "upi", "vpa": "success@upi"})
                sent = time.monotonic()
                connection.request("POST", "/api/v1/payments", body, HEADERS)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 201:
                    raise RuntimeError(f"a payment was answered {answer.status}: {text[:500]!r}")
                self.sent[json.loads(text)["id"]] = sent


def sample(port: int, database_url: str, receiver: Receiver, order_ids: list[str], *, per_s: float) -> Sample:
    """Begin a payment of each order and follow them all to their end."""
    receiver.arrivals()  # those of others
    client = Client(port, order_ids, per_s)
    client.start()
    settled = _watch(client, database_url)
    client.join()
    if client.error is not None:
        raise client.error
    arrived: dict[str, float] = {}

    def all_arrived() -> bool:
        arrived.update(receiver.arrivals())
        return arrived.keys() >= client.sent.keys()

    wait_until(all_arrived, LATE_S)
    sent = client.sent
    return Sample(
        [(settled[payment_id] - sent[payment_id]) * 1000 for payment_id in sent],
        [(arrived[payment_id] - sent[payment_id]) * 1000 for payment_id in sent],
    )


def _watch(client: Client, database_url: str) -> dict[str, float]:
    """When each of the client's payments was seen to be settled, in monotonic seconds."""
    settled: dict[str, float] = {}
    deadline = None
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while client.is_alive() or len(settled) < len(client.sent):
            if client.error is not None:
                break
            if not client.is_alive():
                deadline = deadline or time.monotonic() + LATE_S
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{len(client.sent) - len(settled)} payments are not settled")
            if open_ids := [payment_id for payment_id in list(client.sent) if payment_id not in settled]:
                query = "SELECT id FROM payments WHERE id = ANY (%s) AND status = 'success'"
                cursor.execute(query, (open_ids,))
                seen = time.monotonic()
                settled.update((payment_id, seen) for (payment_id,) in cursor.fetchall())
            time.sleep(POLL_S)
    return settled
