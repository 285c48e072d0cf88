"""What the harness measured: a line a fault, and the table of docs/reliability.md that is made of it.

`python -m tests.faults.report` writes the table.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from config import ROOT

RESULTS = ROOT / ".faults.jsonl"
PAGE = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- begin: made by `make faults` -->", "<!-- end -->"


@dataclass(frozen=True)
class Row:
    """One fault: how often it was injected, under what load, and what came of it. `seconds` is how long after
    the last injection (or the end of the load, if that was later) until all was settled and delivered.
    """

    order: int
    fault: str
    injected: str
    load: str
    lost: int
    doubled: int
    seconds: float | None
    limit: str
    remark: str = ""
    seed: int | None = None


def keep(row: Row) -> None:
    print(row)
    with RESULTS.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def rows() -> list[Row]:
    """The newest of each fault, in their order."""
    newest: dict[str, Row] = {}
    for line in RESULTS.read_text().splitlines():
        row = Row(**json.loads(line))
        newest[row.fault] = row
    return sorted(newest.values(), key=lambda row: row.order)


def table() -> str:
    lines = [
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total // 2**30} GiB, Python {platform.python_version()}; "
        "the client, the bank and the receiver run on the same machine.",
        "",
        "| fault | injected | load | lost | doubled | all settled again | limit | remark |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows():
        seconds = "" if row.seconds is None else f"{row.seconds:.1f} s"
        facts = (row.fault, row.injected, row.load, row.lost, row.doubled, seconds, row.limit, row.remark)
        lines.append(f"| {' | '.join(map(str, facts))} |")
    return "\n".join(lines)


def put(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks."""
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


if __name__ == "__main__":
    put(PAGE, BEGIN, END, table())
