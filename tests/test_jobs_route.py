"""GET /jobs: what waits, runs, is done and failed, and how fast it goes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from flask import Flask

from jobs.payments import PAYMENTS
from jobs.refunds import REFUNDS
from jobs.work import Work
from models.base import isoformat
from models.unknown import LISTED_MAX
from models.workers import ALIVE_S
from tests.conftest import Api, Dashboard, breaks, drain, drain_all, found, in_sql, made, refused
from tests.receiver import Receiver

NOTHING = {"due": 0, "running": 0, "later": 0, "done": 0, "failed": 0, "oldest_due_at": None}
QUEUES = ("payments", "refunds", "webhooks")
MakeDue = Callable[[str], None]


def jobs(api: Api) -> dict[str, Any]:
    return found(api.get("/jobs"))


def counts(api: Api, queue: str) -> dict[str, int]:
    """Those that are not zero."""
    row = jobs(api)["queues"][queue]
    return {name: count for name, count in row.items() if count and name != "oldest_due_at"}


def sums(api: Api) -> dict[str, int]:
    """What the last hour's minutes add up to."""
    return {queue: sum(minute[queue] for minute in jobs(api)["minutes"]) for queue in QUEUES}


def add_worker(app: Flask, worker_id: str, silent_s: int = 0) -> None:
    """A worker process that was last heard of so many seconds ago."""
    in_sql(
        app,
        "INSERT INTO workers (id, hostname, pid, queues, beat_at) "
        "VALUES (:id, 'host', 42, '{payments,refunds}', now() - make_interval(secs => :silent_s))",
        id=worker_id,
        silent_s=silent_s,
    )


# --- counts --------------------------------------------------------------------------------------


def test_while_nothing_is_to_be_done_all_is_zero(api: Api) -> None:
    answer = jobs(api)
    assert set(answer) == {"scope", "workers_alive", "queues", "minutes", "unknown"}
    assert (answer["scope"], answer["workers_alive"]) == ("merchant", 0)
    assert answer["queues"] == dict.fromkeys(QUEUES, NOTHING)
    assert sums(api) == dict.fromkeys(QUEUES, 0)
    assert answer["unknown"] == {"count": 0, "flagged": 0, "oldest_since": None, "outcomes": []}


def test_a_payment_is_due_runs_and_is_done(app: Flask, api: Api) -> None:
    api.upi(api.order()["id"])
    assert counts(api, "payments") == {"due": 1}
    in_sql(app, "UPDATE payments SET claim_id = gen_random_uuid()")
    assert counts(api, "payments") == {"running": 1}
    in_sql(app, "UPDATE payments SET claim_id = NULL, due_at = now() + interval '1 minute'")
    assert counts(api, "payments") == {"later": 1}
    in_sql(app, "UPDATE payments SET due_at = now()")
    drain_all()
    assert counts(api, "payments") == {"done": 1}


def test_one_that_waits_for_the_shopper_or_broke_is_not_done(app: Flask, api: Api) -> None:
    api.paid(number="4000000000003220")
    assert counts(api, "payments") == {"later": 1}
    in_sql(app, "UPDATE payments SET work_error = 'RuntimeError'")
    assert counts(api, "payments") == {"later": 1, "failed": 1}


def test_a_declined_one_is_done(api: Api) -> None:
    api.upi(api.order()["id"], "failure@upi")
    drain_all()
    assert counts(api, "payments") == {"done": 1}


def test_a_refund_waits_and_is_done(app: Flask, api: Api, make_due: MakeDue) -> None:
    made(api.post(f"/payments/{api.paid()['id']}/refunds"))
    assert counts(api, "refunds") == {"due": 1}
    drain_all()
    assert counts(api, "refunds") == {"done": 1}
    made(api.post(f"/payments/{api.paid(number='4000000000005126')['id']}/refunds"))
    drain_all()
    assert counts(api, "refunds") == {"done": 2, "later": 1}  # it is looked up once more
    make_due("refunds")
    drain_all()
    assert counts(api, "refunds") == {"done": 2}


