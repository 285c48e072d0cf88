"""What the acquirer gave no definite answer to: it is looked up again until there is one, and never guessed.

For a day that is the gateway's own business (jobs/work.py, `backoff_s`); then it is flagged, for somebody
to ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select, union_all

from models.base import db
from models.payments import Payment
from models.refunds import Refund

# Acquirers reconcile with the banks once a day: what they don't know by then, no look-up by itself will tell.
UNKNOWN_FLAGGED_AFTER = timedelta(days=1)
LISTED_MAX = 20  # the oldest ones: more at once is an outage of the acquirer, and no list helps with that
KINDS: dict[str, type[Payment] | type[Refund]] = {"payment": Payment, "refund": Refund}


@dataclass(frozen=True)
class UnknownOutcome:
    """A payment or refund of which nobody knows whether `operation` was done. Amount in minor units."""

    kind: str
    id: str
    payment_id: str
    merchant_id: str
    operation: str
    amount: int
    currency: str
    since: datetime
    tries: int
    next_look_at: datetime
    flagged: bool


@dataclass(frozen=True)
class UnknownCount:
    """How many there are, and how many of them are flagged."""

    count: int
    flagged: int
    oldest_since: datetime | None


def unknown_outcomes(merchant_id: str | None, *, limit: int = LISTED_MAX) -> list[UnknownOutcome]:
    """The oldest ones first; `merchant_id` None: of the whole gateway."""
    each = [_outcomes(kind, merchant_id) for kind in KINDS]
    rows = db.session.execute(union_all(*each).order_by("since", "id").limit(limit))
    return [UnknownOutcome(**row) for row in rows.mappings()]


def count_unknown(kind: str, merchant_id: str | None) -> UnknownCount:
    """Of one kind; `merchant_id` None: of the whole gateway."""
    model = KINDS[kind]
    counts = select(
        func.count(), func.count().filter(_is_flagged(model)), func.min(model.unknown_since)
    ).where(*_is_unknown(model, merchant_id))
    return UnknownCount(*db.session.execute(counts).one())


def _outcomes(kind: str, merchant_id: str | None) -> Select[Any]:
    model: Any = KINDS[kind]
    asked: tuple[Any, Any, Any] = (Refund.payment_id, literal("refund"), Refund.amount)
    if model is Payment:
        asked = (Payment.id, Payment.operation, func.coalesce(Payment.operation_amount, Payment.amount))
    payment_id, operation, amount = asked
    return select(
        literal(kind).label("kind"),
        model.id,
        payment_id.label("payment_id"),
        model.merchant_id,
        operation.label("operation"),
        amount.label("amount"),
        model.currency,
        model.unknown_since.label("since"),
        model.tries,
        model.due_at.label("next_look_at"),
        _is_flagged(model).label("flagged"),
    ).where(*_is_unknown(model, merchant_id))


def _is_unknown(model: Any, merchant_id: str | None) -> list[ColumnElement[bool]]:
    """Nothing unknown is ever without `due_at`, whose partial index finds it among what is settled.

    Without a try nobody was asked yet: a shopper has just approved a payment, and its look-up is to come.
    """
    conditions = [model.due_at.is_not(None), model.unknown_since.is_not(None), model.tries > 0]
    return conditions if merchant_id is None else [*conditions, model.merchant_id == merchant_id]


def _is_flagged(model: Any) -> ColumnElement[bool]:
    return model.unknown_since <= func.now() - UNKNOWN_FLAGGED_AFTER
