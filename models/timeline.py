"""All that happened to a payment, in order: events, the acquirer's answers, who did what, and webhooks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from marshmallow import Schema, fields
from sqlalchemy import ColumnElement, func, literal, select, union_all

from models.acquirer_answers import AcquirerAnswer
from models.audit import AuditEntry
from models.base import Timestamp, db
from models.events import Event
from models.payments import Payment
from models.refunds import Refund
from models.webhooks import WebhookAttempt, WebhookDelivery

EACH_MAX = 500  # of a kind: a payment refunded in a thousand parts is not read to its end


@dataclass
class Entry:
    """One thing that happened: `kind` and `name` say what, `outcome` how it went, if that is news."""

    at: datetime
    kind: str
    name: str
    id: str | None = None
    outcome: str | None = None
    actor: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


# Within one moment, in this order: somebody asks, the acquirer answers, it is an event, and told.
KINDS = ("action", "acquirer", "event", "webhook")


def timeline(payment: Payment) -> list[Entry]:
    """The oldest first."""
    entries = [*_actions(payment), *_answers(payment), *_events(payment), *_attempts(payment)]
    return sorted(entries, key=lambda entry: (entry.at, KINDS.index(entry.kind)))


def _actions(payment: Payment) -> Iterator[Entry]:
    refunds = select(Refund.id).where(Refund.payment_id == payment.id).limit(EACH_MAX)
    subjects = union_all(select(literal(payment.id)), refunds)  # not an OR, which no index answers
    rows = db.session.scalars(
        select(AuditEntry)
        .where(AuditEntry.merchant_id == payment.merchant_id)
        .where(AuditEntry.subject_id.in_(subjects))
        .order_by(AuditEntry.seq)
        .limit(EACH_MAX)
    )
    for row in rows:
        yield Entry(
            row.created_at, "action", row.action, row.subject_id, actor=row.actor, details=row.details
        )


def _answers(payment: Payment) -> Iterator[Entry]:
    """Look-ups that told nothing are one entry until there is other news: there may be hundreds a day."""
    told_nothing = AcquirerAnswer.looked_up & AcquirerAnswer.answer.in_(["unknown", "not_found"])
    asked = (AcquirerAnswer.operation, AcquirerAnswer.refund_id)
    news = func.count().filter(~told_nothing).over(partition_by=asked, order_by=AcquirerAnswer.id)
    each = (
        select(AcquirerAnswer, news.label("news"))
        .where(AcquirerAnswer.payment_id == payment.id)
        .subquery()
        .columns
    )
    same = (each.operation, each.refund_id, each.looked_up, each.answer, each.reason, each.reference)
    rows = db.session.execute(
        select(*same, func.max(each.answered_at).label("at"), func.count().label("times"))
        .group_by(*same, each.news)
        .order_by(func.max(each.id))
        .limit(EACH_MAX)
    )
    for row in rows:
        details = {
            "looked_up": row.looked_up,
            "reason": row.reason,
            "reference": row.reference,
            "times": row.times,
        }
        yield Entry(row.at, "acquirer", row.operation, row.refund_id, outcome=row.answer, details=details)


def _is_told_of(payment: Payment) -> ColumnElement[bool]:
    """Events of its refunds too, which name the payment; and the order's, once it is paid by this one."""
    mine = Event.payment_id == payment.id
    if payment.captured:
        mine |= (Event.order_id == payment.order_id) & (Event.type == "order.paid")
    return mine


def _events(payment: Payment) -> Iterator[Entry]:
    rows = db.session.scalars(select(Event).where(_is_told_of(payment)).order_by(Event.seq).limit(EACH_MAX))
    for row in rows:
        yield Entry(row.created_at, "event", row.type, row.id, details={"refund_id": row.refund_id})


def _attempts(payment: Payment) -> Iterator[Entry]:
    rows = db.session.execute(
        select(WebhookAttempt, WebhookDelivery)
        .join(WebhookDelivery, WebhookDelivery.id == WebhookAttempt.delivery_id)
        .join(Event, Event.id == WebhookDelivery.event_id)
        .where(_is_told_of(payment))
        .order_by(WebhookAttempt.attempted_at)
        .limit(EACH_MAX)
    )
    for attempt, delivery in rows:
        yield Entry(
            attempt.attempted_at,
            "webhook",
            delivery.event_type,
            delivery.id,
            outcome="success" if attempt.error is None else "failed",
            details={
                "attempt": attempt.number,
                "url": attempt.url,
                "status_code": attempt.status_code,
                "duration_ms": attempt.duration_ms,
                "error": attempt.error,
            },
        )


class TimelineEntrySchema(Schema):
    at = Timestamp()
    kind = fields.String(metadata={"enum": list(KINDS)})
    name = fields.String(
        metadata={
            "description": "The event, the acquirer's operation, the event that was sent, or the action."
        }
    )
    id = fields.String(
        allow_none=True, metadata={"description": "The event's, the delivery's, or what it was done to."}
    )
    outcome = fields.String(allow_none=True)
    actor = fields.String(allow_none=True)
    details = fields.Dict()
