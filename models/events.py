"""What happened, written once: the history that merchants read and webhooks send."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

import orjson
from marshmallow import Schema, fields
from sqlalchemy import ForeignKey, Identity, func
from sqlalchemy.orm import Mapped, mapped_column

from models import batch
from models.base import Minor, Model, Timestamp, new_id, now
from models.webhook_endpoints import WebhookEndpoint
from models.webhooks import WebhookDelivery


class Told(Protocol):
    """An object that an event can tell of."""

    id: str

    def as_json(self) -> dict[str, Any]: ...


class Event(Model):
    """One change, with the exact bytes that every webhook of it sends."""

    __tablename__ = "events"

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str]
    type: Mapped[str]
    order_id: Mapped[str | None] = mapped_column(ForeignKey("orders.id"))
    payment_id: Mapped[str | None] = mapped_column(ForeignKey("payments.id"))
    refund_id: Mapped[str | None] = mapped_column(ForeignKey("refunds.id"))
    payload: Mapped[str]
    deliveries: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @classmethod
    def record(
        cls,
        event_type: str,
        merchant_id: str,
        order_id: str | None,
        *,
        only: WebhookEndpoint | None = None,
        **told: Told,
    ) -> list[WebhookDelivery]:
        """Write the event and its deliveries into the current transaction; returns those.

        `told` are the objects as they now are: `payment=...`, `refund=...`, `order=...`.
        """
        event_id, at = new_id("evt"), now()
        payload = {
            "id": event_id,
            "event": event_type,
            "timestamp": int(at.timestamp()),
            "data": {name: thing.as_json() for name, thing in told.items()},
        }
        planned = WebhookDelivery.plan(
            event_id, event_type, merchant_id=merchant_id, order_id=order_id, only=only
        )
        batch.append(
            cls,
            id=event_id,
            merchant_id=merchant_id,
            type=event_type,
            order_id=order_id,
            payment_id=told["payment"].id if "payment" in told else None,
            refund_id=told["refund"].id if "refund" in told else None,
            payload=orjson.dumps(payload).decode(),
            deliveries=len(planned),
            created_at=at,
        )
        return planned

    @property
    def data(self) -> dict[str, Any]:
        return orjson.loads(self.payload)["data"]


class EventSchema(Schema):
    id = fields.String()
    event = fields.String(attribute="type", metadata={"example": "payment.success"})
    created_at = Timestamp()
    data = fields.Dict(metadata={"description": "The objects as they were right after the change."})
