"""Payments in the dashboard: found, filtered, paged, exported, understood; captured, voided and refunded."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Page, expect
from sqlalchemy import text

from models.base import db
from tests.browser.conftest import Watch
from tests.browser.dashboard import open_page, sign_in
from tests.conftest import Api, drain_all, found
from tests.receiver import Receiver

pytestmark = pytest.mark.browser


def rows(page: Page) -> list[str]:
    expect(page.get_by_test_id("transactions-table")).to_be_visible()
    return page.get_by_test_id("payment-id").all_inner_texts()


def fail(api: Api) -> dict[str, Any]:
    payment = api.upi(api.order()["id"], "failure@upi")
    drain_all()
    return payment


# --- the list ------------------------------------------------------------------------------------


def test_a_row_tells_what_matters(api: Api, page: Page) -> None:
    payment = api.paid(1234500)
    sign_in(page, path="/dashboard/payments")
    row = page.get_by_test_id("transaction-row")
    expect(row.get_by_test_id("payment-id")).to_have_text(payment["id"])
    expect(row.get_by_test_id("order-id")).to_have_text(payment["order_id"])
    expect(row.get_by_test_id("amount")).to_have_text("₹12,345.00")
    expect(row.get_by_test_id("method")).to_have_text("success@upi")
    expect(row.get_by_test_id("status")).to_have_text("success")
    created = payment["created_at"].replace("T", " ").replace("Z", " UTC")
    expect(row.get_by_test_id("created-at")).to_have_attribute("title", created)


def test_a_payment_that_comes_is_there_without_a_reload(api: Api, page: Page) -> None:
    first = api.paid()
    sign_in(page, path="/dashboard/payments")
    assert rows(page) == [first["id"]]
    second = api.upi(api.order()["id"])
    status = page.get_by_test_id("transaction-row").first.get_by_test_id("status")
    expect(page.get_by_test_id("payment-id").first).to_have_text(second["id"])
    expect(status).to_have_text("pending")
    drain_all()
    expect(status).to_have_text("success")


def test_filters_are_in_the_address_and_survive_a_reload(api: Api, page: Page) -> None:
    paid, failed, card = api.paid(), fail(api), api.paid(99900, number="4242424242424242")
    sign_in(page, path="/dashboard/payments")
    assert len(rows(page)) == 3
    page.get_by_label("Status").select_option("failed")
    expect(page.get_by_test_id("transaction-row")).to_have_count(1)
    assert rows(page) == [failed["id"]]
    expect(page).to_have_url(re.compile(r"\?status=failed$"))
    page.reload()
    assert rows(page) == [failed["id"]]
    expect(page.get_by_label("Status")).to_have_value("failed")
    page.get_by_label("Status").select_option("")
    page.get_by_label("Method").select_option("card")
    expect(page.get_by_test_id("payment-id")).to_have_text(card["id"])
    page.get_by_role("link", name="Clear").click()
    expect(page.get_by_test_id("transaction-row")).to_have_count(3)
    page.get_by_label("At least").fill("500")
    page.get_by_label("At least").press("Enter")
    expect(page.get_by_test_id("payment-id")).to_have_text(card["id"])
    expect(page).to_have_url(re.compile("amount_min=50000"))
    page.get_by_label("At most").fill("600.5")
    page.get_by_label("At most").press("Enter")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.locator(".empty").get_by_role("link", name="Clear the filters").click()
    assert paid["id"] in rows(page)


def test_what_is_no_amount_changes_nothing(api: Api, page: Page) -> None:
    api.paid()
    sign_in(page, path="/dashboard/payments")
    page.get_by_label("At least").fill("12,34,5")
    page.get_by_label("At least").press("Enter")
    expect(page.get_by_label("At least")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_test_id("transaction-row")).to_have_count(1)


def test_days_are_the_readers_own(app: Flask, api: Api, page: Page) -> None:
    payment = api.paid()
    with app.app_context():
        moment = {"id": payment["id"], "at": "2026-03-10T12:00:00Z"}
        db.session.execute(text("UPDATE payments SET created_at = :at WHERE id = :id"), moment)
        db.session.commit()
    sign_in(page, path="/dashboard/payments?from=2026-03-10&to=2026-03-10")
    assert rows(page) == [payment["id"]]
    expect(page.get_by_label("From")).to_have_value("2026-03-10")
    page.get_by_label("To").fill("2026-03-09")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()


@pytest.mark.parametrize("what", ["id", "order_id", "receipt", "beginning", "last four", "vpa"])
def test_a_payment_is_found_by_what_people_have_at_hand(api: Api, page: Page, what: str) -> None:
    api.paid()
    vpa = {"order_id": api.order(receipt="INV-77")["id"], "method": "upi", "vpa": "asha.rao@okbank"}
    payment = api.post("/payments", vpa).get_json()
    if what == "last four":
        payment = api.card(api.order()["id"], "5555555555554444")
    drain_all()
    words = {"receipt": "INV-77", "beginning": "INV-", "last four": "4444", "vpa": "Asha.Rao@okbank"}
    sign_in(page)
    page.get_by_role("searchbox").fill(words.get(what) or payment[what])
    page.get_by_role("searchbox").press("Enter")
    expect(page.get_by_test_id("payment-id")).to_have_text(payment["id"])
    page.get_by_role("link", name="End the search").click()
    expect(page.get_by_test_id("transaction-row").nth(1)).to_be_visible()


def test_an_odd_filter_is_told_in_words(api: Api, page: Page, watch: Watch) -> None:
    api.paid()
    sign_in(page, path="/dashboard/payments?status=odd")
    expect(page.get_by_role("alert")).to_contain_text("status")
    page.get_by_role("link", name="Clear the filters").click()
    assert len(rows(page)) == 1
    watch.allow("status of 400")


def test_pages_go_on_and_back(api: Api, page: Page) -> None:
    ids = [api.upi(api.order()["id"])["id"] for _ in range(25)][::-1]
    drain_all()
    sign_in(page, path="/dashboard/payments")
    assert rows(page) == ids[:20]
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("Page 2")).to_be_visible()
    assert rows(page) == ids[20:]
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.reload()
    assert rows(page) == ids[20:]
    page.get_by_role("button", name="Previous").click()
    expect(page.get_by_text("Page 1")).to_be_visible()
    assert rows(page) == ids[:20]


def test_all_that_the_filters_leave_is_exported(api: Api, page: Page, tmp_path: Path) -> None:
    kept = [api.paid(receipt="two\nlines, and a comma")["id"] for _ in range(3)]
    fail(api)
    sign_in(page, path="/dashboard/payments?status=success")
    rows(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export CSV").click()
    assert re.fullmatch(r"payments-\d{4}-\d\d-\d\d\.csv", download.value.suggested_filename)
    download.value.save_as(tmp_path / "payments.csv")
    with (tmp_path / "payments.csv").open(newline="") as file:
        exported = list(csv.DictReader(file))
    assert [row["id"] for row in exported] == kept[::-1]
    assert exported[0]["receipt"] == "two\nlines, and a comma"
    expect(page.locator("#toast")).to_have_text("Exported 3 payments.")


def test_an_export_that_breaks_saves_nothing_and_says_so(api: Api, page: Page, watch: Watch) -> None:
    api.paid()
    sign_in(page, path="/dashboard/payments")
    rows(page)
    page.route("**/payments/export*", lambda route: route.abort())
    page.get_by_role("button", name="Export CSV").click()
    expect(page.locator("#toast")).to_contain_text("does not answer")
    expect(page.get_by_role("dialog")).to_have_count(0)
    watch.allow("ERR_FAILED")


# --- one payment ---------------------------------------------------------------------------------


def test_all_that_happened_is_told_in_order(api: Api, page: Page, receiver: Receiver) -> None:
    api.endpoint(receiver.url)
    payment = api.paid()
    found(api.get(f"/payments/{payment['id']}"))
    sign_in(page, path=f"/dashboard/payments/{payment['id']}")
    timeline = page.get_by_test_id("timeline")
    delivered = timeline.get_by_role("link", name="Webhook payment.captured: delivered")
    expect(delivered).to_be_visible()
    told = [item.split("\n")[0] for item in timeline.get_by_role("listitem").all_inner_texts()]
    own = [line for line in told if not line.startswith("Webhook")]
    assert own == ["Payment begun", "Acquirer: approved", "Approved", "Captured", "Order paid"]
    assert "Webhook payment.captured: delivered" in told
    delivered.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("payment.captured")


def test_a_failure_is_explained(api: Api, page: Page) -> None:
    payment = api.card(api.order()["id"], "4000000000009995")
    drain_all()
    sign_in(page, path=f"/dashboard/payments/{payment['id']}")
    expect(page.locator(".notice.bad")).to_contain_text("enough money")
    expect(page.get_by_text("PAYMENT_DECLINED / insufficient_funds")).to_be_visible()
    expect(page.get_by_role("button", name="Refund")).to_have_count(0)


def test_a_payment_under_way_settles_before_ones_eyes(api: Api, page: Page) -> None:
    payment = api.upi(api.order()["id"])
    sign_in(page, path=f"/dashboard/payments/{payment['id']}")
    expect(page.get_by_test_id("settling")).to_contain_text("The acquirer is asked")
    drain_all()
    expect(page.get_by_test_id("status")).to_have_text("success")
    expect(page.get_by_test_id("settling")).to_have_count(0)


def test_part_of_an_approval_is_captured(api: Api, page: Page) -> None:
    payment = api.paid(10000, capture="manual")
    sign_in(page, path=f"/dashboard/payments/{payment['id']}")
    expect(page.get_by_text("not captured", exact=True)).to_be_visible()
    page.get_by_test_id("capture-button").click()
    dialog = page.get_by_test_id("capture-dialog")
    dialog.get_by_label("Amount").fill("120")
    dialog.get_by_role("button", name="Capture").click()
    expect(dialog.get_by_text("Must be more than nothing")).to_be_visible()
    dialog.get_by_label("Amount").fill("25.5")
    dialog.get_by_role("button", name="Capture ₹25.50").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_test_id("timeline")).to_contain_text("Capture asked for")
    expect(page.get_by_test_id("timeline")).to_contain_text("by test@example.com · ₹25.50")
    expect(page.get_by_test_id("capture-button")).to_have_count(0)
    assert api.payment(payment["id"])["amount_captured"] == 2550


def test_an_approval_is_voided_after_a_warning(api: Api, page: Page) -> None:
    payment = api.paid(capture="manual")
    sign_in(page, path=f"/dashboard/payments/{payment['id']}")
    page.get_by_test_id("void-button").click()
    dialog = page.get_by_test_id("void-dialog")
    expect(dialog.get_by_text("can't be undone")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_test_id("void-button")).to_be_focused()
    assert api.payment(payment["id"])["status"] == "success"
    page.get_by_test_id("void-button").click()
    dialog.get_by_role("button", name="Void it").click()
    expect(page.get_by_test_id("status")).to_have_text("voided")


def test_a_part_is_refunded_with_a_reason_and_then_the_rest(api: Api, page: Page) -> None:
    payment = api.paid(10000)
    sign_in(page, path=f"/dashboard/payments/{payment['id']}")
    page.get_by_test_id("refund-button").click()
    dialog = page.get_by_test_id("refund-dialog")
    dialog.get_by_label("Amount").fill("40")
    dialog.get_by_label("Reason").fill("one item returned")
    dialog.get_by_role("button", name="Refund ₹40.00").click()
    expect(page.get_by_test_id("settling")).to_contain_text("A refund is on its way")
    expect(page.get_by_test_id("refund-row")).to_contain_text("pending")
    drain_all()
    expect(page.get_by_test_id("refund-row")).to_contain_text("processed")
    expect(page.get_by_text("partly refunded")).to_be_visible()
    expect(page.get_by_test_id("timeline")).to_contain_text("refund.processed · ₹40.00")
    page.get_by_test_id("refund-button").click()
    dialog.get_by_role("button", name="Refund ₹60.00").click()
    expect(page.get_by_test_id("refund-row")).to_have_count(2)
    drain_all()
    expect(page.get_by_text("refunded", exact=True)).to_be_visible()
    expect(page.get_by_test_id("refund-button")).to_have_count(0)
    assert api.payment(payment["id"])["amount_refunded"] == 10000


def test_a_lost_answer_is_asked_for_again_and_refunds_once(api: Api, page: Page, watch: Watch) -> None:
    payment = api.paid(10000)
    sign_in(page, path=f"/dashboard/payments/{payment['id']}")
    address = f"**/payments/{payment['id']}/refunds"

    def lose(route: Any) -> None:
        if route.request.method != "POST":
            return route.fallback()
        route.fetch()
        return route.abort()

    page.route(address, lose)
    page.get_by_test_id("refund-button").click()
    dialog = page.get_by_test_id("refund-dialog")
    dialog.get_by_label("Amount").fill("10")
    dialog.get_by_role("button", name="Refund ₹10.00").click()
    expect(dialog.get_by_role("alert")).to_contain_text("does not answer")
    page.unroute(address)
    dialog.get_by_role("button", name="Refund ₹10.00").click()
    expect(dialog).to_have_count(0)
    drain_all()
    expect(page.get_by_test_id("refund-row")).to_have_count(1)
    assert api.payment(payment["id"])["amount_refunded"] == 1000
    watch.allow("ERR_FAILED")


def test_a_double_click_refunds_once(api: Api, page: Page) -> None:
    payment = api.paid(10000)
    sign_in(page, path=f"/dashboard/payments/{payment['id']}")
    page.get_by_test_id("refund-button").click()
    dialog = page.get_by_test_id("refund-dialog")
    dialog.get_by_label("Amount").fill("10")
    dialog.get_by_role("button", name="Refund ₹10.00").dblclick()
    expect(dialog).to_have_count(0)
    drain_all()
    expect(page.get_by_test_id("refund-row")).to_have_count(1)
    assert len(found(api.get(f"/payments/{payment['id']}/refunds"))["data"]) == 1


def test_a_refusal_of_the_gateway_is_told_in_the_dialog(api: Api, page: Page, watch: Watch) -> None:
    payment = api.paid(10000)
    sign_in(page, path=f"/dashboard/payments/{payment['id']}")
    page.get_by_test_id("refund-button").click()
    api.post(f"/payments/{payment['id']}/refunds", {"amount": 9000})  # somebody else is faster
    dialog = page.get_by_test_id("refund-dialog")
    dialog.get_by_role("button", name="Refund ₹100.00").click()
    expect(dialog.get_by_text("At most 1000 can still be refunded.")).to_be_visible()
    watch.allow("status of 400")


def test_money_of_other_currencies_has_its_own_digits(api: Api, page: Page) -> None:
    yen = api.paid(500, number="4242424242424242", currency="JPY", capture="manual")
    dinar = api.paid(12345, number="4242424242424242", currency="KWD", capture="manual")
    sign_in(page, path=f"/dashboard/payments/{yen['id']}")
    page.get_by_test_id("capture-button").click()
    dialog = page.get_by_test_id("capture-dialog")
    expect(dialog.get_by_label("Amount")).to_have_value("500")
    dialog.get_by_label("Amount").fill("1.5")
    dialog.get_by_role("button", name="Capture", exact=True).click()
    expect(dialog.get_by_text("Must be an amount, like 500.")).to_be_visible()
    page.keyboard.press("Escape")
    open_page(page, f"/payments/{dinar['id']}")
    page.get_by_test_id("capture-button").click()
    expect(dialog.get_by_label("Amount")).to_have_value("12.345")
    dialog.get_by_label("Amount").fill("1.005")
    dialog.get_by_role("button", name=re.compile(r"^Capture .*1\.005")).click()
    expect(dialog).to_have_count(0)
    assert api.payment(dinar["id"])["amount_captured"] == 1005


# --- orders, refunds, balance --------------------------------------------------------------------


def test_an_order_shows_who_tried_to_pay_it_and_opens_its_checkout(api: Api, page: Page) -> None:
    order = api.order(receipt="INV-9", notes={"size": "XL"})
    api.upi(order["id"], "failure@upi")
    drain_all()
    sign_in(page, path="/dashboard/orders")
    page.get_by_label("Search", exact=True).fill("INV-9")
    page.get_by_label("Search", exact=True).press("Enter")
    page.get_by_test_id("order-row").get_by_test_id("order-id").click()
    expect(page.get_by_test_id("status").first).to_have_text("attempted")
    expect(page.get_by_text("XL", exact=True)).to_be_visible()
    expect(page.get_by_test_id("transaction-row")).to_contain_text("failed")
    expect(page.get_by_test_id("open-checkout")).to_have_attribute("href", order["checkout_url"])
    api.upi(order["id"])
    drain_all()
    expect(page.get_by_test_id("status").first).to_have_text("paid")
    expect(page.get_by_test_id("open-checkout")).to_have_count(0)


def test_refunds_are_listed_and_one_is_explained(api: Api, page: Page) -> None:
    payment = api.paid(10000, number="4000000000005126")
    api.post(f"/payments/{payment['id']}/refunds", {"amount": 2500, "reason": "too small"})
    drain_all()
    sign_in(page, path="/dashboard/refunds")
    expect(page.get_by_test_id("refund-row")).to_contain_text("too small")
    page.get_by_test_id("refund-row").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("₹25.00")
    expect(page.get_by_role("link", name=payment["id"])).to_be_visible()


def test_the_balance_is_told_by_currency_with_its_rows(api: Api, page: Page) -> None:
    payment = api.paid(10000)
    api.paid(500, number="4242424242424242", currency="JPY")
    api.paid(7000, capture="manual")
    api.post(f"/payments/{payment['id']}/refunds", {"amount": 2500})
    drain_all()
    sign_in(page, path="/dashboard/balance")
    rupees = page.get_by_role("region", name="Balance in INR")
    for figure in ("₹75.00", "₹100.00", "₹25.00", "₹70.00"):
        expect(rupees.get_by_text(figure, exact=True)).to_be_visible()
    expect(page.get_by_role("region", name="Balance in JPY")).to_contain_text("500")
    page.get_by_label("Currency").select_option("JPY")
    expect(page.get_by_test_id("ledger-row")).to_have_count(2)


# --- nobody sees what is somebody else's ---------------------------------------------------------


def test_another_merchants_payment_is_not_found(api: Api, other: Api, page: Page, watch: Watch) -> None:
    payment = other.paid()
    sign_in(page, path=f"/dashboard/payments/{payment['id']}")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    page.get_by_role("searchbox").fill(payment["id"])
    page.get_by_role("searchbox").press("Enter")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    watch.allow("status of 404")
