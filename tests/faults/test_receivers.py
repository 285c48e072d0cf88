"""Receivers that answer too late, reset, trickle, never end, or send a bomb: they cost a worker little."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler

import psutil

from tests.faults.report import Row, keep
from tests.faults.shop import Shop
from tests.faults.stack import Stack, memory_mb, stack
from tests.processes import wait_until
from tests.receiver import Receiver, answer, running_receiver

EACH = 20  # deliveries to each kind
BUSY_MAX_S = 15
MEMORY_MAX_MB = 20
LATE_S = 12  # two seconds after our patience
ATTEMPTS = 3
POSTS_MAX = 2  # an attempt: what is reset on a connection that was kept is posted once more on a new one
BOMB = gzip.compress(b"\0" * (200 * 2**20))  # 200 MB, in 200 KB


def slow(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(0.5)
    answer(200)(handler)


def late(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(LATE_S)
    with contextlib.suppress(OSError):
        handler.send_response(200)
        handler.end_headers()
    handler.close_connection = True


def reset(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def trickle(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "3600")
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(60):
            handler.wfile.write(b".")
            time.sleep(1)
    handler.close_connection = True


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"and on " * 10_000)
    handler.close_connection = True


def bomb(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(BOMB)))
    handler.end_headers()
    with contextlib.suppress(OSError):
        handler.wfile.write(BOMB)
    handler.close_connection = True


# Whether it can be told from a receiver that accepts: a 200 is a 200, whatever follows it.
KINDS: dict[str, tuple[Callable[[BaseHTTPRequestHandler], None], bool]] = {
    "too late": (late, False),
    "reset": (reset, False),
    "1 byte/s": (trickle, False),
    "endless": (endless, True),
    "gzip bomb": (bomb, True),
}


UNDELIVERED = "SELECT count(*) FROM webhook_deliveries WHERE status <> 'success'"
UNDECIDED = "SELECT 1 FROM webhook_deliveries WHERE due_at IS NOT NULL AND event_type = 'webhook.test'"


def test_hostile_receivers(listener: Receiver, seed: int) -> None:
    """Beside one that is well."""
    with ExitStack() as leave:
        receivers = {kind: leave.enter_context(running_receiver()) for kind in KINDS}
        gateway: Stack = leave.enter_context(stack(WEBHOOK_RETRY_SCHEDULE="0,1,1", PROCESSING_DELAY_MS="0-0"))
        shop = Shop(gateway, listener, seed=seed)
        ids = {}
        with shop.client() as client:
            for kind, receiver in receivers.items():
                body = {"url": receiver.url, "events": ["webhook.test"]}
                ids[kind] = client.post("/webhook_endpoints", body, f"endpoint-{kind}")["id"]

            def send(what: str) -> None:
                for number in range(EACH):
                    for kind, endpoint_id in ids.items():
                        path, key = f"/webhook_endpoints/{endpoint_id}/test", f"{what}-{kind}-{number}"
                        client.post(path, {}, key)

            # First they are only slow: all is loaded, all connections are made, all threads have begun.
            for receiver in receivers.values():
                receiver.answers = [slow] * EACH
            send("warm-up")
            with shop.open(purchases=100):
                pass
            wait_until(lambda: gateway.undelivered() == 0, 60)
            workers = {psutil.Process(pid) for pid in gateway.workers()}
            before = {worker: memory_mb(worker) for worker in workers}
            gateway.change("UPDATE webhook_endpoints SET slow = false")
            for kind, receiver in receivers.items():
                receiver.received.clear()
                receiver.answers = [KINDS[kind][0]] * (EACH * ATTEMPTS * POSTS_MAX)
            ((at,),) = gateway.query("SELECT now()")
            send("test")
        growth_mb, since = 0.0, time.monotonic()
        with shop.open(rate=5):
            while gateway.query(UNDECIDED):
                growth_mb = max(growth_mb, *(memory_mb(worker) - before[worker] for worker in workers))
                assert time.monotonic() - since < 300
                time.sleep(0.2)
        drained_s = time.monotonic() - since
        wait_until(lambda: gateway.unsettled() == 0)
        gateway.verify()
        ((busy_ms,),) = gateway.query("SELECT max(duration_ms) FROM webhook_attempts")
        for kind, receiver in receivers.items():
            outcome = gateway.query(
                "SELECT status, attempts, count(*) FROM webhook_deliveries "
                "WHERE endpoint_id = %s AND created_at > %s GROUP BY 1, 2",
                ids[kind],
                at,
            )
            accepts = KINDS[kind][1]
            assert outcome == [("success", 1, EACH) if accepts else ("failed", ATTEMPTS, EACH)], kind
            times = Counter(received.headers["webhook-id"] for received in receiver.received)
            expected = {1} if accepts else {ATTEMPTS}
            if kind == "reset":
                expected.add(ATTEMPTS + 1)  # the first one was over a kept connection
            assert set(times.values()) <= expected
        ((well_s,),) = gateway.query(
            "SELECT percentile_cont(0.99) WITHIN GROUP "
            "(ORDER BY extract(epoch FROM last_attempt_at - created_at)) "
            "FROM webhook_deliveries WHERE event_type <> 'webhook.test'"
        )
        wait_until(
            lambda: gateway.query(f"{UNDELIVERED} AND endpoint_id = %s", shop.endpoint["id"]) == [(0,)]
        )
        reckoning = shop.reckon()
    assert busy_ms <= BUSY_MAX_S * 1000
    assert growth_mb < MEMORY_MAX_MB
    keep(
        Row(
            12,
            "Receivers that answer after our timeout, reset, send 1 byte/s, an endless body, a gzip bomb",
            f"{EACH} deliveries each",
            f"{len(shop.book)} payments beside",
            len(reckoning.lost),
            len(reckoning.doubled),
            drained_s,
            f"{BUSY_MAX_S} s an attempt, {MEMORY_MAX_MB} MB",
            f"the longest attempt {busy_ms / 1000:.1f} s, memory of a worker +{growth_mb:.1f} MB, "
            f"the same `webhook-id` on each of {ATTEMPTS} attempts; "
            f"a healthy endpoint beside: p99 {well_s * 1000:.0f} ms",
            seed,
        )
    )
    assert (reckoning.lost, reckoning.doubled) == ([], [])
