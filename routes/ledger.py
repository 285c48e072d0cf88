"""The merchant's balance, and the ledger rows behind it."""

from __future__ import annotations

from flask import g
from marshmallow import Schema, fields
from sqlalchemy import select

from models.ledger import BalanceSchema, LedgerEntry, LedgerEntrySchema, balances
from routes.auth import authenticated
from routes.fields import Blueprint, Text
from routes.pagination import PageQuery, filtered, page, page_of

blp = Blueprint("ledger", __name__, url_prefix="/api/v1", description="Where the money stands.")


class BalancesSchema(Schema):
    data = fields.List(fields.Nested(BalanceSchema))


class LedgerQuery(PageQuery):
    currency = Text(metadata={"description": "Only entries in it."})
    account = Text(metadata={"description": "Only entries of this account."})
    payment_id = Text(metadata={"description": "Only entries of this payment."})
    refund_id = Text(metadata={"description": "Only entries of this refund."})


@blp.get("/balance")
@authenticated
@blp.response(200, BalancesSchema)
def get_balance():
    """Get the balance in each currency: captured - fees - refunded - refunds_pending = available."""
    return {"data": balances(g.merchant_id)}


@blp.get("/ledger")
@authenticated
@blp.arguments(LedgerQuery, location="query")
@blp.response(200, page_of(LedgerEntrySchema))
def list_ledger(args):
    """List ledger entries, newest first. The entries of one posting sum to zero."""
    query = select(LedgerEntry).where(LedgerEntry.merchant_id == g.merchant_id)
    query = filtered(query, LedgerEntry, args, "currency", "account", "payment_id", "refund_id")
    return page(query, LedgerEntry, args)
