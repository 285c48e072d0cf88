"""What is measured, what it is held against, and the arithmetic: medians, spreads, shares and verdicts.

Everything is measured once a round, and a share is taken within a round, of two measurements that were made
within seconds of each other: a machine that is slow for a minute is slow for both.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Summary:
    """The median of all rounds, the least and the most."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Figure:
    """Something that is measured, and its limit: the most that anybody could reach on this machine.

    For a `_ms` unit the limit is the least.
    """

    key: str
    title: str
    unit: str
    limit: str | None = None  # the key of another figure
    limit_title: str = ""


@dataclass(frozen=True)
class Target:
    """What a figure should reach: `least` or `most`, of itself or, with `of`, of another figure."""

    title: str
    key: str
    unit: str
    of: str | None = None
    least: float | None = None
    most: float | None = None

    def score(self, figure: float) -> float:
        """How much of the target is reached: 1 = just met, more is better."""
        if self.least is not None:
            return figure / self.least
        assert self.most is not None
        return self.most / figure if figure else float("inf")

    def is_met(self, figure: float) -> bool:
        return self.score(figure) >= 1

    @property
    def bound(self) -> str:
        """As `at least 0.2`."""
        value = self.least if self.least is not None else self.most
        assert value is not None
        return f"{'at least' if self.least is not None else 'under'} {with_unit(value, self.unit)}"


@dataclass
class Book:
    """All measurements, by key, one a round."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def note(self, key: str, value: float) -> None:
        self.values.setdefault(key, []).append(value)

    def summary(self, key: str) -> Summary:
        return summarize(self.values[key])

    def share(self, key: str, of: str) -> Summary:
        """Of one figure in another, within each round."""
        return summarize(shares(self.values[key], self.values[of]))

    def measured(self, target: Target) -> Summary:
        return self.summary(target.key) if target.of is None else self.share(target.key, target.of)


def summarize(values: list[float]) -> Summary:
    return Summary(statistics.median(values), min(values), max(values))


def shares(values: list[float], limits: list[float]) -> list[float]:
    """Round by round."""
    return [value / limit for value, limit in zip(values, limits, strict=True)]


def percentile(values: list[float], share: float) -> float:
    """The least value that this share of them (0 to 1) does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(round(share * len(ordered), 6)) - 1)]  # rounded: 0.99 of 100 is 99


def number(value: float) -> str:
    """Three digits that mean something: `1,234`, `12.3`, `0.123`."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def with_unit(value: float, unit: str) -> str:
    """As `1,234/s`, `12.3 ms`, or of a share `0.12`."""
    if not unit:
        return f"{value:.2f}"
    return f"{number(value)}{unit if unit.startswith('/') else f' {unit}'}"


PGBENCH, BARE = "pgbench, the same statements", "a bare Flask route"
SILENT = "pgbench, without the webhook"

FIGURES = (
    Figure("bare", "a bare Flask route", "/s"),
    Figure("pgbench_order", "pgbench: the INSERT of an order", "/s"),
    Figure("order", "create order", "/s", "pgbench_order", PGBENCH),
    Figure("order", "create order", "/s", "bare", BARE),
    Figure("order_keyed", "create order, with a key", "/s", "bare", BARE),
    Figure("payment", "create payment", "/s", "pgbench_order", "pgbench: the INSERT of an order"),
    Figure("payment", "create payment", "/s", "pgbench_payment", PGBENCH),
    Figure("get", "get payment", "/s", "pgbench_get", PGBENCH),
    Figure("get", "get payment", "/s", "bare", BARE),
    Figure("list", "list payments", "/s", "pgbench_list", PGBENCH),
    Figure("list", "list payments", "/s", "bare", BARE),
    Figure("settle", "settle, no webhooks", "/s", "pgbench_settle", "pgbench, the same rows"),
    Figure("settle_told", "settle, each webhook delivered", "/s", "pgbench_settle", "pgbench, the same rows"),
    Figure("deliver", "deliver webhooks", "/s", "posts", "a bare POST loop"),
    Figure(
        "settled_p50", "create to settled, light load, p50", "ms", "life_p50", "pgbench, the same statements"
    ),
    Figure(
        "settled_p99", "create to settled, light load, p99", "ms", "life_p99", "pgbench, the same statements"
    ),
    Figure("delivered_p50", "create to delivered, light load, p50", "ms", "life_p50", SILENT),
    Figure("delivered_p99", "create to delivered, light load, p99", "ms", "life_p99", SILENT),
    Figure("full_settled_p50", "create to settled, full load, p50", "ms"),
    Figure("full_settled_p99", "create to settled, full load, p99", "ms"),
    Figure("full_delivered_p50", "create to delivered, full load, p50", "ms"),
    Figure("full_delivered_p99", "create to delivered, full load, p99", "ms"),
    Figure("full_rate", "payments begun at full load", "/s"),
    Figure("memory", "memory of the whole stack, idle", "MB"),
    Figure("memory_after", "the same, idle again after the load", "MB"),
)

TARGETS = (
    Target("create order, of pgbench", "order", "", of="pgbench_order", least=0.20),
    Target("create order, of a bare route", "order", "", of="bare", least=0.35),
    Target("create payment, of pgbench's orders", "payment", "", of="pgbench_order", least=0.12),
    Target("settle, no webhooks", "settle", "/s", least=2500),
    Target("settle, each webhook delivered", "settle_told", "/s", least=1000),
    Target("create to settled, light load, p99", "settled_p99", "ms", most=150),
    Target("memory of the whole stack, idle", "memory", "MB", most=400),
)
