"""`flask seed`: a believable past for a merchant, to try the dashboard with, and to measure it on.

All of it goes through the models' own verbs, each at the time that it tells of: states, events, ledger and
deliveries are right by construction. Nothing is sent, and nothing is left due.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from itertools import count
from random import Random
from typing import Any

import click
from sqlalchemy import func, select, text

from commands.gateway import gateway
from commands.listen import the_merchant
from commands.stories import LAST_ORDER, SHOP_TIME, Customer, Pause, Story, order_times, outcomes, payments_of
from config import settings
from jobs.work import Work
from models.acquirer_answers import AcquirerAnswer
from models.base import at, db, memo, now, take_due
from models.errors import Refused
from models.orders import Order
from models.payments import Payment
from models.refunds import Refund
from models.webhook_endpoints import Listener, WebhookEndpoint
from models.webhooks import AttemptResult, WebhookDelivery

BATCH = 300  # orders a transaction: so many that commits do not count, so few that Ctrl-C costs little
PAYMENTS_A_CUSTOMER = 6
CUSTOMERS_MIN = 20
FILLED = (
    *("orders", "payments", "refunds", "acquirer_answers", "ledger_entries", "events"),
    *("webhook_endpoints", "webhook_deliveries", "webhook_attempts"),
)

ENDPOINT_URL = "https://shop.example/webhooks"
ENDPOINT_DESCRIPTION = "Seeded history: nothing is sent to it"
ENDPOINT_EVENTS = ["payment.success", "payment.failed", "order.paid", "refund.*"]  # what shops act on
DELIVERED = 0.98  # of the webhooks, at the first attempt
GIVEN_UP = 0.04  # of the others
REFUSALS = (
    (500, "Internal Server Error", None),
    (502, "<html><body>Bad Gateway</body></html>", None),
    (503, "upstream connect error", None),
    (None, None, "connection refused"),
    (None, None, "connection reset"),
)


@click.command()
@click.option(
    "--payments", type=click.IntRange(1, 10_000_000), default=1000, show_default=True, help="How many."
)
@click.option(
    "--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="How far back they go."
)
@click.option("--merchant", "merchant_id", help="Whose they are; default: the test merchant's.")
@click.option("--random-seed", type=int, help="Makes up the same again, but for ids and times.")
def seed(payments: int, days: int, merchant_id: str | None, random_seed: int | None) -> None:
    """Write a merchant's past, made up: orders, payments, refunds, webhooks. Nothing is sent.

    Ctrl-C ends it, and what is written by then stays.
    """
    with gateway() as its_settings:
        if not its_settings.local:
            raise click.ClickException("APP_ENV: In production, nothing is made up.")
        written = 0
        try:
            merchant = the_merchant(its_settings, merchant_id)
            history = History(merchant.id, payments=payments, days=days, random_seed=random_seed)
            label = f"Payments of {merchant.name}"
            with click.progressbar(length=payments, label=label, show_pos=True, show_eta=True) as bar:
                for number in history.write():
                    written += number
                    bar.update(number)
            analyze()
        except KeyboardInterrupt:
            db.session.rollback()
            click.echo(f"\nStopped; {written} payments are written.")
            raise SystemExit(130) from None  # 128 + SIGINT, as shells have it
        click.echo(f"{written} payments of {merchant.name} ({merchant.id}) are written.")


def analyze() -> None:
    """Tell the planner of the new rows; and vacuum, for only then is an index read without its table."""
    db.session.remove()
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # from the pool: it is closed then, and nobody else is without a timeout
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text(f"VACUUM (ANALYZE) {', '.join(FILLED)}"))


@dataclass(order=True)
class Turn:
    """When a story goes on, and of those at the same moment which comes first."""

    moment: datetime
    number: int
    story: Story
    steps: Iterator[Pause]
    at_rest: bool = False


class History:
    """A made-up past, written in batches, the oldest first.

    It is made of stories, one of each order, which go on in the order of time, whosever they are. A batch is
    a transaction, and ends when every story of it is at its end or at rest.
    """

    def __init__(self, merchant_id: str, *, payments: int, days: int, random_seed: int | None = None):
        self._merchant_id = merchant_id
        self._payments = payments
        self._days = days
        self._seed = Random().random() if random_seed is None else random_seed  # noqa: S311 (not a secret)
        self._chance = self._chance_of("history")
        self._stories, self._numbers = count(), count()
        self._turns: list[Turn] = []
        self._answers: list[tuple[datetime, dict[str, Any]]] = []

    def write(self) -> Iterator[int]:
        """Write it. Gives the number of payments of each batch once that is committed."""
        self._end = now()
        start = self._end - timedelta(days=self._days)
        ends = list(outcomes(self._payments, self._chance))
        times = order_times(len(ends), start, self._end - LAST_ORDER, self._chance_of("times"))
        customers = max(CUSTOMERS_MIN, self._payments // PAYMENTS_A_CUSTOMER)
        self._customers = [Customer.make(self._chance, self._end.year) for _ in range(customers)]
        self._endpoint = self._listener(start)
        orders = select(func.count()).where(Order.merchant_id == self._merchant_id)
        self._receipts = count((db.session.scalar(orders) or 0) + 1)
        for first in range(0, len(ends), BATCH):
            batch = slice(first, first + BATCH)
            self._write(times[batch], ends[batch])
            yield sum(len(payments_of(outcome)) for outcome in ends[batch])

    def _listener(self, start: datetime) -> Listener:
        """What is told of all that happens: the seeded endpoint, as it would be if it were enabled.

        In the database it is disabled, so that nothing is ever sent to it.
        """
        endpoint = db.session.scalar(
            select(WebhookEndpoint)
            .where(WebhookEndpoint.merchant_id == self._merchant_id, WebhookEndpoint.deleted_at.is_(None))
            .where(WebhookEndpoint.description == ENDPOINT_DESCRIPTION, ~WebhookEndpoint.enabled)
            .limit(1)
        )
        if endpoint is None:
            endpoint = WebhookEndpoint.create(
                self._merchant_id,
                url=ENDPOINT_URL,
                events=ENDPOINT_EVENTS,
                enabled=False,
                description=ENDPOINT_DESCRIPTION,
            )
            endpoint.disabled_reason = "it is part of a made-up history"
            endpoint.created_at = endpoint.updated_at = start
        db.session.commit()
        return Listener(endpoint.id, endpoint.merchant_id, endpoint.events)

    def _write(self, times: Sequence[datetime], ends: Sequence[tuple[str, ...]]) -> None:
        """One batch: so many new orders, and what happens until the last of them."""
        until = times[-1]
        memo()["listeners"] = {self._merchant_id: [self._endpoint]}  # whoever else listens hears nothing
        self._lock(until)
        for moment, outcome in zip(times, ends, strict=True):
            with at(moment):  # the orders first: each is flushed
                story = self._story(outcome)
            heappush(self._turns, Turn(moment, next(self._numbers), story, story.steps()))
        self._go_on(until)
        self._deliver([made for made in db.session.new if isinstance(made, WebhookDelivery)])
        db.session.flush()
        for moment, answer in self._answers:
            with at(moment):
                AcquirerAnswer.record(**answer)
        self._answers.clear()
        take_due()  # it is all done: nobody is woken
        db.session.commit()

    def _lock(self, until: datetime) -> None:
        """Lock what older stories go on with, as workers do: somebody may have changed it meanwhile."""
        stories = [turn.story for turn in self._turns if turn.moment <= until]
        Work.lock_rows(Refund, [story.refund.id for story in stories if story.refund])
        Work.lock_rows(Payment, [story.payment.id for story in stories if story.payment])
        Work.lock_rows(Order, [story.order.id for story in stories])

    def _story(self, outcome: tuple[str, ...]) -> Story:
        """Each has luck of its own: it turns out the same whatever else happens."""
        number = next(self._receipts)
        chance = self._chance_of(f"story {next(self._stories)}")
        return Story(
            outcome,
            chance.choice(self._customers),
            chance,
            merchant_id=self._merchant_id,
            receipt=f"INV-{now().astimezone(SHOP_TIME):%Y}-{number:06}",
            end=self._end,
            answers=self._answers,
        )

    def _go_on(self, until: datetime) -> None:
        """Go through what happens in the order of time, until all that is left comes later and can wait."""
        turns, self._turns = self._turns, []
        while turns:
            turn = heappop(turns)
            if turn.at_rest and turn.moment > until:
                heappush(self._turns, turn)
                continue
            with at(min(turn.moment, self._end)):
                try:
                    pause = next(turn.steps)
                except (StopIteration, Refused):  # refused: somebody was quicker, and it ends so
                    continue
                moment = now() + pause.length
            if not pause.at_rest or moment <= self._end:
                heappush(turns, Turn(moment, next(self._numbers), turn.story, turn.steps, pause.at_rest))

    def _deliver(self, deliveries: Sequence[WebhookDelivery]) -> None:
        """Let the receiver have answered, in the order of time, until each is delivered or given up."""
        waiting = [
            (self._soon(delivery.created_at), number, self._failures(delivery), delivery)
            for number, delivery in enumerate(deliveries)
        ]
        heapify(waiting)
        while waiting:
            moment, number, failures, delivery = heappop(waiting)
            with at(min(moment, self._end)):
                delivery.record(self._result(failed=failures > 0))
            if delivery.due_at is not None:
                heappush(waiting, (self._soon(delivery.due_at), number, failures - 1, delivery))

    def _soon(self, moment: datetime) -> datetime:
        return moment + timedelta(seconds=self._chance.uniform(0.05, 1))

    def _failures(self, delivery: WebhookDelivery) -> int:
        """How many attempts fail. None, if they would go on after the end."""
        if self._chance.random() < DELIVERED:
            return 0
        delays_s = settings.webhook_retry_schedule_s
        most = len(delays_s)
        failures = most if self._chance.random() < GIVEN_UP else self._chance.randint(1, max(1, most - 2))
        longest_s = 1.2 * sum(delays_s[: failures + 1]) + most
        return failures if delivery.created_at + timedelta(seconds=longest_s) < self._end else 0

    def _result(self, *, failed: bool) -> AttemptResult:
        took_ms = int(self._chance.lognormvariate(math.log(90), 0.6))
        if not failed:
            return AttemptResult(ENDPOINT_URL, took_ms, 200, "ok")
        status, body, error = self._chance.choice(REFUSALS)
        return AttemptResult(ENDPOINT_URL, took_ms, status, body, error or f"answered {status}")

    def _chance_of(self, name: str) -> Random:
        return Random(f"{self._seed} {name}")  # noqa: S311 (not a secret)
