"""Keeps what the acquirer said: every settle does, whatever follows from it."""

from __future__ import annotations

from jobs.acquirers import Approved, Ask, Declined, NeedsAction, NotFound, Result, Unknown
from models.acquirer_answers import AcquirerAnswer

NAMES = {
    Approved: "approved",
    Declined: "declined",
    NeedsAction: "needs_action",
    Unknown: "unknown",
    NotFound: "not_found",
}


def keep(result: Result, ask: Ask, *, looked_up: bool) -> None:
    """Write the answer down, in the transaction that acts on it."""
    AcquirerAnswer.record(
        NAMES[type(result)],
        operation=ask.operation,
        looked_up=looked_up,
        payment_id=ask.payment_id,
        refund_id=ask.id if ask.operation == "refund" else None,
        reason=result.reason if isinstance(result, Declined) else None,
        reference=result.reference if isinstance(result, Approved) else None,
    )
