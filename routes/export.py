"""Payments as a file: CSV (RFC 4180), of any size, made while it is sent."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from flask import Response, stream_with_context
from sqlalchemy import Select, func, tuple_

from models.base import db, isoformat, now
from models.orders import Order
from models.payments import Payment
from routes.auth import authenticated
from routes.fields import Blueprint
from routes.pagination import between
from routes.payments import PaymentQuery, chosen_payments

ROWS_A_QUERY = 1000  # few enough to be small in memory, and enough that the queries do not count
# A spreadsheet takes a cell that begins so for a formula, and a receipt is what somebody typed (OWASP).
# The last four are the first four as East Asian keyboards type them.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

COLUMNS = (
    *(Payment.id, Payment.order_id, Order.receipt, Payment.created_at, Payment.status, Payment.method),
    *(Payment.currency, Payment.amount, Payment.captured, Payment.amount_captured, Payment.amount_refunded),
    *(Payment.fee, Payment.refund_status, Payment.vpa, Payment.card_network, Payment.card_last4),
    *(Payment.error_code, Payment.error_reason, Payment.error_description),
)

blp = Blueprint("export", __name__, url_prefix="/api/v1", description="Payments as a file.")


class ExportQuery(PaymentQuery):
    class Meta(PaymentQuery.Meta):
        exclude = ("limit", "starting_after")


@blp.get("/payments/export")
@authenticated
@blp.arguments(ExportQuery, location="query")
@blp.response(
    200,
    {"type": "string"},
    content_type="text/csv",
    headers={
        "X-Total-Rows": {"required": True, "schema": {"type": "integer"}, "description": "Without its first."}
    },
)
def export_payments(args):
    """Export payments as CSV, newest first, all that the filters leave. `X-Total-Rows` says how many that is.

    Amounts are in minor units, times in UTC. What is paid while it is made is not in it.
    """
    at = now()
    query = between(chosen_payments(args), Payment, args).where(Payment.created_at <= at)
    total = db.session.scalar(query.with_only_columns(func.count()))
    response = Response(stream_with_context(_lines(query)), mimetype="text/csv")
    response.headers["X-Total-Rows"] = str(total)
    response.headers["Content-Disposition"] = f'attachment; filename="payments-{at:%Y-%m-%d}.csv"'
    return response


def _lines(query: Select[Any]) -> Iterator[str]:
    """The file in pieces. Each is a transaction of its own: a slow reader keeps none open."""
    newest = (Payment.created_at.desc(), Payment.seq.desc())
    rows = query.with_only_columns(*COLUMNS, Payment.seq).join(Order, Order.id == Payment.order_id)
    rows = rows.order_by(*newest).limit(ROWS_A_QUERY)
    yield _csv([[column.key for column in COLUMNS]])
    after: tuple[Any, ...] | None = None
    while True:
        place = tuple_(Payment.created_at, Payment.seq)
        found = db.session.execute(rows if after is None else rows.where(place < tuple_(*after))).all()
        db.session.rollback()
        if found:
            yield _csv([[_cell(value) for value in row[:-1]] for row in found])
        if len(found) < ROWS_A_QUERY:
            return
        after = (found[-1].created_at, found[-1].seq)


def _cell(value: Any) -> Any:
    if hasattr(value, "tzinfo"):
        return isoformat(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
