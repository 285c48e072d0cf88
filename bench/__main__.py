"""How fast the gateway is, beside the fastest that anybody could be: `make bench`.

One run starts everything, and measures in rounds: in each of them, what is to be compared is measured within
seconds. `--quick` takes under a minute, and leaves docs/performance.md as it is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from bench import growth, latency, pgbench, posts, report, rows, settle, wrk
from bench.figures import Book, percentile
from bench.memory import stack_memory, total_mb
from bench.report import Found
from bench.stack import Stack, bare_flask, stack
from models.verification import Verification

FASTEST_PAYMENTS_PER_S = 3000  # how many orders wrk is given: far more than it can pay, on any such machine
SAMPLED_PER_S = 10  # payments of one client: light load


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    past: int  # payments that are there before
    load_s: int  # each load, in seconds
    settled: int  # payments a round
    delivered: int  # webhooks a round
    pgbench_payments: int  # a round; a multiple of pgbench.CLIENTS
    sampled: int  # payments a round whose waiting is looked at, at each load


FULL = Plan(
    rounds=5, past=100_000, load_s=3, settled=10_000, delivered=5_000, pgbench_payments=8_000, sampled=100
)
QUICK = Plan(rounds=2, past=5_000, load_s=1, settled=400, delivered=200, pgbench_payments=800, sampled=10)


def main() -> int:
    """Print the tables, and without `--quick` write them down.

    Exit code 1 if a target is missed, 2 if wrk is.
    """
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--quick", action="store_true", help="under a minute, and nothing is written down")
    options.add_argument(
        "--no-growth", action="store_true", help="leave out the growth to a million payments"
    )
    chosen = options.parse_args()
    try:
        wrk.require()
    except wrk.Missing as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 2
    found = measure(QUICK if chosen.quick else FULL)
    if not chosen.quick and not chosen.no_growth:
        found = replace(found, grown=growth.measure(growth.SIZES))
    print("\n" + report.tables(found))
    if not chosen.quick:
        report.write(found)
    return 0 if found.is_met else 1


def measure(plan: Plan) -> Found:
    """Everything but growth.

    Raises:
        RuntimeError: an answer was wrong, or what stands in the database in the end.
    """
    book = Book()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder_name, stack(Path(folder_name)) as made:
        idle = stack_memory(made.running)
        book.note("memory", total_mb(idle))
        say(f"a past of {plan.past:,} payments is being written ...")
        rows.past(made.database_url, plan.past, "past", endpoint_id=made.endpoint_id)
        rows.settle_down(made.database_url)
        with bare_flask(made.folder) as bare_url:
            warm_up(made, bare_url)
            for number in range(1, plan.rounds + 1):
                started = time.monotonic()
                Round(made, bare_url, plan, book, f"round{number}-").run()
                say(f"round {number} of {plan.rounds} took {time.monotonic() - started:.0f} s")
        after = stack_memory(made.running)
        book.note("memory_after", total_mb(after))
        verify(made)
    return Found(book, idle, after)


@dataclass(frozen=True)
class Round:
    """One round on a running stack: each figure and its limits, once."""

    made: Stack
    bare_url: str
    plan: Plan
    book: Book
    tag: str

    def run(self) -> None:
        self.orders()
        self.payments()
        self.reads()
        self.settles()
        self.waits()

    def orders(self) -> None:
        plan, book = self.plan, self.book
        book.note("pgbench_order", pgbench.create_orders(self.made.database_url, plan.load_s))
        book.note("order", wrk.run(self.made.url, "create_order", plan.load_s).rate)
        book.note("bare", wrk.run(self.bare_url, "bare", plan.load_s).rate)
        book.note("order_keyed", wrk.run(self.made.url, "create_order_keyed", plan.load_s).rate)

    def payments(self) -> None:
        """The workers stand still meanwhile: what they do with the payments is measured by itself."""
        plan, book, url = self.plan, self.book, self.made.database_url
        rows.orders(url, plan.pgbench_payments, self.tag + "pgbench")
        book.note(
            "pgbench_payment", pgbench.create_payments(url, self.tag + "pgbench", plan.pgbench_payments)
        )
        book.note("pgbench_settle", pgbench.settle(url, plan.pgbench_payments))
        ids = self.order_ids("payment", FASTEST_PAYMENTS_PER_S * plan.load_s)
        with self.made.held():
            book.note("payment", wrk.run(self.made.url, "create_payment", plan.load_s, ids=ids).rate)
        settle.wait_until_done(self.made.app)

    def reads(self) -> None:
        plan, book, url = self.plan, self.book, self.made.database_url
        ids = rows.write_ids(self.made.folder / "payments", "pay", "past", min(plan.past, 100_000))
        book.note("pgbench_get", pgbench.get_payments(url, "past", plan.past, plan.load_s))
        book.note("get", wrk.run(self.made.url, "get_payment", plan.load_s, ids=ids).rate)
        book.note("pgbench_list", pgbench.list_payments(url, plan.load_s))
        book.note("list", wrk.run(self.made.url, "list", plan.load_s).rate)

    def settles(self) -> None:
        plan, book, app = self.plan, self.book, self.made.app
        book.note("settle", settle.settle_rate(app, plan.settled, self.tag + "settle"))
        with self.made.told():
            book.note("settle_told", settle.settle_rate(app, plan.settled, self.tag + "told"))
            tag, endpoint_id = self.tag + "deliver", self.made.endpoint_id
            book.note("deliver", settle.delivery_rate(app, plan.delivered, tag, endpoint_id))
        book.note("posts", posts.rate(self.made.receiver.port, plan.load_s))

    def waits(self) -> None:
        plan, book, url = self.plan, self.book, self.made.database_url
        rows.orders(url, plan.sampled, self.tag + "life")
        life_ms = pgbench.lifetimes_ms(url, self.tag + "life", plan.sampled, self.made.folder)
        note_percentiles(book, "life", life_ms)
        with self.made.told():
            self.sample("light", "")
            duration_s = plan.sampled // SAMPLED_PER_S + 1
            ids = self.order_ids("full", FASTEST_PAYMENTS_PER_S * duration_s)
            load = beside(lambda: wrk.run(self.made.url, "create_payment", duration_s, ids=ids))
            self.sample("sampled", "full_")
            book.note("full_rate", load().rate)
            settle.wait_until_done(self.made.app)

    def sample(self, name: str, prefix: str) -> None:
        """Note how long payments wait, as long as what else goes on goes on."""
        made, tag = self.made, self.tag + name
        rows.orders(made.database_url, self.plan.sampled, tag)
        ids = [rows.made_id("order", tag, number) for number in range(1, self.plan.sampled + 1)]
        waited = latency.sample(made.running.port, made.database_url, made.receiver, ids, per_s=SAMPLED_PER_S)
        note_percentiles(self.book, f"{prefix}settled", waited.settled_ms)
        note_percentiles(self.book, f"{prefix}delivered", waited.delivered_ms)

    def order_ids(self, name: str, count: int) -> Path:
        """A file with the ids of so many new orders."""
        rows.orders(self.made.database_url, count, self.tag + name)
        return rows.write_ids(self.made.folder / name, "order", self.tag + name, count)


def warm_up(made: Stack, bare_url: str) -> None:
    """A second of each: connections, caches, compiled queries."""
    wrk.run(bare_url, "bare", 1)
    wrk.run(made.url, "create_order", 1)
    with made.told():
        settle.settle_rate(made.app, 200, "warm")


def note_percentiles(book: Book, name: str, values_ms: list[float]) -> None:
    book.note(f"{name}_p50", percentile(values_ms, 0.50))
    book.note(f"{name}_p99", percentile(values_ms, 0.99))


def beside(load: Callable[[], wrk.Load]) -> Callable[[], wrk.Load]:
    """Begin it in a thread of its own; gives what waits for its outcome."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(load)
    pool.shutdown(wait=False)
    return future.result


def verify(made: Stack) -> None:
    """
    Raises:
        RuntimeError: money or history is wrong: then it does not matter how fast that was.
    """
    with made.app.app_context():
        findings = Verification.run() or []
    broken = [str(each) for finding in findings for each in finding.breaks[:5]]
    if broken or not findings:
        raise RuntimeError(f"verification: {broken or 'another one runs'}")
    say("verified: no breaks")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
