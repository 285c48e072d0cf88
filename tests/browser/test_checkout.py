"""The checkout as a shopper uses it: every way to pay, every way it can end, and what must not go wrong."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
import zxingcpp
from flask import Flask
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect
from sqlalchemy import text

from models.base import db
from tests.browser.checkout import (
    OTP_CARD,
    failed,
    open_order,
    pay_by_card,
    pay_by_upi,
    send_otp,
    succeeded,
)
from tests.browser.conftest import NewContext, Watch
from tests.conftest import Api, drain_all, found
from tests.processes import wait_until

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 375, "height": 720}, "is_mobile": True, "has_touch": True}
NOT_CHARGED = "You have not been charged. Try again, or pay another way."


def payments_of(api: Api, order: dict[str, Any]) -> list[dict[str, Any]]:
    return found(api.get(f"/orders/{order['id']}/payments"))["data"]


def phone_of(page: Page) -> Page:
    """The simulated phone, in a second tab."""
    page.get_by_test_id("simulator").locator("summary").click()
    with page.context.expect_page() as opened:
        page.get_by_test_id("simulator-link").click()
    return opened.value


# --- paying --------------------------------------------------------------------------------------


def test_it_shows_what_is_to_be_paid_and_to_whom(api: Api, page: Page) -> None:
    order = api.order(1234500)
    open_order(page, order)
    expect(page.get_by_test_id("order-amount")).to_have_text("₹12,345.00")
    expect(page.get_by_test_id("order-id")).to_have_text(order["id"])
    expect(page.get_by_test_id("order-summary")).to_contain_text("Test Merchant")
    expect(page).to_have_title("Pay ₹12,345.00 · Test Merchant")
    expect(page.get_by_test_id("checkout-container")).to_be_visible()
    expect(page.get_by_test_id("pay-button")).to_have_count(1)
    expect(page.get_by_text("Test mode: no money moves")).to_be_visible()


def test_upi_succeeds(api: Api, page: Page, workers: None) -> None:
    order = api.order(callback_url="https://shop.example/thanks?cart=7")
    open_order(page, order)
    pay_by_upi(page)
    payment_id = succeeded(page)
    expect(page.get_by_test_id("success-message")).to_have_text("Test Merchant has received your payment.")
    back = page.get_by_test_id("return-link")
    expect(back).to_have_text("Return to Test Merchant")
    address = f"https://shop.example/thanks?cart=7&order_id={order['id']}&payment_id={payment_id}"
    expect(back).to_have_attribute("href", address)
    assert [p["id"] for p in payments_of(api, order)] == [payment_id]
    assert found(api.get(f"/orders/{order['id']}"))["status"] == "paid"


def test_without_a_callback_url_there_is_no_link(api: Api, page: Page, workers: None) -> None:
    open_order(page, api.order())
    pay_by_upi(page)
    succeeded(page)
    expect(page.get_by_test_id("return-link")).to_be_hidden()


def test_upi_fails_and_another_try_succeeds(api: Api, page: Page, workers: None) -> None:
    order = api.order()
    open_order(page, order)
    pay_by_upi(page, "failure@upi")
    assert failed(page) == f"Your bank declined the payment. {NOT_CHARGED}"
    page.get_by_test_id("retry-button").click()
    pay_by_upi(page)
    succeeded(page)
    assert [p["status"] for p in payments_of(api, order)] == ["success", "failed"]


SUCCESSES = [
    *("4242424242424242", "4111111111111111", "5555555555554444", "6527658900001005"),
    *("4000000000007726", "4000000000005126"),
]


def test_every_card_that_succeeds_does(api: Api, page: Page, workers: None) -> None:
    for number in SUCCESSES:
        open_order(page, api.order())
        pay_by_card(page, number)
        payment = api.payment(succeeded(page))
        assert (payment["status"], payment["card_last4"]) == ("success", number[-4:])


DECLINES = {
    "4000000000000002": "Your bank declined the card.",
    "4000000000009995": "There is not enough money in the account.",
    "4000000000009987": "This card was reported lost.",
    "4000000000009979": "This card was reported stolen.",
    "4000000000000069": "Your bank says that this card has expired.",
    "4000000000000127": "The security code is not correct.",
    "4000000000000119": "The bank could not process the card just now.",
}


def test_every_decline_is_told_in_plain_words(api: Api, page: Page, workers: None) -> None:
    order = api.order()
    open_order(page, order)
    for number, words in DECLINES.items():
        pay_by_card(page, number)
        assert failed(page) == f"{words} {NOT_CHARGED}"
        page.get_by_test_id("retry-button").click()
    pay_by_card(page)
    succeeded(page)
    assert [payment["status"] for payment in payments_of(api, order)] == ["success"] + ["failed"] * 7


def test_a_bank_that_does_not_answer_is_waited_for(
    api: Api, page: Page, make_due: Callable[[str], None]
) -> None:
    open_order(page, api.order())
    pay_by_card(page, "4100280000090000")
    expect(page.get_by_test_id("processing-message")).to_contain_text("The bank is deciding")
    drain_all()
    make_due("payments")
    drain_all()
    assert failed(page) == f"The payment was not completed in time. {NOT_CHARGED}"


def test_the_security_code_is_typed_anew_for_every_attempt(api: Api, page: Page, workers: None) -> None:
    open_order(page, api.order())
    pay_by_card(page, "4000000000000127")
    failed(page)
    page.get_by_test_id("retry-button").click()
    expect(page.get_by_test_id("card-number-input")).to_have_value("4000 0000 0000 0127")
    expect(page.get_by_test_id("cvv-input")).to_have_value("")


# --- what the shopper has to do ------------------------------------------------------------------


def test_an_otp_passes(api: Api, page: Page, workers: None) -> None:
    open_order(page, api.order())
    pay_by_card(page, OTP_CARD)
    expect(page.get_by_test_id("otp-input")).to_be_focused()
    expect(page.get_by_role("timer")).to_have_text(re.compile(r"^1[45]:\d\d$"))
    send_otp(page, "12 34")
    succeeded(page)


def test_an_otp_fails(api: Api, page: Page, workers: None) -> None:
    open_order(page, api.order())
    pay_by_card(page, OTP_CARD)
    send_otp(page, "123")
    assert failed(page) == f"The one-time password was not correct. {NOT_CHARGED}"


def test_what_is_no_otp_is_not_sent(api: Api, page: Page, workers: None) -> None:
    open_order(page, api.order())
    pay_by_card(page, OTP_CARD)
    send_otp(page, "")
    expect(page.locator(".wrong", has_text="Enter the one-time password.")).to_be_visible()
    send_otp(page, "12a4")
    expect(page.locator(".wrong", has_text="The one-time password has digits only")).to_be_visible()
    expect(page.get_by_test_id("otp-input")).to_have_attribute("aria-invalid", "true")
    send_otp(page)
    succeeded(page)


def test_a_challenge_can_be_cancelled(api: Api, page: Page, workers: None) -> None:
    open_order(page, api.order())
    pay_by_card(page, OTP_CARD)
    page.get_by_test_id("cancel-button").click()
    assert failed(page) == "You cancelled the payment. You have not been charged."
    expect(page.get_by_role("heading", name="Payment cancelled")).to_be_visible()


def test_a_code_is_scanned_and_approved_on_the_phone(api: Api, page: Page, workers: None) -> None:
    order = api.order()
    open_order(page, order)
    page.get_by_test_id("show-qr-button").click()
    code = page.get_by_test_id("qr-code")
    expect(code).to_have_attribute("alt", "QR code to pay ₹100.00 to Test Merchant with a UPI app")
    (payment,) = payments_of(api, order)
    assert scan(code) == payment["next_action"]["upi_link"]
    expect(page.get_by_role("timer")).to_have_text(re.compile(r"^[45]:\d\d$"))
    phone = phone_of(page)
    expect(phone.get_by_role("heading", name="Test Merchant")).to_be_visible()
    expect(phone.get_by_text("₹100.00")).to_be_visible()
    phone.get_by_role("button", name="Approve").click()
    assert succeeded(page) == payment["id"]
    expect(phone.get_by_role("heading", name="Paid", exact=True)).to_be_visible()


def test_the_phone_is_found_by_scanning_too(api: Api, live: str, page: Page, workers: None) -> None:
    order = api.order()
    open_order(page, order)
    page.get_by_test_id("show-qr-button").click()
    page.get_by_test_id("simulator").locator("summary").click()
    (payment,) = payments_of(api, order)
    code = page.get_by_role("img", name="QR code that opens the simulated phone")
    assert scan(code) == f"{live}/sim/upi/{payment['id']}"


@pytest.mark.parametrize(
    ("button", "words"),
    [
        ("Decline", "You declined the payment in your UPI app."),
        ("Enter a wrong UPI PIN", "The UPI PIN was not correct."),
        ("Let it expire", "The payment was not completed in time."),
    ],
)
def test_a_refusal_on_the_phone_is_told(api: Api, page: Page, workers: None, button: str, words: str) -> None:
    open_order(page, api.order())
    pay_by_upi(page, "pending@upi")
    expect(page.get_by_role("heading", name="Approve in your UPI app")).to_be_visible()
    phone = phone_of(page)
    phone.get_by_role("button", name=button).click()
    assert failed(page) == f"{words} {NOT_CHARGED}"
    expect(phone.get_by_role("heading", name="Not paid")).to_be_visible()


def test_the_simulated_phone_waits_for_a_connection(
    api: Api, page: Page, watch: Watch, workers: None
) -> None:
    open_order(page, api.order())
    page.get_by_test_id("show-qr-button").click()
    phone = phone_of(page)
    approve = phone.get_by_role("button", name="Approve")
    expect(approve).to_be_visible()
    page.context.set_offline(True)
    expect(phone.get_by_role("heading", name="No connection")).to_be_visible()
    page.context.set_offline(False)
    expect(phone.get_by_role("heading", name="Approve this payment?")).to_be_visible()
    approve.click()
    expect(phone.get_by_role("heading", name="Paid")).to_be_visible()
    succeeded(page)
    watch.allow("ERR_INTERNET_DISCONNECTED")


def test_a_phone_opens_its_upi_app_first(api: Api, new_context: NewContext, workers: None) -> None:
    page = new_context(**PHONE).new_page()
    order = api.order()
    open_order(page, order)
    first = page.get_by_test_id("upi-form").get_by_role("button").first
    expect(first).to_have_text("Pay with a UPI app")
    first.click()
    expect(page.get_by_test_id("upi-app-link")).to_have_attribute("href", re.compile("^upi://pay\\?"))
    expect(page.get_by_test_id("qr-code")).to_be_hidden()
    (payment,) = payments_of(api, order)
    assert payment["flow"] == "intent"
    phone = phone_of(page)
    phone.get_by_role("button", name="Approve").click()
    succeeded(page)


@pytest.mark.parametrize(
    ("context", "first"), [(PHONE, "upi-app-button"), ({}, "show-qr-button")], ids=["phone", "desktop"]
)
def test_one_way_stands_out_and_it_is_the_one_begun(
    api: Api, new_context: NewContext, context: dict[str, object], first: str
) -> None:
    page = new_context(**context).new_page()
    open_order(page, api.order())

    def expect_filled(*wanted: str) -> None:
        for name in {first, "show-qr-button", "pay-button"}:
            button = expect(page.get_by_test_id(name))
            (button.to_have_css if name in wanted else button.not_to_have_css)(
                "background-color", "rgb(26, 86, 196)"
            )

    expect_filled(first)
    page.get_by_test_id("vpa-input").fill("a")
    expect_filled("pay-button")
    page.get_by_test_id("vpa-input").fill("")
    expect_filled(first)


def test_a_desktop_offers_no_app_to_open(api: Api, page: Page) -> None:
    open_order(page, api.order())
    expect(page.get_by_test_id("show-qr-button")).to_be_visible()
    expect(page.get_by_test_id("upi-app-button")).to_be_hidden()


def test_one_code_can_be_left_for_another_way(api: Api, page: Page, workers: None) -> None:
    order = api.order()
    open_order(page, order)
    page.get_by_test_id("show-qr-button").click()
    page.get_by_test_id("cancel-button").click()
    pay_by_card(page)
    succeeded(page)
    assert [p["error_reason"] for p in payments_of(api, order)] == [None, "payment_cancelled"]


def test_a_code_whose_time_is_over_says_so(app: Flask, api: Api, page: Page) -> None:
    order = api.order()
    open_order(page, order)
    page.get_by_test_id("show-qr-button").click()
    wait_until(lambda: payments_of(api, order))
    drain_all()
    expect(page.get_by_test_id("qr-code")).to_be_visible()
    with app.app_context():
        db.session.execute(text("UPDATE payments SET action_expires_at = now() + interval '2 seconds'"))
        db.session.commit()
    page.reload()
    expect(page.get_by_role("heading", name="Time is up")).to_be_visible()
    with app.app_context():
        db.session.execute(text("UPDATE payments SET due_at = now()"))
        db.session.commit()
    drain_all()
    assert failed(page) == f"The payment was not completed in time. {NOT_CHARGED}"


# --- what must not go wrong ----------------------------------------------------------------------


def test_a_reload_finds_the_running_payment_again(api: Api, page: Page) -> None:
    order = api.order()
    open_order(page, order)
    pay_by_upi(page)
    expect(page.get_by_test_id("processing-message")).to_contain_text("The bank is deciding")
    page.reload()
    expect(page.get_by_test_id("processing-message")).to_contain_text("The bank is deciding")
    drain_all()
    (payment,) = payments_of(api, order)
    assert succeeded(page) == payment["id"]
    page.reload()
    assert succeeded(page) == payment["id"]
    expect(page.get_by_role("heading", name="Payment successful")).to_be_visible()


def test_a_reload_finds_out_that_it_failed_meanwhile(api: Api, page: Page) -> None:
    open_order(page, api.order())
    pay_by_upi(page, "failure@upi")
    expect(page.get_by_test_id("processing-message")).to_contain_text("The bank is deciding")
    page.goto("about:blank")
    drain_all()
    page.go_back()
    assert failed(page).startswith("Your bank declined the payment.")
    page.get_by_test_id("retry-button").click()
    page.reload()
    expect(page.get_by_test_id("pay-button")).to_be_visible()


def test_five_seconds_without_a_network_lose_nothing(api: Api, page: Page, watch: Watch) -> None:
    order = api.order()
    open_order(page, order)
    pay_by_upi(page)
    expect(page.get_by_test_id("processing-message")).to_contain_text("The bank is deciding")
    page.context.set_offline(True)
    line = page.locator(".problem")
    expect(line).to_have_text(re.compile(r"^No connection\. .* Next try in 4 s\.$"))  # after 1 + 2
    drain_all()
    expect(line).to_have_text(re.compile(r"Next try in 1 s\.$"))
    page.context.set_offline(False)
    succeeded(page)
    assert len(payments_of(api, order)) == 1
    watch.allow("ERR_INTERNET_DISCONNECTED")


def test_a_payment_sent_without_a_network_is_sent_when_there_is_one(
    api: Api, page: Page, watch: Watch, workers: None
) -> None:
    order = api.order()
    open_order(page, order)
    expect(page.get_by_test_id("pay-button")).to_be_visible()
    page.context.set_offline(True)
    pay_by_card(page)
    expect(page.locator(".problem", has_text="No connection.")).to_be_visible()
    page.context.set_offline(False)
    succeeded(page)
    assert len(payments_of(api, order)) == 1
    watch.allow("ERR_INTERNET_DISCONNECTED")


def test_a_lost_answer_is_asked_for_again_and_charges_once(
    api: Api, page: Page, watch: Watch, workers: None
) -> None:
    """The request arrives, its answer does not: the same key brings the same payment."""
    order = api.order()
    open_order(page, order)
    keys = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        answer = route.fetch()
        if len(keys) == 1:
            route.abort("connectionreset")
        else:
            route.fulfill(response=answer)

    page.route("**/payments/public", lose)
    pay_by_upi(page)
    succeeded(page)
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert len(payments_of(api, order)) == 1
    watch.allow("ERR_CONNECTION_RESET")


def test_a_gateway_that_fails_for_a_moment_is_asked_again(
    api: Api, page: Page, watch: Watch, workers: None
) -> None:
    order = api.order()
    answers = [503, 500]
    error = {"error": {"code": "SERVICE_UNAVAILABLE", "description": "Not now."}}

    def fail(route: Route) -> None:
        if answers:
            route.fulfill(status=answers.pop(), json=error)
        else:
            route.continue_()

    open_order(page, order)
    page.route("**/payments/public", fail)
    pay_by_upi(page)
    succeeded(page)
    assert len(payments_of(api, order)) == 1
    watch.allow("status of 50")


@pytest.mark.parametrize("way", ["dblclick", "enter"])
def test_an_impatient_shopper_pays_once(api: Api, page: Page, watch: Watch, workers: None, way: str) -> None:
    order = api.order()
    open_order(page, order)
    page.get_by_test_id("vpa-input").fill("success@upi")
    button = page.get_by_test_id("pay-button")
    if way == "dblclick":
        button.dblclick()
    else:
        page.get_by_test_id("vpa-input").focus()
        for _ in range(5):
            page.keyboard.press("Enter")
    succeeded(page)
    assert len(payments_of(api, order)) == 1
    assert sum(request.method == "POST" for request in watch.requests) == 1


def test_a_second_tab_joins_the_payment_of_the_first(api: Api, page: Page, watch: Watch) -> None:
    order = api.order()
    second = page.context.new_page()
    for tab in (page, second):
        open_order(tab, order)
        expect(tab.get_by_test_id("pay-button")).to_be_visible()
    pay_by_upi(page)
    expect(page.get_by_test_id("processing-message")).to_contain_text("The bank is deciding")
    pay_by_card(second)
    expect(second.get_by_test_id("processing-message")).to_contain_text("The bank is deciding")
    third = page.context.new_page()
    open_order(third, order)
    expect(third.get_by_test_id("processing-state")).to_be_visible()
    drain_all()
    (payment,) = payments_of(api, order)
    assert payment["method"] == "upi"
    assert succeeded(page) == succeeded(second) == succeeded(third) == payment["id"]
    watch.allow("status of 409")


def test_a_tab_that_is_late_learns_that_it_is_paid(api: Api, page: Page, watch: Watch) -> None:
    order = api.order()
    open_order(page, order)
    expect(page.get_by_test_id("pay-button")).to_be_visible()
    api.upi(order["id"])
    drain_all()
    pay_by_upi(page)
    expect(page.get_by_role("heading", name="Already paid")).to_be_visible()
    assert len(payments_of(api, order)) == 1
    watch.allow("status of 409")


def test_no_card_data_is_kept_anywhere(api: Api, page: Page, watch: Watch, workers: None) -> None:
    open_order(page, api.order())
    pay_by_card(page, "4000000000000002")
    failed(page)
    kept = page.evaluate(
        "async () => JSON.stringify([location.href, document.cookie, history.state, {...localStorage}, "
        "{...sessionStorage}, await indexedDB.databases(), performance.getEntries().map(({ name }) => name)])"
    )
    assert "order_" in kept
    for secret in ("4000000000000002", "4000 0000", "Asha", '123"', "1249"):
        assert secret not in kept
    bodies = [request for request in watch.requests if "4000000000000002" in (request.post_data or "")]
    assert [(r.method, r.url.rsplit("/api/v1")[-1]) for r in bodies] == [("POST", "/payments/public")]
    assert not any("4000000000000002" in request.url for request in watch.requests)
    assert page.locator("input[name]").count() == 0  # a form that is sent by the browser would send nothing


def test_a_limit_is_told_and_the_form_is_back(api: Api, page: Page, watch: Watch) -> None:
    open_order(page, api.order())
    error = {"error": {"code": "RATE_LIMIT_ERROR", "description": "Too many."}}
    page.route(
        "**/payments/public",
        lambda route: route.fulfill(status=429, json=error, headers={"Retry-After": "40"}),
    )
    pay_by_upi(page)
    expect(page.get_by_role("alert")).to_have_text("Too many attempts. Please try again in 40 s.")
    expect(page.get_by_test_id("vpa-input")).to_have_value("success@upi")
    watch.allow("status of 429")


def test_a_limit_of_the_one_time_password_is_told_and_costs_no_try(
    api: Api, page: Page, watch: Watch, workers: None
) -> None:
    open_order(page, api.order())
    pay_by_card(page, OTP_CARD)
    error = {"error": {"code": "RATE_LIMIT_ERROR", "description": "Too many."}}
    page.route("**/otp", lambda route: route.fulfill(status=429, json=error, headers={"Retry-After": "40"}))
    send_otp(page)
    expect(page.locator(".problem")).to_have_text("Too many attempts. Please try again in 40 s.")
    page.unroute("**/otp")
    send_otp(page)
    succeeded(page)
    watch.allow("status of 429")


def test_what_the_gateway_refuses_is_shown_at_its_field(api: Api, page: Page, watch: Watch) -> None:
    open_order(page, api.order())
    error = {
        "error": {"code": "INVALID_CARD", "description": "The card is not taken.", "field": "card.number"}
    }
    page.route("**/payments/public", lambda route: route.fulfill(status=400, json=error))
    pay_by_card(page)
    expect(page.get_by_test_id("card-number-input")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text("The card is not taken.").first).to_be_visible()
    expect(page.get_by_test_id("card-number-input")).to_be_focused()
    watch.allow("status of 400")


# --- orders that cannot be paid ------------------------------------------------------------------


def test_an_expired_order_says_so(app: Flask, api: Api, page: Page) -> None:
    order = api.order(expires_in=60)
    end_time_of_orders(app)
    open_order(page, order)
    expect(page.get_by_role("heading", name="This order has expired")).to_be_visible()
    expect(page.get_by_test_id("ended-message")).to_contain_text("Ask Test Merchant for a new one.")


def test_an_order_that_expires_meanwhile_says_so(app: Flask, api: Api, page: Page) -> None:
    order = api.order(expires_in=60)
    open_order(page, order)
    expect(page.get_by_role("timer")).to_have_text(re.compile(r"^(1:00|0:\d\d)$"))
    page.clock.install()
    page.clock.fast_forward(61_000)
    expect(page.get_by_role("heading", name="This order has expired")).to_be_visible()


def test_a_payment_of_an_order_that_has_expired_is_refused_and_told(
    app: Flask, api: Api, page: Page, watch: Watch
) -> None:
    order = api.order(expires_in=3600)
    open_order(page, order)
    expect(page.get_by_test_id("pay-button")).to_be_visible()
    end_time_of_orders(app)
    pay_by_upi(page)
    expect(page.get_by_role("heading", name="This order has expired")).to_be_visible()
    watch.allow("status of 409")


def test_a_paid_order_says_so(api: Api, page: Page) -> None:
    payment = api.paid(callback_url="https://shop.example/")
    open_order(page, {"id": payment["order_id"]})
    expect(page.get_by_role("heading", name="Already paid")).to_be_visible()
    expect(page.get_by_test_id("payment-id")).to_have_text(payment["id"])
    expect(page.get_by_test_id("return-link")).to_be_visible()


@pytest.mark.parametrize(
    "address", ["/checkout?order_id=order_doesNotExist0000", "/checkout", "/checkout/?order_id=../x"]
)
def test_an_unknown_order_says_so(live: str, page: Page, watch: Watch, address: str) -> None:
    page.goto(address)
    expect(page.get_by_role("heading", name="Order not found")).to_be_visible()
    expect(page.get_by_test_id("order-summary")).to_be_hidden()
    watch.allow("status of 404")


def test_an_order_that_cannot_be_loaded_is_asked_for_again(api: Api, page: Page, watch: Watch) -> None:
    order = api.order()
    page.route("**/public?*", lambda route: route.abort("connectionfailed"))
    open_order(page, order)
    expect(page.get_by_role("heading", name="No connection")).to_be_visible()
    page.unroute_all()
    expect(page.get_by_test_id("pay-button")).to_be_visible()
    watch.allow("ERR_CONNECTION_FAILED")


def test_an_order_takes_the_methods_that_it_names(api: Api, page: Page) -> None:
    open_order(page, api.order(methods=["card"]))
    expect(page.get_by_test_id("card-form")).to_be_visible()
    expect(page.get_by_test_id("method-upi")).to_have_count(0)
    open_order(page, api.order(500, currency="JPY"))
    expect(page.get_by_test_id("order-amount")).to_have_text("¥500")
    expect(page.get_by_test_id("method-upi")).to_have_count(0)
    open_order(page, api.order(12345, currency="KWD"))
    expect(page.get_by_test_id("order-amount")).to_have_text(re.compile(r"KWD\s12\.345"))


def test_an_approval_that_awaits_its_capture_is_a_success(api: Api, page: Page, workers: None) -> None:
    order = api.order(capture="manual")
    open_order(page, order)
    pay_by_card(page)
    assert api.payment(succeeded(page))["captured"] is False
    open_order(page, order)
    succeeded(page)


def end_time_of_orders(app: Flask) -> None:
    with app.app_context():
        db.session.execute(text("UPDATE orders SET expires_at = now()"))
        db.session.commit()


def scan(code: Locator) -> str:
    """What a scanner reads on the screen, by another library than the one that made the code."""
    expect(code).to_have_js_property("complete", True)
    (found_code,) = zxingcpp.read_barcodes(Image.open(io.BytesIO(code.screenshot())).convert("L"))
    return found_code.text
