"""Orders: what is to be paid, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from marshmallow import fields
from sqlalchemy import ARRAY, ForeignKey, Identity, Text, UniqueConstraint, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, joinedload, mapped_column, relationship

from config import settings
from models import direct
from models.base import Minor, Model, RowSchema, Timestamp, db, known_now, new_id, now, timestamp
from models.errors import bad_request, conflict, not_found
from models.events import Event
from models.merchants import Merchant
from models.together import Together

METHODS = ("upi", "card")
UPI_CURRENCY = "INR"  # all that UPI moves

# One statement, so that it needs no transaction around it.
INSERT = """
    INSERT INTO orders (id, merchant_id, amount, currency, receipt, notes, capture, methods, callback_url,
                        expires_at, created_at, updated_at)
    SELECT id, merchant_id, amount, currency, receipt, notes, capture, methods, callback_url,
           at + make_interval(secs => expires_in), at, at
    FROM json_to_recordset(%s) AS new (
        id text, merchant_id text, amount bigint, currency text, receipt text, notes jsonb, capture text,
        methods text[], callback_url text, expires_in integer),
    coalesce(%s::timestamptz, now()) AS at
    RETURNING id, seq, created_at, expires_at"""


class Order(Model):
    """`created -> attempted -> paid`, or `expired`."""

    __tablename__ = "orders"
    batched = True
    __table_args__ = (UniqueConstraint("id", "merchant_id", "amount", "currency"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str] = mapped_column(ForeignKey("merchants.id"))
    amount: Mapped[int] = mapped_column(Minor)
    amount_paid: Mapped[int] = mapped_column(Minor, server_default="0")
    currency: Mapped[str]
    receipt: Mapped[str | None]
    notes: Mapped[dict[str, str]] = mapped_column(JSONB, server_default="{}")
    capture: Mapped[str] = mapped_column(server_default="automatic")
    methods: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{upi,card}")
    callback_url: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="created")
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    merchant: Mapped[Merchant] = relationship(lazy="raise")

    @classmethod
    def create(
        cls,
        merchant_id: str,
        *,
        amount: int,
        currency: str,
        receipt: str | None = None,
        notes: dict[str, str] | None = None,
        capture: str = "automatic",
        methods: Sequence[str] = METHODS,
        callback_url: str | None = None,
        expires_in: int | None = None,
    ) -> dict[str, Any]:
        """The columns of a new order. `expires_in`: seconds from now; None: never.

        Raises:
            Refused: nobody could pay it, for its only method does not move its currency.
        """
        if list(methods) == ["upi"] and currency != UPI_CURRENCY:
            raise bad_request(f"UPI pays in {UPI_CURRENCY} only; take another method too.", field="methods")
        return insert_order(
            {
                "id": new_id("order"),
                "merchant_id": merchant_id,
                "amount": amount,
                "currency": currency,
                "receipt": receipt,
                "notes": notes or {},
                "capture": capture,
                "methods": list(methods),
                "callback_url": callback_url,
                "expires_in": expires_in,
            }
        )

    @staticmethod
    def insert(orders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Write what `create` has put together, and complete it."""
        written = {
            id_: rest for id_, *rest in direct.rows(INSERT, (orjson.dumps(orders).decode(), known_now()))
        }
        for order in orders:
            del order["expires_in"]
            order["seq"], order["created_at"], order["expires_at"] = written[order["id"]]
            order.update(status="created", amount_paid=0, updated_at=order["created_at"])
        return [*orders]

    @classmethod
    def of_merchant(cls, merchant_id: str, order_id: str) -> Order:
        order = db.session.scalar(select(cls).where(cls.id == order_id, cls.merchant_id == merchant_id))
        if order is None:
            raise not_found("Order")
        return order

    @classmethod
    def public(cls, order_id: str) -> Order:
        """The order and its merchant, for the checkout page: whoever knows the id may pay it."""
        order = db.session.scalar(select(cls).where(cls.id == order_id).options(joinedload(cls.merchant)))
        if order is None:
            raise not_found("Order")
        return order

    @classmethod
    def lock(cls, order_id: str, merchant_id: str | None = None) -> Order:
        """The order, locked until commit, so that one payment at a time is begun or settled for it."""
        if merchant_id is None:
            found = direct.locked(cls, "id = %s", (order_id,))
        else:
            found = direct.locked(cls, "id = %s AND merchant_id = %s", (order_id, merchant_id))
        if not found:
            raise not_found("Order")
        return found[0]

    @classmethod
    def lock_free(cls, ids: Iterable[str]) -> dict[str, Order]:
        """Of these, the orders that nobody else has locked, by id: locked until commit, without waiting."""
        found = direct.locked(cls, "id = ANY(%s)", (sorted(ids),), wait=False)
        return {order.id: order for order in found}

    def check_payable(self) -> None:
        """
        Raises:
            Refused: it is paid or expired.
        """
        if self.status == "paid":
            raise conflict("The order is already paid.", reason="order_paid")
        if self.status == "expired" or (self.expires_at is not None and self.expires_at <= now()):
            raise conflict("The order has expired.", reason="order_expired")

    def attempt(self) -> None:
        """A payment of it begins."""
        self.status, self.updated_at = "attempted", now()

    def pay(self, amount: int) -> None:
        """Its payment was captured."""
        self.status, self.amount_paid, self.updated_at = "paid", amount, now()
        Event.record("order.paid", self.merchant_id, self.id, order=self)

    def expire(self) -> None:
        """Nobody paid it in time, and no payment of it is under way."""
        self.status, self.updated_at = "expired", now()
        Event.record("order.expired", self.merchant_id, self.id, order=self)

    @property
    def payable_methods(self) -> list[str]:
        """Its methods without those that do not move its currency."""
        return [method for method in self.methods if method != "upi" or self.currency == UPI_CURRENCY]

    @property
    def checkout_url(self) -> str:
        return _checkout_url(self.id)

    @staticmethod
    def json_of(facts: Mapping[str, Any]) -> dict[str, Any]:
        """As OrderSchema describes it."""
        return {
            "id": facts["id"],
            "merchant_id": facts["merchant_id"],
            "amount": facts["amount"],
            "amount_paid": facts["amount_paid"],
            "currency": facts["currency"],
            "receipt": facts["receipt"],
            "notes": facts["notes"],
            "capture": facts["capture"],
            "methods": facts["methods"],
            "callback_url": facts["callback_url"],
            "status": facts["status"],
            "expires_at": timestamp(facts["expires_at"]),
            "checkout_url": _checkout_url(facts["id"]),
            "created_at": timestamp(facts["created_at"]),
            "updated_at": timestamp(facts["updated_at"]),
        }


insert_order = Together(Order.insert, lambda order: Order.insert([order])[0])


def _checkout_url(order_id: str) -> str:
    return f"{settings.checkout_url}/checkout?order_id={order_id}"


class OrderSchema(RowSchema):
    id = fields.String(metadata={"example": "order_2DeEa8WnQf3kZb0L"})
    merchant_id = fields.String()
    amount = fields.Integer(metadata={"description": "Minor units."})
    amount_paid = fields.Integer(metadata={"description": "Captured so far, in minor units."})
    currency = fields.String(metadata={"example": "INR"})
    receipt = fields.String(allow_none=True)
    notes = fields.Dict(keys=fields.String(), values=fields.String())
    capture = fields.String(metadata={"enum": ["automatic", "manual"]})
    methods = fields.List(fields.String(metadata={"enum": list(METHODS)}))
    callback_url = fields.String(allow_none=True)
    status = fields.String(metadata={"enum": ["created", "attempted", "paid", "expired"]})
    expires_at = Timestamp(allow_none=True)
    checkout_url = fields.String()
    created_at = Timestamp()
    updated_at = Timestamp()
