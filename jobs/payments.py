"""Payment work: ask the acquirer to authorize, capture or void, and settle what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import current_app
from sqlalchemy import Row
from sqlalchemy.orm.attributes import set_committed_value

from config import settings
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
    get_acquirer,
    is_instant,
)
from jobs.work import ASK_AGAIN_S, Work, backoff_s
from models.base import now
from models.merchants import Merchant
from models.orders import Order
from models.payments import Payment


@dataclass(frozen=True)
class PaymentTask:
    """What is asked of the acquirer, and whether it may have been asked before without an answer."""

    ask: Ask
    look_up: bool
    acquirer: Acquirer


class PaymentWork(Work[PaymentTask, Result]):
    queue = "payments"
    model = Payment

    def prepare(self, rows: Sequence[Row[Any]]) -> Iterable[tuple[str, PaymentTask]]:
        acquirer = app_acquirer()
        payees = Merchant.names({payment.merchant_id for payment in rows})
        for payment in rows:
            if payment.operation is None:
                raise RuntimeError(f"{payment.id}: due without an operation")
            ask = Ask(
                id=payment.id,
                payment_id=payment.id,
                operation=payment.operation,
                amount=payment.operation_amount or payment.amount,
                currency=payment.currency,
                method=payment.method,
                vpa=payment.vpa,
                token=payment.acquirer_token,
                age_s=(now() - payment.created_at).total_seconds(),
                capture=payment.capture,
                flow=payment.flow,
                payee=payees[payment.merchant_id],
            )
            look_up = payment.unknown_since is not None and not payment.ask_again
            look_up |= payment.status == "requires_action"
            yield payment.id, PaymentTask(ask, look_up, acquirer)

    def act(self, data: PaymentTask) -> Result:
        if data.look_up:
            return data.acquirer.lookup(data.ask)
        match data.ask.operation:
            case "authorize":
                return data.acquirer.authorize(data.ask)
            case "capture":
                return data.acquirer.capture(data.ask)
            case _:
                return data.acquirer.void(data.ask)

    @property
    def is_instant(self) -> bool:
        return is_instant(app_acquirer())

    def lock(self, ids: list[str]) -> Sequence[Payment]:
        payments = super().lock(ids)
        orders = {order.id: order for order in self.lock_rows(Order, [p.order_id for p in payments])}
        for payment in payments:  # taking money changes the order too
            set_committed_value(payment, "order", orders[payment.order_id])
        return payments

    def settle(self, row: Payment, data: PaymentTask, outcome: Result) -> None:
        answers.keep(outcome, data.ask, looked_up=data.look_up)
        match outcome, data.ask.operation:
            case Unknown(), _:
                row.stay_unknown(backoff_s(row.tries))
            case NeedsAction() | NotFound(), _ if row.status == "requires_action":
                row.stay_unknown(backoff_s(row.tries))  # its time is over, and the acquirer still waits
            case NotFound(), _:
                row.stay_unknown(ASK_AGAIN_S, ask_again=True)
            case NeedsAction(expires_in_s, upi_link), _:
                row.require_action(expires_in_s, upi_link)
            case Approved(reference=reference, vpa=vpa), "authorize":
                row.approve(row.order, reference, vpa)
            case Approved(), "capture":
                row.take(row.order)
            case Approved(), _:
                row.void()
            case Declined(code, reason, description), "authorize":
                row.decline(code, reason, description)
            case Declined(), _:
                row.refuse_operation()


def app_acquirer() -> Acquirer:
    """The running app's acquirer."""
    extensions: dict[str, Any] = current_app.extensions
    if "acquirer" not in extensions:
        extensions["acquirer"] = get_acquirer(settings)
    return extensions["acquirer"]


PAYMENTS = PaymentWork()
run = PAYMENTS.run
