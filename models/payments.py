"""Payments: one attempt to pay an order, its states, and the only ways to change them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields
from sqlalchemy import ForeignKeyConstraint, Identity, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from config import settings
from models import direct, ledger
from models.base import Minor, Model, RowSchema, Timestamp, db, mark_due, new_id, now, timestamp
from models.errors import bad_request, conflict, not_found
from models.events import Event
from models.instruments import Card
from models.money import fee_of
from models.orders import METHODS, UPI_CURRENCY, Order

TRANSITIONS = {
    "pending": {"requires_action", "success", "failed"},
    "requires_action": {"pending", "success", "failed"},
    "success": {"voided"},
    "failed": set(),
    "voided": set(),
}
LIVE = ("pending", "requires_action", "success")  # an order has at most one of these

LIVE_PAYMENT = "SELECT status FROM payments WHERE order_id = %s AND status = ANY(%s)"

HOLD_DAYS = 7  # an approval that nobody captures is voided then: the usual life of a card authorization
RELEASE_RETRY_DAYS = 1  # after an acquirer would not release an expired hold
FLOWS = ("collect", "qr", "intent")  # of UPI: a request to a VPA, a code to scan, a link that opens an app
# A capture or void that a request has begun and may not live to finish is taken over after this.
TAKEOVER_S = 30


class Payment(Model):
    """One attempt to pay an order. `operation` is what the acquirer is to be asked next."""

    __tablename__ = "payments"
    batched = True
    __table_args__ = (
        ForeignKeyConstraint(
            ["order_id", "merchant_id", "amount", "currency"],
            ["orders.id", "orders.merchant_id", "orders.amount", "orders.currency"],
        ),
        UniqueConstraint("id", "merchant_id", "currency"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str]
    order_id: Mapped[str]
    amount: Mapped[int] = mapped_column(Minor)
    currency: Mapped[str]
    capture: Mapped[str]
    method: Mapped[str]
    flow: Mapped[str | None]
    vpa: Mapped[str | None]
    card_network: Mapped[str | None]
    card_last4: Mapped[str | None]
    card_expiry_month: Mapped[int | None]
    card_expiry_year: Mapped[int | None]
    card_fingerprint: Mapped[str | None]
    acquirer_token: Mapped[str | None]
    acquirer_reference: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="pending")
    captured: Mapped[bool] = mapped_column(server_default="false")
    amount_captured: Mapped[int] = mapped_column(Minor, server_default="0")
    amount_refunded: Mapped[int] = mapped_column(Minor, server_default="0")
    fee: Mapped[int] = mapped_column(Minor, server_default="0")
    refund_status: Mapped[str | None]
    error_code: Mapped[str | None]
    error_reason: Mapped[str | None]
    error_description: Mapped[str | None]
    action_expires_at: Mapped[datetime | None]
    upi_link: Mapped[str | None]
    hold_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    operation: Mapped[str | None]
    operation_amount: Mapped[int | None] = mapped_column(Minor)
    unknown_since: Mapped[datetime | None]
    ask_again: Mapped[bool] = mapped_column(server_default="false")
    due_at: Mapped[datetime | None]
    claim_id: Mapped[UUID | None]
    tries: Mapped[int] = mapped_column(server_default="0")
    work_error: Mapped[str | None]

    order: Mapped[Order] = relationship(lazy="raise")

    # --- finding ---------------------------------------------------------------------------------

    @classmethod
    def shown(cls, merchant_id: str, payment_id: str) -> dict[str, Any]:
        """The merchant's payment as JSON."""
        facts = direct.one(cls, "id = %s AND merchant_id = %s", (payment_id, merchant_id))
        if facts is None:
            raise not_found("Payment")
        return cls.json_of(facts)

    @classmethod
    def of_merchant(cls, merchant_id: str, payment_id: str) -> Payment:
        payment = db.session.scalar(select(cls).where(cls.id == payment_id, cls.merchant_id == merchant_id))
        if payment is None:
            raise not_found("Payment")
        return payment

    @classmethod
    def public(cls, payment_id: str) -> Payment:
        payment = db.session.get(cls, payment_id)
        if payment is None:
            raise not_found("Payment")
        return payment

    @classmethod
    def lock(cls, merchant_id: str | None, payment_id: str) -> Payment:
        """The payment, locked until commit: every change of its money goes through this lock.

        `merchant_id` None: whose ever it is, for the shopper's page.
        """
        query = select(cls).where(cls.id == payment_id).with_for_update(key_share=True)
        if merchant_id is not None:
            query = query.where(cls.merchant_id == merchant_id)
        payment = db.session.scalar(query.execution_options(populate_existing=True))
        if payment is None:
            raise not_found("Payment")
        return payment

    # --- beginning -------------------------------------------------------------------------------

    @classmethod
    def begin(
        cls,
        order: Order,
        *,
        method: str,
        flow: str | None = None,
        vpa: str | None = None,
        card: Card | None = None,
        acquirer_token: str | None = None,
        delay_ms: int = 0,
    ) -> Payment:
        """A pending payment of a locked order, to be authorized `delay_ms` from now.

        Raises:
            Refused: the order is paid, expired, has a payment under way, or does not take this method.
        """
        if method not in order.methods:
            raise bad_request(f"The order does not take {method} payments.", field="method")
        if method not in order.payable_methods:
            raise bad_request(f"UPI pays in {UPI_CURRENCY} only.", field="method")
        order.check_payable()
        live = direct.rows(LIVE_PAYMENT, (order.id, list(LIVE))) if order.status != "created" else []
        if live == [("success",)]:
            raise conflict(
                "The order is already paid for; the payment awaits its capture.", reason="order_paid"
            )
        if live:
            raise conflict("Another payment of this order is in progress.", reason="payment_in_progress")
        order.attempt()
        payment = cls(
            id=new_id("pay"),
            merchant_id=order.merchant_id,
            order_id=order.id,
            amount=order.amount,
            currency=order.currency,
            capture=order.capture,
            method=method,
            flow=flow,
            vpa=vpa,
            card_network=card and card.network,
            card_last4=card and card.last4,
            card_expiry_month=card and card.expiry_month,
            card_expiry_year=card and card.expiry_year,
            card_fingerprint=card and card.fingerprint,
            acquirer_token=acquirer_token,
            status="pending",
            captured=False,
            amount_captured=0,
            amount_refunded=0,
            fee=0,
            tries=0,
            operation="authorize",
            ask_again=False,
            due_at=now() + timedelta(milliseconds=delay_ms),
            created_at=now(),
            updated_at=now(),
        )
        db.session.add(payment)
        payment._tell("payment.created")
        if delay_ms == 0:
            mark_due("payments")
        return payment

    # --- what the acquirer said about the authorization --------------------------------------------

    def approve(self, order: Order, reference: str | None, vpa: str | None = None) -> None:
        """The acquirer approved: captured in the same step, or held until the merchant decides.

        `vpa` is the payer's, which for a scanned code only the acquirer knows.
        """
        self._move("success")
        self.acquirer_reference = reference
        self.vpa = self.vpa or vpa
        self._finish_operation()
        if self.capture == "automatic":
            self._take(self.amount, ("acquirer", "merchant", self.amount))
            self._tell("payment.success")
            self._tell("payment.captured")
            order.pay(self.amount)
        else:
            self.hold_expires_at = now() + timedelta(days=HOLD_DAYS)
            self._post("authorize", ("acquirer_hold", "merchant_hold", self.amount))
            self._tell("payment.success")

    def decline(self, code: str, reason: str, description: str) -> None:
        """The acquirer declined: the order is free for another attempt."""
        self._move("failed")
        self.error_code, self.error_reason, self.error_description = code, reason, description
        self._finish_operation()
        self._tell("payment.failed")

    def require_action(self, expires_in_s: int, upi_link: str | None = None) -> None:
        """The shopper must act: an OTP, an approval in the UPI app. When time is up, we look it up."""
        self._move("requires_action")
        self.action_expires_at = self.due_at = now() + timedelta(seconds=expires_in_s)
        self.upi_link = upi_link
        self.claim_id, self.unknown_since, self.ask_again = None, None, False
        self._tell("payment.requires_action")

    def check_awaits_action(self) -> None:
        """
        Raises:
            Refused: the shopper has nothing to do any more, or the time for it is over.
        """
        if self.status != "requires_action":
            raise conflict(
                f"The payment does not wait for the shopper; it is {self.status}.",
                reason="no_action_required",
            )
        if self.action_expires_at is None or self.action_expires_at <= now():
            raise conflict("The time to act is over.", reason="action_expired")

    def resume(self, acquirer_token: str, *, look_up: bool, delay_ms: int = 0) -> None:
        """The shopper has acted, and the acquirer decides `delay_ms` from now, by the token it gave for that.

        `look_up`: it is not asked to authorize, but what became of it: a UPI app was asked before already.

        Raises:
            Refused: as `check_awaits_action`.
        """
        self.check_awaits_action()
        self._move("pending")
        self.acquirer_token = acquirer_token
        self.unknown_since, self.ask_again = now() if look_up else None, False
        self.due_at, self.claim_id, self.tries = now() + timedelta(milliseconds=delay_ms), None, 0
        self._tell("payment.pending")
        if delay_ms == 0:
            mark_due("payments")

    def stay_unknown(self, retry_after_s: float, *, ask_again: bool = False) -> None:
        """No definite answer: it stays as it is and is looked up again, never guessed.

        `ask_again`: the acquirer never heard of it; it is asked as for the first time, under the same key.
        """
        self.unknown_since, self.ask_again = self.unknown_since or now(), ask_again
        self.due_at, self.claim_id = now() + timedelta(seconds=retry_after_s), None
        self.work_error = None

    # --- capture and void ------------------------------------------------------------------------

    def request_capture(self, amount: int | None) -> bool:
        """Record the wish to capture `amount` minor units (None: the whole). False: it already is so.

        Raises:
            Refused: not approved, already captured otherwise, too much, or something else is under way.
        """
        wanted = self.amount if amount is None else amount
        if self.captured:
            if wanted == self.amount_captured:
                return False
            raise bad_request(
                f"The payment is already captured, with {self.amount_captured}.",
                field="amount",
                reason="already_captured",
            )
        if self.status != "success":
            raise bad_request(
                f"Only an approved payment can be captured; this one is {self.status}.",
                reason="payment_not_approved",
            )
        if wanted > self.amount:
            raise bad_request(
                f"At most {self.amount} can be captured.", field="amount", reason="amount_too_large"
            )
        self._begin_operation("capture", wanted)
        return True

    def take(self, order: Order) -> None:
        """The acquirer captured what was requested. What was held beyond it is released."""
        amount = self.operation_amount
        if amount is None:
            raise RuntimeError(f"{self.id}: captured without a request")
        self._finish_operation()
        self._take(amount, ("merchant_hold", "acquirer_hold", self.amount), ("acquirer", "merchant", amount))
        self._tell("payment.captured")
        order.pay(amount)

    def request_void(self) -> bool:
        """Record the wish to void. False: it already is voided.

        Raises:
            Refused: not approved, captured, or something else is under way.
        """
        if self.status == "voided":
            return False
        if self.captured:
            raise bad_request("A captured payment is refunded, not voided.", reason="already_captured")
        if self.status != "success":
            raise bad_request(
                f"Only an approved payment can be voided; this one is {self.status}.",
                reason="payment_not_approved",
            )
        self._begin_operation("void", None)
        return True

    def void(self) -> None:
        """The acquirer released the hold: nothing will be captured, the order is free again."""
        self._move("voided")
        self.hold_expires_at = None
        self._finish_operation()
        self._post("void", ("merchant_hold", "acquirer_hold", self.amount))
        self._tell("payment.voided")

    def refuse_operation(self) -> None:
        """The acquirer would not capture or void: the approval stays as it was."""
        self._finish_operation()
        self.updated_at = now()
        if self.hold_expires_at is not None and self.hold_expires_at <= now():
            self.hold_expires_at = now() + timedelta(days=RELEASE_RETRY_DAYS)

    # --- refunds ---------------------------------------------------------------------------------

    def count_refund(self, amount: int) -> None:
        """A refund of `amount` was processed (or, negative, turned out to have failed)."""
        self.amount_refunded += amount
        if self.amount_refunded == 0:
            self.refund_status = None
        else:
            self.refund_status = "full" if self.amount_refunded == self.amount_captured else "partial"
        self.updated_at = now()

    # --- how it is shown -------------------------------------------------------------------------

    @property
    def next_action(self) -> dict[str, Any] | None:
        return _next_action(self.facts())

    @staticmethod
    def json_of(facts: Mapping[str, Any]) -> dict[str, Any]:
        """As PaymentSchema describes it."""
        action = _next_action(facts)
        return {
            "id": facts["id"],
            "order_id": facts["order_id"],
            "merchant_id": facts["merchant_id"],
            "amount": facts["amount"],
            "currency": facts["currency"],
            "method": facts["method"],
            "flow": facts["flow"],
            "status": facts["status"],
            "captured": facts["captured"],
            "amount_captured": facts["amount_captured"],
            "amount_refunded": facts["amount_refunded"],
            "refund_status": facts["refund_status"],
            "fee": facts["fee"],
            "vpa": facts["vpa"],
            "card_network": facts["card_network"],
            "card_last4": facts["card_last4"],
            "hold_expires_at": timestamp(facts["hold_expires_at"]),
            "next_action": action and {**action, "expires_at": timestamp(action["expires_at"])},
            "error_code": facts["error_code"],
            "error_reason": facts["error_reason"],
            "error_description": facts["error_description"],
            "created_at": timestamp(facts["created_at"]),
            "updated_at": timestamp(facts["updated_at"]),
        }

    # --- helpers ---------------------------------------------------------------------------------

    def _move(self, status: str) -> None:
        if status not in TRANSITIONS[self.status]:
            raise RuntimeError(f"{self.id}: no way from {self.status} to {status}")
        self.status, self.updated_at = status, now()
        self.action_expires_at, self.upi_link = None, None

    def _take(self, amount: int, *legs: tuple[str, str, int]) -> None:
        self.captured, self.amount_captured, self.fee = True, amount, fee_of(amount, settings.fee_percent)
        self.hold_expires_at, self.updated_at = None, now()
        self._post("capture", *legs, ("merchant", "fees", self.fee))

    def _begin_operation(self, operation: str, amount: int | None) -> None:
        if self.operation is not None:
            raise conflict(
                f"A {self.operation} of this payment is in progress.", reason="operation_in_progress"
            )
        self.operation, self.operation_amount = operation, amount
        self.due_at, self.tries = now() + timedelta(seconds=TAKEOVER_S), 0

    def _finish_operation(self) -> None:
        self.operation, self.operation_amount = None, None
        self.unknown_since, self.ask_again = None, False
        self.due_at, self.claim_id, self.work_error = None, None, None

    def _post(self, kind: str, *legs: tuple[str, str, int]) -> None:
        ledger.post(kind, *legs, merchant_id=self.merchant_id, currency=self.currency, payment_id=self.id)

    def _tell(self, event_type: str) -> None:
        Event.record(event_type, self.merchant_id, self.order_id, payment=self)


