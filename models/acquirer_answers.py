"""What the acquirer said, each time it was asked: the evidence behind every change of state."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Identity, func
from sqlalchemy.orm import Mapped, mapped_column

from models import batch
from models.base import Minor, Model, now


class AcquirerAnswer(Model):
    """One answer, written in the transaction that acts on it."""

    __tablename__ = "acquirer_answers"

    id: Mapped[int] = mapped_column(Minor, Identity(always=True), primary_key=True)
    payment_id: Mapped[str] = mapped_column(ForeignKey("payments.id"))
    refund_id: Mapped[str | None] = mapped_column(ForeignKey("refunds.id"))
    operation: Mapped[str]
    looked_up: Mapped[bool]
    answer: Mapped[str]
    reason: Mapped[str | None]
    reference: Mapped[str | None]
    answered_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @classmethod
    def record(
        cls,
        answer: str,
        *,
        operation: str,
        looked_up: bool,
        payment_id: str,
        refund_id: str | None = None,
        reason: str | None = None,
        reference: str | None = None,
    ) -> None:
        batch.append(
            cls,
            answer=answer,
            operation=operation,
            looked_up=looked_up,
            payment_id=payment_id,
            refund_id=refund_id,
            reason=reason,
            reference=reference,
            answered_at=now(),
        )
