"""What happened, written once: the history that merchants read and webhooks send."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from marshmallow import Schema, fields
from sqlalchemy import ForeignKey, Identity, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Minor, Model, Timestamp, db, new_id, now
from models.webhook_endpoints import WebhookEndpoint
from models.webhooks import WebhookDelivery

if TYPE_CHECKING:
    from models.orders import Order
    from models.payments import Payment
    from models.refunds import Refund


class Told(Protocol):
    """An object that an event can tell of."""

    id: str

    def as_json(self) -> dict[str, Any]: ...


class Event(Model):
    """One change, with the exact bytes that every webhook of it sends."""

    __tablename__ = "events"

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str] = mapped_column(ForeignKey("merchants.id"))
    type: Mapped[str]
    order_id: Mapped[str | None] = mapped_column(ForeignKey("orders.id"))
    payment_id: Mapped[str | None] = mapped_column(ForeignKey("payments.id"))
    refund_id: Mapped[str | None] = mapped_column(ForeignKey("refunds.id"))
    payload: Mapped[str]
    deliveries: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    # Never loaded: they tell the session what must be inserted first.
    order: Mapped[Order | None] = relationship(lazy="raise")
    payment: Mapped[Payment | None] = relationship(lazy="raise")
    refund: Mapped[Refund | None] = relationship(lazy="raise")

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
        event_id = new_id("evt")
        payload = {
            "id": event_id,
            "event": event_type,
            "timestamp": int(now().timestamp()),
            "data": {name: thing.as_json() for name, thing in told.items()},
        }
        event = cls(
            id=event_id,
            merchant_id=merchant_id,
            type=event_type,
            order_id=order_id,
            payment_id=told["payment"].id if "payment" in told else None,
            refund_id=told["refund"].id if "refund" in told else None,
            payload=json.dumps(payload, separators=(",", ":"), ensure_ascii=False),
            created_at=now(),
        )
        db.session.add(event)
        planned = WebhookDelivery.plan(event, only=only)
        event.deliveries = len(planned)
        return planned

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.payload)["data"]


class EventSchema(Schema):
    id = fields.String()
    event = fields.String(attribute="type", metadata={"example": "payment.success"})
    created_at = Timestamp()
    data = fields.Dict(metadata={"description": "The objects as they were right after the change."})
