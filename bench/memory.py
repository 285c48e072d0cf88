"""What each process of the whole stack holds, in megabytes.

Resident (RSS) counts what processes share once for each of them; proportional (PSS) divides it among them, so
that a sum of it has PostgreSQL's shared buffers, and what forked processes have in common, once. (Libraries
that this benchmark has loaded too are divided with it: some megabytes of code.)
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import psutil

import local
from tests.conftest import settings_of
from tests.processes import Running

MB = 2**20


@dataclass(frozen=True)
class Held:
    """One process: what it is, and what it holds."""

    name: str
    rss_mb: float
    pss_mb: float


def stack_memory(running: Running) -> list[Held]:
    """All processes of this gateway, by what they are."""
    roots = [psutil.Process(running.process.pid)]
    postmaster = local.running_postgres(local.Gateway(settings_of(running.environ)))
    if postmaster is not None:
        roots.append(postmaster)
    found = []
    for root in roots:
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # a connection of PostgreSQL's that ended meanwhile
                memory = process.memory_full_info()
                found.append(Held(_name(process), memory.rss / MB, memory.pss / MB))
    return sorted(found, key=lambda held: (held.name.startswith("postgres"), held.name))


def total_mb(held: list[Held]) -> float:
    """The stack's memory, with what is shared counted once."""
    return sum(each.pss_mb for each in held)


def _name(process: psutil.Process) -> str:
    command = process.cmdline()
    line = " ".join(command)
    parent = process.parent()
    is_child = parent is not None and parent.cmdline() == command  # forked: it has its parent's command line
    if line.startswith("postgres:"):
        return "postgres: " + " ".join(line.removeprefix("postgres:").split()[:3])
    if process.name().startswith("postgres"):
        return "postgres: the server"
    if "valkey" in line:
        return "valkey"
    if "gunicorn" in line:
        return "web process" if is_child else "web: gunicorn's arbiter"
    if "jobs.worker" in line:
        return "worker or clock" if is_child else "workers' supervisor"
    return "make run (local.py)"
