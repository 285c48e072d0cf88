"""Finding payments, orders and refunds by what people have at hand: an id, a receipt, a card's end, a VPA."""

from __future__ import annotations

import re

from sqlalchemy import ColumnElement, CompoundSelect, Select, func, select, union_all

from models.base import db
from models.orders import Order
from models.payments import Payment
from models.refunds import Refund

PREFIX_LENGTH_MIN = 3  # characters; fewer would match half of all rows
FEW = 1000  # orders with such a receipt: so many are looked up one by one in some milliseconds


def payments_like(merchant_id: str, words: str) -> Select[str] | CompoundSelect[str]:
    """The ids of payments that are, or belong to, what was typed.

    Ids and a card's last four digits are matched whole; a receipt or UPI ID also by its first three or more
    characters. Each is looked up in an index of its own.
    """
    words = words.strip()
    mine = Payment.merchant_id == merchant_id
    found = [
        select(Payment.id).where(mine, Payment.id == words),
        select(Payment.id).where(mine, Payment.order_id == words),
        select(Refund.payment_id).where(Refund.merchant_id == merchant_id, Refund.id == words),
    ]
    if re.fullmatch(r"[0-9]{4}", words, re.ASCII):
        found.append(select(Payment.id).where(mine, Payment.card_last4 == words))
    if len(words) >= PREFIX_LENGTH_MIN:
        vpa = func.lower(Payment.vpa).startswith(words.lower(), autoescape=True)
        found.append(select(Payment.id).where(mine, Payment.vpa.is_not(None), vpa))
    receipts = _orders_by_receipt(merchant_id, words)
    by_receipt = Payment.order_id.in_(receipts)
    if _are_few(receipts):
        return union_all(*found, select(Payment.id).where(mine, by_receipt))
    return select(Payment.id).where(mine, Payment.id.in_(union_all(*found)) | by_receipt)


def orders_like(merchant_id: str, words: str) -> Select[str] | CompoundSelect[str]:
    """The ids of orders by id, by a payment's id, or by the receipt or its beginning."""
    words = words.strip()
    mine = Order.merchant_id == merchant_id
    found = [
        select(Order.id).where(mine, Order.id == words),
        select(Payment.order_id).where(Payment.merchant_id == merchant_id, Payment.id == words),
    ]
    receipts = _orders_by_receipt(merchant_id, words)
    if _are_few(receipts):
        return union_all(*found, receipts)
    return select(Order.id).where(mine, Order.id.in_(union_all(*found)) | _has_receipt(words))


def refunds_like(merchant_id: str, words: str) -> CompoundSelect[str]:
    """The ids of refunds by id, or of the payment or order with this id."""
    words = words.strip()
    mine = Refund.merchant_id == merchant_id
    return union_all(
        select(Refund.id).where(mine, Refund.id == words),
        select(Refund.id).where(mine, Refund.payment_id == words),
        select(Refund.id).where(
            mine, Refund.payment_id.in_(select(Payment.id).where(Payment.order_id == words))
        ),
    )


def _orders_by_receipt(merchant_id: str, words: str) -> Select[str]:
    return select(Order.id).where(Order.merchant_id == merchant_id, _has_receipt(words))


def _has_receipt(words: str) -> ColumnElement[bool]:
    begins = Order.receipt.startswith(words, autoescape=True)
    return Order.receipt.is_not(None) & (
        begins if len(words) >= PREFIX_LENGTH_MIN else Order.receipt == words
    )


def _are_few(found: Select[str]) -> bool:
    """Whether each may be looked up by itself.

    If not, the condition is made an OR, by which the planner goes through a list from its beginning until the
    page is full. (Of a UNION it would look up and sort all, as if it were few: half a second for 100,000.)
    """
    some = found.limit(FEW + 1).subquery()
    return (db.session.scalar(select(func.count()).select_from(some)) or 0) <= FEW
