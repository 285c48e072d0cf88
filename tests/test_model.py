"""The reference model by itself: what no sequence that is drawn may be long enough to show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model import IN_FLIGHT, Answer, Order, Payment, Request, State, Step

BUSY = Answer(409, {"error": {"reason": "operation_in_progress"}})
MET = Answer(409, {"error": {"reason": IN_FLIGHT[1]}})


class Released:
    """A book in which every void was approved."""

    def approved(self, key: str) -> bool:
        return ":void:" in key

    def declined(self, _key: str) -> bool:
        return False

    def waited(self, _payment_id: str) -> bool:
        return False


VOID = Request("void", "pay_1", {}, key="key-1")
VOIDED = Answer(200, {"id": "pay_1", "status": "voided", "amount_captured": 0})
BEFORE = State(
    orders={"order_1": Order("order_1", 100, "manual", None)},
    payments={"pay_1": Payment("pay_1", "order_1", 100, "manual", "upi", "success")},
)
AFTER = replace(BEFORE, payments={"pay_1": replace(BEFORE.payments["pay_1"], status="voided")})
AT_ONCE = Step(Released(), AFTER, 0, together=True)
ALONE = replace(AT_ONCE, together=False)


@pytest.mark.parametrize("others", [[], [MET], [BUSY], [BUSY, MET], [BUSY, BUSY]])
def test_what_the_first_answered_is_replayed_whoever_met_its_reservation(others: list[Answer]) -> None:
    done = [(VOID, VOIDED), *((VOID, other) for other in others)]
    states = list(BEFORE.explanations(done, AT_ONCE))
    assert states
    replay = [(VOID, replace(VOIDED, replayed=True))]
    again = [end for state in states for end in state.explanations(replay, ALONE)]
    assert again
    for state in states:
        assert not list(state.explanations([(VOID, replace(VOIDED, replayed=True, body={}))], ALONE))
        assert not list(state.explanations([(VOID, MET)], ALONE))


def test_an_operation_in_progress_is_no_answer_once_it_is_over() -> None:
    states = list(BEFORE.explanations([(VOID, VOIDED), (VOID, BUSY)], AT_ONCE))
    assert states
    assert not [end for state in states for end in state.explanations([(VOID, BUSY)], ALONE)]
