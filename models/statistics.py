"""What happened, in figures: payments by day, why they failed, and how webhooks fare."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Date, cast, func, select

from models.base import db, now
from models.payments import Payment
from models.webhooks import WebhookDelivery

APPROVED = ("success", "voided")  # what the acquirer said yes to
SETTLED = (*APPROVED, "failed")


@dataclass
class Figures:
    """Payments of one currency in one time: how many, and the sum of those captured, in minor units."""

    transactions: int = 0
    amount: int = 0
    approved: int = 0
    failed: int = 0

    def add(self, status: str, count: int, amount: int) -> None:
        self.transactions += count
        self.amount += amount
        self.approved += count if status in APPROVED else 0
        self.failed += count if status == "failed" else 0

    @property
    def success_rate(self) -> float:
        """Per cent of the settled ones that were approved; 0 if there are none."""
        settled = self.approved + self.failed
        return round(100 * self.approved / settled, 2) if settled else 0.0


def totals(merchant_id: str) -> dict[str, Figures]:
    """All of a merchant's payments, by currency."""
    by_currency: dict[str, Figures] = {}
    rows = db.session.execute(
        select(Payment.currency, Payment.status, func.count(), func.sum(Payment.amount_captured))
        .where(Payment.merchant_id == merchant_id)
        .group_by(Payment.currency, Payment.status)
    )
    for currency, status, count, amount in rows:
        by_currency.setdefault(currency, Figures()).add(status, count, int(amount))
    return by_currency


@dataclass
class Period:
    """The last days, today included; days are UTC's."""

    days: dict[date, Figures]
    total: Figures = field(default_factory=Figures)
    failure_reasons: Counter[str] = field(default_factory=Counter)


def last_days(merchant_id: str, currency: str, days: int) -> Period:
    """A merchant's payments in one currency, day by day."""
    first = _first_of(days)
    period = Period({first + timedelta(days=number): Figures() for number in range(days)})
    day = cast(func.timezone("UTC", Payment.created_at), Date)
    rows = db.session.execute(
        select(day, Payment.status, Payment.error_reason, func.count(), func.sum(Payment.amount_captured))
        .where(Payment.merchant_id == merchant_id, Payment.currency == currency)
        .where(Payment.created_at >= _midnight(first))
        .group_by(day, Payment.status, Payment.error_reason)
    )
    for on, status, reason, count, amount in rows:
        for figures in (period.total, period.days.setdefault(on, Figures())):
            figures.add(status, count, int(amount))
        if reason is not None:
            period.failure_reasons[reason] += count
    return period


def webhook_health(merchant_id: str, days: int) -> dict[str, Any]:
    """The deliveries made in the last days, by how they stand now, and by endpoint."""
    rows = db.session.execute(
        select(WebhookDelivery.endpoint_id, WebhookDelivery.status, func.count())
        .where(WebhookDelivery.merchant_id == merchant_id)
        .where(WebhookDelivery.created_at >= _midnight(_first_of(days)))
        .group_by(WebhookDelivery.endpoint_id, WebhookDelivery.status)
    )
    total: Counter[str] = Counter()
    endpoints: dict[str, Counter[str]] = {}
    for endpoint_id, status, count in rows:
        total[status] += count
        endpoints.setdefault(endpoint_id, Counter())[status] += count
    return _by_status(total) | {
        "endpoints": [{"endpoint_id": id_} | _by_status(counts) for id_, counts in sorted(endpoints.items())]
    }


def _by_status(counts: Counter[str]) -> dict[str, int]:
    return {status: counts[status] for status in ("pending", "success", "failed")}


def _first_of(days: int) -> date:
    return now().astimezone(UTC).date() - timedelta(days=days - 1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)
