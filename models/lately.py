"""What went on in the last minute, of the whole gateway: for those who watch it (routes/metrics.py)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ARRAY, Float, cast, func, select

from models.base import db
from models.events import Event
from models.merchants import Merchant
from models.payments import Payment
from models.webhooks import WebhookAttempt, WebhookDelivery

# Short enough to be counted anew each time that somebody asks; over longer ones, he who asked averages.
LATELY = timedelta(minutes=1)
OUTCOMES = {"payment.success": "approved", "payment.failed": "failed"}
QUANTILES = (0.5, 0.95, 1.0)


@dataclass(frozen=True)
class Settled:
    """Payments of one method that ended in one way, and how long they took, by quantile."""

    method: str
    outcome: str
    count: int
    seconds: dict[float, float]


@dataclass(frozen=True)
class Attempts:
    """How often webhooks were posted to one endpoint, and how often that failed."""

    endpoint_id: str
    count: int
    failed: int


def settled() -> list[Settled]:
    """The payments that ended lately, whenever they were made."""
    took = func.extract("epoch", Event.created_at - Payment.created_at)
    rows = db.session.execute(
        select(
            Payment.method,
            Event.type,
            func.count(),
            func.percentile_cont(cast(QUANTILES, ARRAY(Float))).within_group(took),
        )
        .join(Payment, Payment.id == Event.payment_id)
        # Of each merchant in turn, for the index begins with the merchant.
        .where(Event.merchant_id.in_(select(Merchant.id)), Event.created_at > func.now() - LATELY)
        .where(Event.type.in_(OUTCOMES))
        .group_by(Payment.method, Event.type)
    )
    return [
        Settled(method, OUTCOMES[type_], count, dict(zip(QUANTILES, seconds, strict=True)))
        for method, type_, count, seconds in rows
    ]


def webhook_attempts() -> list[Attempts]:
    """Those made lately, by endpoint, the one that failed most first."""
    failed = func.count(WebhookAttempt.error)
    rows = db.session.execute(
        select(WebhookDelivery.endpoint_id, func.count(), failed)
        .join(WebhookAttempt, WebhookAttempt.delivery_id == WebhookDelivery.id)
        .where(WebhookAttempt.attempted_at > func.now() - LATELY)
        .group_by(WebhookDelivery.endpoint_id)
        .order_by(failed.desc(), WebhookDelivery.endpoint_id)
    )
    return [Attempts(*row) for row in rows]
