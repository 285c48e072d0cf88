"""The queues in the dashboard: their counts change live, a merchant sees its own, an operator all of them."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from playwright.sync_api import Locator, Page, expect

from models.unknown import LISTED_MAX
from tests.browser.conftest import axe
from tests.browser.dashboard import sign_in
from tests.conftest import OTHER_EMAIL, OTHER_PASSWORD, Api, breaks, drain_all, in_sql, made
from tests.processes import wait_until
from tests.receiver import Receiver
from tests.test_jobs_route import add_worker, unanswered_payment, unanswered_refund, unknown_for

pytestmark = pytest.mark.browser


def open_jobs(page: Page, **who: str) -> None:
    sign_in(page, path="/dashboard/jobs", **who)
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")


def count(page: Page, queue: str, which: str) -> Locator:
    return page.get_by_test_id(f"queue-{queue}").get_by_test_id(which)


def test_the_counts_change_as_work_is_done(app: Flask, api: Api, receiver: Receiver, page: Page) -> None:
    add_worker(app, "w1")
    api.endpoint(receiver.url, events=["payment.success", "payment.created"])
    receiver.answers = [500]
    open_jobs(page)
    page.evaluate("window.sameDocument = true")
    expect(count(page, "payments", "due")).to_have_text("0")
    expect(count(page, "payments", "oldest-due")).to_have_text("\N{EN DASH}")
    payment = api.upi(api.order()["id"])
    expect(count(page, "payments", "due")).to_have_text("1")
    expect(count(page, "webhooks", "due")).to_have_text("1")
    expect(count(page, "payments", "oldest-due")).to_have_text(re.compile("ago$"))
    in_sql(app, "UPDATE payments SET claim_id = gen_random_uuid()")
    expect(count(page, "payments", "running")).to_have_text("1")
    in_sql(app, "UPDATE payments SET claim_id = NULL")
    drain_all()
    expect(count(page, "payments", "done")).to_have_text("1")
    expect(count(page, "payments", "due")).to_have_text("0")
    expect(count(page, "webhooks", "later")).to_have_text("1")
    expect(count(page, "webhooks", "done")).to_have_text("1")
    made(api.post(f"/payments/{payment['id']}/refunds", {"amount": 100}))
    expect(count(page, "refunds", "due")).to_have_text("1")
    in_sql(app, "UPDATE webhook_deliveries SET status = 'failed', due_at = NULL WHERE status = 'pending'")
    expect(count(page, "webhooks", "failed")).to_have_text("1")
    assert page.evaluate("window.sameDocument")
    page.get_by_test_id("queue-webhooks").get_by_role("link", name="Failed").click()
    expect(page.get_by_test_id("webhook-log-item")).to_have_count(1)


def test_without_a_worker_there_is_a_warning_until_one_comes(app: Flask, api: Api, page: Page) -> None:
    open_jobs(page)
    warning = page.get_by_test_id("no-workers")
    expect(warning).to_contain_text("No worker is alive")
    expect(page.get_by_test_id("workers-alive")).to_have_text("0 workers")
    assert axe(page) == []
    add_worker(app, "w1")
    expect(warning).to_be_hidden()
    expect(page.get_by_test_id("workers-alive")).to_have_text("1 worker")


def test_what_has_no_answer_is_shown_until_it_has_one(app: Flask, api: Api, page: Page) -> None:
    add_worker(app, "w1")
    open_jobs(page)
    section = page.get_by_test_id("unknown")
    expect(section).to_be_hidden()
    payment, refund = unanswered_payment(api, 12345), unanswered_refund(api)
    rows = page.get_by_test_id("unknown-row")
    expect(rows).to_have_count(2)
    expect(page.get_by_test_id("unknown-advice")).to_have_count(0)
    in_sql(app, "UPDATE payments SET tries = 7, due_at = now() + interval '1 hour' WHERE due_at IS NOT NULL")
    asked = page.locator(f"[data-test-id=unknown-row][data-id={payment['id']}]")
    expect(asked).to_contain_text("7 times")
    expect(asked).to_contain_text("Authorize")
    expect(asked).to_contain_text("123.45")
    expect(page.locator(f"[data-test-id=unknown-row][data-id={refund['id']}]")).to_contain_text("Refund")
    expect(rows.get_by_role("link", name=refund["payment_id"])).to_be_visible()
    assert axe(page) == []
    in_sql(app, "UPDATE payments SET due_at = now() WHERE due_at IS NOT NULL")
    in_sql(app, "UPDATE refunds SET due_at = now(), created_at = created_at - interval '1 minute'")
    drain_all()
    expect(section).to_be_hidden()


def test_after_a_day_it_says_what_is_to_be_done(app: Flask, api: Api, other: Api, page: Page) -> None:
    add_worker(app, "w1")
    ours, theirs = unanswered_payment(api), unanswered_payment(other)
    unanswered_payment(api)
    for payment in (ours, theirs):
        unknown_for(app, payment, "1 day")
    open_jobs(page)
    advice = page.get_by_test_id("unknown-advice")
    expect(advice).to_contain_text(
        "Ask the acquirer about what is marked \N{LEFT DOUBLE QUOTATION MARK}over a day"
    )
    expect(advice).to_contain_text("never guesses")
    rows = page.get_by_test_id("unknown-row")
    expect(rows).to_have_count(3)
    expect(rows.get_by_text("over a day")).to_have_count(2)
    expect(rows.get_by_role("link")).to_have_count(2)  # one's own are opened, those of others are not
    assert axe(page) == []
    rows.get_by_role("link", name=ours["id"]).click()
    expect(page.get_by_test_id("timeline")).to_contain_text("Acquirer: no definite answer")


def test_a_merchant_is_told_who_has_to_ask(app: Flask, other: Api, api: Api, page: Page) -> None:
    unanswered_payment(api)
    unknown_for(app, unanswered_payment(other), "1 day")
    open_jobs(page, email=OTHER_EMAIL, password=OTHER_PASSWORD)
    expect(page.get_by_test_id("unknown-row")).to_have_count(1)
    expect(page.get_by_test_id("unknown-advice")).to_contain_text("Whoever runs this gateway must ask")


def test_of_many_the_oldest_are_shown_and_their_number(app: Flask, api: Api, page: Page) -> None:
    for _ in range(LISTED_MAX + 1):
        unanswered_payment(api)
    open_jobs(page)
    expect(page.get_by_test_id("unknown-row")).to_have_count(LISTED_MAX)
    expect(page.get_by_test_id("unknown")).to_contain_text("These are the 20 oldest of 21.")


def test_an_operator_sees_whether_all_was_proven_right(app: Flask, api: Api, page: Page) -> None:
    api.paid()
    open_jobs(page)
    proof = page.get_by_test_id("verification")
    expect(proof).to_contain_text("There was none yet.")
    assert breaks(app) == []
    expect(proof).to_contain_text("no breaks")
    in_sql(app, "INSERT INTO verifications (started_at, finished_at, breaks) VALUES (now(), now(), 2)")
    expect(proof.get_by_role("alert")).to_have_text(
        "2 breaks: something is not as it must be. flask verify tells each."
    )


def test_the_last_hour_is_read_by_the_keyboard_and_as_a_table(
    api: Api, receiver: Receiver, page: Page
) -> None:
    api.endpoint(receiver.url, events=["payment.success"])
    api.paid()
    open_jobs(page)
    chart = page.get_by_role("slider", name="Throughput by minute")
    chart.focus()
    chart.press("Home")
    nothing = "0 payments, 0 refunds, 0 webhook attempts"
    expect(chart).to_have_attribute("aria-valuetext", re.compile(nothing))
    chart.press("End")
    said = ""
    for _ in range(3):  # a minute may have begun in between
        said += chart.get_attribute("aria-valuetext") or ""
        chart.press("ArrowLeft")
    assert "1 payment," in said
    assert re.search("1 webhook attempt(?!s)", said)
    page.get_by_text("As a table").click()
    rows = page.get_by_role("table", name="Throughput by minute").locator("tbody tr")
    expect(rows).to_have_count(60)
    figures = [[int(cell) for cell in row.locator("td").all_inner_texts()] for row in rows.all()]
    assert [sum(column) for column in zip(*figures, strict=True)] == [1, 0, 1]


def test_the_chart_is_not_redrawn_under_whoever_reads_it(api: Api, page: Page) -> None:
    open_jobs(page)
    chart = page.get_by_role("slider", name="Throughput by minute")
    chart.focus()
    chart.press("ArrowLeft")
    with page.expect_response("**/api/v1/jobs"):
        api.paid()
    with page.expect_response("**/api/v1/jobs"):
        pass
    expect(chart).to_be_focused()
    chart.blur()
    page.get_by_role("heading", level=1).click()
    payments = page.locator("figure tbody td:nth-child(2)")  # of every minute: one may have begun since
    wait_until(lambda: sum(map(int, payments.all_text_contents())) == 1)


def test_an_operator_sees_the_whole_gateway_and_its_workers(
    app: Flask, api: Api, other: Api, page: Page
) -> None:
    add_worker(app, "w1")
    api.upi(api.order()["id"])
    other.upi(other.order()["id"])
    open_jobs(page)
    expect(page.get_by_text("The work of the whole gateway, of all of its merchants.")).to_be_visible()
    expect(count(page, "payments", "due")).to_have_text("2")
    worker = page.get_by_test_id("worker-row")
    expect(worker).to_contain_text("host")
    expect(worker).to_contain_text("payments, refunds")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="RQ's own dashboard").click()
    expect(opened.value.locator("#queues tbody tr")).to_have_count(3)


def test_a_merchant_sees_its_own_work_alone(app: Flask, api: Api, other: Api, page: Page) -> None:
    add_worker(app, "w1")
    api.upi(api.order()["id"])
    api.upi(api.order()["id"])
    other.upi(other.order()["id"])
    open_jobs(page, email=OTHER_EMAIL, password=OTHER_PASSWORD)
    expect(page.get_by_text("Your own payments, refunds and webhooks.")).to_be_visible()
    expect(count(page, "payments", "due")).to_have_text("1")
    expect(page.get_by_test_id("workers-alive")).to_have_text("1 worker")
    expect(page.get_by_test_id("workers-table")).to_have_count(0)
    expect(page.get_by_role("link", name="RQ's own dashboard")).to_have_count(0)
    in_sql(app, "DELETE FROM workers")
    expect(page.get_by_test_id("no-workers")).to_contain_text("Whoever runs this gateway must start one.")
