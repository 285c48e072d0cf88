"""Refund work: ask the acquirer to send money back, and settle what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm.attributes import set_committed_value

from jobs import answers
from jobs.acquirers import (
    Acquirer,
    Approved,
    Ask,
    Declined,
    NeedsAction,
    NotFound,
    Result,
    Unknown,
    is_instant,
)
from jobs.payments import app_acquirer
from jobs.work import ASK_AGAIN_S, Work, backoff_s
from models.base import db, now
from models.payments import Payment
from models.refunds import Refund


@dataclass(frozen=True)
class RefundTask:
    ask: Ask
    look_up: bool
    acquirer: Acquirer


class RefundWork(Work[RefundTask, Result]):
    queue = "refunds"
    model = Refund

    def prepare(self, rows: Sequence[Row[Any]]) -> Iterable[tuple[str, RefundTask]]:
        acquirer = app_acquirer()
        ids = {refund.payment_id for refund in rows}
        payments = {p.id: p for p in db.session.scalars(select(Payment).where(Payment.id.in_(ids)))}
        for refund in rows:
            payment = payments[refund.payment_id]
            ask = Ask(
                id=refund.id,
                payment_id=refund.payment_id,
                operation="refund",
                amount=refund.amount,
                currency=refund.currency,
                method=payment.method,
                vpa=payment.vpa,
                token=payment.acquirer_token,
                age_s=(now() - refund.created_at).total_seconds(),
            )
            look_up = refund.unknown_since is not None and not refund.ask_again
            look_up |= refund.status == "processed"
            yield refund.id, RefundTask(ask, look_up, acquirer)

    def act(self, data: RefundTask) -> Result:
        return data.acquirer.lookup(data.ask) if data.look_up else data.acquirer.refund(data.ask)

    @property
    def is_instant(self) -> bool:
        return is_instant(app_acquirer())

    def lock(self, ids: list[str]) -> Sequence[Refund]:
        refunds = super().lock(ids)
        ids = [refund.payment_id for refund in refunds]
        payments = {payment.id: payment for payment in self.lock_rows(Payment, ids)}
        for refund in refunds:  # refunding changes the payment too
            set_committed_value(refund, "payment", payments[refund.payment_id])
        return refunds

    def settle(self, row: Refund, data: RefundTask, outcome: Result) -> None:
        answers.keep(outcome, data.ask, looked_up=data.look_up)
        payment = row.payment
        match outcome:
            case Approved() if row.status == "processed":
                row.settle_for_good()
            case Approved(reference, check_again_s):
                row.process(payment, reference, check_again_s)
            case Declined(_, reason, _):
                row.fail(payment, reason)
            case NotFound() if row.status == "pending":
                row.stay_unknown(ASK_AGAIN_S, ask_again=True)
            case Unknown() | NotFound():
                row.stay_unknown(backoff_s(row.tries))
            case NeedsAction():
                raise RuntimeError(f"{row.id}: a refund has nobody to act")


REFUNDS = RefundWork()
run = REFUNDS.run
