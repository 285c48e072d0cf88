"""Webhook endpoints, the deliveries made to them, and the attempts of each delivery."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from marshmallow import Schema, fields
from sqlalchemy import ARRAY, ForeignKey, Identity, LargeBinary, Text, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.orm.interfaces import ORMOption

from config import settings
from models import signatures, vault
from models.base import Minor, Model, Timestamp, db, mark_due, memo, new_id, now
from models.errors import bad_request, conflict, not_found

if TYPE_CHECKING:
    from models.events import Event

RETRY_JITTER = 0.10  # retries of one outage must not all come back in the same second
EVENT_TYPES = (
    "order.paid",
    "order.expired",
    "payment.created",
    "payment.requires_action",
    "payment.success",
    "payment.failed",
    "payment.captured",
    "payment.voided",
    "refund.created",
    "refund.processed",
    "refund.failed",
    "webhook.test",
)


class WebhookEndpoint(Model):
    """A URL that wants to hear of some of a merchant's events, and the secret that signs what it gets."""

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str] = mapped_column(ForeignKey("merchants.id"))
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{*}")
    enabled: Mapped[bool] = mapped_column(server_default="true")
    disabled_reason: Mapped[str | None]
    secret_encrypted: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]

    @classmethod
    def create(
        cls, merchant_id: str, *, url: str, events: list[str], enabled: bool = True
    ) -> WebhookEndpoint:
        endpoint = cls(
            id=new_id("we"),
            merchant_id=merchant_id,
            url=url,
            events=events,
            enabled=enabled,
            disabled_reason=None if enabled else "disabled by the merchant",
            secret_encrypted=vault.seal(signatures.new_secret()),
        )
        db.session.add(endpoint)
        db.session.flush()
        return endpoint

    @classmethod
    def lock(cls, endpoint_id: str) -> WebhookEndpoint:
        return db.session.get_one(cls, endpoint_id, with_for_update=True, populate_existing=True)

    @classmethod
    def of_merchant(cls, merchant_id: str, endpoint_id: str, *, lock: bool = False) -> WebhookEndpoint:
        query = select(cls).where(
            cls.id == endpoint_id, cls.merchant_id == merchant_id, cls.deleted_at.is_(None)
        )
        endpoint = db.session.scalar(query.with_for_update() if lock else query)
        if endpoint is None:
            raise not_found("Webhook endpoint")
        return endpoint

    @classmethod
    def listening(cls, merchant_id: str) -> list[WebhookEndpoint]:
        """The merchant's enabled endpoints, looked up once a transaction."""
        known = memo().setdefault("endpoints", {})
        if merchant_id not in known:
            query = select(cls).where(cls.merchant_id == merchant_id, cls.enabled).order_by(cls.seq)
            known[merchant_id] = list(db.session.scalars(query))
        return known[merchant_id]

    @property
    def secret(self) -> str:
        return vault.unseal(self.secret_encrypted)

    def wants(self, event_type: str) -> bool:
        return "*" in self.events or event_type in self.events

    def change(self, changes: dict[str, Any]) -> None:
        """Change `url`, `events` or `enabled`."""
        self.url = changes.get("url", self.url)
        self.events = changes.get("events", self.events)
        if "enabled" in changes:
            self.enabled = changes["enabled"]
            self.disabled_reason = None if self.enabled else "disabled by the merchant"
        self.updated_at = now()

    def disable(self, reason: str) -> None:
        self.enabled, self.disabled_reason, self.updated_at = False, reason, now()

    def delete(self) -> None:
        """It takes no more events; its delivery log stays."""
        self.disable("deleted")
        self.deleted_at = now()


@dataclass(frozen=True)
class AttemptResult:
    """How one attempt went. `error` is None when it was accepted (2xx), else says why in plain words."""

    duration_ms: int
    status_code: int | None = None
    response_body: str | None = None
    error: str | None = None
    retry_after_s: int | None = None
    gone: bool = False  # 410: the receiver asks never to be called again


class WebhookDelivery(Model):
    """One event for one endpoint: `pending -> success | failed`, and by hand `failed -> pending` again."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (UniqueConstraint("event_id", "endpoint_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str] = mapped_column(ForeignKey("merchants.id"))
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"))
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"))
    event_type: Mapped[str]
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
    def plan(cls, *, merchant_id: str, event_id: str, event_type: str) -> None:
        """Make the event's deliveries, due at once: in the transaction of the change it tells of."""
        for endpoint in WebhookEndpoint.listening(merchant_id):
            if endpoint.wants(event_type):
                db.session.add(
                    cls(
                        id=new_id("whd"),
                        merchant_id=merchant_id,
                        event_id=event_id,
                        endpoint_id=endpoint.id,
                        event_type=event_type,
                        due_at=now(),
                    )
                )
                mark_due("webhooks")

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
        db.session.add(
            WebhookAttempt(
                delivery_id=self.id,
                number=self.attempts,
                attempted_at=now(),
                status_code=result.status_code,
                response_body=result.response_body,
                duration_ms=result.duration_ms,
                error=result.error,
            )
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
        if not self.endpoint.enabled:
            raise bad_request(f"The endpoint is disabled ({self.endpoint.disabled_reason}).")
        self.status, self.due_at, self.claim_id = "pending", now(), None
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
    status_code: Mapped[int | None]
    response_body: Mapped[str | None]
    duration_ms: Mapped[int]
    error: Mapped[str | None]


class WebhookEndpointSchema(Schema):
    id = fields.String()
    url = fields.String()
    events = fields.List(fields.String())
    enabled = fields.Boolean()
    disabled_reason = fields.String(allow_none=True)
    created_at = Timestamp()
    updated_at = Timestamp()


class WebhookEndpointWithSecretSchema(WebhookEndpointSchema):
    """The answer to creating one: the only time that the secret is shown unasked."""

    secret = fields.String(metadata={"example": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="})


class WebhookDeliverySchema(Schema):
    id = fields.String()
    event_id = fields.String()
    endpoint_id = fields.String()
    event = fields.String(attribute="event_type")
    status = fields.String(metadata={"enum": ["pending", "success", "failed"]})
    attempts = fields.Integer()
    last_attempt_at = Timestamp(allow_none=True)
    next_attempt_at = Timestamp(attribute="due_at", allow_none=True)
    response_code = fields.Integer(attribute="last_status_code", allow_none=True)
    error = fields.String(attribute="last_error", allow_none=True)
    created_at = Timestamp()


class WebhookAttemptSchema(Schema):
    number = fields.Integer()
    attempted_at = Timestamp()
    status_code = fields.Integer(allow_none=True)
    response_body = fields.String(allow_none=True)
    duration_ms = fields.Integer()
    error = fields.String(allow_none=True)


class WebhookDeliveryWithAttemptsSchema(WebhookDeliverySchema):
    attempt_log = fields.List(fields.Nested(WebhookAttemptSchema))
