"""Who did what that matters for security: a log that is only ever added to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from marshmallow import Schema, fields
from sqlalchemy import ForeignKey, Identity, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Minor, Model, Timestamp, db, new_id, now

GATEWAY = "gateway"  # the actor of what the gateway does by itself


class AuditEntry(Model):
    """One sensitive action, written in the transaction of what it did. Its details hold no secret."""

    __tablename__ = "audit_log"

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str] = mapped_column(ForeignKey("merchants.id"))
    actor: Mapped[str]
    action: Mapped[str]
    subject_id: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @classmethod
    def record(cls, action: str, merchant_id: str, actor: str, subject_id: str, **details: Any) -> None:
        db.session.add(
            cls(
                id=new_id("aud"),
                merchant_id=merchant_id,
                actor=actor,
                action=action,
                subject_id=subject_id,
                details=details,
                created_at=now(),
            )
        )


class AuditEntrySchema(Schema):
    id = fields.String()
    actor = fields.String(metadata={"description": "An API key's id, who was signed in, or `gateway`."})
    action = fields.String(metadata={"example": "api_key.rolled"})
    subject_id = fields.String()
    details = fields.Dict()
    created_at = Timestamp()
