"""What the benchmark found, as tables, and as the part of docs/performance.md between two marks: the rest of that
page is written by hand, and stays.
"""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psutil

import local
from bench import growth
from bench.chart import chart
from bench.figures import FIGURES, TARGETS, Book, Summary, Target, number
from bench.growth import Growth
from bench.memory import Held
from config import ROOT
from tests.faults.report import put

PAGE = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "performance.svg"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
COMMAND = "make bench"


def tables(book: Book, held: list[Held], grown: Growth | None) -> str:
    """All of them, in Markdown."""
    parts = [
        "### Targets",
        targets_table(book),
        "### Figures, and their limits from the same run",
        figures_table(book),
        "### Growth",
        growth.table(grown) if grown is not None else "Not measured in this run.",
        "### Memory of each process, idle",
        memory_table(held),
    ]
    return "\n\n".join(parts)


def write(book: Book, held: list[Held], grown: Growth | None) -> None:
    """Write the chart, and the page's generated part."""
    CHART.write_text(chart(book))
    put(
        PAGE,
        BEGIN,
        END,
        f"{machine()}\n\n![How far each target is reached]({CHART.name})\n\n{tables(book, held, grown)}",
    )


def targets_table(book: Book) -> str:
    lines = ["| target | bound | measured | least to most | |", "|---|---:|---:|---:|---|"]
    for target in TARGETS:
        measured = book.measured(target)
        verdict = "met" if target.is_met(measured.median) else "**missed**"
        lines.append(
            f"| {target.title} | {target.bound} | {_value(target, measured.median)} | {_spread(measured)} | {verdict} |"
        )
    return "\n".join(lines)


def figures_table(book: Book) -> str:
    """Figures that were not measured are left out."""
    lines = [
        "| figure | median | least to most | its limit | median | share of it |",
        "|---|---:|---:|---|---:|---:|",
    ]
    for figure in FIGURES:
        if figure.key not in book.values:
            continue
        own = book.summary(figure.key)
        limit = ["", "", ""]
        if figure.limit is not None:
            share = book.share(figure.key, figure.limit).median
            most = book.summary(figure.limit).median
            of = f"{share:.2f}" if figure.unit == "/s" else f"{share:.1f} times"
            limit = [figure.limit_title, f"{number(most)} {figure.unit}", of]
        cells = [figure.title, f"{number(own.median)} {figure.unit}", _spread(own), *limit]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def memory_table(held: list[Held]) -> str:
    """Processes of one kind in one line."""
    lines = ["| process | how many | resident (RSS), MB | its part (PSS), MB |", "|---|---:|---:|---:|"]
    for name in dict.fromkeys(each.name for each in held):
        same = [each for each in held if each.name == name]
        rss, pss = sum(each.rss_mb for each in same), sum(each.pss_mb for each in same)
        lines.append(f"| {name} | {len(same)} | {rss:.1f} | {pss:.1f} |")
    lines.append(f"| **all** | {len(held)} | | **{sum(each.pss_mb for each in held):.1f}** |")
    return "\n".join(lines)


def machine() -> str:
    """What was measured on what, when, and how to do it again."""
    postgres = subprocess.run(
        [str(local.postgres_program("postgres")), "--version"], capture_output=True, text=True, check=True
    )
    release = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    gib = psutil.virtual_memory().total / 2**30
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with `{COMMAND}`, on {psutil.cpu_count()} cores of "
        f"{_cpu_model()}, {gib:.0f} GiB, {release}, Python {platform.python_version()}, "
        f"PostgreSQL {postgres.stdout.split()[-1]}. Load generator, receiver and all servers share the machine."
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _value(target: Target, value: float) -> str:
    return f"{value:.2f}" if not target.unit else f"{number(value)} {target.unit}"


def _spread(summary: Summary) -> str:
    return f"{number(summary.least)} to {number(summary.most)}"
