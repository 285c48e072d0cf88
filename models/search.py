"""Finding payments, orders and refunds by what people have at hand: an id, a receipt, a card's end, a VPA."""

from __future__ import annotations

import re

from sqlalchemy import CompoundSelect, Select, func, select, union_all

from models.orders import Order
from models.payments import Payment
from models.refunds import Refund

PREFIX_LENGTH_MIN = 3  # characters; fewer would match half of all rows


def payments_like(merchant_id: str, words: str) -> CompoundSelect[str]:
    """The ids of payments that are, or belong to, what was typed.

    Ids and a card's last four digits are matched whole; a receipt or UPI ID also by its first three or more
    characters. Each is looked up in an index of its own.
    """
    words = words.strip()
    mine = Payment.merchant_id == merchant_id
    found = [
        select(Payment.id).where(mine, Payment.id == words),
        select(Payment.id).where(mine, Payment.order_id == words),
        select(Payment.id).where(mine, Payment.order_id.in_(_orders_by_receipt(merchant_id, words))),
        select(Refund.payment_id).where(Refund.merchant_id == merchant_id, Refund.id == words),
    ]
    if re.fullmatch(r"[0-9]{4}", words, re.ASCII):
        found.append(select(Payment.id).where(mine, Payment.card_last4 == words))
    if len(words) >= PREFIX_LENGTH_MIN:
        vpa = func.lower(Payment.vpa).startswith(words.lower(), autoescape=True)
        found.append(select(Payment.id).where(mine, Payment.vpa.is_not(None), vpa))
    return union_all(*found)


def orders_like(merchant_id: str, words: str) -> CompoundSelect[str]:
    """The ids of orders by id, by a payment's id, or by the receipt or its beginning."""
    words = words.strip()
    return union_all(
        select(Order.id).where(Order.merchant_id == merchant_id, Order.id == words),
        _orders_by_receipt(merchant_id, words),
        select(Payment.order_id).where(Payment.merchant_id == merchant_id, Payment.id == words),
    )


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
    receipt = (
        Order.receipt.startswith(words, autoescape=True)
        if len(words) >= PREFIX_LENGTH_MIN
        else Order.receipt == words
    )
    return select(Order.id).where(Order.merchant_id == merchant_id, Order.receipt.is_not(None), receipt)