def test_a_delivery_waits_is_done_or_given_up(app: Flask, api: Api, receiver: Receiver) -> None:
    api.endpoint(receiver.url, events=["payment.created"])
    api.upi(api.order()["id"])
    assert counts(api, "webhooks") == {"due": 1}
    receiver.answers = [500]
    drain_all()
    assert counts(api, "webhooks") == {"later": 1}
    receiver.answers = [200, 410]
    in_sql(app, "UPDATE webhook_deliveries SET due_at = now()")
    drain_all()
    assert counts(api, "webhooks") == {"done": 1}
    api.upi(api.order()["id"])
    drain_all()
    assert counts(api, "webhooks") == {"done": 1, "failed": 1}


def test_done_counts_what_was_made_in_the_last_24_hours(app: Flask, api: Api) -> None:
    api.paid()
    api.paid()
    in_sql(app, "UPDATE payments SET created_at = now() - interval '24 hours' WHERE seq = 1")
    assert counts(api, "payments") == {"done": 1}
    in_sql(app, "UPDATE payments SET created_at = now() - interval '23 hours 59 minutes' WHERE seq = 1")
    assert counts(api, "payments") == {"done": 2}


def test_the_oldest_that_is_due_is_told(app: Flask, api: Api) -> None:
    for _ in range(4):
        api.upi(api.order()["id"])
    for seq, due_at, claim in (
        (1, "now() + interval '1 hour'", "NULL"),
        (2, "'2026-01-15'", "gen_random_uuid()"),
    ):
        in_sql(app, f"UPDATE payments SET due_at = {due_at}, claim_id = {claim} WHERE seq = {seq}")
    in_sql(app, "UPDATE payments SET due_at = '2026-01-15T16:40:00.123Z' WHERE seq = 3")
    row = jobs(api)["queues"]["payments"]
    assert row["oldest_due_at"] == "2026-01-15T16:40:00.123Z"
    assert counts(api, "payments") == {"due": 2, "running": 1, "later": 1}


# --- throughput ----------------------------------------------------------------------------------


def test_the_last_60_minutes_have_each_their_figures(api: Api) -> None:
    before = datetime.now(UTC)
    minutes = jobs(api)["minutes"]
    assert len(minutes) == 60
    at = [datetime.fromisoformat(minute["at"]) for minute in minutes]
    assert all(later - earlier == timedelta(minutes=1) for earlier, later in pairwise(at))
    assert abs(at[-1] - before) < timedelta(minutes=2)
    assert all((moment.second, moment.microsecond) == (0, 0) for moment in at)


def test_they_count_what_was_settled_and_sent(app: Flask, api: Api, receiver: Receiver) -> None:
    api.endpoint(receiver.url, events=["payment.failed", "order.paid"])
    receiver.answers = [500]
    payment = api.paid()
    made(api.post(f"/payments/{payment['id']}/refunds"))
    api.upi(api.order()["id"], "failure@upi")
    api.paid(number="4000000000003220")
    drain_all()
    in_sql(app, "UPDATE webhook_deliveries SET due_at = now() WHERE due_at IS NOT NULL")
    drain_all()
    assert sums(api) == {"payments": 2, "refunds": 1, "webhooks": 3}


def test_each_counts_in_its_minute(app: Flask, api: Api, receiver: Receiver) -> None:
    api.endpoint(receiver.url, events=["payment.created"])
    api.paid()
    [now] = in_sql(app, "SELECT date_trunc('minute', now())")
    seconds_ago = (57 * 60, 30 * 60, 30 * 60 - 59.999, 60 * 60 + 0.001)  # the last one is no more in it
    for number, ago_s in enumerate(seconds_ago, start=1):
        facts = {"number": number, "at": now - timedelta(seconds=ago_s)}
        in_sql(
            app,
            "INSERT INTO events (id, merchant_id, type, payload, deliveries, created_at) SELECT "
            "'evt_000000000000000' || :number, merchant_id, 'payment.failed', '{}', 0, :at FROM payments",
            **facts,
        )
        in_sql(
            app,
            "INSERT INTO webhook_attempts (delivery_id, number, url, duration_ms, attempted_at) "
            "SELECT id, :number + 1, 'http://x/', 0, :at FROM webhook_deliveries",
            **facts,
        )
    answer = jobs(api)["minutes"]
    minutes = {minute["at"]: minute for minute in answer}
    for minutes_ago, count in ((57, 1), (30, 2), (29, 0)):
        minute = minutes[isoformat(now - timedelta(minutes=minutes_ago))]
        assert (minute["payments"], minute["webhooks"]) == (count, count), minutes_ago
    for queue in ("payments", "webhooks"):
        assert sum(minute[queue] for minute in answer) == 4  # with the one that was really made


