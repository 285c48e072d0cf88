"""What the shopper's page sees of an order: nothing secret, nothing of the merchant but its face."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import Schema, fields
from sqlalchemy import select

from models.api_keys import ApiKey
from models.base import Timestamp, db
from models.colours import accent
from models.errors import Refused
from models.merchants import Merchant
from models.orders import METHODS, Order
from models.payments import Payment, PublicPaymentSchema


@dataclass(frozen=True)
class Checkout:
    """An order, who sells, and the latest payment of it: the live one, if there is one."""

    order: Order
    merchant: Merchant
    payment: Payment | None
    accent: dict[str, str] | None
    simulated: bool

    @classmethod
    def of(cls, order_id: str, *, key: str | None, color: str | None, simulated: bool) -> Checkout:
        """For whoever knows the order's id. `key` is the id of the API key that a page says it belongs to,
        `color` the accent that it wants, instead of the merchant's; `simulated` says that no money moves.

        Raises:
            Refused: there is no such order, or the key is not one of its merchant's.
        """
        order = Order.public(order_id)
        if key is not None and not ApiKey.belongs(key, order.merchant_id):
            text = "The key is not one of the merchant's whose order this is."
            raise Refused("AUTHENTICATION_ERROR", text, field="key")
        latest = select(Payment).where(Payment.order_id == order.id)
        latest = latest.order_by(Payment.created_at.desc(), Payment.seq.desc()).limit(1)
        color = color or order.merchant.accent_color
        return cls(
            order, order.merchant, db.session.scalar(latest), accent(color) if color else None, simulated
        )


class PublicMerchantSchema(Schema):
    name = fields.String()
    logo_url = fields.String(allow_none=True)


class AccentSchema(Schema):
    """An accent colour as it can be read."""

    brand = fields.String(metadata={"example": "#1a56c4"})
    on_brand = fields.String(metadata={"description": "For text on it."})
    text_light = fields.String(metadata={"description": "As text on a light page."})
    text_dark = fields.String(metadata={"description": "As text on a dark page."})


class CheckoutSchema(Schema):
    """What the checkout page shows."""

    id = fields.String(attribute="order.id")
    amount = fields.Integer(attribute="order.amount")
    currency = fields.String(attribute="order.currency")
    status = fields.String(
        attribute="order.status", metadata={"enum": ["created", "attempted", "paid", "expired"]}
    )
    methods = fields.List(
        fields.String(metadata={"enum": list(METHODS)}),
        attribute="order.payable_methods",
        metadata={"description": "Without those that do not move its currency."},
    )
    merchant = fields.Nested(PublicMerchantSchema)
    accent = fields.Nested(
        AccentSchema, allow_none=True, metadata={"description": "With contrasts that WCAG asks for."}
    )
    payment = fields.Nested(
        PublicPaymentSchema,
        allow_none=True,
        metadata={"description": "The latest payment of it: the live one, if there is one."},
    )
    simulated = fields.Boolean(
        metadata={"description": "Whether the acquirer is the simulator: no money moves."}
    )
    callback_url = fields.String(attribute="order.callback_url", allow_none=True)
    expires_at = Timestamp(attribute="order.expires_at", allow_none=True)
    created_at = Timestamp(attribute="order.created_at")
