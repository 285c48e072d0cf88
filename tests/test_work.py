"""The work protocol: claims, leases, zombies, broken rows, wakes that are never lost, late results."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import psycopg2
import pytest
from flask import Flask
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer
from sqlalchemy import func, text, update
from sqlalchemy.exc import DBAPIError

from jobs import wake as wakes
from jobs.acquirers import Approved, Declined, NotFound, Unknown
from jobs.clock import CLOCK_LOCK, PATIENCE_S, Clock
from jobs.crew import Crew
from jobs.payments import PAYMENTS, PaymentTask
from jobs.posting import Post
from jobs.wake import GatewayJob, fast_redis, rq_queue, wake
from jobs.webhooks import WEBHOOKS
from jobs.work import LEASE_S, commit
from models.base import db
from models.orders import Order
from models.payments import Payment
from models.webhooks import AttemptResult
from tests.conftest import Api, Servers, at_once, drain_all, found
from tests.processes import wait_until

pytestmark = pytest.mark.usefixtures("proven")

NO_REDIS = "redis://127.0.0.1:1/0"


def expire_leases(table: str) -> None:
    """What the passing of time does to claimed rows."""
    db.session.execute(text(f"UPDATE {table} SET due_at = now() WHERE claim_id IS NOT NULL"))
    db.session.commit()


# --- claiming ------------------------------------------------------------------------------------


def test_a_claim_writes_the_lease_and_counts_the_try(api: Api, context: None) -> None:
    payment_id = api.upi(api.order()["id"])["id"]
    (task,) = PAYMENTS._claim(10)
    row = db.session.get_one(Payment, payment_id)
    left = db.session.scalar(text("SELECT due_at - now() FROM payments"))
    assert (row.claim_id, row.tries) == (task.claim_id, 1)
    assert timedelta(seconds=LEASE_S - 5) < left <= timedelta(seconds=LEASE_S)


def test_a_claimed_row_is_not_claimed_again_before_its_lease_is_over(api: Api, context: None) -> None:
    api.upi(api.order()["id"])
    (first,) = PAYMENTS._claim(10)
    assert PAYMENTS._claim(10) == []
    expire_leases("payments")
    (second,) = PAYMENTS._claim(10)
    assert second.id == first.id
    assert second.claim_id != first.claim_id


def test_parallel_claims_share_the_rows_and_none_twice(app: Flask, api: Api) -> None:
    made = {api.upi(api.order()["id"])["id"] for _ in range(40)}

    def claim(_number: int) -> list[str]:
        with app.app_context():
            return [task.id for task in PAYMENTS._claim(10)]

    claimed = [payment_id for ids in at_once(8, claim) for payment_id in ids]
    assert len(claimed) == len(set(claimed)) == 40
    assert set(claimed) == made


def test_what_is_not_due_yet_is_not_claimed(api: Api, context: None) -> None:
    api.upi(api.order()["id"])
    db.session.execute(update(Payment).values(due_at=func.now() + timedelta(hours=1)))
    db.session.commit()
    assert not PAYMENTS.has_due()
    assert PAYMENTS._claim(10) == []


def test_a_drain_that_is_interrupted_leaves_its_worker_able_to_claim(
    api: Api, context: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RQ does that to a job whose process slept for long."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    api.endpoint("http://127.0.0.1:1/")
    api.upi(api.order()["id"])
    with monkeypatch.context() as patch:
        patch.setattr(Crew, "act", interrupted)
        with pytest.raises(KeyboardInterrupt):
            WEBHOOKS.drain()
    assert WEBHOOKS._running == set()
    expire_leases("webhook_deliveries")
    assert WEBHOOKS.drain() == 1


# --- settling ------------------------------------------------------------------------------------


def test_a_zombie_changes_nothing(api: Api, context: None) -> None:
    payment_id = api.upi(api.order()["id"])["id"]
    (zombie,) = PAYMENTS._claim(10)
    expire_leases("payments")
    (holder,) = PAYMENTS._claim(10)
    PAYMENTS._settle([(zombie, Declined("PAYMENT_DECLINED", "card_declined", "No."))])
    assert api.payment(payment_id)["status"] == "pending"
    PAYMENTS._settle([(holder, Approved("ref"))])
    assert api.payment(payment_id)["status"] == "success"
    PAYMENTS._settle([(zombie, Declined("PAYMENT_DECLINED", "card_declined", "No."))])
    assert api.payment(payment_id)["status"] == "success"


def test_what_the_acquirer_never_heard_of_is_asked_again_at_once_and_no_answer_ever_more_rarely(
    api: Api, context: None
) -> None:
    payment_id = api.upi(api.order()["id"])["id"]
    waits = []
    for outcome in (Unknown(), NotFound()):
        db.session.execute(text("UPDATE payments SET tries = 7, due_at = now()"))
        db.session.commit()
        (task,) = PAYMENTS._claim(10)
        PAYMENTS._settle([(task, outcome)])
        payment = db.session.get_one(Payment, payment_id, populate_existing=True)
        waits.append(db.session.scalar(text("SELECT due_at - now() FROM payments")).total_seconds())
        assert payment.ask_again == isinstance(outcome, NotFound)
    unknown_s, not_found_s = waits
    assert unknown_s > 120
    assert not_found_s <= 1


def test_settling_twice_posts_once(api: Api, context: None) -> None:
    api.upi(api.order()["id"])
    (task,) = PAYMENTS._claim(10)
    for _ in range(2):
        PAYMENTS._settle([(task, Approved("ref"))])
    assert len(found(api.get("/ledger"))["data"]) == 2
    events = [event["event"] for event in found(api.get("/events"))["data"]]
    assert sorted(events) == ["order.paid", "payment.captured", "payment.created", "payment.success"]


def test_a_worker_that_dies_between_claim_and_settle_loses_nothing(api: Api, context: None) -> None:
    payment_id = api.upi(api.order()["id"])["id"]
    PAYMENTS._claim(10)  # and here it dies
    drain_all()
    assert api.payment(payment_id)["status"] == "pending"
    expire_leases("payments")
    drain_all()
    assert api.payment(payment_id)["status"] == "success"


def test_a_row_that_breaks_us_is_postponed_and_does_not_stop_the_others(
    api: Api, context: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (api.upi(api.order()["id"])["id"] for _ in range(2))
    real = PAYMENTS.act

    def act(data: PaymentTask):
        if data.ask.id == bad:
            raise ZeroDivisionError
        return real(data)

    monkeypatch.setattr(PAYMENTS, "act", act)
    drain_all()
    assert api.payment(good)["status"] == "success"
    row = db.session.get_one(Payment, bad)
    assert (row.status, row.work_error, row.claim_id) == ("pending", "ZeroDivisionError", None)
    db.session.rollback()
    assert found(api.get("/test/jobs/status"))["queues"]["payments"]["failed"] == 1
    monkeypatch.undo()
    db.session.execute(update(Payment).where(Payment.id == bad).values(due_at=func.now()))
    db.session.commit()
    drain_all()
    assert api.payment(bad)["status"] == "success"
    assert found(api.get("/test/jobs/status"))["failed"] == 0


def test_a_row_that_cannot_be_settled_does_not_stop_the_others(
    api: Api, context: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (api.upi(api.order()["id"])["id"] for _ in range(2))
    real = PAYMENTS.settle

    def settle(row: Payment, data: PaymentTask, outcome) -> None:
        real(row, data, outcome)
        if row.id == bad:
            db.session.execute(text("SELECT 1 / 0"))

    monkeypatch.setattr(PAYMENTS, "settle", settle)
    drain_all()
    assert api.payment(good)["status"] == "success"
    row = db.session.get_one(Payment, bad)
    assert (row.status, row.work_error) == ("pending", "DataError")


def test_a_connection_that_dies_during_the_settle_loses_nothing(
    api: Api, context: None, monkeypatch: pytest.MonkeyPatch, servers: Servers
) -> None:
    payment_id = api.upi(api.order()["id"])["id"]
    real = PAYMENTS.lock

    def lock(ids: list[str]):
        rows = real(ids)
        kill_backends(servers)
        return rows

    monkeypatch.setattr(PAYMENTS, "lock", lock)
    PAYMENTS.run()
    monkeypatch.undo()
    assert api.payment(payment_id)["status"] == "pending"
    expire_leases("payments")
    PAYMENTS.run()
    assert api.payment(payment_id)["status"] == "success"


def kill_backends(servers: Servers) -> None:
    """End every connection to the database but this one, as a restart of Postgres would."""
    outside = psycopg2.connect(servers.database_url)
    with outside, outside.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    outside.close()


def test_a_claim_that_breaks_leaves_the_worker_able_to_work(
    api: Api, context: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one context, as a worker process has it for its whole life."""
    payment_id = api.upi(api.order()["id"])["id"]

    def prepare(_rows: object) -> None:
        db.session.execute(text("SELECT 1 / 0"))

    monkeypatch.setattr(PAYMENTS, "prepare", prepare)
    with pytest.raises(DBAPIError):
        PAYMENTS.run()
    monkeypatch.undo()
    PAYMENTS.run()
    assert api.payment(payment_id)["status"] == "success"


