"""What the benchmark found, as tables: for the terminal, and for docs/performance.md.

Of that page it writes what stands between two marks. The rest is written by hand, and stays.
"""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

import local
from bench import growth
from bench.chart import chart
from bench.figures import FIGURES, TARGETS, Book, Summary, number, with_unit
from bench.growth import Growth
from bench.memory import Held
from config import ROOT
from tests.faults.report import put

PAGE = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "performance.svg"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
COMMAND = "make bench"


@dataclass(frozen=True)
class Found:
    """All that was measured. The memory is that of each process, before the load and after it."""

    book: Book
    idle: list[Held]
    after: list[Held]
    grown: Growth | None = None

    @property
    def is_met(self) -> bool:
        """Whether all targets are, as far as they were measured."""
        met = all(target.is_met(self.book.measured(target).median) for target in TARGETS)
        return met and (self.grown is None or self.grown.is_within_limit)


def write(found: Found, page: Path = PAGE, picture: Path = CHART) -> None:
    """Write the chart, and the generated part of the page."""
    picture.write_text(chart(found.book))
    words = "Each target and each limit, and how much of it is reached; the numbers are in the tables"
    put(page, BEGIN, END, f"{machine()}\n\n![{words}]({picture.name})\n\n{tables(found)}")


def tables(found: Found) -> str:
    """All of them, in Markdown."""
    parts = [
        "### Targets",
        targets_table(found.book),
        "### Figures, and their limits from the same run",
        figures_table(found.book),
        "### Growth",
        growth.table(found.grown) if found.grown is not None else "Not measured in this run.",
        "### Memory of each process, idle",
        memory_table(found.idle, found.after),
    ]
    return "\n\n".join(parts)


def targets_table(book: Book) -> str:
    lines = ["| target | bound | measured | least to most | |", "|---|---:|---:|---:|---|"]
    for target in TARGETS:
        measured = book.measured(target)
        verdict = "met" if target.is_met(measured.median) else "**missed**"
        median = with_unit(measured.median, target.unit)
        lines.append(_line(target.title, target.bound, median, _spread(measured), verdict))
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
            of = f"{share:.2f}" if figure.unit == "/s" else f"{number(share)} times"
            limit = [figure.limit_title, with_unit(book.summary(figure.limit).median, figure.unit), of]
        lines.append(_line(figure.title, with_unit(own.median, figure.unit), _spread(own), *limit))
    return "\n".join(lines)


def memory_table(idle: list[Held], after: list[Held]) -> str:
    """In megabytes, processes of one kind in one line."""
    lines = [
        "| process | how many | resident (RSS) | its part (PSS) | how many after the load | their part |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in dict.fromkeys(each.name for each in (*idle, *after)):
        before, later = ([each for each in held if each.name == name] for held in (idle, after))
        rss_mb = sum(each.rss_mb for each in before)
        lines.append(_line(name, len(before), f"{rss_mb:.1f}", _pss(before), len(later), _pss(later)))
    lines.append(_line("**all**", len(idle), "", f"**{_pss(idle)}**", len(after), f"**{_pss(after)}**"))
    return "\n".join(lines)


def machine() -> str:
    """What was measured on what, when, and how to do it again."""
    postgres = subprocess.run(
        [str(local.postgres_program("postgres")), "--version"], capture_output=True, text=True, check=True
    )
    release = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    memory_gib = psutil.virtual_memory().total / 2**30
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with `{COMMAND}`, on {psutil.cpu_count()} cores of "
        f"{_cpu_model()}, {memory_gib:.0f} GiB, {release}, Python {platform.python_version()}, "
        f"PostgreSQL {postgres.stdout.split()[-1]}. Load generator, receiver and all servers share these."
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _spread(summary: Summary) -> str:
    return f"{number(summary.least)} to {number(summary.most)}"


def _pss(held: list[Held]) -> str:
    return f"{sum(each.pss_mb for each in held):.1f}"


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
