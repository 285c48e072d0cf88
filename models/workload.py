"""How much work there is: what waits, runs, is done and failed in each queue, and how fast it goes."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select

from models.base import db, now
from models.events import Event
from models.merchants import Merchant
from models.payments import Payment
from models.refunds import Refund
from models.webhooks import WebhookAttempt, WebhookDelivery

DONE_WITHIN = timedelta(hours=24)
SERIES_MINUTES = 60
UNSETTLED = {
    "payments": (Payment, ("pending", "requires_action")),
    "refunds": (Refund, ("pending",)),
    "webhooks": (WebhookDelivery, ("pending", "failed")),
}
SETTLING = ("payment.success", "payment.failed", "refund.processed", "refund.failed")


def queues(merchant_id: str | None) -> dict[str, dict[str, Any]]:
    """Each queue's counts; `merchant_id` None: of the whole gateway.

    `due` waits for a worker now, `later` for its time, `running` is claimed. `done` counts what was made in
    the last 24 hours; `failed` deliveries that were given up, and work of ours that broke, to be tried again.
    """
    return {name: _queue(model, unsettled, merchant_id) for name, (model, unsettled) in UNSETTLED.items()}


def _queue(model: Any, unsettled: tuple[str, ...], merchant_id: str | None) -> dict[str, Any]:
    mine = _of(model, merchant_id)
    at_rest = model.claim_id.is_(None)
    is_due = at_rest & (model.due_at <= func.now())
    due, running, later, oldest, broken = db.session.execute(
        select(
            func.count().filter(is_due),
            func.count().filter(model.claim_id.is_not(None)),
            func.count().filter(at_rest, model.due_at > func.now()),
            func.min(model.due_at).filter(is_due),
            func.count().filter(model.work_error.is_not(None)),
        ).where(model.due_at.is_not(None), mine)
    ).one()
    lately = model.created_at > func.now() - DONE_WITHIN
    done = db.session.scalar(select(func.count()).where(mine, lately, model.status.not_in(unsettled)))
    failed = broken
    if model is WebhookDelivery:
        failed += db.session.scalar(select(func.count()).where(mine, model.status == "failed")) or 0
    return {
        "due": due,
        "running": running,
        "later": later,
        "done": done,
        "failed": failed,
        "oldest_due_at": oldest,
    }


def throughput(merchant_id: str | None) -> list[dict[str, Any]]:
    """What was settled or sent in each of the last minutes, the oldest first; the current one is not over."""
    this_minute = now().replace(second=0, microsecond=0)
    minutes = [this_minute - timedelta(minutes=ago) for ago in range(SERIES_MINUTES - 1, -1, -1)]
    counts = {queue: _per_minute(queue, minutes[0], merchant_id) for queue in UNSETTLED}
    return [{"at": at} | {queue: counts[queue][at] for queue in counts} for at in minutes]


def _per_minute(queue: str, since: datetime, merchant_id: str | None) -> Counter[datetime]:
    if queue == "webhooks":
        minute = func.date_trunc("minute", WebhookAttempt.attempted_at)
        query = select(minute, func.count()).where(WebhookAttempt.attempted_at >= since)
        if merchant_id is not None:
            mine = (WebhookDelivery.id == WebhookAttempt.delivery_id) & _of(WebhookDelivery, merchant_id)
            query = query.join(WebhookDelivery, mine)
    else:
        minute = func.date_trunc("minute", Event.created_at)
        types = [name for name in SETTLING if name.startswith(queue.removesuffix("s") + ".")]
        query = select(minute, func.count()).where(
            _of(Event, merchant_id), Event.created_at >= since, Event.type.in_(types)
        )
    counts = Counter[datetime]()
    for at, count in db.session.execute(query.group_by(minute)):
        counts[at] = count
    return counts


def _of(model: Any, merchant_id: str | None) -> ColumnElement[bool]:
    """Of one merchant; or of each in turn, for the indexes all begin with the merchant."""
    if merchant_id is not None:
        return model.merchant_id == merchant_id
    return model.merchant_id.in_(select(Merchant.id))