def _next_action(payment: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the shopper has to do now, or None."""
    if payment["status"] != "requires_action":
        return None
    kind = "upi_approval" if payment["method"] == "upi" else "otp"
    return {"type": kind, "upi_link": payment["upi_link"], "expires_at": payment["action_expires_at"]}


class NextActionSchema(Schema):
    """What the shopper has to do while a payment is `requires_action`."""

    type = fields.String(metadata={"enum": ["otp", "upi_approval"]})
    upi_link = fields.String(
        allow_none=True,
        metadata={"description": "Of flows qr and intent: what to show as a QR code or to open."},
    )
    expires_at = Timestamp()


class PublicPaymentSchema(Schema):
    """What the shopper's page may know of the payment it made."""

    id = fields.String(metadata={"example": "pay_2DeEaQf3kZ8bWn0L"})
    order_id = fields.String()
    amount = fields.Integer(metadata={"description": "Minor units."})
    currency = fields.String(metadata={"example": "INR"})
    method = fields.String(metadata={"enum": list(METHODS)})
    flow = fields.String(allow_none=True, metadata={"enum": [*FLOWS, None]})
    status = fields.String(metadata={"enum": list(TRANSITIONS)})
    next_action = fields.Nested(NextActionSchema, allow_none=True)
    error_code = fields.String(allow_none=True)
    error_reason = fields.String(allow_none=True)
    error_description = fields.String(allow_none=True)
    created_at = Timestamp()
    updated_at = Timestamp()


class PaymentSchema(RowSchema, PublicPaymentSchema):
    class Meta:
        fields = (
            *("id", "order_id", "merchant_id", "amount", "currency", "method", "flow", "status", "captured"),
            *(
                "amount_captured",
                "amount_refunded",
                "refund_status",
                "fee",
                "vpa",
                "card_network",
                "card_last4",
                "hold_expires_at",
            ),
            *("next_action", "error_code", "error_reason", "error_description", "created_at", "updated_at"),
        )

    merchant_id = fields.String()
    captured = fields.Boolean()
    amount_captured = fields.Integer()
    amount_refunded = fields.Integer()
    fee = fields.Integer(metadata={"description": "What the gateway keeps of what was captured."})
    refund_status = fields.String(allow_none=True, metadata={"enum": ["partial", "full", None]})
    vpa = fields.String(allow_none=True)
    card_network = fields.String(allow_none=True)
    card_last4 = fields.String(allow_none=True)
    hold_expires_at = Timestamp(
        allow_none=True, metadata={"description": "An approval that is not captured is voided then."}
    )
