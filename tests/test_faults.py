"""Real processes, real faults: workers killed, Redis emptied, and no card number anywhere afterwards."""

from __future__ import annotations

import http.client
import json
import random
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from redis import Redis
from standardwebhooks import Webhook

import local
from bench import rows
from bench.receiver import running as fast_receiver
from bench.settle import url_of
from bench.webhooks import app_of
from jobs.wake import wake
from tests.conftest import breaks, card_body
from tests.processes import Running, gateway, wait_until
from tests.receiver import Receiver

pytestmark = pytest.mark.slow

CARD_NUMBERS = ("4242424242424242", "4000000000009995", "5555555555554444", "4000000000000127")
CVV = "739"
CLIENTS, KILLS = 16, 6  # of the web server, and how often one of its processes is killed
SETTLE_LIMIT_S = 0.3  # from due to settled, when nothing else runs


def redis_url(running: Running) -> str:
    config = (running.data_dir / "valkey" / "valkey.conf").read_text().split()
    return (
        f"redis://:{config[config.index('requirepass') + 1]}@127.0.0.1:{config[config.index('port') + 1]}/0"
    )


def database(running: Running) -> Any:
    return psycopg2.connect(f"dbname=payment_gateway user=postgres host={running.data_dir}/postgres")


def query(running: Running, sql: str) -> list[tuple]:
    with database(running) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def assert_all_settled_once(running: Running, payments: list[dict[str, Any]], receiver: Receiver) -> None:
    """Every payment succeeded, was posted once, and each of its events arrived."""
    ids = {payment["id"] for payment in payments}
    assert dict(query(running, "SELECT status, count(*) FROM payments GROUP BY status")) == {
        "success": len(ids)
    }
    captures = query(
        running, "SELECT payment_id, count(*) FROM ledger_entries WHERE kind = 'capture' GROUP BY payment_id"
    )
    assert dict(captures) == dict.fromkeys(ids, 2)
    events = query(running, "SELECT id, type FROM events")
    assert len(events) == 4 * len(ids)
    arrived = {received.headers["webhook-id"] for received in receiver.received}
    assert arrived == {event_id for event_id, _ in events}


def all_delivered(running: Running) -> bool:
    return query(running, "SELECT count(*) FROM webhook_deliveries WHERE status <> 'success'") == [(0,)]


def all_settled(running: Running) -> bool:
    return query(running, "SELECT count(*) FROM payments WHERE due_at IS NOT NULL") == [(0,)]


def test_workers_killed_and_redis_emptied_lose_and_double_nothing(tmp_path: Path, receiver: Receiver) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with gateway(tmp_path / "data", PROCESSING_DELAY_MS="0-2000") as running:
        secret = running.post("/webhook_endpoints", {"url": receiver.url})["secret"]
        redis = Redis.from_url(redis_url(running))
        payments = []
        for number in range(120):
            payments.append(running.pay())
            if number % 20 == 10:
                victims = running.worker_processes()
                if victims:
                    chance.choice(victims).kill()
            if number % 30 == 15:
                redis.flushall()
        wait_until(lambda: all_settled(running), 60)
        wait_until(lambda: all_delivered(running), 60)
        assert_all_settled_once(running, payments, receiver)
        for received in receiver.received:
            Webhook(secret).verify(received.body, received.headers)
        wait_until(lambda: running.health()["status"] == "healthy", 30)


def test_web_processes_killed_with_groups_in_hand_lose_and_halve_nothing(tmp_path: Path) -> None:
    """Without an Idempotency-Key, they are written in groups. What nobody was told of may be there or not."""
    orders, payments, over = [], [], threading.Event()

    def shop(running: Running) -> None:
        while not over.is_set():
            with suppress(OSError, http.client.HTTPException):
                orders.append(order := running.post("/orders", {"amount": 10000}))
                body = {"order_id": order["id"], "method": "upi", "vpa": "success@upi"}
                payments.append(running.post("/payments", body))

    with gateway(tmp_path / "data", PROCESSING_DELAY_MS="0-100") as running:
        with ThreadPoolExecutor(CLIENTS) as pool:
            shops = [pool.submit(shop, running) for _ in range(CLIENTS)]
            try:
                for _ in range(KILLS):
                    enough = len(payments) + 10 * CLIENTS
                    wait_until(lambda: len(payments) >= enough, 60)  # noqa: B023
                    random.choice(web_processes(running)).kill()
            finally:
                over.set()
        for each in shops:
            each.result()
        wait_until(lambda: all_settled(running), 60)
        kept = dict(query(running, "SELECT id, status FROM payments"))
        assert {payment["id"] for payment in payments} <= kept.keys()
        assert set(kept.values()) == {"success"}
        kept_orders = {order_id for (order_id,) in query(running, "SELECT id FROM orders")}
        assert {order["id"] for order in orders} <= kept_orders
        assert len(kept) - len(payments) <= KILLS * CLIENTS
        assert breaks(app_of(running)) == []


