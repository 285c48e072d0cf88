"""Settings in the dashboard: the business, the password, where one is signed in, and the security log."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from flask import Flask
from playwright.sync_api import Locator, Page, expect

from config import ROOT
from models.audit import GATEWAY, AuditEntry
from models.base import db
from models.merchants import TEST_EMAIL, TEST_MERCHANT_ID, TEST_PASSWORD, Merchant
from models.passwords import FAILURES_MAX_PER_ACCOUNT
from tests.browser.conftest import NewContext, Watch, axe
from tests.browser.dashboard import open_page, sign_in
from tests.conftest import Api, found, made

pytestmark = pytest.mark.browser

SIZES = {"wide": (1280, 900), "phone": (390, 844)}
NEW_PASSWORD = "a chain of several words"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)
EDGE = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0"
)


@pytest.fixture(autouse=True)
def merchant_as_before(app: Flask) -> Iterator[None]:
    """Merchants are kept between tests: what a test changes of this one is put back."""
    names = ("name", "logo_url", "accent_color", "frame_origins", "password_hash")
    with app.app_context():
        merchant = db.session.get_one(Merchant, TEST_MERCHANT_ID)
        before = {name: getattr(merchant, name) for name in names}
    yield
    with app.app_context():
        merchant = db.session.get_one(Merchant, TEST_MERCHANT_ID)
        for name, value in before.items():
            setattr(merchant, name, value)
        db.session.commit()


@pytest.fixture
def settings(api: Api, page: Page) -> Page:
    sign_in(page, path="/dashboard/settings")
    expect(page.get_by_role("heading", level=1)).to_have_text("Settings")
    return page


def business(page: Page) -> Locator:
    return page.get_by_test_id("business-form")


def save(page: Page) -> None:
    business(page).get_by_role("button", name="Save").click()


def change_password(page: Page, current: str, chosen: str, again: str | None = None) -> None:
    form = page.get_by_test_id("password-form")
    form.get_by_label("Current password").fill(current)
    form.get_by_label("New password").fill(chosen)
    form.get_by_label("The same again").fill(chosen if again is None else again)
    form.get_by_role("button", name="Change password").click()


# --- the business --------------------------------------------------------------------------------


def test_the_business_is_changed_and_the_checkout_shows_it(api: Api, settings: Page) -> None:
    form = business(settings)
    form.get_by_label("Name").fill("Chai & Co.")
    form.get_by_label("Logo's address").fill("https://shop.example/logo.png")
    form.get_by_label("Colour (optional)").fill("#8A3B12")
    form.get_by_label("Sites that may frame").fill("https://shop.example\nhttps://www.shop.example/ ")
    save(settings)
    expect(settings.locator("#toast")).to_contain_text("Saved.")
    expect(settings.locator("#account-name")).to_have_text("Chai & Co.")
    merchant = found(api.get("/merchant"))
    assert merchant["name"] == "Chai & Co."
    assert merchant["logo_url"] == "https://shop.example/logo.png"
    assert merchant["accent_color"] == "#8a3b12"
    assert merchant["frame_origins"] == ["https://shop.example", "https://www.shop.example"]
    public = found(api.get(f"/orders/{api.order()['id']}/public"))
    assert public["merchant"]["name"] == "Chai & Co."
    expect(form.get_by_label("Sites that may frame")).to_have_value(
        "https://shop.example\nhttps://www.shop.example"
    )


def test_only_what_changed_is_sent_and_what_is_emptied_goes(api: Api, settings: Page) -> None:
    found(api.patch("/merchant", {"accent_color": "#8a3b12", "frame_origins": ["https://shop.example"]}))
    settings.reload()
    business(settings).get_by_label("Colour (optional)").fill("")
    business(settings).get_by_label("Sites that may frame").fill("")
    with settings.expect_request("**/api/v1/merchant") as asked:
        save(settings)
    assert asked.value.post_data_json == {"accent_color": None, "frame_origins": []}
    expect(settings.locator("#toast")).to_contain_text("Saved.")
    save(settings)
    expect(settings.locator("#toast")).to_have_text("Nothing has changed.")


def test_what_is_refused_is_told_at_its_field_and_nothing_is_saved(
    api: Api, settings: Page, watch: Watch
) -> None:
    form = business(settings)
    for label, wrong, said in (
        ("Logo's address", "ftp://shop.example/logo.png", "Must be an http or https URL."),
        ("Colour (optional)", "brown", "Must be a colour like #1a56c4."),
        ("Sites that may frame", "https://a.example\nnonsense", "Line 2: Must be an http or https URL."),
        ("Name", " ", "Type a name."),
    ):
        control = form.get_by_label(label)
        before = control.input_value()
        control.fill(wrong)
        save(settings)
        expect(form.get_by_text(said)).to_be_visible()
        expect(control).to_be_focused()
        expect(control).to_have_attribute("aria-invalid", "true")
        expect(control).to_have_accessible_description(re.compile(re.escape(said)))
        control.fill(before)
        expect(form.get_by_text(said)).to_be_hidden()
    assert found(api.get("/merchant"))["name"] == "Test Merchant"
    watch.allow("status of 400")


@pytest.mark.parametrize(("colour", "text"), [("#ffcc00", "rgb(0, 0, 0)"), ("#1a1a6e", "rgb(255, 255, 255)")])
def test_the_preview_has_the_colour_and_what_can_be_read_on_it(
    settings: Page, colour: str, text: str
) -> None:
    business(settings).get_by_label("Name").fill("masala chai house")
    business(settings).get_by_label("Pick the colour").fill(colour)
    expect(business(settings).get_by_label("Colour (optional)")).to_have_value(colour)
    preview = settings.get_by_test_id("checkout-preview")
    expect(preview).to_have_accessible_name(f"Your checkout: masala chai house, in {colour}")
    expect(preview.locator(".avatar")).to_have_text("MC")
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    expect(preview.locator(".pay")).to_have_css("background-color", f"rgb({red}, {green}, {blue})")
    expect(preview.locator(".pay")).to_have_css("color", text)
    expect(preview.locator(".avatar")).to_have_css("color", text)


# --- the password --------------------------------------------------------------------------------


def test_another_password_signs_out_every_other_browser(
    api: Api, settings: Page, new_context: NewContext, watch: Watch
) -> None:
    elsewhere = new_context().new_page()
    sign_in(elsewhere, path="/dashboard/keys")
    expect(settings.get_by_test_id("session-row")).to_have_count(2)
    change_password(settings, TEST_PASSWORD, NEW_PASSWORD)
    expect(settings.locator("#toast")).to_contain_text("Every other browser is signed out.")
    expect(settings.get_by_test_id("session-row")).to_have_count(1)
    expect(settings.get_by_test_id("audit-row").first).to_contain_text("Changed the password")
    for label in ("Current password", "New password", "The same again"):
        expect(settings.get_by_label(label)).to_have_value("")
    expect(elsewhere.get_by_test_id("login-form")).to_be_visible()
    sign_in(elsewhere, password=NEW_PASSWORD)
    settings.reload()
    expect(settings.get_by_test_id("dashboard")).to_be_visible()
    watch.allow("status of 401")


def test_a_wrong_current_password_is_told_at_its_field(settings: Page, watch: Watch) -> None:
    change_password(settings, "something else", NEW_PASSWORD)
    current = settings.get_by_label("Current password")
    expect(current).to_have_accessible_description("The password is wrong.")
    expect(current).to_be_focused()
    change_password(settings, TEST_PASSWORD, TEST_EMAIL)
    expect(settings.get_by_label("New password")).to_have_accessible_description(
        re.compile("Is too easy to guess.")
    )
    watch.allow("status of 400", "status of 403")


def test_too_many_wrong_ones_are_told_at_the_field(app: Flask, settings: Page, watch: Watch) -> None:
    for number in range(FAILURES_MAX_PER_ACCOUNT + 1):
        with settings.expect_response("**/api/v1/password"):
            change_password(settings, f"wrong {number}", NEW_PASSWORD)
    expect(settings.get_by_label("Current password")).to_have_accessible_description(
        re.compile("Too many wrong passwords")
    )
    watch.allow("status of 403", "status of 429")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("", NEW_PASSWORD, NEW_PASSWORD), "Type your current password."),
        ((TEST_PASSWORD, "short", "short"), "Must be at least 12 characters."),
        ((TEST_PASSWORD, NEW_PASSWORD, "another"), "Is not the same."),
    ],
)
def test_what_can_be_seen_to_be_wrong_is_not_sent(
    settings: Page, watch: Watch, given: tuple[str, str, str], said: str
) -> None:
    change_password(settings, *given)
    expect(settings.get_by_test_id("password-form").get_by_text(said)).to_be_visible()
    assert [request.url for request in watch.requests if request.url.endswith("/password")] == []


# --- where somebody is signed in -----------------------------------------------------------------


def test_browsers_are_listed_in_words_and_this_one_is_marked(settings: Page, new_context: NewContext) -> None:
    for agent in (FIREFOX, SAFARI, EDGE, "my own thing"):
        sign_in(new_context(user_agent=agent).new_page())
    rows = settings.get_by_test_id("session-row")
    expect(rows).to_have_count(5)
    for number, words in enumerate(
        ["my own thing", "Edge 142 on macOS", "Safari 18 on iPhone", "Firefox 143 on Windows"]
    ):
        expect(rows.nth(number)).to_contain_text(words)
        expect(rows.nth(number)).not_to_contain_text("this one")
    expect(rows.nth(4)).to_contain_text(re.compile(r"Chrome \d+ on Linux\s+this one.*127\.0\.0\.1"))
    expect(rows.nth(3).locator("span").first).to_have_attribute("title", FIREFOX)
    expect(rows.first.locator("time").first).to_have_attribute("title", re.compile("UTC$"))


def test_signing_out_everywhere_is_asked_and_ends_every_session(
    api: Api, settings: Page, new_context: NewContext, watch: Watch
) -> None:
    elsewhere = new_context().new_page()
    sign_in(elsewhere, path="/dashboard/keys")
    settings.get_by_test_id("sign-out-everywhere").click()
    dialog = settings.get_by_role("dialog", name="Sign out everywhere")
    expect(dialog).to_contain_text("this one too. API keys go on working.")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    settings.keyboard.press("Enter")
    expect(settings.locator("dialog")).to_have_count(0)
    expect(settings.get_by_test_id("sign-out-everywhere")).to_be_focused()
    settings.keyboard.press("Enter")
    dialog.get_by_role("button", name="Sign out everywhere").click()
    expect(settings.get_by_test_id("login-form")).to_be_visible()
    expect(elsewhere.get_by_test_id("login-form")).to_be_visible()
    settings.reload()
    expect(settings.get_by_test_id("login-form")).to_be_visible()
    watch.allow("status of 401")
    assert found(api.get("/merchant"))["id"] == TEST_MERCHANT_ID


# --- the security log ----------------------------------------------------------------------------


def test_the_log_says_in_words_who_did_what_to_what(api: Api, settings: Page) -> None:
    payment = api.paid()
    key = made(api.post("/api_keys"))
    new = made(api.post(f"/api_keys/{key['id']}/roll", {"overlap_hours": 3}))
    made(api.post(f"/payments/{payment['id']}/refunds", {"amount": 4000}))
    rows = settings.get_by_test_id("audit-row")
    expect(rows).to_have_count(4)
    refund, rolled, _, signed_in = rows.all()
    expect(refund).to_contain_text("Refunded a payment")
    expect(refund).to_contain_text("key_test_abc123")
    expect(refund).to_contain_text("4000 in minor units")
    expect(refund.get_by_role("link")).to_have_attribute("href", re.compile("^/dashboard/refunds/rfnd_"))
    expect(rolled).to_contain_text("Rolled an API key")
    expect(rolled).to_contain_text(key["id"])
    expect(rolled).to_contain_text(f"Into {new['id']}")
    expect(rolled).to_contain_text("Overlap hours 3")
    expect(rolled.locator("time")).to_have_attribute("title", re.compile(r"^20.* UTC$"))
    expect(signed_in).to_contain_text("Signed in")
    expect(signed_in).to_contain_text(TEST_EMAIL)
    expect(signed_in).to_contain_text("Address 127.0.0.1")


def test_turning_a_page_of_the_log_stays_at_the_log(app: Flask, api: Api, page: Page) -> None:
    with app.app_context():
        for number in range(25):
            AuditEntry.record("something.odd", TEST_MERCHANT_ID, GATEWAY, f"thing_{number}", list=[], ok=True)
            db.session.flush()
        db.session.commit()
    sign_in(page, path="/dashboard/settings")
    expect(page.get_by_test_id("audit-row")).to_have_count(20)
    odd = page.get_by_test_id("audit-row").nth(1)
    for words in ("Something odd", "the gateway", "thing_24", "List none", "Ok yes"):
        expect(odd).to_contain_text(words)
    page.get_by_role("navigation", name="Pages of Security log").get_by_role("button", name="Next").click()
    expect(page.get_by_test_id("audit-row")).to_have_count(6)
    title = page.get_by_role("heading", name="Security log")
    expect(title).to_be_focused()
    expect(title).to_be_in_viewport()
    expect(page.get_by_test_id("session-row")).to_have_count(1)
    page.get_by_role("button", name="Previous").click()
    expect(page.get_by_test_id("audit-row")).to_have_count(20)


def test_every_action_that_is_written_down_has_words() -> None:
    words = (ROOT / "static/dashboard/pages/settings.js").read_text()
    written = {
        action
        for folder in ("routes", "models", "jobs", "commands")
        for file in (ROOT / folder).rglob("*.py")
        for action in re.findall(r'(?:note|AuditEntry\.record)\(\s*"([a-z_.]+)"', file.read_text())
    }
    assert len(written) > 20
    assert [action for action in sorted(written) if f'"{action}":' not in words] == []


# --- all of it -----------------------------------------------------------------------------------


def test_a_list_that_cannot_be_had_leaves_the_rest_usable(api: Api, page: Page, watch: Watch) -> None:
    sign_in(page)
    page.route("**/api/v1/sessions*", lambda route: route.fulfill(status=503, body="{}"))
    open_page(page, "/settings", "Settings")
    expect(page.get_by_role("alert").get_by_role("button", name="Try again")).to_be_visible()
    expect(page.get_by_test_id("audit-row")).to_have_count(1)
    page.unroute("**/api/v1/sessions*")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_test_id("session-row")).to_have_count(1)
    watch.allow("status of 503")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wrong_with_any_state_in_any_look(
    api: Api, new_context: NewContext, watch: Watch, size: str, scheme: str
) -> None:
    width, height = SIZES[size]
    page = new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
    made(api.post("/webhook_endpoints", {"url": "http://127.0.0.1:4000/" + "a-long-path/" * 20}))
    sign_in(page, path="/dashboard/settings")
    expect(page.get_by_test_id("audit-row")).to_have_count(2)
    expect(page.get_by_test_id("session-row")).to_have_count(1)
    wrong = axe(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    business(page).get_by_label("Pick the colour").fill("#ffcc00")
    business(page).get_by_label("Sites that may frame").fill("nonsense")
    save(page)
    expect(business(page).get_by_text("Line 1:")).to_be_visible()
    change_password(page, "wrong", NEW_PASSWORD)
    expect(page.get_by_text("The password is wrong.")).to_be_visible()
    wrong += axe(page)
    page.get_by_test_id("sign-out-everywhere").click()
    wrong += axe(page)
    assert wrong == []
    watch.allow("status of 400", "status of 403")
