"""The load generator: wrk, whose scripts are in bench/wrk/. It is written in C, so that what it takes of the
machine is little beside what it measures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from config import ROOT
from models.merchants import TEST_API_KEY, TEST_API_SECRET

SCRIPTS = ROOT / "bench" / "wrk"
# So many that no process waits for its clients: of 16, chance has given one process 1, and the other one 15.
CONNECTIONS = 32
THREADS = 2  # of wrk itself
TIMEOUT_S = 20
NO_MORE_IDS = 3  # exit code, see common.lua


class Missing(Exception):
    """A program that the benchmark needs is not there; the text says how to get it."""


@dataclass(frozen=True)
class Load:
    """How it went: requests a second, and milliseconds from request to answer."""

    rate: float
    p50_ms: float
    p99_ms: float


def require() -> None:
    """
    Raises:
        Missing: there is no wrk.
    """
    if shutil.which("wrk") is None:
        raise Missing("wrk, the load generator, is missing; on Debian: apt-get install wrk")


def run(
    url: str,
    script: str,
    duration_s: int,
    *,
    connections: int = CONNECTIONS,
    ids: Path | None = None,
    listed: str = "payments",
) -> Load:
    """Send what `script` says over so many connections, each as fast as it is answered.

    `ids` is a file with an id a line, which the script takes one by one; `listed` is what list.lua asks for.

    Raises:
        RuntimeError: an answer was not 2xx, a connection broke, or there were fewer ids than requests.
    """
    values = {"BENCH_IDS": str(ids or ""), "BENCH_LIST": listed}
    done = _wrk(url, script, duration_s, connections, values)
    if done.returncode == NO_MORE_IDS:
        raise RuntimeError(f"{script}: there are fewer ids than requests in {duration_s} s")
    if done.returncode:
        raise RuntimeError(f"{script}: wrk ended with {done.returncode}: {done.stdout}{done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    if told["broken"] or told["refused"] or not told["requests"]:
        raise RuntimeError(f"{script}: {told}; refused were such: {_refusal(url, script, values)}")
    return Load(told["requests"] / told["seconds"], told["p50_ms"], told["p99_ms"])


def _refusal(url: str, script: str, values: dict[str, str]) -> str:
    """The first refusal of a short second run: in the first one, nobody looked at the answers.

    (wrk only counted them: all of a status of 400 or more.) It takes the last id, which was not used yet.
    """
    with NamedTemporaryFile("w", suffix=".ids") as last:
        if values["BENCH_IDS"]:
            last.write(Path(values["BENCH_IDS"]).read_text().splitlines()[-1] + "\n")
            last.flush()
            values = values | {"BENCH_IDS": last.name}
        return (
            _wrk(url, script, 1, 1, values | {"BENCH_EXPLAIN": "1"}).stderr.strip() or "none in a second run"
        )


def _wrk(
    url: str, script: str, duration_s: int, connections: int, values: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    threads = min(THREADS, connections)
    return subprocess.run(
        [
            *("wrk", f"-t{threads}", f"-c{connections}", f"-d{duration_s}s", f"--timeout={TIMEOUT_S}s"),
            *("-s", str(SCRIPTS / f"{script}.lua"), url),
        ],
        env=os.environ
        | {"BENCH_KEY": TEST_API_KEY, "BENCH_SECRET": TEST_API_SECRET, "BENCH_THREADS": str(threads)}
        | {"LUA_PATH": f"{SCRIPTS}/?.lua"}
        | values,
        capture_output=True,
        text=True,
        check=False,
    )
