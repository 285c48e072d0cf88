"""Web servers and workers are restarted in turn, under load: nobody gets an error, nothing is left behind.

Two web servers stand behind what a load balancer does: it keeps connections, asks each server now and then
whether it is ready, and takes the other one if not, or if a connection is refused. It repeats nothing.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from select import select
from typing import Any

import psycopg2
import pytest

from app import create_app
from config import ROOT
from jobs.work import LEASE_S
from models.base import db
from models.merchants import TEST_API_KEY, TEST_API_SECRET
from tests.conftest import another_database, breaks, settings_of
from tests.processes import free_ports, wait_until
from tests.receiver import Receiver, answer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = 2
SHOPPERS = 4
REST_S = 0.02  # of a shopper between two orders: other tests run on this machine, too
CHECK_S = 0.5  # how often the balancer asks whether a server is ready
SERVER_END_S = 8 + 2  # graceful_timeout, and a moment
WORKER_END_S = 25 + 3  # jobs/worker.py, STOP_TIMEOUT_S, and a moment
HEADERS = {"X-Api-Key": TEST_API_KEY, "X-Api-Secret": TEST_API_SECRET, "Content-Type": "application/json"}
CLAIMS = " UNION ALL ".join(
    f"SELECT id, claim_id FROM {table} WHERE claim_id IS NOT NULL"
    for table in ("payments", "refunds", "webhook_deliveries")
)

WEB = (sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py")
WORKER = (sys.executable, "-m", "jobs.worker")


@dataclass
class Service:
    """One command that is started and ended, again and again."""

    command: tuple[str, ...]
    environ: dict[str, str]
    log: Path
    process: subprocess.Popen | None = None

    @property
    def port(self) -> int:
        return int(self.environ["PORT"])

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=self.environ, stdout=log, stderr=subprocess.STDOUT
            )

    def end(self, timeout_s: float) -> None:
        """Tell it to end, and wait until it has."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout_s) == 0, self.log.read_text()

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@dataclass
class Balancer:
    """Which servers are ready, as far as it knows."""

    servers: list[Service]
    ready: set[int] = field(default_factory=set)  # ports
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self.over.is_set():
            self.ready = {server.port for server in self.servers if server.is_ready()}
            self.over.wait(CHECK_S)


@dataclass
class Shopper:
    """Makes orders and pays them, over connections that it keeps."""

    balancer: Balancer
    number: int
    connections: dict[int, http.client.HTTPConnection] = field(default_factory=dict)
    payments: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    kept: int = 0  # requests over a connection that had one before
    refused: int = 0

    def shop(self) -> None:
        while not self.balancer.over.is_set():
            order = self.post("/api/v1/orders", {"amount": 10000})
            if order is not None:
                body = {"order_id": order["id"], "method": "upi", "vpa": "success@upi"}
                payment = self.post("/api/v1/payments", body)
                if payment is not None:
                    self.payments.append(payment["id"])
            self.balancer.over.wait(REST_S)
        self.leave()

    def leave(self) -> None:
        for connection in self.connections.values():
            connection.close()

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        ports = sorted(self.balancer.ready, key=lambda port: (port + self.number) % 2)
        for port in ports:
            try:
                connection = self._connected(port)
            except ConnectionRefusedError:
                self.refused += 1
                continue
            try:
                connection.request("POST", path, json.dumps(body), HEADERS)
                response = connection.getresponse()
                told = response.read()
                if response.status == 201:
                    return json.loads(told)
                self.lost.append(f"{path}: {response.status} {told!r}")
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self.lost.append(f"{path}: {error!r}")
            return None
        self.lost.append(f"{path}: nobody takes it, ready are {ports}")
        return None

    def _connected(self, port: int) -> http.client.HTTPConnection:
        connection = self.connections.setdefault(
            port, http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        )
        if connection.sock is not None and select([connection.sock], [], [], 0)[0]:
            connection.close()  # the server did, meanwhile
        if connection.sock is None:
            connection.connect()
        else:
            self.kept += 1
        return connection


