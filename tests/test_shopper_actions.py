"""What only the shopper can do: type the bank's OTP, approve in a UPI app, scan a code, give up."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from jobs.payments import PAYMENTS, PaymentTask
from models.base import db
from tests.conftest import Api, at_once, card_body, drain_all, found, made, refused, settings_of

pytestmark = pytest.mark.usefixtures("proven")

OTP_CARD = "4000000000003220"


def post(app: Flask, path: str, body: Any = None, **headers: str) -> TestResponse:
    return app.test_client().post(path, json={} if body is None else body, headers=headers)


def send_otp(app: Flask, payment_id: str, otp: Any = "1234", **headers: str) -> TestResponse:
    return post(app, f"/api/v1/payments/{payment_id}/public/otp", {"otp": otp}, **headers)


def cancel(app: Flask, payment_id: str) -> TestResponse:
    return post(app, f"/api/v1/payments/{payment_id}/public/cancel")


def answer_on_phone(app: Flask, payment_id: str, answer: Any = "approve") -> TestResponse:
    return post(app, f"/sim/upi/{payment_id}", {"answer": answer})


def begin(api: Api, *, card: bool = False, order_id: str | None = None, **facts: Any) -> str:
    """The id of a payment that waits for the shopper."""
    body = {"method": "card", "card": card_body(OTP_CARD)} if card else {"method": "upi", **facts}
    payment = made(api.post("/payments", {"order_id": order_id or api.order()["id"], **body}))
    drain_all()
    assert api.payment(payment["id"])["status"] == "requires_action"
    return payment["id"]


def settled(api: Api, payment_id: str) -> tuple[str, str | None, str | None]:
    drain_all()
    payment = api.payment(payment_id)
    assert payment["next_action"] is None
    return payment["status"], payment["error_code"], payment["error_reason"]


def events(api: Api) -> list[str]:
    return [event["event"] for event in reversed(found(api.get("/events"))["data"])]


def let_time_run_out(app: Flask) -> None:
    with app.app_context():
        db.session.execute(text("UPDATE payments SET action_expires_at = now(), due_at = now()"))
        db.session.commit()


# --- the OTP of a card ---------------------------------------------------------------------------


def test_an_otp_of_four_to_ten_digits_passes(app: Flask, api: Api) -> None:
    for otp in ("1234", "1234567890"):
        payment_id = begin(api, card=True)
        action = api.payment(payment_id)["next_action"]
        assert (action["type"], action["upi_link"]) == ("otp", None)
        assert found(send_otp(app, payment_id, otp))["status"] == "pending"
        assert settled(api, payment_id) == ("success", None, None)


def test_the_history_of_an_otp_is_complete(app: Flask, api: Api) -> None:
    send_otp(app, begin(api, card=True))
    drain_all()
    assert events(api) == [
        *("payment.created", "payment.requires_action", "payment.pending"),
        *("payment.success", "payment.captured", "order.paid"),
    ]


def test_a_shorter_otp_fails_and_frees_the_order(app: Flask, api: Api) -> None:
    order_id = api.order()["id"]
    payment_id = begin(api, card=True, order_id=order_id)
    found(send_otp(app, payment_id, "123"))
    assert settled(api, payment_id) == ("failed", "PAYMENT_DECLINED", "authentication_failed")
    assert api.card(order_id)["status"] == "pending"


@pytest.mark.parametrize(
    "otp", ["", "12a4", "12345678901", "\uff11\uff12\uff13\uff14", "1234\n", None, 1234, ["1234"]]
)
def test_it_refuses_what_is_no_otp(app: Flask, api: Api, otp: Any) -> None:
    payment_id = begin(api, card=True)
    refused(send_otp(app, payment_id, otp), 400, "BAD_REQUEST_ERROR", "otp")
    assert api.payment(payment_id)["status"] == "requires_action"


def test_there_is_one_try(app: Flask, api: Api) -> None:
    payment_id = begin(api, card=True)
    found(send_otp(app, payment_id, "123"))
    assert refused(send_otp(app, payment_id), 409, "CONFLICT_ERROR")["reason"] == "no_action_required"
    assert settled(api, payment_id)[0] == "failed"
    assert refused(send_otp(app, payment_id), 409, "CONFLICT_ERROR")["reason"] == "no_action_required"


def test_of_many_answers_at_once_one_counts(app: Flask, api: Api) -> None:
    payment_id = begin(api, card=True)
    answers = at_once(10, lambda n: send_otp(app, payment_id, "1234" if n % 2 else "123").status_code)
    assert sorted(answers) == [200] + [409] * 9
    drain_all()
    assert events(api).count("payment.pending") == 1


def test_a_repeated_otp_gets_the_first_answer(app: Flask, api: Api) -> None:
    payment_id = begin(api, card=True)
    key = {"Idempotency-Key": "k1"}
    first = send_otp(app, payment_id, "1234", **key)
    again = send_otp(app, payment_id, "1234", **key)
    assert (again.status_code, again.data) == (200, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    another = begin(api, card=True)
    assert found(send_otp(app, another, "1234", **key))["id"] == another


def test_a_card_is_no_upi_payment_and_the_other_way_round(app: Flask, api: Api) -> None:
    card, upi = begin(api, card=True), begin(api, vpa="pending@upi")
    assert refused(answer_on_phone(app, card), 409, "CONFLICT_ERROR")["reason"] == "wrong_method"
    assert refused(send_otp(app, upi), 409, "CONFLICT_ERROR")["reason"] == "wrong_method"


# --- UPI -----------------------------------------------------------------------------------------

FLOWS = [
    {"vpa": "pending@upi"},
    {"flow": "collect", "vpa": "pending@upi"},
    {"flow": "qr"},
    {"flow": "intent"},
]


@pytest.mark.parametrize("facts", FLOWS, ids=str)
def test_an_approval_on_the_phone_pays(app: Flask, api: Api, facts: dict[str, Any]) -> None:
    payment_id = begin(api, **facts)
    assert found(answer_on_phone(app, payment_id))["status"] == "pending"
    assert settled(api, payment_id) == ("success", None, None)
    payment = api.payment(payment_id)
    assert payment["flow"] == facts.get("flow", "collect")
    assert payment["vpa"] == facts.get("vpa", "shopper@simulator")
    assert found(api.get("/balance"))["data"][0]["available"] == 10000


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("decline", ("PAYMENT_DECLINED", "declined_by_payer")),
        ("wrong_pin", ("PAYMENT_DECLINED", "incorrect_pin")),
        ("expire", ("PAYMENT_TIMEOUT", "payment_timed_out")),
    ],
)
@pytest.mark.parametrize("facts", [{"vpa": "pending@upi"}, {"flow": "qr"}], ids=str)
def test_a_refusal_on_the_phone_fails(
    app: Flask, api: Api, facts: dict[str, Any], answer: str, error: tuple[str, str]
) -> None:
    payment_id = begin(api, **facts)
    found(answer_on_phone(app, payment_id, answer))
    assert settled(api, payment_id) == ("failed", *error)


def test_the_phone_refuses_what_is_no_answer(app: Flask, api: Api) -> None:
    payment_id = begin(api, flow="qr")
    for answer in ("yes", None, ["approve"]):
        refused(answer_on_phone(app, payment_id, answer), 400, "BAD_REQUEST_ERROR", "answer")
    refused(answer_on_phone(app, "pay_doesNotExist00000"), 404, "NOT_FOUND_ERROR")
    assert api.payment(payment_id)["status"] == "requires_action"


def test_a_qr_payment_has_a_link_that_a_upi_app_understands(app: Flask, api: Api) -> None:
    payment_id = begin(api, order_id=api.order(1234567)["id"], flow="qr")
    link = api.payment(payment_id)["next_action"]["upi_link"]
    assert link.startswith("upi://pay?pa=gateway@simulator&pn=Test%20Merchant&")
    facts = parse_qs(urlsplit(link).query)
    assert (facts["am"], facts["cu"], facts["tr"]) == (["12345.67"], ["INR"], [payment_id])


def test_a_collect_request_has_no_link(app: Flask, api: Api) -> None:
    payment_id = begin(api, vpa="pending@upi")
    action = api.payment(payment_id)["next_action"]
    assert (action["type"], action["upi_link"]) == ("upi_approval", None)
    answer = app.test_client().get(f"/api/v1/payments/{payment_id}/public/qr.svg")
    assert refused(answer, 409, "CONFLICT_ERROR")["reason"] == "no_action_required"


def test_a_code_needs_no_delay_but_its_approval_does(app: Flask, api: Api, environ: dict[str, str]) -> None:
    before = app.config["GATEWAY"]
    app.config["GATEWAY"] = settings_of(environ | {"PROCESSING_DELAY_MS": "60000-60000"})
    try:
        payment_id = begin(api, flow="qr")
        found(answer_on_phone(app, payment_id))
        drain_all()
        assert api.payment(payment_id)["status"] == "pending"
    finally:
        app.config["GATEWAY"] = before


# --- giving up, and time that runs out -----------------------------------------------------------


@pytest.mark.parametrize("facts", [{"card": True}, {"vpa": "pending@upi"}, {"flow": "qr"}], ids=str)
def test_a_shopper_who_gives_up_frees_the_order(app: Flask, api: Api, facts: dict[str, Any]) -> None:
    order_id = api.order()["id"]
    payment_id = begin(api, order_id=order_id, **facts)
    assert found(cancel(app, payment_id))["status"] == "pending"
    assert settled(api, payment_id) == ("failed", "PAYMENT_CANCELLED", "payment_cancelled")
    assert api.upi(order_id)["status"] == "pending"


def test_an_approval_that_came_first_is_not_cancelled(app: Flask, api: Api) -> None:
    payment_id = begin(api, flow="qr")
    found(answer_on_phone(app, payment_id))
    assert refused(cancel(app, payment_id), 409, "CONFLICT_ERROR")["reason"] == "no_action_required"
    assert settled(api, payment_id)[0] == "success"


def test_a_payment_that_waits_for_nobody_cannot_be_cancelled(app: Flask, api: Api) -> None:
    payment = api.upi(api.order()["id"])
    refused(cancel(app, payment["id"]), 409, "CONFLICT_ERROR")
    assert settled(api, payment["id"])[0] == "success"
    refused(cancel(app, payment["id"]), 409, "CONFLICT_ERROR")
    refused(cancel(app, "pay_doesNotExist00000"), 404, "NOT_FOUND_ERROR")


@pytest.mark.parametrize("facts", [{"card": True}, {"vpa": "pending@upi"}, {"flow": "qr"}], ids=str)
def test_when_the_time_is_over_nobody_can_act_and_it_fails(
    app: Flask, api: Api, facts: dict[str, Any]
) -> None:
    payment_id = begin(api, **facts)
    let_time_run_out(app)
    late = send_otp(app, payment_id) if facts.get("card") else answer_on_phone(app, payment_id)
    assert refused(late, 409, "CONFLICT_ERROR")["reason"] == "action_expired"
    assert refused(cancel(app, payment_id), 409, "CONFLICT_ERROR")["reason"] == "action_expired"
    assert settled(api, payment_id) == ("failed", "PAYMENT_TIMEOUT", "payment_timed_out")


def test_an_answer_beats_a_look_up_that_began_before_it(
    app: Flask, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker looks up what has just run out of time, and meanwhile the shopper's answer is taken."""
    payment_id = begin(api, flow="qr")
    with app.app_context():
        db.session.execute(text("UPDATE payments SET due_at = now()"))
        db.session.commit()
    real = PAYMENTS.act

    def act(data: PaymentTask) -> Any:
        monkeypatch.undo()
        found(answer_on_phone(app, payment_id))
        return real(data)

    monkeypatch.setattr(PAYMENTS, "act", act)
    assert settled(api, payment_id) == ("success", None, None)


