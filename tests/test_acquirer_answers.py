"""What the gateway makes of every answer an acquirer can give, the rare ones too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from jobs.acquirers import Approved, Ask, Declined, NeedsAction, Result, Unknown
from jobs.payments import PAYMENTS
from models.instruments import Card
from tests.conftest import Api, drain_all, found, made, refused

DECLINED = Declined("PAYMENT_DECLINED", "not_possible", "No.")


class Scripted:
    """An acquirer that answers as the test says; without a word from it, it approves."""

    simulated = True

    def __init__(self) -> None:
        self.answers: dict[str, list[Result]] = {}
        self.asked: list[tuple[str, str, int]] = []

    def tokenize(self, card: Card) -> str:
        return f"token-{card.last4}"

    def authenticate(self, token: str | None, otp: str) -> str:
        return f"{token}-{otp}"

    def cancel(self, token: str | None) -> str:
        return f"{token}-cancelled"

    def authorize(self, ask: Ask) -> Result:
        return self._answer("authorize", ask)

    def capture(self, ask: Ask) -> Result:
        return self._answer("capture", ask)

    def void(self, ask: Ask) -> Result:
        return self._answer("void", ask)

    def refund(self, ask: Ask) -> Result:
        return self._answer("refund", ask)

    def lookup(self, ask: Ask) -> Result:
        return self._answer("lookup", ask)

    def _answer(self, call: str, ask: Ask) -> Result:
        self.asked.append((call, ask.operation, ask.amount))
        answers = self.answers.get(call)
        return answers.pop(0) if answers else Approved("ref")


@pytest.fixture
def acquirer(app: Flask) -> Scripted:
    app.extensions["acquirer"] = scripted = Scripted()
    return scripted


def test_an_unknown_authorization_is_looked_up_and_never_asked_again(
    api: Api, acquirer: Scripted, make_due: Callable[[str], None]
) -> None:
    acquirer.answers = {"authorize": [Unknown()], "lookup": [Unknown(), Unknown()]}
    payment = api.upi(api.order()["id"])
    for _ in range(3):
        drain_all()
        assert api.payment(payment["id"])["status"] == "pending"
        make_due("payments")
    drain_all()
    assert api.payment(payment["id"])["status"] == "success"
    assert [call for call, _, _ in acquirer.asked] == ["authorize", "lookup", "lookup", "lookup"]


def test_a_refused_capture_leaves_the_approval_as_it_was(api: Api, acquirer: Scripted) -> None:
    payment = api.paid(capture="manual")
    acquirer.answers = {"capture": [DECLINED]}
    answer = api.post(f"/payments/{payment['id']}/capture", key="k1")
    assert refused(answer, 400, "BAD_REQUEST_ERROR")["reason"] == "capture_refused"
    after = api.payment(payment["id"])
    assert (after["status"], after["captured"], after["amount_captured"]) == ("success", False, 0)
    assert found(api.get("/balance"))["data"][0]["held"] == 10000
    assert found(api.post(f"/payments/{payment['id']}/void"))["status"] == "voided"


def test_a_refused_void_leaves_the_approval_as_it_was(api: Api, acquirer: Scripted) -> None:
    payment = api.paid(capture="manual")
    acquirer.answers = {"void": [DECLINED]}
    answer = api.post(f"/payments/{payment['id']}/void")
    assert refused(answer, 400, "BAD_REQUEST_ERROR")["reason"] == "void_refused"
    assert found(api.post(f"/payments/{payment['id']}/capture"))["captured"] is True


@pytest.mark.parametrize(
    ("wish", "body", "overtaker", "its_body"),
    [
        ("capture", {"amount": 9000}, "capture", {"amount": 10000}),
        ("capture", {"amount": 9000}, "void", {}),
        ("void", {}, "capture", {}),
    ],
)
@pytest.mark.parametrize("its_answer", [None, Unknown()])
def test_a_refusal_is_told_whatever_another_request_did_by_then(
    api: Api,
    acquirer: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    *,
    wish: str,
    body: dict[str, int],
    overtaker: str,
    its_body: dict[str, int],
    its_answer: Result | None,
) -> None:
    payment = api.paid(capture="manual")
    acquirer.answers = {wish: [DECLINED]}
    run_one = PAYMENTS.run_one
    others: list[int] = []

    def run_and_be_overtaken(row_id: str) -> None:
        run_one(row_id)
        monkeypatch.setattr(PAYMENTS, "run_one", run_one)
        if its_answer is not None:
            acquirer.answers[overtaker] = [its_answer]
        others.append(api.post(f"/payments/{payment['id']}/{overtaker}", its_body).status_code)

    monkeypatch.setattr(PAYMENTS, "run_one", run_and_be_overtaken)
    answer = api.post(f"/payments/{payment['id']}/{wish}", body)
    assert refused(answer, 400, "BAD_REQUEST_ERROR")["reason"] == f"{wish}_refused"
    assert others == [200 if its_answer is None else 202]


def test_a_capture_without_a_definite_answer_is_accepted_and_looked_up(
    api: Api, acquirer: Scripted, make_due: Callable[[str], None]
) -> None:
    payment = api.paid(capture="manual")
    path = f"/payments/{payment['id']}/capture"
    acquirer.answers = {"capture": [Unknown()]}
    answer = api.post(path, {"amount": 7000}, key="k1")
    assert answer.status_code == 202
    assert answer.get_json()["captured"] is False
    assert (
        refused(api.post(path, {"amount": 7000}), 409, "CONFLICT_ERROR")["reason"] == "operation_in_progress"
    )
    make_due("payments")
    drain_all()
    assert api.payment(payment["id"])["amount_captured"] == 7000
    assert acquirer.asked[1:] == [("capture", "capture", 7000), ("lookup", "capture", 7000)]


def test_an_acquirer_that_breaks_is_asked_again_later(
    api: Api, acquirer: Scripted, make_due: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = api.paid(capture="manual")
    monkeypatch.setattr(acquirer, "capture", lambda _ask: 1 / 0)
    answer = api.post(f"/payments/{payment['id']}/capture")
    assert answer.status_code == 202
    monkeypatch.undo()
    make_due("payments")
    drain_all()
    assert api.payment(payment["id"])["captured"] is True


def test_a_refund_may_be_refused(api: Api, acquirer: Scripted) -> None:
    payment = api.paid()
    acquirer.answers = {"refund": [DECLINED]}
    refund = made(api.post(f"/payments/{payment['id']}/refunds"))
    drain_all()
    after = found(api.get(f"/refunds/{refund['id']}"))
    assert (after["status"], after["error_reason"], after["processed_at"]) == ("failed", "not_possible", None)
    balance = found(api.get("/balance"))["data"][0]
    assert (balance["available"], balance["refunded"], balance["refunds_pending"]) == (10000, 0, 0)
    assert api.payment(payment["id"])["refund_status"] is None
    made(api.post(f"/payments/{payment['id']}/refunds"))


def test_a_shopper_who_is_still_acting_is_waited_for(
    api: Api, acquirer: Scripted, make_due: Callable[[str], None]
) -> None:
    acquirer.answers = {"authorize": [NeedsAction(900)], "lookup": [NeedsAction(900)]}
    payment = api.upi(api.order()["id"])
    drain_all()
    make_due("payments")
    drain_all()
    assert api.payment(payment["id"])["status"] == "requires_action"
    make_due("payments")
    drain_all()
    assert api.payment(payment["id"])["status"] == "success"


def test_a_card_is_known_to_the_acquirer_by_its_token_alone(
    api: Api, acquirer: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks: list[Ask] = []

    def authorize(ask: Ask) -> Result:
        asks.append(ask)
        return Approved("ref")

    monkeypatch.setattr(acquirer, "authorize", authorize)
    api.card(api.order()["id"])
    drain_all()
    assert (asks[0].token, asks[0].vpa) == ("token-4242", None)
    assert "4242424242424242" not in repr(asks)


def test_the_key_of_a_capture_under_way_belongs_to_it(
    app: Flask, api: Api, acquirer: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two commits of a capture, a different request may not take its key."""
    payment = api.paid(capture="manual")
    path = f"/payments/{payment['id']}/capture"
    meanwhile = []
    real = PAYMENTS.act

    def act(data):
        another = Api(app.test_client())
        meanwhile.append(another.post("/orders", {"amount": 500}, key="k1"))
        meanwhile.append(another.post(path, {"amount": 6000}, key="k1"))
        return real(data)

    monkeypatch.setattr(PAYMENTS, "act", act)
    first = api.post(path, {"amount": 6000}, key="k1")
    assert found(first)["amount_captured"] == 6000
    refused(meanwhile[0], 422, "IDEMPOTENCY_ERROR")
    refused(meanwhile[1], 409, "CONFLICT_ERROR")
    again = api.post(path, {"amount": 6000}, key="k1")
    assert (again.headers["Idempotent-Replayed"], again.data) == ("true", first.data)
