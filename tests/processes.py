"""The whole gateway as real processes, for the tests that need it: `python app.py` in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg2

import local
from config import LOCAL_SECRET_KEY, ROOT
from models.merchants import TEST_API_KEY, TEST_API_SECRET

START_S = 60


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def wait_until(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    """Whatever `condition` gives once it is true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {condition}")


@dataclass
class Running:
    """One gateway: its processes, and a merchant's client."""

    process: subprocess.Popen
    environ: dict[str, str]
    output: Path

    @property
    def port(self) -> int:
        return int(self.environ["PORT"])

    @property
    def data_dir(self) -> Path:
        return Path(self.environ["DATA_DIR"])

    @property
    def log(self) -> str:
        return self.output.read_text()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        port: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """(status, answer) of one request; the answer is parsed JSON."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{port or self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "X-Api-Key": TEST_API_KEY,
                "X-Api-Secret": TEST_API_SECRET,
                **(headers or {}),
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def get(self, path: str) -> Any:
        status, answer = self.call("GET", "/api/v1" + path)
        assert status == 200, answer
        return answer

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        status, answer = self.call("POST", "/api/v1" + path, body or {}, headers=headers)
        assert status in (200, 201), answer
        return answer

    def pay(self, amount: int = 10000, vpa: str = "success@upi") -> dict[str, Any]:
        order = self.post("/orders", {"merchant_id": "1", "amount": amount})
        return self.post("/payments", {"order_id": order["id"], "method": "upi", "vpa": vpa})

    def settled(self, payment_id: str) -> dict[str, Any] | None:
        payment = self.get(f"/payments/{payment_id}")
        return None if payment["status"] == "pending" else payment

    def health(self) -> dict[str, Any]:
        return self.call("GET", "/health")[1]

    def flask(self, *arguments: str) -> str:
        """What a command on this machine says."""
        command = [sys.executable, "-m", "flask", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def query(self, sql: str) -> list[tuple]:
        """Of the embedded database."""
        url = local.running_database_url(_settings(self))
        with closing(psycopg2.connect(url)) as line, line.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    def at_rest(self) -> bool:
        """Whether nothing is due."""
        tables = ("payments", "refunds", "webhook_deliveries")
        due = " UNION ALL ".join(f"SELECT 1 FROM {table} WHERE due_at IS NOT NULL" for table in tables)
        return not self.query(due)

    def processes(self) -> list[psutil.Process]:
        """All that belongs to this gateway, whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            try:
                environ = process.environ()
                mine = environ.get(local.MARK) == str(self.data_dir.resolve())
                if mine or str(self.data_dir) in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def worker_processes(self) -> list[psutil.Process]:
        """The RQ workers and the clock: the children of the worker command."""
        commands = [p for p in self.processes() if p.cmdline()[-1:] == ["jobs.worker"]]
        pids = {process.pid for process in commands}
        return [process for process in commands if process.ppid() in pids]

    def stop(self, signum: int = signal.SIGTERM) -> float:
        """End it; gives how many seconds that took."""
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signum)
        self.process.wait(30)
        return time.monotonic() - started


def environ_of(data_dir: Path, **settings: str) -> dict[str, str]:
    port, dashboard, checkout = free_ports(3)
    return {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "DASHBOARD_PORT": str(dashboard),
        "CHECKOUT_PORT": str(checkout),
        "DATA_DIR": str(data_dir),
        # Whatever the developer's own .env says, no test runs against what it points to.
        **{"APP_ENV": "local", "DATABASE_URL": "", "REDIS_URL": "", "SECRET_KEY": LOCAL_SECRET_KEY},
        "PROCESSING_DELAY_MS": "0-0",
        "UPI_SUCCESS_RATE": "1",
        "CARD_SUCCESS_RATE": "1",
        "REQUEST_LOG": "true",
        "LOG_LEVEL": "DEBUG",
        **settings,
    }


def launch(environ: dict[str, str], output: Path) -> Running:
    with output.open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environ, stdout=log, stderr=subprocess.STDOUT
        )
    return Running(process, environ, output)


def start(environ: dict[str, str], output: Path) -> Running:
    """Start it and wait until it says that it runs."""
    output.write_text("")
    running = launch(environ, output)
    deadline = time.monotonic() + START_S
    while "is running" not in running.log:
        assert running.process.poll() is None, running.log
        assert time.monotonic() < deadline, running.log
        time.sleep(0.05)
    return running


@contextmanager
def gateway(data_dir: Path, **settings: str) -> Iterator[Running]:
    running = start(environ_of(data_dir, **settings), data_dir.parent / f"{data_dir.name}.log")
    try:
        yield running
    finally:
        running.stop()
        local.end_leftovers(local.Gateway(_settings(running)))


def _settings(running: Running) -> Any:
    from tests.conftest import settings_of

    return settings_of(running.environ)
