"""The limit of what needs the database: PostgreSQL's own pgbench, doing the statements that the gateway does.

Its scripts are in bench/pgbench/. Statements are prepared once a connection, as good drivers do; what the
gateway spends on HTTP, signing in, checking and JSON is not in it.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import local
from bench.rows import moment
from config import ROOT
from models.base import id_time

SCRIPTS = ROOT / "bench" / "pgbench"
CLIENTS = 16  # two cores are busy with them: more get no more done
THREADS = 2  # of pgbench itself
SETTLERS = 2  # as many as the gateway has workers
SETTLE_BATCH = 64  # payments a transaction, as a worker claims them (jobs/work.py, SLOTS)
TPS = re.compile(r"tps = ([0-9.]+)")
FAILED = re.compile(r"number of failed transactions: [1-9]")


def create_orders(url: str, duration_s: int) -> float:
    """Orders a second."""
    values: dict[str, str | int] = {"moment": id_time(int(time.time()))}
    return _run(url, "create_order", options=[f"--time={duration_s}"], values=values)


def create_payments(url: str, tag: str, count: int) -> float:
    """Payments a second: one of each of the `count` orders under this tag, a multiple of CLIENTS.

    They are due tomorrow: no worker takes them, but `settle` does.
    """
    each = count // CLIENTS
    return _run(
        url,
        "create_payment",
        options=[f"--transactions={each}"],
        values={"tag": tag, "moment": moment(tag), "number": -1, "clients": CLIENTS},
    )


def settle(url: str, count: int) -> float:
    """Payments a second, of the `count` that `create_payments` left."""
    each = -(-count // (SETTLE_BATCH * SETTLERS)) + 1  # one more: the two do not always share evenly
    batches = _run(
        url,
        "settle",
        clients=SETTLERS,
        options=[f"--transactions={each}"],
        values={"batch": SETTLE_BATCH},
    )
    return count / (each * SETTLERS / batches)


def get_payments(url: str, tag: str, count: int, duration_s: int) -> float:
    """Payments a second, at random of the `count` under this tag."""
    options = [f"--time={duration_s}"]
    values: dict[str, str | int] = {"tag": tag, "moment": moment(tag), "count": count}
    return _run(url, "get_payment", options=options, values=values)


def list_payments(url: str, duration_s: int) -> float:
    """First pages a second."""
    return _run(url, "list_payments", options=[f"--time={duration_s}"])


def lifetimes_ms(url: str, tag: str, count: int, folder: Path) -> list[float]:
    """How long each of `count` payments takes to be written and settled, on one connection, one at a time.

    Each is of an order under this tag. pgbench writes its log into `folder`.
    """
    _run(
        url,
        *("create_payment", "settle"),
        clients=1,
        options=[f"--transactions={count}", "--log", f"--log-prefix={folder / 'pgbench'}"],
        values={"tag": tag, "moment": moment(tag), "number": -1, "clients": 1, "batch": 1},
    )
    lines = [line for log in folder.glob("pgbench.*") for line in log.read_text().splitlines()]
    for log in folder.glob("pgbench.*"):
        log.unlink()
    return [int(line.split()[2]) / 1000 for line in lines]  # client, number, microseconds, ...


def _run(
    url: str,
    *scripts: str,
    options: list[str],
    clients: int = CLIENTS,
    values: dict[str, str | int] | None = None,
) -> float:
    """Transactions a second, each of them all these scripts.

    Raises:
        RuntimeError: pgbench broke off, or a transaction failed.
    """
    program = local.postgres_program("pgbench")
    command = [
        *(str(program), "--protocol=prepared", "--no-vacuum", "--file=-", *options),
        *(f"--client={clients}", f"--jobs={min(THREADS, clients)}"),
        *(f"--define={name}={value}" for name, value in (values or {}).items()),
        url,
    ]
    script = "\n".join((SCRIPTS / f"{name}.sql").read_text() for name in scripts)
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    tps = TPS.search(done.stdout)
    if done.returncode or tps is None or FAILED.search(done.stdout):
        raise RuntimeError(f"pgbench {'+'.join(scripts)}: {done.stdout}{done.stderr}")
    return float(tps[1])
