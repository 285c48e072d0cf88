"""Refunds: money on its way back, in whole or in part."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields
from sqlalchemy import ForeignKey, ForeignKeyConstraint, Identity, func, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models import ledger
from models.base import Minor, Model, Timestamp, db, mark_due, new_id, now
from models.errors import bad_request, not_found
from models.events import Event
from models.payments import Payment

TRANSITIONS = {
    "pending": {"processed", "failed"},
    "processed": {"failed"},  # rare, and real: the shopper's bank sends it back
    "failed": set(),
}


class Refund(Model):
    """`pending -> processed | failed`. It is reserved in the ledger from the moment it is asked for."""

    __tablename__ = "refunds"
    batched = True
    __table_args__ = (
        ForeignKeyConstraint(
            ["payment_id", "merchant_id", "currency"],
            ["payments.id", "payments.merchant_id", "payments.currency"],
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str]
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"))
    payment_id: Mapped[str]
    amount: Mapped[int] = mapped_column(Minor)
    currency: Mapped[str]
    reason: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="pending")
    error_reason: Mapped[str | None]
    acquirer_reference: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    processed_at: Mapped[datetime | None]

    unknown_since: Mapped[datetime | None]
    ask_again: Mapped[bool] = mapped_column(server_default="false")
    due_at: Mapped[datetime | None]
    claim_id: Mapped[UUID | None]
    tries: Mapped[int] = mapped_column(server_default="0")
    work_error: Mapped[str | None]

    payment: Mapped[Payment] = relationship(lazy="raise")

    @classmethod
    def of_merchant(cls, merchant_id: str, refund_id: str) -> Refund:
        refund = db.session.scalar(select(cls).where(cls.id == refund_id, cls.merchant_id == merchant_id))
        if refund is None:
            raise not_found("Refund")
        return refund

    @classmethod
    def begin(cls, payment: Payment, *, amount: int | None, reason: str | None, delay_ms: int = 0) -> Refund:
        """A pending refund of a locked payment. `amount` None: all that is left.

        Raises:
            Refused: nothing was captured, or the refunds together would exceed what was.
        """
        if payment.status == "success" and not payment.captured:
            raise bad_request(
                "The payment is not captured; void it instead of refunding it.", reason="payment_not_captured"
            )
        if not payment.captured:
            raise bad_request(
                f"Only a captured payment can be refunded; this one is {payment.status}.",
                reason="payment_not_captured",
            )
        refunded = db.session.scalar(
            select(func.coalesce(func.sum(cls.amount), 0)).where(
                cls.payment_id == payment.id, cls.status.in_(["pending", "processed"])
            )
        )
        left = payment.amount_captured - int(refunded or 0)
        if left == 0:
            raise bad_request("The payment is already refunded in full.", reason="fully_refunded")
        wanted = left if amount is None else amount
        if wanted > left:
            raise bad_request(
                f"At most {left} can still be refunded.", field="amount", reason="amount_too_large"
            )
        refund = cls(
            id=new_id("rfnd"),
            merchant_id=payment.merchant_id,
            order_id=payment.order_id,
            payment_id=payment.id,
            amount=wanted,
            currency=payment.currency,
            reason=reason,
            status="pending",
            tries=0,
            due_at=now() + timedelta(milliseconds=delay_ms),
            created_at=now(),
            updated_at=now(),
        )
        db.session.add(refund)
        refund._post("refund_requested", ("merchant", "refunds_in_flight", wanted))
        refund._tell("refund.created", payment)
        if delay_ms == 0:
            mark_due("refunds")
        return refund

    def process(self, payment: Payment, reference: str | None, check_again_s: float | None = None) -> None:
        """The acquirer sent the money back. With `check_again_s` it may yet return: look again then."""
        self._move("processed")
        self.processed_at, self.acquirer_reference = now(), reference
        self._rest(check_again_s)
        payment.count_refund(self.amount)
        self._post("refund_processed", ("refunds_in_flight", "acquirer", self.amount))
        self._tell("refund.processed", payment)

    def fail(self, payment: Payment, reason: str) -> None:
        """The acquirer could not send it, or it came back: the merchant has the money again."""
        was_processed = self.status == "processed"
        self._move("failed")
        self.error_reason = reason
        self._rest(None)
        if was_processed:
            payment.count_refund(-self.amount)
            self._post("refund_failed", ("acquirer", "merchant", self.amount))
        else:
            self._post("refund_failed", ("refunds_in_flight", "merchant", self.amount))
        self._tell("refund.failed", payment)

    def stay_unknown(self, retry_after_s: float, *, ask_again: bool = False) -> None:
        """No definite answer: it stays as it is and is looked up again, never guessed.

        `ask_again`: the acquirer never heard of it; it is asked as for the first time, under the same key.
        """
        self.unknown_since, self.ask_again = self.unknown_since or now(), ask_again
        self.due_at, self.claim_id = now() + timedelta(seconds=retry_after_s), None
        self.work_error = None

    def settle_for_good(self) -> None:
        """The second look found nothing new."""
        self._rest(None)

    def as_json(self) -> dict[str, Any]:
        return REFUND_SCHEMA.dump(self)

    def _move(self, status: str) -> None:
        if status not in TRANSITIONS[self.status]:
            raise RuntimeError(f"{self.id}: no way from {self.status} to {status}")
        self.status, self.updated_at = status, now()

    def _rest(self, check_again_s: float | None) -> None:
        """The work is done, but for a second look if one is due."""
        self.due_at = None if check_again_s is None else now() + timedelta(seconds=check_again_s)
        self.claim_id, self.work_error = None, None
        self.unknown_since, self.ask_again = None, False

    def _post(self, kind: str, *legs: tuple[str, str, int]) -> None:
        ledger.post(
            kind,
            *legs,
            merchant_id=self.merchant_id,
            currency=self.currency,
            payment_id=self.payment_id,
            refund_id=self.id,
        )

    def _tell(self, event_type: str, payment: Payment) -> None:
        Event.record(event_type, self.merchant_id, self.order_id, refund=self, payment=payment)


class RefundSchema(Schema):
    id = fields.String(metadata={"example": "rfnd_2DeEab0Lx2VtdQf3"})
    payment_id = fields.String()
    order_id = fields.String()
    merchant_id = fields.String()
    amount = fields.Integer(metadata={"description": "Minor units."})
    currency = fields.String()
    reason = fields.String(allow_none=True)
    status = fields.String(metadata={"enum": list(TRANSITIONS)})
    error_reason = fields.String(allow_none=True)
    created_at = Timestamp()
    processed_at = Timestamp(allow_none=True)


REFUND_SCHEMA = RefundSchema()
