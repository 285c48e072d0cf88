"""Twenty at once, on a real database: exactly one takes effect each time."""

from __future__ import annotations

from collections import Counter

import pytest
from flask import Flask
from sqlalchemy import func, select

from models.base import db
from models.idempotency import IdempotencyKey
from models.orders import Order
from tests.conftest import Api, at_once, drain, drain_all, found, made

pytestmark = pytest.mark.usefixtures("proven")

AT_ONCE = 20


def clients(app: Flask) -> list[Api]:
    return [Api(app.test_client()) for _ in range(AT_ONCE)]


def ledger_kinds(api: Api) -> Counter:
    return Counter(row["kind"] for row in found(api.get("/ledger", limit=100))["data"])


def test_parallel_captures_capture_once(app: Flask, api: Api) -> None:
    payment_id = api.paid(capture="manual")["id"]
    callers = clients(app)
    answers = at_once(AT_ONCE, lambda n: callers[n].post(f"/payments/{payment_id}/capture"))
    # Those that met it under way were told so, those that came after got the captured payment.
    assert {answer.status_code for answer in answers} <= {200, 202, 409}
    assert api.payment(payment_id)["amount_captured"] == 10000
    assert ledger_kinds(api)["capture"] == 4
    assert [event["event"] for event in found(api.get("/events"))["data"]].count("payment.captured") == 1


def test_parallel_captures_of_different_amounts_capture_one_of_them(app: Flask, api: Api) -> None:
    payment_id = api.paid(capture="manual")["id"]
    callers = clients(app)

    def capture(n: int) -> int:
        return callers[n].post(f"/payments/{payment_id}/capture", {"amount": 1000 + n}).status_code

    statuses = Counter(at_once(AT_ONCE, capture))
    assert statuses[200] == 1
    assert ledger_kinds(api)["capture"] == 4


def test_captures_against_voids_end_in_one_of_the_two(app: Flask, api: Api) -> None:
    payment_id = api.paid(capture="manual")["id"]
    callers = clients(app)
    at_once(
        AT_ONCE,
        lambda n: callers[n].post(f"/payments/{payment_id}/{'capture' if n % 2 else 'void'}").status_code,
    )
    payment = api.payment(payment_id)
    kinds = ledger_kinds(api)
    if payment["status"] == "voided":
        assert (kinds["void"], kinds["capture"], payment["captured"]) == (2, 0, False)
    else:
        assert (kinds["void"], kinds["capture"], payment["captured"]) == (0, 4, True)


@pytest.mark.parametrize(("amount", "times"), [(10000, 1), (3000, 3)], ids=["all of it", "30 per cent"])
def test_parallel_refunds_never_exceed_what_was_captured(
    app: Flask, api: Api, amount: int, times: int
) -> None:
    payment_id = api.paid()["id"]
    callers = clients(app)
    path = f"/payments/{payment_id}/refunds"
    answers = at_once(AT_ONCE, lambda n: callers[n].post(path, {"amount": amount}).status_code)
    assert Counter(answers) == {201: times, 400: AT_ONCE - times}
    drain_all()
    assert api.payment(payment_id)["amount_refunded"] == amount * times
    assert found(api.get("/balance"))["data"][0]["available"] == 10000 - amount * times


def test_parallel_payments_of_one_order_begin_once(app: Flask, api: Api) -> None:
    body = {"order_id": api.order()["id"], "method": "upi", "vpa": "success@upi"}
    callers = clients(app)
    answers = at_once(AT_ONCE, lambda n: callers[n].post("/payments", body).status_code)
    assert Counter(answers) == {201: 1, 409: AT_ONCE - 1}
    drain_all()
    assert found(api.get("/balance"))["data"][0]["captured"] == 10000


def test_equal_requests_under_one_key_take_effect_once(app: Flask, api: Api) -> None:
    callers = clients(app)
    answers = at_once(AT_ONCE, lambda n: callers[n].post("/orders", {"amount": 500}, key="same"))
    assert Counter(answer.status_code for answer in answers).keys() <= {201, 409}
    ids = {answer.get_json()["id"] for answer in answers if answer.status_code == 201}
    assert len(ids) == 1
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(Order)) == 1
        assert db.session.scalar(select(func.count()).select_from(IdempotencyKey)) == 1


def test_an_endpoint_changed_and_deleted_at_once_ends_deleted(app: Flask, api: Api) -> None:
    callers = clients(app)
    for _ in range(5):
        endpoint = made(api.post("/webhook_endpoints", {"url": "https://shop.example/"}))
        path = f"/webhook_endpoints/{endpoint['id']}"

        def act(n: int, path: str = path) -> int:
            if n % 3 == 0:
                return callers[n].delete(path).status_code
            return callers[n].patch(path, {"enabled": n % 3 == 1}).status_code

        assert set(at_once(9, act)) <= {200, 204, 404}
        assert api.get(path).status_code == 404


def test_endpoints_made_at_once_keep_to_the_limit(app: Flask, api: Api) -> None:
    callers = clients(app)
    body = {"url": "https://shop.example/"}
    answers = at_once(AT_ONCE, lambda n: callers[n].post("/webhook_endpoints", body).status_code)
    assert Counter(answers) == {201: 16, 400: AT_ONCE - 16}


def test_workers_side_by_side_settle_each_payment_once(app: Flask, api: Api) -> None:
    from jobs.payments import PAYMENTS

    for _ in range(50):
        api.upi(api.order()["id"])

    def work(_number: int) -> int:
        with app.app_context():
            return drain(PAYMENTS)

    assert sum(at_once(8, work)) == 50
    assert ledger_kinds(api)["capture"] == 100
    assert found(api.get("/balance"))["data"][0]["captured"] == 500_000
