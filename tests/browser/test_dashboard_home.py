"""The dashboard's first page: figures, chart, why payments fail, webhooks, the latest payments; all live."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from playwright.sync_api import Page, expect
from sqlalchemy import text

from models.base import db
from tests.browser.checkout import pay_by_upi, succeeded
from tests.browser.conftest import NewContext
from tests.browser.dashboard import sign_in
from tests.conftest import Api, drain_all, found
from tests.receiver import Receiver

pytestmark = pytest.mark.browser


def fail(api: Api) -> None:
    api.card(api.order()["id"], "4000000000009995")
    drain_all()


def test_it_tells_what_happened_and_goes_on_telling(api: Api, page: Page) -> None:
    api.paid(10000)
    fail(api)
    sign_in(page)
    expect(page.get_by_test_id("total-amount")).to_have_text("₹100.00")
    expect(page.get_by_test_id("total-transactions")).to_have_text("2")
    expect(page.get_by_test_id("success-rate")).to_have_text("50%")
    expect(page.get_by_text("Insufficient funds")).to_be_visible()
    api.paid(50000)
    expect(page.get_by_test_id("total-amount")).to_have_text("₹600.00")
    expect(page.get_by_test_id("success-rate")).to_have_text("66.7%")
    expect(page.get_by_test_id("transaction-row")).to_have_count(3)


def test_with_nothing_yet_it_says_how_to_begin(api: Api, page: Page) -> None:
    sign_in(page)
    expect(page.get_by_test_id("total-amount")).to_have_text("₹0.00")
    expect(page.get_by_test_id("success-rate")).to_have_text("none")
    expect(page.get_by_role("heading", name="Nothing to draw yet")).to_be_visible()
    expect(page.get_by_role("heading", name="No payments yet")).to_be_visible()


def test_the_chart_is_read_by_keyboard_by_mouse_and_as_a_table(app: Flask, api: Api, page: Page) -> None:
    yesterday, _ = api.paid(10000), api.paid(20000)
    with app.app_context():
        statement = "UPDATE payments SET created_at = now() - interval '1 day' WHERE id = :id"
        db.session.execute(text(statement), {"id": yesterday["id"]})
        db.session.commit()
    sign_in(page)
    chart = page.get_by_role("slider")
    chart.focus()
    chart.press("End")
    expect(chart).to_have_attribute(
        "aria-valuetext", re.compile("₹200.00 captured, 1 payment, 100% approved")
    )
    chart.press("ArrowLeft")
    expect(chart).to_have_attribute("aria-valuetext", re.compile("₹100.00 captured"))
    chart.press("Home")
    expect(chart).to_have_attribute("aria-valuetext", re.compile("₹0.00 captured, 0 payments"))
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 50)
    expect(page.locator(".readout")).to_contain_text("₹200.00")
    page.get_by_text("As a table").click()
    table = page.get_by_role("table").filter(has_text="Success rate")
    expect(table.get_by_role("row")).to_have_count(31)
    expect(table.get_by_role("row").last).to_contain_text("₹200.00")


def test_other_periods_are_in_the_address(app: Flask, api: Api, page: Page) -> None:
    old = api.paid(10000)
    with app.app_context():
        statement = "UPDATE payments SET created_at = now() - interval '40 days' WHERE id = :id"
        db.session.execute(text(statement), {"id": old["id"]})
        db.session.commit()
    sign_in(page)
    expect(page.get_by_test_id("total-transactions")).to_have_text("0")
    page.get_by_role("link", name="90 days").click()
    expect(page.get_by_test_id("total-transactions")).to_have_text("1")
    expect(page).to_have_url(re.compile(r"\?days=90$"))
    page.reload()
    expect(page.get_by_test_id("total-transactions")).to_have_text("1")


def test_two_currencies_are_never_added_up(api: Api, page: Page) -> None:
    api.paid(10000)
    api.paid(500, number="4242424242424242", currency="JPY")
    sign_in(page)
    expect(page.get_by_test_id("total-transactions")).to_have_text("1")
    page.get_by_label("Currency").select_option("JPY")
    expect(page.get_by_test_id("total-amount")).to_have_text(re.compile("500"))
    expect(page).to_have_url(re.compile("currency=JPY"))


def test_the_health_of_webhooks_is_told(api: Api, page: Page, receiver: Receiver) -> None:
    api.endpoint(receiver.url)
    api.paid()
    sign_in(page)
    delivered = page.get_by_role("listitem").filter(has_text="Delivered")
    expect(delivered).to_contain_text("100%")


def test_a_test_order_is_created_paid_and_seen(api: Api, new_context: NewContext, workers: None) -> None:
    page = new_context().new_page()
    sign_in(page)
    page.get_by_test_id("create-test-order").click()
    dialog = page.get_by_test_id("test-order-dialog")
    dialog.get_by_label("Amount").fill("0.5")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_text("at least 1.00")).to_be_visible()
    dialog.get_by_label("Amount").fill("42")
    page.context.route("http://localhost:3001/**", lambda route: route.abort())
    with page.context.expect_page():
        dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("₹42.00")
    (order,) = found(api.get("/orders"))["data"]
    checkout = page.context.new_page()
    checkout.goto(f"/checkout?order_id={order['id']}")
    pay_by_upi(checkout)
    succeeded(checkout)
    expect(page.get_by_test_id("transaction-row")).to_contain_text("success")


def test_the_keys_are_there(api: Api, page: Page) -> None:
    sign_in(page)
    expect(page.get_by_test_id("api-key")).to_have_text("key_test_abc123")
    expect(page.get_by_test_id("api-secret")).to_have_text("secret_test_xyz789")
