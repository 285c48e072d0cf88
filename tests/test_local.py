"""`make run`'s program, as real processes: starts, serves, stops, survives, and says what is wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from flask import Flask

import local
from config import ROOT
from models.base import db
from models.workers import Worker
from tests.processes import environ_of, gateway, start, wait_until

pytestmark = pytest.mark.slow

STOP_LIMIT_S = 10


def test_it_starts_serves_three_ports_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with gateway(tmp_path / "data") as running:
        assert running.health()["status"] == "healthy"
        for port in ("PORT", "DASHBOARD_PORT", "CHECKOUT_PORT"):
            status, _ = running.call("GET", "/api/v1/test/merchant", port=int(running.environ[port]))
            assert status == 200
        for printed in ("key_test_abc123", f"localhost:{running.port}", "curl -X POST"):
            assert printed in running.log
        payment = running.pay()
        assert wait_until(lambda: running.settled(payment["id"]))["status"] == "success"
        processes = running.processes()
        assert len(processes) > 6
        assert running.stop(signal.SIGINT) < STOP_LIMIT_S
        assert running.process.returncode == 0
        assert [process for process in processes if local.lives(process)] == []


def test_sigterm_in_the_middle_of_work_loses_nothing(tmp_path: Path) -> None:
    with gateway(tmp_path / "data", PROCESSING_DELAY_MS="0-1500") as running:
        payments = [running.pay() for _ in range(30)]
        assert running.stop() < STOP_LIMIT_S
        assert running.processes() == []
        again = start(running.environ, running.output)
        try:
            for payment in payments:
                assert wait_until(partial(again.settled, payment["id"]))["status"] == "success"
        finally:
            again.stop()


def test_after_kill_9_the_next_start_works_and_finds_its_data(tmp_path: Path) -> None:
    with gateway(tmp_path / "data") as running:
        payment = running.pay()
        wait_until(lambda: running.settled(payment["id"]))
        before = running.processes()
        assert [p.name() for p in before if "valkey" in " ".join(p.cmdline())]
        running.stop(signal.SIGKILL)
        again = start(running.environ, running.output)
        try:
            assert again.get(f"/payments/{payment['id']}")["status"] == "success"
            second = again.pay()
            assert wait_until(lambda: again.settled(second["id"]))["status"] == "success"
        finally:
            assert again.stop() < STOP_LIMIT_S
        assert again.processes() == []
        assert [process for process in before if local.lives(process)] == []


def test_two_copies_run_side_by_side(tmp_path: Path) -> None:
    with gateway(tmp_path / "one") as one, gateway(tmp_path / "two") as two:
        payment = one.pay()
        assert wait_until(lambda: one.settled(payment["id"]))["status"] == "success"
        assert two.get("/payments")["data"] == []
        assert two.health()["status"] == "healthy"


def test_a_restarted_postgres_is_used_and_stopped_like_the_first(tmp_path: Path) -> None:
    with gateway(tmp_path / "data") as running:
        first = running.pay()
        wait_until(partial(running.settled, first["id"]))
        data = running.data_dir / "postgres"
        owner = data.stat().st_uid if os.geteuid() == 0 else None
        command = [str(local.postgres_program("pg_ctl")), "-D", str(data), "-m", "immediate", "-w", "restart"]
        with (tmp_path / "restart").open("w") as output:
            subprocess.run(command, check=True, stdout=output, stderr=output, user=owner)
        wait_until(lambda: running.health()["status"] == "healthy")
        second = running.pay()
        assert wait_until(partial(running.settled, second["id"]))["status"] == "success"
        assert running.stop() < STOP_LIMIT_S
        assert running.processes() == []


def test_a_postgres_that_is_gone_ends_everything_with_a_line(tmp_path: Path) -> None:
    with gateway(tmp_path / "data") as running:
        for process in running.processes():
            if process.name() == "postgres":
                process.kill()
        assert running.process.wait(30) == 1
        assert "error: PostgreSQL ended unexpectedly" in running.log
        assert running.processes() == []


def test_the_workers_end_with_their_supervisor(environ: dict[str, str], app: Flask) -> None:
    def two_are_alive() -> bool:
        db.session.rollback()  # now() stands still within a transaction
        return Worker.alive() == 2

    supervisor = subprocess.Popen(
        [sys.executable, "-m", "jobs.worker"], cwd=ROOT, env=environ | {"PATH": os.environ["PATH"]}
    )
    try:
        with app.app_context():
            wait_until(two_are_alive)
        children = psutil.Process(supervisor.pid).children()
        assert len(children) == 3
    finally:
        supervisor.kill()
        supervisor.wait()
    alive = local.wait_for_end(children, 10)
    assert alive == []


def fails(environ: dict[str, str]) -> str:
    """The one line that a start which can't work says."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert time.monotonic() - started < 50
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stdout
    return lines[0]


@pytest.mark.parametrize("name", ["PORT", "DASHBOARD_PORT", "CHECKOUT_PORT"])
def test_a_taken_port_is_named(tmp_path: Path, name: str) -> None:
    environ = environ_of(tmp_path / "data")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(environ[name])))
        taken.listen()
        assert fails(environ) == f"error: {name}: port {environ[name]} cannot be used: address already in use"
    assert [
        p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])
    ] == []


def test_a_folder_that_the_servers_cannot_take_is_named(tmp_path: Path) -> None:
    line = fails(environ_of(tmp_path / "with space"))
    assert line.startswith("error: DATA_DIR: ")


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    line = fails(environ_of(tmp_path / "data", HOST="192.0.2.1"))
    assert line == "error: HOST: 192.0.2.1 is no address of this machine"


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    assert fails(environ_of(tmp_path / "data", CARD_SUCCESS_RATE="2")).startswith(
        "error: CARD_SUCCESS_RATE: "
    )


def test_an_unreachable_database_is_named(tmp_path: Path) -> None:
    url = "postgresql://gateway:hidden-password@127.0.0.1:1/payment_gateway"
    line = fails(environ_of(tmp_path / "data", DATABASE_URL=url, SERVICE_WAIT_S="1"))
    assert line.startswith("error: DATABASE_URL: ")
    assert "hidden-password" not in line


def test_an_unreachable_redis_is_named(tmp_path: Path) -> None:
    line = fails(environ_of(tmp_path / "data", REDIS_URL="redis://127.0.0.1:1/0", SERVICE_WAIT_S="1"))
    assert line.startswith("error: REDIS_URL: ")


def test_a_second_copy_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with gateway(tmp_path / "data"):
        line = fails(environ_of(tmp_path / "data"))
    assert line.startswith("error: DATA_DIR: another gateway is running")