@dataclass
class Site:
    """Two web servers and two worker commands, on one database and one Valkey."""

    environ: dict[str, str]
    folder: Path
    query: Callable[[str], list[tuple[Any, ...]]]

    @contextmanager
    def service(self, name: str, command: tuple[str, ...], **settings: str) -> Iterator[Service]:
        ports = dict(zip(("PORT", "DASHBOARD_PORT", "CHECKOUT_PORT"), map(str, free_ports(3)), strict=True))
        service = Service(command, self.environ | ports | settings, self.folder / f"{name}.log")
        service.start()
        try:
            yield service
        finally:
            assert service.process is not None
            if service.process.poll() is None:
                service.process.terminate()
                service.process.wait(WORKER_END_S)

    def claims(self) -> set[tuple[str, str]]:
        return {(row_id, claim_id) for row_id, claim_id in self.query(CLAIMS)}


@pytest.fixture
def site(environ: dict[str, str], tmp_path: Path) -> Iterator[Site]:
    with another_database(environ, "rolling") as its_environ:
        app = create_app(settings_of(its_environ))
        with app.app_context():
            db.engine.dispose()

        def query(sql: str) -> list[tuple[Any, ...]]:
            connection = psycopg2.connect(its_environ["DATABASE_URL"])
            try:
                with connection, connection.cursor() as cursor:
                    cursor.execute(sql)
                    return cursor.fetchall()
            finally:
                connection.close()

        yield Site(its_environ, tmp_path, query)
        assert breaks(app) == []
        with app.app_context():
            db.engine.dispose()


def test_no_request_fails_and_each_payment_settles_once(site: Site, receiver: Receiver) -> None:
    with ExitStack() as stack:
        start = lambda *args: stack.enter_context(site.service(*args))  # noqa: E731
        servers = [start(f"web-{number}", WEB) for number in (1, 2)]
        workers = [start(f"worker-{number}", WORKER) for number in (1, 2)]
        for server in servers:
            wait_until(server.is_ready, 60)
        balancer = Balancer(servers, {server.port for server in servers})
        shoppers = [Shopper(balancer, number) for number in range(SHOPPERS)]
        shoppers[0].post("/api/v1/webhook_endpoints", {"url": receiver.url, "events": ["payment.success"]})
        with ThreadPoolExecutor(SHOPPERS + 1) as pool:
            acts = [pool.submit(balancer.watch), *(pool.submit(shopper.shop) for shopper in shoppers)]
            try:
                for _ in range(ROUNDS):
                    for server, worker in zip(servers, workers, strict=True):
                        restart_server(server, balancer, shoppers)
                        restart_worker(worker, site)
            finally:
                balancer.over.set()
            for act in acts:
                act.result()
        payments = [payment_id for shopper in shoppers for payment_id in shopper.payments]
        wait_until(lambda: site.query("SELECT count(*) FROM payments WHERE due_at IS NOT NULL") == [(0,)], 60)
        wait_until(
            lambda: site.query("SELECT count(*) FROM webhook_deliveries WHERE status <> 'success'") == [(0,)],
            60,
        )
    requests = 2 * len(payments)
    print(
        f"{requests} requests, {sum(shopper.kept for shopper in shoppers)} over a kept connection, "
        f"{sum(shopper.refused for shopper in shoppers)} connections refused"
    )
    assert [each for shopper in shoppers for each in shopper.lost] == []
    assert len(payments) > 100 * SHOPPERS
    assert sum(shopper.kept for shopper in shoppers) > requests * 0.9
    settled = site.query("SELECT payment_id, count(*) FROM events WHERE type = 'payment.success' GROUP BY 1")
    assert dict(settled) == dict.fromkeys(payments, 1)
    captured = "SELECT payment_id, sum(amount) FROM ledger_entries WHERE account = 'merchant' GROUP BY 1"
    assert dict(site.query(captured)) == dict.fromkeys(payments, -10000)


def restart_server(server: Service, balancer: Balancer, shoppers: list[Shopper]) -> None:
    server.end(SERVER_END_S)
    server.start()
    wait_until(lambda: server.port in balancer.ready, 60)
    enough = sum(len(shopper.payments) for shopper in shoppers) + 10 * SHOPPERS
    wait_until(lambda: sum(len(shopper.payments) for shopper in shoppers) >= enough, 30)