# --- waking --------------------------------------------------------------------------------------


def queued(queue: str) -> int:
    return rq_queue(queue, fast_redis()).count


def test_many_commits_cost_one_job(api: Api, context: None) -> None:
    for _ in range(20):
        api.upi(api.order()["id"])
    assert queued("payments") == 1


def test_a_delayed_payment_is_woken_when_it_is_due(app: Flask, api: Api, context: None) -> None:
    order = Order.lock(api.order()["id"])
    Payment.begin(order, method="upi", flow="collect", vpa="success@upi", delay_ms=60_000)
    commit()
    clock = Clock(app)
    clock.tick()
    assert queued("payments") == 0
    db.session.execute(update(Payment).values(due_at=func.now()))
    commit()
    clock.tick()
    assert queued("payments") == 1


def test_a_running_job_lets_new_work_be_woken(api: Api, context: None) -> None:
    api.upi(api.order()["id"])
    PAYMENTS.run()
    api.upi(api.order()["id"])
    assert queued("payments") == 2


def test_no_wake_is_lost_between_writers_and_workers(app: Flask, api: Api) -> None:
    """Writers commit and wake while workers take jobs: with no clock to help, nothing stays due."""
    orders = [api.order()["id"] for _ in range(60)]
    written = threading.Event()

    def write(number: int) -> None:
        client = Api(app.test_client())
        for order_id in orders[number::4]:
            client.upi(order_id)

    def work() -> None:
        with app.app_context():
            while not written.is_set() or queued("payments"):
                SimpleWorker(
                    [rq_queue("payments", fast_redis())],
                    connection=fast_redis(),
                    serializer=JSONSerializer,
                    job_class=GatewayJob,
                ).work(burst=True, logging_level="WARNING")

    # RQ's worker sets signal handlers, which only the main thread may: so the writers are the threads.
    def write_all() -> None:
        at_once(4, write)
        written.set()

    writers = threading.Thread(target=write_all)
    writers.start()
    work()
    writers.join()
    statuses = {payment["status"] for payment in found(api.get("/payments", limit=100))["data"]}
    assert statuses == {"success"}


