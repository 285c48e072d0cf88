"""The dashboard's frame: signing in and out, finding pages, the keyboard, and a gateway that is silent."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from playwright.sync_api import Page, expect
from sqlalchemy import text

from models.base import db
from models.merchants import Merchant
from models.passwords import PasswordLink
from tests.browser.conftest import NewContext, Watch
from tests.browser.dashboard import open_page, sign_in
from tests.conftest import Api

pytestmark = pytest.mark.browser

PAGES = {
    "h": ("/", "Home"),
    "p": ("/payments", "Payments"),
    "o": ("/orders", "Orders"),
    "r": ("/refunds", "Refunds"),
    "b": ("/balance", "Balance"),
    "w": ("/webhooks", "Webhooks"),
    "k": ("/keys", "API keys"),
    "e": ("/events", "Events"),
    "d": ("/docs", "Integration guide"),
    "j": ("/jobs", "Jobs"),
    "s": ("/settings", "Settings"),
}


def end_sessions(app: Flask) -> None:
    with app.app_context():
        db.session.execute(text("DELETE FROM sessions"))
        db.session.commit()


# --- signing in and out --------------------------------------------------------------------------


def test_a_merchant_signs_in_and_out(api: Api, page: Page, live: str) -> None:
    sign_in(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Home")
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert cookies["gateway_session"]["httpOnly"]
    assert cookies["gateway_session"]["sameSite"] == "Strict"
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Home")
    page.get_by_role("button", name="Test Merchant").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_test_id("login-form")).to_be_visible()
    assert page.context.cookies() == []
    answer = page.request.get(
        "/api/v1/payments", headers={"Cookie": f"gateway_session={cookies['gateway_session']['value']}"}
    )
    assert answer.status == 401


def test_a_wrong_password_is_told_and_the_right_one_still_works(api: Api, page: Page, watch: Watch) -> None:
    page.goto("/dashboard/")
    page.get_by_test_id("email-input").fill("test@example.com")
    page.get_by_test_id("password-input").fill("something else")
    page.get_by_test_id("password-input").press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The email or the password is wrong.")
    watch.allow("status of 401")
    page.get_by_test_id("password-input").fill("test-merchant-password")
    page.get_by_test_id("password-input").press("Enter")
    expect(page.get_by_test_id("dashboard")).to_be_visible()


def test_the_test_merchants_credentials_are_offered_on_a_local_gateway(api: Api, page: Page) -> None:
    page.goto("/login")
    page.get_by_role("button", name="Fill in").click()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Home")
    expect(page).to_have_url(re.compile("/dashboard/$"))


def test_whoever_signs_in_gets_to_the_page_that_was_asked_for(api: Api, page: Page) -> None:
    payment = api.paid()
    sign_in(page, path=f"/dashboard/payments/{payment['id']}")
    expect(page.get_by_test_id("payment-id")).to_have_text(payment["id"])


def test_a_session_that_is_over_leads_to_the_login_and_back(
    app: Flask, api: Api, page: Page, watch: Watch
) -> None:
    sign_in(page, path="/dashboard/payments")
    expect(page.get_by_role("heading", name="No payments yet")).to_be_visible()
    end_sessions(app)
    page.get_by_role("link", name="Orders").click()
    expect(page.get_by_test_id("login-form")).to_be_visible()
    watch.allow("status of 401")
    sign_in_again = page.get_by_test_id("password-input")
    page.get_by_test_id("email-input").fill("test@example.com")
    sign_in_again.fill("test-merchant-password")
    sign_in_again.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Orders")


def test_a_password_is_chosen_by_a_link_once(app: Flask, api: Api, page: Page, watch: Watch) -> None:
    with app.app_context():
        merchant = Merchant.create(name="Fresh Shop", email="fresh@example.com")
        token = PasswordLink.issue(merchant)
        db.session.commit()
    page.goto(f"/dashboard/password#{token}")
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_role("button", name="Choose it").click()
    expect(page.get_by_text("Must be at least 12 characters.")).to_be_visible()
    page.get_by_label("Password", exact=True).fill("a chain of words")
    page.get_by_label("The same again").fill("another chain")
    page.get_by_role("button", name="Choose it").click()
    expect(page.get_by_text("Is not the same.")).to_be_visible()
    page.get_by_label("The same again").fill("a chain of words")
    page.get_by_role("button", name="Choose it").click()
    expect(page.get_by_test_id("login-form")).to_be_visible()
    page.get_by_test_id("email-input").fill("fresh@example.com")
    page.get_by_test_id("password-input").fill("a chain of words")
    page.get_by_test_id("login-button").click()
    expect(page.get_by_role("button", name="Fresh Shop")).to_be_visible()

    page.goto("/dashboard/")
    page.goto(f"/dashboard/password#{token}")
    for label in ("Password", "The same again"):
        page.get_by_label(label, exact=True).fill("yet another chain")
    page.get_by_role("button", name="Choose it").click()
    expect(page.get_by_role("alert")).to_contain_text("This link has been used")
    watch.allow("status of 400")


# --- finding pages -------------------------------------------------------------------------------


def test_every_page_is_reached_by_its_link_and_has_its_own_name(api: Api, page: Page) -> None:
    sign_in(page)
    links = page.get_by_role("navigation", name="Pages").get_by_role("link")
    for path, heading in PAGES.values():
        if path == "/settings":
            continue
        links.filter(has_text=re.compile(f"^{heading}$")).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        expect(page).to_have_title(f"{heading} · Payment Gateway")
        assert page.url.endswith(f"/dashboard{path}")
        expect(page.locator("#nav [aria-current=page]")).to_have_text(heading)


def test_every_page_is_reached_by_two_keys(api: Api, page: Page) -> None:
    sign_in(page)
    for key, (path, heading) in PAGES.items():
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        assert page.url.endswith(f"/dashboard{path}")
        expect(page.get_by_role("heading", level=1)).to_be_focused()


def test_the_first_key_skips_to_the_content_and_draws_nothing_anew(api: Api, page: Page) -> None:
    sign_in(page, path="/dashboard/orders")
    expect(page.get_by_role("heading", name="No orders yet")).to_be_visible()
    page.get_by_label("Search", exact=True).fill("typed, and not lost")
    page.get_by_role("link", name="Skip to the content").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(page.get_by_label("Search", exact=True)).to_have_value("typed, and not lost")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Search", exact=True)).to_be_focused()


def test_the_list_of_shortcuts_is_shown_on_asking(api: Api, page: Page) -> None:
    sign_in(page)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog.get_by_text("Integration guide")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_keys_typed_into_a_field_go_nowhere(api: Api, page: Page) -> None:
    sign_in(page, path="/dashboard/orders")
    page.get_by_label("Search", exact=True).press_sequentially("gp/?")
    expect(page.get_by_label("Search", exact=True)).to_have_value("gp/?")
    expect(page.get_by_role("heading", level=1)).to_have_text("Orders")


def test_the_slash_leads_to_the_search(api: Api, page: Page) -> None:
    payment = api.paid()
    api.paid()
    sign_in(page)
    page.keyboard.press("/")
    page.keyboard.type(payment["id"])
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("transaction-row")).to_have_count(1)
    expect(page.get_by_test_id("payment-id")).to_have_text(payment["id"])


@pytest.mark.parametrize(
    ("address", "heading"), [("/dashboard/transactions", "Payments"), ("/dashboard/login", "Home")]
)
def test_other_names_of_pages_lead_there(api: Api, page: Page, address: str, heading: str) -> None:
    sign_in(page)
    page.goto(address)
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)


def test_an_address_without_a_page_says_so(api: Api, page: Page) -> None:
    sign_in(page, path="/dashboard/nowhere")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    page.get_by_role("link", name="To the start").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Home")


def test_back_and_forward_work(api: Api, page: Page) -> None:
    sign_in(page)
    page.get_by_role("link", name="Orders", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Orders")
    page.get_by_role("link", name="Balance", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Balance")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Orders")
    page.go_forward()
    expect(page.get_by_role("heading", level=1)).to_have_text("Balance")


def test_on_a_phone_the_pages_are_behind_a_button(api: Api, new_context: NewContext) -> None:
    page = new_context(viewport={"width": 390, "height": 844}).new_page()
    sign_in(page)
    expect(page.get_by_role("link", name="Refunds", exact=True)).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Refunds", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Refunds")
    expect(page.get_by_role("link", name="Balance", exact=True)).to_be_hidden()


def test_by_the_keyboard_alone_one_gets_from_the_login_to_a_payment(api: Api, page: Page) -> None:
    payment = api.paid()
    page.goto("/dashboard/")
    expect(page.get_by_test_id("email-input")).to_be_focused()
    page.keyboard.type("test@example.com")
    page.keyboard.press("Tab")
    page.keyboard.type("test-merchant-password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Home")
    page.keyboard.press("g")
    page.keyboard.press("p")
    row = page.get_by_test_id("payment-id")
    expect(row).to_be_visible()
    for _ in range(30):
        page.keyboard.press("Tab")
        if row.evaluate("(link) => link === document.activeElement || link.contains(document.activeElement)"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("timeline")).to_be_visible()
    assert page.url.endswith(payment["id"])


# --- when nothing answers ------------------------------------------------------------------------


def test_a_lost_connection_is_told_and_so_is_its_return(api: Api, page: Page, watch: Watch) -> None:
    sign_in(page, path="/dashboard/payments")
    expect(page.get_by_role("heading", name="No payments yet")).to_be_visible()
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_be_visible()
    page.get_by_role("link", name="Orders", exact=True).click()
    expect(page.get_by_role("heading", name="No connection")).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator("#offline")).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_have_text("Orders")
    expect(page.get_by_role("heading", name="No orders yet")).to_be_visible()
    watch.allow("ERR_INTERNET_DISCONNECTED")


def test_an_error_of_the_gateway_is_told_and_asking_again_mends_it(
    api: Api, page: Page, watch: Watch
) -> None:
    sign_in(page)
    failing = "**/api/v1/orders*"
    body = '{"error":{"code":"SERVER_ERROR","description":"Something went wrong on our side."}}'
    page.route(failing, lambda route: route.fulfill(status=500, content_type="application/json", body=body))
    open_page(page, "/orders", "Orders")
    expect(page.get_by_role("alert")).to_contain_text("Something went wrong on our side.")
    page.unroute(failing)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="No orders yet")).to_be_visible()
    watch.allow("status of 500")


@pytest.mark.parametrize("path", ["/payments/pay_none", "/orders/order_none", "/refunds/rfnd_none"])
def test_what_is_not_there_is_told(api: Api, other: Api, page: Page, watch: Watch, path: str) -> None:
    sign_in(page, path=f"/dashboard{path}")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    watch.allow("status of 404")


def test_the_page_does_not_keep_a_session_from_idling_out(api: Api, page: Page) -> None:
    """What it asks by itself is marked, once nobody has touched it for a minute."""
    page.clock.install()
    sign_in(page)
    with page.expect_request("**/payments/stats*") as asked:
        page.clock.run_for(5000)
    assert "x-background" not in asked.value.headers
    page.clock.fast_forward(90_000)
    with page.expect_request(lambda request: request.headers.get("x-background") == "true"):
        page.clock.run_for(5000)
