"""Requests of one moment share a transaction, and nothing else: each has its own answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from werkzeug.test import TestResponse

from models.base import db
from models.merchants import TEST_MERCHANT_ID
from models.orders import Order, insert_order
from models.together import ALONE, GROUP_MAX, Alone, Together, _Place
from routes.payments import begin
from tests.conftest import Api, drain_all, found, made, refused, temporary_folder
from tests.processes import Running, gateway, wait_until

Submit = Callable[..., Future[Any]]


@pytest.fixture
def submit() -> Iterator[Submit]:
    """Each in a thread of its own."""
    with ThreadPoolExecutor(32) as pool:
        yield pool.submit


@contextmanager
def held(app: Flask, statement: str) -> Iterator[None]:
    """Within it, somebody else holds what this statement locks."""
    with app.app_context(), db.engine.connect() as other:
        other.execute(text(statement))
        yield
        other.rollback()


def waiting(app: Flask, together: Together[Any, Any], count: int) -> None:
    """Wait until so many have come."""

    def have_come() -> bool:
        with app.app_context():
            return len(together._line()._places) == count

    wait_until(have_come)


def pay(api: Api, order_id: str) -> TestResponse:
    return api.post("/payments", {"order_id": order_id, "method": "upi", "vpa": "success@upi"})


# --- orders and payments -------------------------------------------------------------------------


def test_orders_that_come_meanwhile_are_written_in_one_statement(
    app: Flask, api: Api, submit: Submit, statements: list[str]
) -> None:
    found(api.get("/orders"))  # signed in
    statements.clear()
    with held(app, "LOCK TABLE orders IN EXCLUSIVE MODE"):
        first = submit(api.order, 100)
        waiting(app, insert_order, 1)
        wait_until(lambda: _waits_for_a_lock(app))
        others = [submit(api.order, amount) for amount in range(101, 120)]
        waiting(app, insert_order, 20)
    orders = [first.result(), *(each.result() for each in others)]
    assert [order["amount"] for order in orders] == list(range(100, 120))  # each has its own answer
    assert sum("EXECUTE" in each for each in statements) == 2
    for order in orders:
        assert found(api.get(f"/orders/{order['id']}")) == order


@pytest.mark.usefixtures("proven")
def test_payments_that_come_meanwhile_are_begun_in_one_transaction_each_with_its_own_answer(
    app: Flask, api: Api, other: Api, submit: Submit
) -> None:
    paid, theirs = api.paid()["order_id"], other.order()["id"]
    orders = [api.order(amount)["id"] for amount in (100, 200, 300)]
    with held(app, "LOCK TABLE payments IN EXCLUSIVE MODE"):
        first = submit(pay, api, orders[0])
        waiting(app, begin, 1)
        wait_until(lambda: _waits_for_a_lock(app))
        group = [orders[1], orders[2], orders[1], paid, theirs, "order_0000000000000000"]
        answers = []
        for count, order_id in enumerate(group, start=2):  # in this order
            answers.append(submit(pay, api, order_id))
            waiting(app, begin, count)
    assert made(first.result())["amount"] == 100
    one, two, again, of_paid, of_theirs, of_none = (answer.result() for answer in answers)
    assert made(one)["amount"] == 200
    assert made(two)["amount"] == 300
    assert refused(again, 409, "CONFLICT_ERROR")["reason"] == "payment_in_progress"
    assert refused(of_paid, 409, "CONFLICT_ERROR")["reason"] == "order_paid"
    refused(of_theirs, 404, "NOT_FOUND_ERROR")
    refused(of_none, 404, "NOT_FOUND_ERROR")
    assert made(one)["created_at"] == made(two)["created_at"]  # the time of their transaction
    assert found(api.get(f"/orders/{paid}"))["status"] == "paid"
    drain_all()
    assert {api.payment(made(each)["id"])["status"] for each in (first.result(), one, two)} == {"success"}


def test_an_order_that_somebody_holds_holds_up_no_payment_but_its_own(
    app: Flask, api: Api, submit: Submit
) -> None:
    locked, free = api.order()["id"], api.order()["id"]
    with held(app, f"SELECT 1 FROM orders WHERE id = '{locked}' FOR UPDATE"):
        waits = submit(pay, api, locked)
        wait_until(lambda: _waits_for_a_lock(app))
        made(pay(api, free))
        assert not waits.done()
    made(waits.result())


def test_one_that_the_database_refuses_fails_alone(app: Flask, api: Api, submit: Submit) -> None:
    def create(amount: int) -> dict[str, Any]:
        with app.app_context():
            return Order.create(TEST_MERCHANT_ID, amount=amount, currency="INR")

    with held(app, "LOCK TABLE orders IN EXCLUSIVE MODE"):
        first = submit(create, 100)
        wait_until(lambda: _waits_for_a_lock(app))
        too_small, good = submit(create, 99), submit(create, 200)  # the least is 100
        waiting(app, insert_order, 3)
    with pytest.raises(IntegrityError):
        too_small.result()
    assert [first.result()["amount"], good.result()["amount"]] == [100, 200]
    assert {order["amount"] for order in found(api.get("/orders"))["data"]} == {100, 200}


@pytest.mark.slow
def test_the_web_server_does_it_and_pays_no_order_twice(submit: Submit) -> None:
    with temporary_folder() as folder, gateway(folder / "data", WEB_WORKERS="1") as running:
        orders = [submit(running.post, "/orders", {"amount": 10000}) for _ in range(64)]
        ids = [order.result()["id"] for order in orders]
        assert len(set(ids)) == 64

        def begin_payment(order_id: str) -> int:
            body = {"order_id": order_id, "method": "upi", "vpa": "success@upi"}
            return running.call("POST", "/api/v1/payments", body)[0]

        statuses = [submit(begin_payment, order_id) for order_id in [*ids, *ids]]
        assert sorted(status.result() for status in statuses) == [201] * 64 + [409] * 64
        wait_until(lambda: _all_paid(running))


# --- whatever is done together -------------------------------------------------------------------


class Acts:
    """What is done together, and how: by names. The first waits until it may go on."""

    def __init__(self, app: Flask, outcome: Callable[[Sequence[str]], Sequence[Any]]):
        self.groups: list[list[str]] = []
        self.alone: list[str] = []
        self.go_on = Event()
        self.together: Together[str, str] = Together(self._all, self._one)
        self._app, self._outcome = app, outcome

    def __call__(self, name: str) -> str:
        with self._app.app_context():
            return self.together(name)

    def _all(self, names: Sequence[str]) -> Sequence[str | Exception | Alone]:
        self.groups.append([*names])
        assert self.go_on.wait(20)
        return self._outcome(names)

    def _one(self, name: str) -> str:
        self.alone.append(name)
        return f"{name} alone"


def acted(acts: Acts, submit: Submit, count: int) -> list[Future[str]]:
    """So many, of which the first leads a group of one, and the others come meanwhile."""
    futures = [submit(acts, "0")]
    waiting(acts._app, acts.together, 1)
    wait_until(lambda: acts.groups)
    for number in range(1, count):
        futures.append(submit(acts, str(number)))
        waiting(acts._app, acts.together, number + 1)
    acts.go_on.set()
    return futures


def test_first_come_first_served_and_no_group_is_too_large(app: Flask) -> None:
    acts = Acts(app, lambda names: [f"{name} done" for name in names])
    count = 2 * GROUP_MAX + 2
    with ThreadPoolExecutor(count) as pool:
        assert [each.result() for each in acted(acts, pool.submit, count)] == [
            f"{number} done" for number in range(count)
        ]
    numbers = [str(number) for number in range(count)]
    assert acts.groups == [
        numbers[:1],
        numbers[1 : GROUP_MAX + 1],
        numbers[GROUP_MAX + 1 : 2 * GROUP_MAX + 1],
        numbers[-1:],
    ]
    assert acts("once more") == "once more done"  # nobody leads any more


def test_what_cannot_be_done_in_a_group_is_done_alone_by_whoever_asked(app: Flask, submit: Submit) -> None:
    acts = Acts(app, lambda names: [ALONE if name == "1" else name for name in names])
    assert [each.result() for each in acted(acts, submit, 3)] == ["0", "1 alone", "2"]
    assert acts.alone == ["1"]


def test_a_group_that_breaks_is_done_one_by_one_and_one_that_was_alone_is_not_done_again(
    app: Flask, submit: Submit
) -> None:
    def outcome(names: Sequence[str]) -> Sequence[str]:
        raise ValueError("broken")

    acts = Acts(app, outcome)
    first, *others = acted(acts, submit, 3)
    with pytest.raises(ValueError, match="broken"):
        first.result()
    assert [each.result() for each in others] == ["1 alone", "2 alone"]


def test_nothing_is_done_again_if_the_database_was_lost(app: Flask, submit: Submit) -> None:
    """It may have been committed."""

    def outcome(names: Sequence[str]) -> Sequence[str]:
        raise OperationalError("COMMIT", None, Exception("the connection was lost"))

    acts = Acts(app, outcome)
    for each in acted(acts, submit, 3):
        with pytest.raises(OperationalError):
            each.result()
    assert acts.alone == []


class Stopped(BaseException):
    """As a greenlet is stopped."""


def test_whoever_is_stopped_leaves_the_others_their_turn(
    app: Flask, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one stops as it leads, the second one as it is called to lead."""

    def outcome(names: Sequence[str]) -> Sequence[str]:
        if names[0] == "0":
            raise Stopped
        return names

    def wait(place: _Place[str, str]) -> None:
        really_wait(place)
        if place.wish == "1":
            raise Stopped

    really_wait = _Place.wait
    monkeypatch.setattr(_Place, "wait", wait)
    acts = Acts(app, outcome)
    first, second, *others = acted(acts, submit, 4)
    for each in (first, second):
        with pytest.raises(Stopped):
            each.result()
    assert [each.result() for each in others] == ["2", "3"]
    assert acts("once more") == "once more"


def test_a_leader_that_is_stopped_leaves_its_group_an_error(app: Flask, submit: Submit) -> None:
    def outcome(names: Sequence[str]) -> Sequence[str]:
        if "1" in names:
            raise Stopped
        return names

    acts = Acts(app, outcome)
    first, leader, follower = acted(acts, submit, 3)
    assert first.result() == "0"
    with pytest.raises(Stopped):
        leader.result()
    with pytest.raises(RuntimeError, match="stopped"):
        follower.result()
    assert acts("once more") == "once more"


def test_within_a_transaction_it_is_part_of_that(app: Flask) -> None:
    acts = Acts(app, lambda names: names)
    with app.app_context():
        db.session.execute(text("SELECT 1"))
        assert acts.together("mine") == "mine alone"
    assert acts.groups == []


def _waits_for_a_lock(app: Flask) -> bool:
    with app.app_context():
        waits = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock')"
        return bool(db.session.scalar(text(waits)))


def _all_paid(running: Running) -> bool:
    return len(running.get("/orders?status=paid&limit=100")["data"]) == 64
