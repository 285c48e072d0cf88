"""Webhook deliveries: one event for one endpoint each, and every attempt at it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from marshmallow import Schema, fields
from sqlalchemy import ForeignKey, Identity, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.orm.interfaces import ORMOption

from config import settings
from models import batch
from models.base import Minor, Model, Timestamp, db, mark_due, new_id, now
from models.errors import conflict, not_found
from models.webhook_endpoints import Listener, WebhookEndpoint, listeners

if TYPE_CHECKING:
    from models.events import Event

RETRY_JITTER = 0.10  # retries of one outage must not all come back in the same second


@dataclass(frozen=True)
class AttemptResult:
    """How one attempt went. `error` is None when it was accepted (2xx), else says why in plain words."""

    url: str
    duration_ms: int
    status_code: int | None = None
    response_body: str | None = None
    error: str | None = None
    retry_after_s: int | None = None
    gone: bool = False  # 410: the receiver asks never to be called again


class WebhookDelivery(Model):
    """One event for one endpoint: `pending -> success | failed`, and by hand `failed -> pending` again."""

    __tablename__ = "webhook_deliveries"
    batched = True
    __table_args__ = (UniqueConstraint("event_id", "endpoint_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str]
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"))
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"))
    event_type: Mapped[str]
    order_id: Mapped[str | None] = mapped_column(ForeignKey("orders.id"))
    retry_id: Mapped[str | None] = mapped_column(ForeignKey("webhook_retries.id"))
    status: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(server_default="0")
    last_attempt_at: Mapped[datetime | None]
    last_status_code: Mapped[int | None]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    due_at: Mapped[datetime | None]
    claim_id: Mapped[UUID | None]
    tries: Mapped[int] = mapped_column(server_default="0")
    work_error: Mapped[str | None]

    event: Mapped[Event] = relationship(lazy="raise")
    endpoint: Mapped[WebhookEndpoint] = relationship(lazy="raise")
    attempt_log: Mapped[list[WebhookAttempt]] = relationship(order_by="WebhookAttempt.number", lazy="raise")

    @classmethod
    def plan(
        cls,
        event_id: str,
        event_type: str,
        *,
        merchant_id: str,
        order_id: str | None,
        only: WebhookEndpoint | None = None,
    ) -> list[WebhookDelivery]:
        """Make an event's deliveries, due at once: in the transaction of the change it tells of.

        They go to every endpoint that asked for such events, or to `only` this one.
        """
        wanted: Sequence[WebhookEndpoint | Listener] = [only] if only else listeners(merchant_id)
        deliveries = [
            cls.of_event(event_id, event_type, endpoint, order_id=order_id, due_at=now())
            for endpoint in wanted
            if only or endpoint.wants(event_type)
        ]
        db.session.add_all(deliveries)
        if deliveries:
            mark_due("webhooks")
        return deliveries

    @property
    def next_attempt_at(self) -> datetime | None:
        return None if self.claim_id is not None else self.due_at

    @classmethod
    def of_event(
        cls,
        event_id: str,
        event_type: str,
        endpoint: WebhookEndpoint | Listener,
        *,
        order_id: str | None,
        due_at: datetime,
    ) -> WebhookDelivery:
        return cls(
            id=new_id("whd"),
            merchant_id=endpoint.merchant_id,
            event_id=event_id,
            endpoint_id=endpoint.id,
            event_type=event_type,
            order_id=order_id,
            status="pending",
            attempts=0,
            due_at=due_at,
            created_at=now(),
        )

    @classmethod
    def of_merchant(
        cls, merchant_id: str, delivery_id: str, *load: ORMOption, lock: bool = False
    ) -> WebhookDelivery:
        """The delivery, with what `load` names loaded beside it."""
        query = select(cls).where(cls.id == delivery_id, cls.merchant_id == merchant_id).options(*load)
        delivery = db.session.scalar(query.with_for_update(of=cls, key_share=True) if lock else query)
        if delivery is None:
            raise not_found("Webhook delivery")
        return delivery

    def record(self, result: AttemptResult) -> None:
        """Write the attempt down and decide what follows: done, another try later, or failed."""
        self.attempts += 1
        self.last_attempt_at = now()
        self.last_status_code = result.status_code
        self.last_error = result.error
        self.claim_id = None
        batch.append(
            WebhookAttempt,
            delivery_id=self.id,
            number=self.attempts,
            attempted_at=now(),
            url=result.url,
            status_code=result.status_code,
            response_body=result.response_body,
            duration_ms=result.duration_ms,
            error=result.error,
        )
        if result.error is None:
            self.status, self.due_at = "success", None
            return
        delay_s = None if result.gone else self._next_delay_s(result.retry_after_s)
        if delay_s is None:
            self.status, self.due_at = "failed", None
        else:
            self.due_at = now() + timedelta(seconds=delay_s)

    def give_up(self, why: str) -> None:
        """Nothing can be sent any more: the endpoint was switched off or deleted meanwhile."""
        self.status, self.due_at, self.claim_id, self.last_error = "failed", None, None, why

    def retry(self) -> None:
        """One more attempt now, by hand.

        Raises:
            Refused: the endpoint is disabled or deleted, or an attempt is running.
        """
        if self.claim_id is not None and self.due_at is not None and self.due_at > now():
            raise conflict("An attempt of this delivery is running.", reason="attempt_running")
        self.endpoint.require_enabled()
        self.status, self.due_at, self.claim_id, self.retry_id = "pending", now(), None, None
        mark_due("webhooks")

    def _next_delay_s(self, retry_after_s: int | None) -> float | None:
        """Seconds until the next attempt, or None after the last one.

        The schedule gives the delay, with up to 10 % jitter; a Retry-After can only lengthen it,
        up to the longest delay of the schedule.
        """
        schedule = settings.webhook_retry_schedule_s
        if self.attempts >= len(schedule):
            return None
        delay_s = schedule[self.attempts] * random.uniform(1, 1 + RETRY_JITTER)  # noqa: S311 (not a secret)
        return max(delay_s, min(retry_after_s or 0, max(schedule)))


class WebhookAttempt(Model):
    """One try of a delivery, as it went."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    attempted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    url: Mapped[str]
    status_code: Mapped[int | None]
    response_body: Mapped[str | None]
    duration_ms: Mapped[int]
    error: Mapped[str | None]


class WebhookDeliverySchema(Schema):
    id = fields.String()
    event_id = fields.String()
    endpoint_id = fields.String()
    event = fields.String(attribute="event_type")
    order_id = fields.String(allow_none=True)
    status = fields.String(metadata={"enum": ["pending", "success", "failed"]})
    attempts = fields.Integer()
    last_attempt_at = Timestamp(allow_none=True)
    next_attempt_at = Timestamp(allow_none=True, metadata={"description": "Null while an attempt runs."})
    response_code = fields.Integer(attribute="last_status_code", allow_none=True)
    error = fields.String(attribute="last_error", allow_none=True)
    created_at = Timestamp()


class WebhookAttemptSchema(Schema):
    number = fields.Integer()
    attempted_at = Timestamp()
    url = fields.String()
    status_code = fields.Integer(allow_none=True)
    response_body = fields.String(allow_none=True)
    duration_ms = fields.Integer()
    error = fields.String(allow_none=True)


class WebhookDeliveryWithAttemptsSchema(WebhookDeliverySchema):
    payload = fields.String(
        attribute="event.payload",
        metadata={"description": "The body, byte for byte as it is sent and signed."},
    )
    attempt_log = fields.List(fields.Nested(WebhookAttemptSchema))