def test_in_test_mode_a_code_needs_no_phone(app: Flask, api: Api, environ: dict[str, str]) -> None:
    before = app.config["GATEWAY"]
    app.config["GATEWAY"] = settings_of(environ | {"TEST_MODE": "true", "TEST_PROCESSING_DELAY": "0"})
    try:
        payment = made(api.post("/payments", {"order_id": api.order()["id"], "method": "upi", "flow": "qr"}))
        assert settled(api, payment["id"]) == ("success", None, None)
    finally:
        app.config["GATEWAY"] = before


# --- what is refused at the beginning ------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"method": "upi", "flow": "push", "vpa": "success@upi"}, "flow"),
        ({"method": "upi", "flow": "qr", "vpa": "success@upi"}, "vpa"),
        ({"method": "upi", "flow": "intent", "vpa": "success@upi"}, "vpa"),
        ({"method": "upi", "flow": "collect"}, "vpa"),
        ({"method": "upi"}, "vpa"),
        ({"method": "card", "flow": "qr", "card": card_body()}, "flow"),
        ({"method": "upi", "flow": "qr", "card": card_body()}, "card"),
        ({"method": "upi", "flow": ["qr"]}, "flow"),
    ],
)
def test_it_refuses_what_does_not_go_together(api: Api, body: dict[str, Any], field: str) -> None:
    order_id = api.order()["id"]
    refused(api.post("/payments", {"order_id": order_id} | body), 400, "BAD_REQUEST_ERROR", field)
    assert found(api.get("/payments"))["data"] == []


def test_an_order_that_nobody_could_pay_is_refused(api: Api) -> None:
    answer = api.post("/orders", {"amount": 500, "currency": "EUR", "methods": ["upi"]})
    refused(answer, 400, "BAD_REQUEST_ERROR", "methods")
    order = api.order(500, currency="EUR")
    answer = api.post("/payments", {"order_id": order["id"], "method": "upi", "flow": "qr"})
    refused(answer, 400, "BAD_REQUEST_ERROR", "method")
