"""What a payment costs at ten thousand, a hundred thousand and a million of them: `python -m bench.growth`.

A whole gateway for each size, all at once. Each operation is measured on one after the other within seconds,
and so on in rounds: what the machine does besides meets all sizes alike. A request's cost is the median time
of its answers on one connection; that of settling, how long many payments take, divided by their number.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import rows, settle, wrk
from bench.figures import Summary, number, shares, summarize
from bench.stack import Stack, stack

SIZES = (10_000, 100_000, 1_000_000)
LIMIT = 1.3  # times the cost at the smallest size
ROUNDS = 9
LOAD_S = 1
SETTLED = 1_000  # payments a round
ORDERS = 2_000 * LOAD_S  # to be paid in a round: more than one connection can
SAMPLED = 10_000  # payments that are read: not more than the smallest size


@dataclass(frozen=True)
class Growth:
    """Milliseconds a payment, by operation and size, one a round."""

    costs_ms: dict[str, dict[int, list[float]]]

    def ratio(self, operation: str, size: int) -> Summary:
        """Times the cost at the smallest size, within each round."""
        by_size = self.costs_ms[operation]
        return summarize(shares(by_size[size], by_size[min(by_size)]))

    def worst(self, operation: str) -> Summary:
        """The ratio at the size at which it is the most."""
        larger = sorted(self.costs_ms[operation])[1:]
        return max((self.ratio(operation, size) for size in larger), key=lambda ratio: ratio.median)

    @property
    def is_within_limit(self) -> bool:
        return all(self.worst(operation).median <= LIMIT for operation in self.costs_ms)


def main() -> int:
    """Print the table; exit code 1 if something grows beyond the limit, 2 without wrk."""
    try:
        wrk.require()
    except wrk.Missing as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 2
    grown = measure(SIZES)
    print(table(grown))
    return 0 if grown.is_within_limit else 1


def measure(sizes: tuple[int, ...]) -> Growth:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as leave:
        made: dict[int, Stack] = {}
        for size in sizes:
            each = made[size] = leave.enter_context(stack(Path(folder), f"data{size}"))
            started = time.monotonic()
            rows.past(each.database_url, size, "past", endpoint_id=each.endpoint_id)
            rows.settle_down(each.database_url)
            took_s = time.monotonic() - started
            print(f"a past of {size:,} payments was written in {took_s:.0f} s", file=sys.stderr, flush=True)
        costs: dict[str, dict[int, list[float]]] = {
            operation: {size: [] for size in sizes} for operation in OPERATIONS
        }
        for turn in range(ROUNDS + 1):
            for operation, cost_ms in OPERATIONS.items():
                for place in range(len(sizes)):
                    size = sizes[(place + turn) % len(sizes)]  # each is first, in its turn
                    value_ms = cost_ms(made[size], f"turn{turn}-")
                    if turn:  # the first one is for connections and caches
                        costs[operation][size].append(value_ms)
    return Growth(costs)


def _create_order(made: Stack, _tag: str) -> float:
    return _answer_ms(made, "create_order")


def _create_payment(made: Stack, tag: str) -> float:
    rows.orders(made.database_url, ORDERS, tag)
    ids = rows.write_ids(made.folder / "orders", "order", tag, ORDERS)
    with made.held():
        cost_ms = _answer_ms(made, "create_payment", ids)
    settle.wait_until_done(made.app)
    return cost_ms


def _get_payment(made: Stack, _tag: str) -> float:
    return _answer_ms(made, "get_payment", rows.write_ids(made.folder / "payments", "pay", "past", SAMPLED))


def _settle(made: Stack, tag: str) -> float:
    return 1000 / settle.settle_rate(made.app, SETTLED, tag + "settle")


def _list_payments(made: Stack, _tag: str) -> float:
    return _answer_ms(made, "list", listed="payments")


def _list_orders(made: Stack, _tag: str) -> float:
    return _answer_ms(made, "list", listed="orders")


def _answer_ms(made: Stack, script: str, ids: Path | None = None, listed: str = "payments") -> float:
    return wrk.run(made.url, script, LOAD_S, connections=1, ids=ids, listed=listed).p50_ms


# Each gives the milliseconds of one; the tag names the rows that it makes.
OPERATIONS: dict[str, Callable[[Stack, str], float]] = {
    "create order": _create_order,
    "create payment": _create_payment,
    "get payment": _get_payment,
    "settle": _settle,
    "first page of payments": _list_payments,
    "first page of orders": _list_orders,
}


def table(grown: Growth) -> str:
    """In Markdown."""
    sizes = sorted(next(iter(grown.costs_ms.values())))
    lines = [
        "| cost of one, in ms | " + " | ".join(f"{size:,}" for size in sizes) + " | grows | limit | |",
        "|---|" + "---:|" * len(sizes) + "---:|---:|---|",
    ]
    for operation, by_size in grown.costs_ms.items():
        costs = [number(summarize(by_size[size]).median) for size in sizes]
        worst = grown.worst(operation)
        lines.append(
            f"| {operation} | {' | '.join(costs)} "
            f"| {worst.median:.2f} times ({worst.least:.2f} to {worst.most:.2f}) "
            f"| {LIMIT:g} | {'met' if worst.median <= LIMIT else '**missed**'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