# --- what has no answer --------------------------------------------------------------------------


def unanswered_payment(api: Api, amount: int = 10000) -> dict[str, Any]:
    """One that the acquirer was asked about, without learning anything."""
    payment = api.card(api.order(amount)["id"], "4100280000090000")
    ask_once(api, PAYMENTS)
    return payment


def unanswered_refund(api: Api) -> dict[str, Any]:
    refund = made(api.post(f"/payments/{api.paid(number='4000000000007726')['id']}/refunds", {"amount": 1}))
    ask_once(api, REFUNDS)
    return refund


def ask_once(api: Api, work: Work[Any, Any]) -> None:
    """Ask the acquirer, and let the look-up be far away: on a slow machine it would come within the test."""
    app = api._client.application
    with app.app_context():
        drain(work)
    table = work.model.__tablename__
    in_sql(app, f"UPDATE {table} SET due_at = now() + interval '1 hour' WHERE unknown_since IS NOT NULL")


def unknown_for(app: Flask, row: dict[str, Any], since: str) -> datetime:
    """Let it be unknown for so long. Returns since when."""
    table = "refunds" if row["id"].startswith("rfnd_") else "payments"
    set_since = f"UPDATE {table} SET unknown_since = now() - interval '{since}' WHERE id = :id"
    [moment] = in_sql(app, f"{set_since} RETURNING unknown_since", id=row["id"])
    return moment


def test_what_has_no_answer_is_told_the_oldest_first(app: Flask, api: Api) -> None:
    payment, refund = unanswered_payment(api, 12345), unanswered_refund(api)
    since = {row["id"]: unknown_for(app, row, ago) for row, ago in ((payment, "2 hours"), (refund, "1 day"))}
    in_sql(app, "UPDATE refunds SET tries = 7, due_at = '2040-01-15T16:40:00.123Z'")
    unknown = jobs(api)["unknown"]
    assert (unknown["count"], unknown["flagged"]) == (2, 1)
    assert unknown["oldest_since"] == isoformat(since[refund["id"]])
    first, second = unknown["outcomes"]
    assert first == {
        "kind": "refund",
        "id": refund["id"],
        "payment_id": refund["payment_id"],
        "merchant_id": refund["merchant_id"],
        "operation": "refund",
        "amount": 1,
        "currency": "INR",
        "since": isoformat(since[refund["id"]]),
        "tries": 7,
        "next_look_at": "2040-01-15T16:40:00.123Z",
        "flagged": True,
    }
    assert (second["kind"], second["id"], second["payment_id"]) == ("payment", payment["id"], payment["id"])
    assert (second["operation"], second["amount"]) == ("authorize", 12345)
    assert (second["tries"], second["flagged"]) == (1, False)


def test_one_is_flagged_when_it_has_been_unknown_for_a_day(app: Flask, api: Api) -> None:
    payment = unanswered_payment(api)
    for ago, flagged in (("23 hours 59 minutes", False), ("24 hours", True)):
        unknown_for(app, payment, ago)
        unknown = jobs(api)["unknown"]
        assert (unknown["flagged"], unknown["outcomes"][0]["flagged"]) == (int(flagged), flagged)


def test_of_many_the_oldest_are_listed_and_all_are_counted(app: Flask, api: Api) -> None:
    every = [unanswered_payment(api) for _ in range(LISTED_MAX + 1)]
    for number, payment in enumerate(every):
        unknown_for(app, payment, f"{number} minutes")
    unknown = jobs(api)["unknown"]
    assert unknown["count"] == LISTED_MAX + 1
    assert [each["id"] for each in unknown["outcomes"]] == [payment["id"] for payment in every[:0:-1]]


def test_as_soon_as_there_is_an_answer_it_is_told_no_more(app: Flask, api: Api, make_due: MakeDue) -> None:
    unanswered_payment(api)
    assert jobs(api)["unknown"]["count"] == 1
    make_due("payments")
    drain_all()
    unknown = jobs(api)["unknown"]
    assert (unknown["count"], unknown["outcomes"]) == (0, [])


