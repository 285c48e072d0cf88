"""Which acquirer moves the money: the simulator, or the one that ACQUIRER names."""

from __future__ import annotations

import pytest
from flask import Flask

from config import ConfigError
from jobs.acquirers import get_acquirer
from jobs.acquirers.simulator import Simulator
from tests.bank import LOSE, MISS, Bank
from tests.conftest import Api, drain_all, found, in_sql, made, settings_of

pytestmark = pytest.mark.usefixtures("proven")


@pytest.fixture
def bank(app: Flask) -> Bank:
    """Another acquirer than the simulator, with a book of its own."""
    app.extensions["acquirer"] = bank = Bank()
    return bank


def test_it_is_the_simulator_unless_told_otherwise() -> None:
    assert isinstance(get_acquirer(settings_of({})), Simulator)


def test_a_class_of_ones_own_is_made_with_the_settings() -> None:
    settings = settings_of({"ACQUIRER": "jobs.acquirers.simulator:Simulator"})
    assert isinstance(get_acquirer(settings), Simulator)


@pytest.mark.parametrize("name", ["no.such.module:Bank", "jobs.acquirers:Bank"])
def test_one_that_is_not_there_is_told_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^ACQUIRER: {name} cannot be loaded"):
        get_acquirer(settings_of({"ACQUIRER": name}))


def test_it_is_told_whether_to_take_the_money_or_to_hold_it(api: Api, bank: Bank) -> None:
    taken, held = api.paid(), api.paid(capture="manual")
    assert bank.money()[taken["id"]].taken == 10000
    assert (bank.money()[held["id"]].held, bank.money()[held["id"]].taken) == (10000, 0)


@pytest.mark.parametrize("operation", ["authorize", "capture", "void", "refund"])
@pytest.mark.parametrize("fate", [LOSE, MISS], ids=["its answer is lost", "it never arrived"])
def test_what_got_no_answer_is_done_once(api: Api, bank: Bank, make_due, operation: str, fate: str) -> None:
    """A lost answer is looked up; what never arrived is asked again, under the same key."""
    fates = [fate]
    bank.fate = lambda ask, _looked_up: fates.pop() if fates and ask.operation == operation else "answer"
    payment = api.paid(capture="manual" if operation in ("capture", "void") else "automatic")
    if operation == "refund":
        refund = made(api.post(f"/payments/{payment['id']}/refunds", {"amount": 4000}))
    elif operation != "authorize":
        assert api.post(f"/payments/{payment['id']}/{operation}").status_code == 202
    for _ in range(2):  # the look-up; and asking again
        drain_all()
        make_due("payments")
        make_due("refunds")
    drain_all()
    payment, money = api.payment(payment["id"]), bank.money()[payment["id"]]
    assert (money.taken, money.returned) == (payment["amount_captured"], payment["amount_refunded"])
    assert payment["status"] == ("voided" if operation == "void" else "success")
    if operation == "refund":
        assert found(api.get(f"/refunds/{refund['id']}"))["status"] == "processed"
    assert set(bank.asked.values()) == {1}
    assert not fates
    key_holder = bank.asked.keys()
    assert any(f":{operation}:" in key for key in key_holder)
    answers = ["unknown", "approved"] if fate == LOSE else ["unknown", "not_found", "approved"]
    assert (
        in_sql(
            api._client.application,
            "SELECT answer FROM acquirer_answers WHERE operation = :op ORDER BY id",
            op=operation,
        )
        == answers
    )
