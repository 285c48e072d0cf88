"""The queues in the dashboard: their counts change live, a merchant sees its own, an operator all of them."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import axe
from tests.browser.dashboard import sign_in
from tests.conftest import OTHER_EMAIL, OTHER_PASSWORD, Api, drain_all, in_sql, made
from tests.processes import wait_until
from tests.receiver import Receiver
from tests.test_jobs_route import add_worker

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
