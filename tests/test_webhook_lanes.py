"""Who is posted to next: fair shares, a lane for the slow, and order per order."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from flask import Flask
from sqlalchemy import func, select, text, update

from jobs.payments import PAYMENTS
from jobs.posting import Post
from jobs.webhooks import ENDPOINT_SHARE, QUICK_SHARE, SLOW_LANE, WEBHOOKS
from jobs.work import SLOTS, Task
from models.base import db
from models.webhook_endpoints import QUICK_MS, WebhookEndpoint
from models.webhooks import AttemptResult, WebhookDelivery
from tests.conftest import Api, at_once, drain, in_sql
from tests.processes import wait_until
from tests.receiver import Receiver, hang_until, running_receiver

NOBODY = "http://127.0.0.1:1/"


@pytest.fixture(autouse=True)
def _wait_for_late_results() -> object:
    yield
    wait_until(lambda: not WEBHOOKS._running)


def add_deliveries(endpoint_id: str, count: int) -> None:
    """So many test events for the endpoint, due now."""
    endpoint = db.session.get_one(WebhookEndpoint, endpoint_id)
    for _ in range(count):
        endpoint.send_test()
    db.session.commit()


def mark_slow(*endpoint_ids: str) -> None:
    db.session.execute(update(WebhookEndpoint).where(WebhookEndpoint.id.in_(endpoint_ids)).values(slow=True))
    db.session.commit()


def claimed_by_endpoint(tasks: list[Task[Post]]) -> Counter[str]:
    rows = db.session.scalars(
        select(WebhookDelivery.endpoint_id).where(WebhookDelivery.id.in_([task.id for task in tasks]))
    ).all()
    db.session.rollback()
    return Counter(rows)


def succeed(tasks: list[Task[Post]], took_ms: int = QUICK_MS + 1) -> None:
    WEBHOOKS._settle([(task, AttemptResult(NOBODY, duration_ms=took_ms, status_code=200)) for task in tasks])


def fail(tasks: list[Task[Post]]) -> None:
    WEBHOOKS._settle(
        [(task, AttemptResult(NOBODY, duration_ms=1, error="connection refused")) for task in tasks]
    )


def events_of(tasks: list[Task[Post]]) -> list[str]:
    rows = db.session.scalars(
        select(WebhookDelivery.event_type)
        .where(WebhookDelivery.id.in_([task.id for task in tasks]))
        .order_by(WebhookDelivery.seq)
    ).all()
    db.session.rollback()
    return list(rows)


# --- fair shares ---------------------------------------------------------------------------------


def test_while_one_endpoint_hangs_all_that_is_for_another_arrives(app: Flask, api: Api) -> None:
    let_go = threading.Event()
    with running_receiver() as hangs, running_receiver() as works, app.app_context():
        hangs.answers = [hang_until(let_go)] * 100
        hanging, working = (api.endpoint(each.url)["id"] for each in (hangs, works))
        add_deliveries(hanging, 2 * ENDPOINT_SHARE)
        add_deliveries(working, 2 * ENDPOINT_SHARE)

        def has_all() -> bool:
            WEBHOOKS.drain()
            return succeeded(working) == 2 * ENDPOINT_SHARE

        wait_until(has_all)
        assert running(hanging) == ENDPOINT_SHARE
        assert succeeded(hanging) == 0
        let_go.set()


def succeeded(endpoint_id: str) -> int:
    return count(endpoint_id, WebhookDelivery.status == "success")


def running(endpoint_id: str) -> int:
    return count(endpoint_id, WebhookDelivery.claim_id.is_not(None))


def count(endpoint_id: str, condition: object) -> int:
    query = select(func.count()).where(WebhookDelivery.endpoint_id == endpoint_id, condition)  # type: ignore[arg-type]
    found = db.session.scalar(query) or 0
    db.session.rollback()
    return found


def test_claims_of_one_endpoint_never_exceed_its_share(api: Api, context: None) -> None:
    add_deliveries(api.endpoint(NOBODY)["id"], ENDPOINT_SHARE + 5)
    first = WEBHOOKS._claim(SLOTS)
    assert len(first) == ENDPOINT_SHARE
    assert WEBHOOKS._claim(SLOTS) == []
    assert not WEBHOOKS.has_due()
    succeed(first[:3])
    assert len(WEBHOOKS._claim(SLOTS)) == 3


def test_a_quick_endpoint_has_a_larger_share_until_it_is_quick_no_more(api: Api, context: None) -> None:
    add_deliveries(api.endpoint(NOBODY)["id"], ENDPOINT_SHARE + 2 * QUICK_SHARE)
    succeed(WEBHOOKS._claim(SLOTS), took_ms=QUICK_MS)
    quick = WEBHOOKS._claim(SLOTS)
    assert len(quick) == QUICK_SHARE
    assert WEBHOOKS._claim(SLOTS) == []
    fail(quick)
    assert len(WEBHOOKS._claim(SLOTS)) == ENDPOINT_SHARE


def test_nor_do_those_of_many_workers_at_once(app: Flask, api: Api) -> None:
    with app.app_context():
        endpoints = [api.endpoint(NOBODY)["id"] for _ in range(2)]
        for endpoint in endpoints:
            add_deliveries(endpoint, 3 * ENDPOINT_SHARE)

    def claim(_number: int) -> list[Task[Post]]:
        with app.app_context():
            return WEBHOOKS._claim(SLOTS)

    claimed = [task for tasks in at_once(6, claim) for task in tasks]
    with app.app_context():
        assert claimed_by_endpoint(claimed) == dict.fromkeys(endpoints, ENDPOINT_SHARE)


def test_a_worker_that_died_gives_its_share_back_with_its_lease(api: Api, context: None) -> None:
    add_deliveries(api.endpoint(NOBODY)["id"], ENDPOINT_SHARE + 5)
    WEBHOOKS._claim(SLOTS)
    db.session.execute(text("UPDATE webhook_deliveries SET due_at = now() WHERE claim_id IS NOT NULL"))
    db.session.commit()
    assert len(WEBHOOKS._claim(SLOTS)) == ENDPOINT_SHARE


# --- the slow lane -------------------------------------------------------------------------------


def test_slow_endpoints_together_hold_half_of_the_slots_at_most(api: Api, context: None) -> None:
    assert SLOW_LANE <= SLOTS / 2
    slow = [api.endpoint(NOBODY)["id"] for _ in range(4)]
    quick = api.endpoint(NOBODY)["id"]
    for endpoint in (*slow, quick):
        add_deliveries(endpoint, ENDPOINT_SHARE)
    mark_slow(*slow)
    claimed = claimed_by_endpoint(WEBHOOKS._claim(SLOTS))
    assert claimed[quick] == ENDPOINT_SHARE
    assert sum(claimed[endpoint] for endpoint in slow) == SLOW_LANE
    assert WEBHOOKS._claim(SLOTS) == []


def test_nor_do_they_over_many_workers(app: Flask, api: Api) -> None:
    with app.app_context():
        slow = [api.endpoint(NOBODY)["id"] for _ in range(4)]
        for endpoint in slow:
            add_deliveries(endpoint, ENDPOINT_SHARE)
        mark_slow(*slow)

    def claim(_number: int) -> int:
        with app.app_context():
            return len(WEBHOOKS._claim(SLOTS))

    assert sum(at_once(6, claim)) == SLOW_LANE


def test_a_slow_answer_leads_into_the_lane_and_a_quick_one_out_of_it(api: Api, context: None) -> None:
    endpoint = api.endpoint(NOBODY)["id"]
    for duration_ms, slow in ((1001, True), (1000, False), (10_000, True), (5, False)):
        add_deliveries(endpoint, 1)
        (task,) = WEBHOOKS._claim(1)
        WEBHOOKS._settle([(task, AttemptResult(NOBODY, duration_ms=duration_ms, status_code=200))])
        assert db.session.get_one(WebhookEndpoint, endpoint).slow is slow
        db.session.rollback()


# --- order per order -----------------------------------------------------------------------------

OF_A_PAYMENT = ["payment.created", "payment.success", "payment.captured", "order.paid"]


def test_what_is_told_of_one_order_arrives_in_order(api: Api, receiver: Receiver) -> None:
    api.endpoint(receiver.url)
    orders = [api.paid()["order_id"] for _ in range(3)]
    for order in orders:
        mine = [r.event for r in receiver.received if order in r.body.decode()]
        assert [event["event"] for event in mine] == OF_A_PAYMENT


def test_a_delivery_waits_for_the_first_attempt_at_the_one_before(api: Api, context: None) -> None:
    api.endpoint(NOBODY)
    pay_undelivered(api)
    for event in OF_A_PAYMENT:
        tasks = WEBHOOKS._claim(SLOTS)
        assert events_of(tasks) == [event]
        assert WEBHOOKS._claim(SLOTS) == []
        succeed(tasks)
    assert WEBHOOKS._claim(SLOTS) == []


def test_one_that_fails_does_not_hold_up_those_behind_it(api: Api, context: None) -> None:
    api.endpoint(NOBODY)
    pay_undelivered(api)
    for event in OF_A_PAYMENT:
        tasks = WEBHOOKS._claim(SLOTS)
        assert events_of(tasks) == [event]
        fail(tasks)


def test_one_whose_worker_died_goes_first_again_and_then_holds_up_nobody(api: Api, context: None) -> None:
    api.endpoint(NOBODY)
    pay_undelivered(api)
    WEBHOOKS._claim(SLOTS)
    db.session.execute(text("UPDATE webhook_deliveries SET due_at = now() WHERE claim_id IS NOT NULL"))
    db.session.commit()
    assert events_of(WEBHOOKS._claim(SLOTS)) == OF_A_PAYMENT[:1]
    assert events_of(WEBHOOKS._claim(SLOTS)) == OF_A_PAYMENT[1:2]


def test_orders_and_endpoints_do_not_wait_for_each_other(api: Api, context: None) -> None:
    for _ in range(2):
        api.endpoint(NOBODY)
    for _ in range(3):
        pay_undelivered(api)
    assert Counter(events_of(WEBHOOKS._claim(SLOTS))) == {"payment.created": 6}


def pay_undelivered(api: Api) -> None:
    """A payment and all its events, with nothing posted yet."""
    api.upi(api.order()["id"])
    drain(PAYMENTS)


def test_two_workers_may_note_at_once_that_it_was_slow_and_that_it_was_quick(app: Flask, api: Api) -> None:
    endpoint_id = api.endpoint("https://shop.example/webhook")["id"]
    with app.app_context():
        endpoint = db.session.get_one(WebhookEndpoint, endpoint_id)
        in_sql(app, "UPDATE webhook_endpoints SET slow = true WHERE id = :id", id=endpoint_id)
        endpoint.note(succeeded=True, duration_ms=1)
        db.session.commit()
        db.session.refresh(endpoint)
        assert (endpoint.slow, endpoint.quick) == (False, True)