@pytest.mark.parametrize(
    ("function", "arguments"),
    [("os.system", ["touch /tmp/pwned"]), ("jobs.payments.run", ["x"]), ("jobs.clock.sweep", [])],
)
def test_a_job_that_is_not_ours_is_never_run(
    context: None, app: Flask, function: str, arguments: list
) -> None:
    plain = Queue("payments", connection=fast_redis(), serializer=JSONSerializer)
    job_id = plain.enqueue_call(function, args=arguments).id
    job = GatewayJob.fetch(job_id, connection=fast_redis(), serializer=JSONSerializer)
    with pytest.raises(PermissionError):
        _ = job.func


def test_without_redis_a_request_is_answered_fast_and_the_clock_does_the_work(
    app: Flask, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = app.extensions.pop("fast_redis", None)
    settings = app.config["GATEWAY"]
    monkeypatch.setitem(app.config, "GATEWAY", type(settings)(**(vars(settings) | {"redis_url": NO_REDIS})))
    try:
        started = time.monotonic()
        payment = api.upi(api.order()["id"])
        assert time.monotonic() - started < 2
        clock = Clock(app)
        clock._silent_since = time.monotonic() - 10
        with app.app_context():
            clock.tick()
        clock.join()
        assert api.payment(payment["id"])["status"] == "success"
    finally:
        app.extensions.pop("fast_redis", None)
        if real is not None:
            app.extensions["fast_redis"] = real


def test_the_clock_wakes_what_a_lost_wake_left_behind(app: Flask, api: Api, context: None) -> None:
    api.upi(api.order()["id"])
    fast_redis().flushall()
    assert queued("payments") == 0
    Clock(app).tick()
    assert queued("payments") == 1


def test_a_redis_that_comes_back_is_not_relied_on_at_once(app: Flask, api: Api, context: None) -> None:
    payment_id = api.upi(api.order()["id"])["id"]
    fast_redis().flushall()
    fast_redis().set("wake:payments", 1, ex=5)  # a wake that came through late, and its job never
    clock = Clock(app)
    clock._silent_since = time.monotonic() - 10
    clock.tick()
    clock.join()
    assert api.payment(payment_id)["status"] == "success"


def test_the_clock_does_itself_what_nobody_comes_for(app: Flask, api: Api, context: None) -> None:
    payment_id = api.upi(api.order()["id"])["id"]
    fast_redis().flushall()
    fast_redis().set("wake:payments", 1)  # a wake without its job, for ever
    clock = Clock(app)
    clock.tick()
    assert api.payment(payment_id)["status"] == "pending"
    db.session.execute(update(Payment).values(due_at=func.now() - timedelta(seconds=PATIENCE_S)))
    db.session.commit()
    clock.tick()
    clock.join()
    assert api.payment(payment_id)["status"] == "success"


def test_a_clock_that_broke_gives_its_lock_to_the_next(
    app: Flask, context: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reigns = []

    def tick(clock: Clock) -> None:
        reigns.append(clock)
        raise ZeroDivisionError

    monkeypatch.setattr(Clock, "tick", tick)
    for _ in range(2):
        clock = Clock(app)
        with pytest.raises(ZeroDivisionError), db.engine.connect() as connection:
            clock._reign(connection)
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = :id"
        # PostgreSQL lets go of it when it has seen that the connection is closed: in a moment.
        wait_until(lambda: db.session.scalar(text(held), {"id": CLOCK_LOCK}) == 0)  # noqa: B023
    assert len(reigns) == 2


def test_a_wake_that_fails_leaves_redis_alone_for_a_moment(
    app: Flask, context: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Broken:
        def set(self, *_args: object, **_options: object) -> None:
            calls.append(1)
            raise wakes.RedisError

    monkeypatch.setattr(wakes, "fast_redis", Broken)
    assert wake("payments") is False
    assert wake("payments") is False
    assert len(calls) == 1


# --- late results --------------------------------------------------------------------------------


def test_a_late_result_settles_by_itself(
    api: Api, context: None, monkeypatch: pytest.MonkeyPatch, app: Flask
) -> None:
    api.post("/webhook_endpoints", {"url": "http://127.0.0.1:1/", "events": ["payment.created"]})
    go_on = threading.Event()

    def act(_data: Post) -> AttemptResult:
        go_on.wait(10)
        return AttemptResult("http://127.0.0.1:1/", duration_ms=1, status_code=200)

    monkeypatch.setattr(WEBHOOKS, "act", act)
    api.upi(api.order()["id"])
    WEBHOOKS.drain()
    assert found(api.get("/webhooks"))["data"][0]["status"] == "pending"
    go_on.set()
    wait_until(lambda: not WEBHOOKS._running)
    assert found(api.get("/webhooks"))["data"][0]["status"] == "success"


@pytest.fixture(autouse=True)
def _wait_for_late_results() -> object:
    yield
    wait_until(lambda: not WEBHOOKS._running)