def restart_worker(worker: Service, site: Site) -> None:
    """What is claimed at its end is the other one's, who goes on: none of it waits for its lease."""
    worker.end(WORKER_END_S)
    claims = site.claims()
    wait_until(lambda: not claims & site.claims(), LEASE_S / 3)
    worker.start()


def test_a_worker_told_to_end_posts_what_it_holds_and_leaves_no_claim(site: Site, receiver: Receiver) -> None:
    held = threading.Semaphore(0)
    go_on = threading.Event()

    def late(request: BaseHTTPRequestHandler) -> None:
        held.release()
        go_on.wait(WORKER_END_S)
        answer(200)(request)

    receiver.answers = [late] * 8
    with site.service("web", WEB) as server, site.service("worker", WORKER) as worker:
        wait_until(server.is_ready, 60)
        shopper = Shopper(Balancer([server], {server.port}), 0)
        shopper.post("/api/v1/webhook_endpoints", {"url": receiver.url, "events": ["payment.created"]})
        for _ in range(8):
            order = shopper.post("/api/v1/orders", {"amount": 10000})
            assert order is not None
            shopper.post("/api/v1/payments", {"order_id": order["id"], "method": "upi", "vpa": "success@upi"})
        shopper.leave()
        for _ in range(4):  # as many as it posts to one endpoint at once
            assert held.acquire(timeout=20)
        assert worker.process is not None
        worker.process.send_signal(signal.SIGTERM)
        time.sleep(1)  # it has nothing to say meanwhile
        assert worker.process.poll() is None
        go_on.set()
        assert worker.process.wait(WORKER_END_S) == 0
        assert site.claims() == set()
        delivered = "SELECT count(*) FROM webhook_deliveries WHERE status = 'success'"
        assert site.query(delivered) == [(len(receiver.received),)]


def test_a_server_told_to_end_is_unready_at_once_and_finishes_what_it_holds(site: Site) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(site.service("web", WEB, WEB_WORKERS="1"))

        def connect() -> http.client.HTTPConnection:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            return stack.enter_context(closing(connection))

        wait_until(server.is_ready, 60)
        asked, idle, busy = connect(), connect(), connect()
        for connection in (asked, idle, busy):
            connection.request("GET", "/live")
            kept = connection.getresponse()
            assert kept.read()
            assert kept.headers["Connection"] == "keep-alive"
        late = HEADERS | {"X-Simulate": "latency=4000"}
        busy.request("POST", "/api/v1/orders", '{"amount": 10000}', late)
        time.sleep(0.5)  # it is under way
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)

        def ready(connection: http.client.HTTPConnection) -> tuple[int, str]:
            connection.request("GET", "/ready")
            told = connection.getresponse()
            told.read()
            return told.status, told.headers["Connection"]

        wait_until(lambda: ready(asked)[1] == "close")
        assert ready(idle) == (503, "close")
        done = busy.getresponse()
        assert (done.status, done.headers["Connection"]) == (201, "close")
        assert server.process.wait(SERVER_END_S) == 0
        with pytest.raises(ConnectionRefusedError):
            connect().connect()


def test_whoever_has_connected_is_answered(site: Site) -> None:
    """Each request has a connection of its own: many are on their way when the server closes its listener."""
    answered, lost, refused = [], [], threading.Event()

    def ask(port: int) -> None:
        while not refused.is_set():
            with socket.socket() as connection:
                try:
                    connection.connect(("127.0.0.1", port))
                except ConnectionRefusedError:
                    refused.set()
                    return
                try:
                    connection.sendall(b"GET /live HTTP/1.1\r\nHost: gateway\r\n\r\n")
                    answered.append(connection.recv(4096).startswith(b"HTTP/1.1 200 OK"))
                except OSError as error:
                    lost.append(error)

    with site.service("web", WEB) as server, ThreadPoolExecutor(2 * SHOPPERS) as pool:
        wait_until(server.is_ready, 60)
        acts = [pool.submit(ask, server.port) for _ in range(2 * SHOPPERS)]
        wait_until(lambda: len(answered) > 500)
        server.end(SERVER_END_S)
        for act in acts:
            act.result()
    assert lost == []
    assert all(answered)