def test_what_a_shopper_has_just_approved_is_not_without_an_answer(app: Flask, api: Api) -> None:
    payment = api.upi(api.order()["id"], "pending@upi")
    drain_all()
    answer = app.test_client().post(f"/sim/upi/{payment['id']}", json={"answer": "approve"})
    assert found(answer)["status"] == "pending"
    assert in_sql(app, "SELECT unknown_since IS NOT NULL FROM payments") == [True]
    assert jobs(api)["unknown"]["count"] == 0


def test_a_merchant_is_told_of_its_own_and_an_operator_of_everybodys(
    api: Api, dashboard: Dashboard, other: Api, other_dashboard: Dashboard
) -> None:
    ours, theirs = {unanswered_payment(api)["id"]}, {unanswered_payment(other)["id"]}
    theirs.add(unanswered_refund(other)["id"])
    for client, ids in ((api, ours), (other, theirs), (other_dashboard, theirs), (dashboard, ours | theirs)):
        unknown = jobs(client)["unknown"]
        assert {each["id"] for each in unknown["outcomes"]} == ids
        assert unknown["count"] == len(ids)
        assert unknown["oldest_since"] == min(each["since"] for each in unknown["outcomes"])


# --- whose ---------------------------------------------------------------------------------------


def test_a_merchant_sees_its_own_work_and_an_operator_the_whole_gateways(
    api: Api, dashboard: Dashboard, other: Api, other_dashboard: Dashboard, receiver: Receiver
) -> None:
    for client, times in ((api, 1), (other, 2)):
        client.endpoint(receiver.url, events=["payment.created"])
        for _ in range(times):
            made(client.post(f"/payments/{client.paid()['id']}/refunds"))
    drain_all()
    other.upi(other.order()["id"])
    for client, scope, done, due in (
        (api, "merchant", 1, 0),
        (other, "merchant", 2, 1),
        (other_dashboard, "merchant", 2, 1),
        (dashboard, "gateway", 3, 1),
    ):
        answer = jobs(client)
        assert answer["scope"] == scope
        assert {queue: answer["queues"][queue]["done"] for queue in QUEUES} == dict.fromkeys(QUEUES, done)
        assert [answer["queues"][queue]["due"] for queue in QUEUES] == [due, 0, due]
        assert sums(client) == dict.fromkeys(QUEUES, done)


def test_the_last_verification_is_for_operators(app: Flask, dashboard: Dashboard, api: Api) -> None:
    assert "verification" not in jobs(dashboard)
    assert breaks(app) == []
    assert jobs(dashboard)["verification"]["breaks"] == 0
    assert "verification" not in jobs(api)


def test_which_workers_run_is_for_operators(
    app: Flask, api: Api, dashboard: Dashboard, other_dashboard: Dashboard
) -> None:
    add_worker(app, "worker-b")
    add_worker(app, "worker-a", silent_s=ALIVE_S - 5)
    add_worker(app, "silent", silent_s=ALIVE_S + 5)
    for client in (api, other_dashboard):
        answer = jobs(client)
        assert "workers" not in answer
        assert answer["workers_alive"] == 2
        assert "host" not in client.get("/jobs").text
    answer = jobs(dashboard)
    assert answer["workers_alive"] == len(answer["workers"]) == 2
    for worker in answer["workers"]:
        assert set(worker) == {"hostname", "pid", "queues", "started_at", "beat_at"}
        assert (worker["hostname"], worker["pid"], worker["queues"]) == ("host", 42, ["payments", "refunds"])


def test_who_is_no_operator_any_more_sees_its_own_again(app: Flask, other_dashboard: Dashboard) -> None:
    role = "UPDATE merchants SET role = :role WHERE email = 'other@example.com'"
    for name, scope in (("operator", "gateway"), ("merchant", "merchant")):
        in_sql(app, role, role=name)
        assert jobs(other_dashboard)["scope"] == scope


def test_strangers_see_nothing(app: Flask) -> None:
    refused(app.test_client().get("/api/v1/jobs"), 401, "AUTHENTICATION_ERROR")


@pytest.mark.parametrize("query", [{"scope": "gateway"}, {"merchant_id": "mer_TestMerchant0001"}])
def test_nobody_asks_for_more_than_is_theirs(other: Api, api: Api, query: dict) -> None:
    api.paid()
    answer = found(other.get("/jobs", **query))
    assert (answer["scope"], answer["queues"]) == ("merchant", dict.fromkeys(QUEUES, NOTHING))