def test_a_payment_does_not_wait_for_a_backlog_of_webhooks(tmp_path: Path) -> None:
    with (
        gateway(tmp_path / "data", WORKER_PROCESSES="1", PROCESSING_DELAY_MS="0-0") as running,
        fast_receiver() as receiver,
    ):
        body = {"url": receiver.url, "events": ["payment.success"]}
        endpoint_id = running.post("/webhook_endpoints", body)["id"]
        app = app_of(running)
        rows.undelivered(url_of(app), 5000, "backlog", endpoint_id=endpoint_id)
        with app.app_context():
            wake("webhooks")
        wait_until(lambda: not all_delivered(running) and len(receiver.arrivals()) > 0)
        payment = running.pay()
        wait_until(lambda: running.settled(payment["id"]), 3)
        assert query(running, "SELECT count(*) > 500 FROM webhook_deliveries WHERE status = 'pending'") == [
            (True,)
        ]
        wait_until(lambda: all_delivered(running), 60)


def web_processes(running: Running) -> list[psutil.Process]:
    """Those that answer: the children of gunicorn's arbiter."""
    found = [each for each in running.processes() if "gunicorn" in " ".join(each.cmdline())]
    pids = {process.pid for process in found}
    return [process for process in found if process.ppid() in pids]


@pytest.mark.parametrize("delay_ms", [0, 300], ids=["woken by the request", "woken by the clock"])
def test_a_payment_settles_when_it_is_due_if_nothing_else_runs(tmp_path: Path, delay_ms: int) -> None:
    delay = f"{delay_ms}-{delay_ms}"
    with gateway(
        tmp_path / "data", PROCESSING_DELAY_MS=delay, LOG_LEVEL="WARNING", REQUEST_LOG="false"
    ) as running:
        for _ in range(12):
            payment = running.pay()
            wait_until(partial(running.settled, payment["id"]))
            time.sleep(0.05)  # nothing else runs: let the worker go back to waiting
        took = query(running, "SELECT extract(epoch FROM updated_at - created_at)::float FROM payments")
    late = sorted(seconds - delay_ms / 1000 for (seconds,) in took)
    print("due to settled:", [f"{seconds * 1000:.0f} ms" for seconds in late])
    assert late[0] >= 0
    assert late[len(late) // 2] < SETTLE_LIMIT_S


def test_no_card_number_or_cvv_is_kept_anywhere(tmp_path: Path, receiver: Receiver) -> None:
    with gateway(tmp_path / "data", PROCESSING_DELAY_MS="0-200") as running:
        running.post("/webhook_endpoints", {"url": receiver.url})
        payments = []
        for number in CARD_NUMBERS:
            order = running.post("/orders", {"amount": 10000})
            card = card_body(number, cvv=CVV, holder_name="Asha Secretholder")
            body = {"order_id": order["id"], "method": "card", "card": card}
            payments.append(running.post("/payments", body, {"Idempotency-Key": f"key-{number[-4:]}"}))
            # What is refused passes through the error paths.
            for wrong in ({"cvv": CVV + "99"}, {"expiry_year": "2001"}, {"number": number[:-1] + "9"}):
                refused = body | {"card": card | wrong}
                assert running.call("POST", "/api/v1/payments", refused)[0] in (400, 409)
            assert running.call("POST", "/api/v1/payments/public", body)[0] in (201, 409)
            assert running.call("POST", "/api/v1/payments?x=1", body | {"method": "cash"})[0] == 400
        # Broken framing: the web server itself must not quote what it could not read.
        raw = json.dumps({"number": CARD_NUMBERS[0], "cvv": CVV}).encode()
        send_raw(
            running, b"POST /api/v1/payments HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n" + raw + b"\r\n"
        )
        chunked = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        send_raw(running, b"POST /api/v1/payments HTTP/1.1\r\nHost: x\r\n" + chunked + raw + b"\r\n")
        wait_until(lambda: "Invalid request" in running.log)
        while any(running.settled(payment["id"]) is None for payment in payments):
            time.sleep(0.05)
        wait_until(lambda: all_delivered(running))
        redis = Redis.from_url(redis_url(running))
        in_redis = [str(key) + str(redis.dump(key)) for key in redis.scan_iter()]
        dump = pg_dump(running)
        running.stop()
        places = {
            "database": dump,
            "redis": "".join(in_redis),
            "log": running.log,
            "webhooks": "".join(received.body.decode() for received in receiver.received),
            "servers' logs": "".join(
                path.read_text(errors="replace")
                for path in (running.data_dir / "valkey" / "log", running.data_dir / "postgres" / "log")
            ),
        }
    assert "last4" in dump
    assert payments[0]["id"] in places["log"] or "/api/v1/payments" in places["log"]
    for name, text in places.items():
        assert text, name
        for secret in (*CARD_NUMBERS, "Secretholder"):
            assert secret not in text, f"{secret} in {name}"
            assert secret not in text.replace(" ", "").replace("-", ""), f"{secret} in {name}"
        for sign in (f'"cvv":"{CVV}', f'"cvv": "{CVV}', f"'cvv': '{CVV}", f"cvv={CVV}", f"\t{CVV}\t"):
            assert sign not in text, f"CVV in {name}"


def send_raw(running: Running, request: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def pg_dump(running: Running) -> str:
    program = local.postgres_program("pg_dump")
    command = [str(program), "-U", "postgres", "-h", f"{running.data_dir}/postgres", "payment_gateway"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
