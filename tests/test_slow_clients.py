"""A client that sends its request slowly, or half of it, holds up nobody else."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from models.merchants import TEST_API_KEY, TEST_API_SECRET
from tests.conftest import temporary_folder
from tests.processes import Running, gateway

SLOW = 200  # clients of one web process
HALF = (
    "POST /api/v1/orders HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
    f"X-Api-Key: {TEST_API_KEY}\r\nX-Api-Secret: {TEST_API_SECRET}\r\nConnection: close\r\n"
    'Content-Length: 14\r\n\r\n{"amount"'
).encode()

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with temporary_folder() as folder, gateway(folder / "data", WEB_WORKERS="1") as running:
        yield running


def said_to(running: Running, sent: list[bytes], pause_s: float) -> tuple[bytes, float]:
    """The answer to what is sent bit by bit, and how long it took to come, in seconds."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.settimeout(pause_s)
        for part in sent:
            try:
                client.sendall(part)
                answer = client.recv(65536)
                client.settimeout(10)
                answer += b"".join(iter(lambda: client.recv(65536), b""))
            except TimeoutError:
                continue
            except OSError:
                answer = b""
            return answer, time.monotonic() - started
    raise AssertionError("there was no answer to all of it")


def test_a_request_that_never_ends_is_cut_off(running: Running) -> None:
    """However much of it there is: a byte now and then keeps no place."""
    trickle = [HALF.replace(b"Length: 14", b"Length: 1400"), *[b" "] * 100]
    (answer, took_s), (nothing, gone_s) = (
        said_to(running, sent, 0.25) for sent in (trickle, [HALF[:20], *[b"x"] * 100])
    )
    assert answer.startswith(b"HTTP/1.1 408"), answer
    assert b'"code":"REQUEST_TIMEOUT"' in answer
    assert took_s == pytest.approx(10, abs=3)
    assert nothing == b""
    assert gone_s == pytest.approx(5, abs=3)
    assert running.post("/orders", {"amount": 500})["amount"] == 500


def test_others_are_answered_beside_two_hundred_of_them(running: Running) -> None:
    clients = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(SLOW)]
    try:
        for client in clients:
            client.sendall(HALF)
        started = time.monotonic()
        payment = running.pay()
        assert running.get(f"/payments/{payment['id']}")["amount"] == 10000
        assert time.monotonic() - started < 5  # threads would have waited for the slow ones for ever
        for client in (clients[0], clients[-1]):  # and they are not forgotten
            client.sendall(b":500}")
            answer = b"".join(iter(lambda: client.recv(65536), b""))  # noqa: B023
            assert answer.startswith(b"HTTP/1.1 201"), answer
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["amount"] == 500
    finally:
        for client in clients:
            client.close()
