"""The ledger: every movement of money as a double entry, in the transaction of the change.

Debits are positive, credits negative. What the accounts mean stands in schema.sql; that every posting
sums to zero is checked by the database: all rows of a posting are written by one statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from marshmallow import Schema, fields
from sqlalchemy import ForeignKey, ForeignKeyConstraint, Identity, func, select
from sqlalchemy.orm import Mapped, mapped_column

from models import batch
from models.base import Minor, Model, Timestamp, db, new_id, now


class LedgerEntry(Model):
    """One side of a posting."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        ForeignKeyConstraint(
            ["payment_id", "merchant_id", "currency"],
            ["payments.id", "payments.merchant_id", "payments.currency"],
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    posting_id: Mapped[str]
    merchant_id: Mapped[str]
    kind: Mapped[str]
    account: Mapped[str]
    amount: Mapped[int] = mapped_column(Minor)
    currency: Mapped[str]
    payment_id: Mapped[str]
    refund_id: Mapped[str | None] = mapped_column(ForeignKey("refunds.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


def post(
    kind: str,
    *legs: tuple[str, str, int],
    merchant_id: str,
    currency: str,
    payment_id: str,
    refund_id: str | None = None,
) -> None:
    """Post one movement. Each leg is (account to debit, account to credit, amount in minor units); one of
    nothing is left out.
    """
    posting_id, at = new_id("post"), now()
    for debit, credit, amount in legs:
        if amount == 0:
            continue
        for account, signed in ((debit, amount), (credit, -amount)):
            batch.append(
                LedgerEntry,
                id=new_id("led"),
                posting_id=posting_id,
                merchant_id=merchant_id,
                kind=kind,
                account=account,
                amount=signed,
                currency=currency,
                payment_id=payment_id,
                refund_id=refund_id,
                created_at=at,
            )


@dataclass(frozen=True)
class Balance:
    """Where a merchant stands in one currency, in minor units.

    captured - fees - refunded - refunds_pending = available; `held` is approved but not captured yet.
    """

    currency: str
    captured: int
    fees: int
    refunded: int
    refunds_pending: int
    held: int
    available: int


def balances(merchant_id: str) -> list[Balance]:
    """The merchant's balances, one a currency, as sums over the ledger."""
    entry = LedgerEntry
    rows = db.session.execute(
        select(
            entry.currency,
            func.sum(entry.amount).filter(entry.account == "acquirer", entry.kind == "capture"),
            func.sum(-entry.amount).filter(entry.account == "fees"),
            func.sum(-entry.amount).filter(
                entry.account == "acquirer", entry.kind.in_(["refund_processed", "refund_failed"])
            ),
            func.sum(-entry.amount).filter(entry.account == "refunds_in_flight"),
            func.sum(entry.amount).filter(entry.account == "acquirer_hold"),
            func.sum(-entry.amount).filter(entry.account == "merchant"),
        )
        .where(entry.merchant_id == merchant_id)
        .group_by(entry.currency)
        .order_by(entry.currency)
    )
    return [Balance(currency, *(int(amount or 0) for amount in amounts)) for currency, *amounts in rows]


class LedgerEntrySchema(Schema):
    id = fields.String()
    posting_id = fields.String()
    kind = fields.String()
    account = fields.String()
    amount = fields.Integer(metadata={"description": "Minor units; debits positive, credits negative."})
    currency = fields.String()
    payment_id = fields.String()
    refund_id = fields.String(allow_none=True)
    created_at = Timestamp()


class BalanceSchema(Schema):
    currency = fields.String()
    captured = fields.Integer()
    fees = fields.Integer(metadata={"description": "What the gateway kept of it."})
    refunded = fields.Integer()
    refunds_pending = fields.Integer()
    held = fields.Integer()
    available = fields.Integer()
