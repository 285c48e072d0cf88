"""API keys in the dashboard: made, revealed, rolled and revoked, and what is said before and after."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import text

from models.base import db
from models.merchants import TEST_API_KEY, TEST_API_SECRET, TEST_PASSWORD
from models.passwords import FAILURES_MAX_PER_ACCOUNT
from tests.browser.conftest import NewContext, Watch, axe
from tests.browser.dashboard import open_page, sign_in
from tests.conftest import OTHER_EMAIL, OTHER_PASSWORD, Api, found, made

pytestmark = pytest.mark.browser

SIZES = {"wide": (1280, 900), "phone": (390, 844)}
MINUTE_MS = 60_000


@pytest.fixture
def keys(api: Api, page: Page) -> Page:
    """The page of the keys, as the test merchant sees it."""
    sign_in(page, path="/dashboard/keys")
    expect(page.get_by_test_id("key-row")).to_have_count(1)
    return page


def row(page: Page, key_id: str) -> Locator:
    return page.locator(f'tr[data-id="{key_id}"]')


def press(page: Page, key_id: str, button: str) -> Locator:
    """Press a button of a key's row. Returns the dialog that asks."""
    row(page, key_id).get_by_role("button", name=button).click()
    return page.get_by_role("dialog")


def works(app: Flask, key_id: str, secret: str) -> bool:
    return Api(app.test_client(), key_id, secret).get("/merchant").status_code == 200


def let_a_minute_pass(page: Page) -> None:
    page.clock.fast_forward(MINUTE_MS)
    page.clock.run_for(1000)


def handed_out(page: Page) -> tuple[str, str]:
    """The key and the secret that a dialog shows, which is then closed."""
    dialog = page.get_by_role("dialog")
    secret = dialog.get_by_test_id("key-secret").inner_text()
    key_id = dialog.locator("code").first.inner_text()
    dialog.get_by_role("button", name="Done").click()
    expect(page.locator("dialog")).to_have_count(0)
    return key_id, secret


# --- the newest key ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/keys"])
def test_the_published_credentials_are_shown_in_full(api: Api, page: Page, path: str) -> None:
    sign_in(page, path=f"/dashboard{path}")
    card = page.get_by_test_id("api-credentials")
    expect(card.get_by_test_id("api-key")).to_have_text(TEST_API_KEY)
    expect(card.get_by_test_id("api-secret")).to_have_text(TEST_API_SECRET)
    expect(card.get_by_role("button", name="Reveal")).to_have_count(0)


def test_credentials_are_copied(keys: Page, live: str) -> None:
    keys.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live)
    card = keys.get_by_test_id("api-credentials")
    for name, copied in (("the key", TEST_API_KEY), ("the secret", TEST_API_SECRET)):
        card.get_by_role("button", name=f"Copy {name}").click()
        expect(card.get_by_role("button", name=f"Copied {name}")).to_be_visible()
        assert keys.evaluate("navigator.clipboard.readText()") == copied


def test_a_secret_that_is_not_published_is_masked_until_the_password_and_again_after_a_minute(
    other: Api, page: Page
) -> None:
    page.clock.install()
    sign_in(page, path="/dashboard/keys", email=OTHER_EMAIL, password=OTHER_PASSWORD)
    card = page.get_by_test_id("api-credentials")
    secret = card.get_by_test_id("api-secret")
    expect(card.get_by_test_id("api-key")).to_have_text("key_other")
    expect(secret).to_have_text("•" * 16)
    card.get_by_role("button", name="Reveal").click()
    page.get_by_test_id("reveal-password").fill(OTHER_PASSWORD)
    page.keyboard.press("Enter")
    expect(secret).to_have_text("secret_other")
    expect(card.get_by_role("button", name="Copy the secret")).to_be_focused()
    card.get_by_role("button", name="Hide").click()
    expect(secret).to_have_text("•" * 16)
    expect(card.get_by_role("button", name="Reveal")).to_be_focused()

    page.keyboard.press("Enter")
    page.get_by_test_id("reveal-password").fill(OTHER_PASSWORD)
    page.keyboard.press("Enter")
    expect(secret).to_have_text("secret_other")
    let_a_minute_pass(page)
    expect(secret).to_have_text("•" * 16)
    assert "secret_other" not in page.content()


def test_without_a_key_that_works_one_is_offered(api: Api, other: Api, page: Page) -> None:
    assert other.delete("/api_keys/key_other").status_code == 204
    sign_in(page, email=OTHER_EMAIL, password=OTHER_PASSWORD)
    card = page.get_by_test_id("api-credentials")
    expect(card.get_by_role("heading", name="No key that works")).to_be_visible()
    card.get_by_role("button", name="Create key").click()
    page.get_by_role("dialog").get_by_role("button", name="Create key").click()
    key_id, _ = handed_out(page)
    expect(card.get_by_test_id("api-key")).to_have_text(key_id)


# --- creating ------------------------------------------------------------------------------------


def test_a_key_is_created_and_its_secret_shown_once(app: Flask, keys: Page) -> None:
    keys.get_by_test_id("create-key-button").click()
    dialog = keys.get_by_role("dialog", name="Create a key")
    expect(dialog.get_by_label("Name")).to_be_focused()
    dialog.get_by_label("Name").fill("Checkout server")
    keys.keyboard.press("Enter")
    expect(keys.get_by_role("dialog", name="Your new key")).to_contain_text(
        "later only after your password", use_inner_text=True
    )
    key_id, secret = handed_out(keys)
    assert works(app, key_id, secret)
    expect(row(keys, key_id)).to_contain_text("Checkout server")
    expect(row(keys, key_id).get_by_test_id("key-status")).to_have_text("active")
    expect(keys.get_by_test_id("create-key-button")).to_be_focused()
    assert secret not in keys.content()


def test_a_name_is_not_needed(api: Api, keys: Page) -> None:
    keys.get_by_test_id("create-key-button").click()
    keys.get_by_role("dialog").get_by_role("button", name="Create key").click()
    key_id, _ = handed_out(keys)
    (newest, _) = found(api.get("/api_keys"))["data"]
    assert (newest["id"], newest["name"]) == (key_id, None)


def test_what_is_cancelled_is_not_done(api: Api, keys: Page) -> None:
    keys.get_by_test_id("create-key-button").click()
    keys.keyboard.press("Escape")
    for button in ("Roll", "Revoke", "Reveal"):
        press(keys, TEST_API_KEY, button).get_by_role("button", name="Cancel").click()
        expect(row(keys, TEST_API_KEY).get_by_role("button", name=button)).to_be_focused()
    assert [key["status"] for key in found(api.get("/api_keys"))["data"]] == ["active"]


# --- revealing -----------------------------------------------------------------------------------


def test_a_secret_is_revealed_after_the_password_and_hidden_again_after_a_minute(
    api: Api, page: Page
) -> None:
    key = made(api.post("/api_keys", {"name": "Another"}))
    page.clock.install()
    sign_in(page, path="/dashboard/keys")
    press(page, key["id"], "Reveal")
    expect(page.get_by_test_id("reveal-password")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Type your password.")
    page.get_by_test_id("reveal-password").fill(TEST_PASSWORD)
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="The secret")
    expect(dialog.get_by_test_id("key-secret")).to_have_text(key["secret"])
    let_a_minute_pass(page)
    expect(dialog).to_contain_text("The secret is hidden again.")
    assert key["secret"] not in page.content()
    assert found(api.get("/audit_log"))["data"][0]["action"] == "api_key.revealed"


def test_a_wrong_password_and_too_many_of_them_are_told_at_the_field(
    api: Api, other: Api, page: Page, watch: Watch
) -> None:
    sign_in(page, path="/dashboard/keys", email=OTHER_EMAIL, password=OTHER_PASSWORD)
    dialog = press(page, "key_other", "Reveal")
    password = page.get_by_test_id("reveal-password")
    for number in range(FAILURES_MAX_PER_ACCOUNT):
        password.fill(f"wrong {number}")
        with page.expect_response("**/reveal") as answer:
            page.keyboard.press("Enter")
        assert answer.value.status == 403
        expect(dialog.get_by_text("The password is wrong.")).to_be_visible()
        expect(password).to_be_focused()
    password.fill(OTHER_PASSWORD)
    expect(dialog.get_by_text("The password is wrong.")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(
        dialog.get_by_text(re.compile(r"Too many wrong passwords; try again in \d+ min\."))
    ).to_be_visible()
    expect(password).to_have_attribute("aria-invalid", "true")
    expect(password).to_have_accessible_description(re.compile("Too many wrong passwords"))
    watch.allow("status of 403", "status of 429")


# --- rolling -------------------------------------------------------------------------------------


def test_a_key_is_rolled_and_the_old_one_works_for_a_day_more(app: Flask, api: Api, keys: Page) -> None:
    dialog = press(keys, TEST_API_KEY, "Roll")
    expect(dialog.get_by_test_id("overlap-hours")).to_have_value("24")
    expect(dialog).to_contain_text("The old key works for 24 more hours")
    dialog.get_by_role("button", name="Roll key").click()
    expect(keys.get_by_role("dialog")).to_contain_text("The old key works for 24 more hours.")
    key_id, secret = handed_out(keys)
    assert works(app, key_id, secret)
    assert works(app, TEST_API_KEY, TEST_API_SECRET)
    old = row(keys, TEST_API_KEY)
    expect(old.get_by_test_id("key-status")).to_have_text("rolled")
    expect(old).to_contain_text(f"Replaced by {key_id}")
    (_, expires) = (found(api.get("/api_keys"))["data"][1][name] for name in ("id", "expires_at"))
    expect(old.locator(f'time[datetime="{expires}"]')).to_have_attribute("title", re.compile("UTC$"))
    expect(old.get_by_role("button", name="Roll")).to_have_count(0)
    expect(keys.get_by_test_id("api-key")).to_have_text(key_id)


def test_a_leaked_key_is_rolled_without_overlap(app: Flask, keys: Page) -> None:
    dialog = press(keys, TEST_API_KEY, "Roll")
    dialog.get_by_test_id("overlap-hours").fill("0")
    expect(dialog).to_contain_text("The old key stops at once")
    keys.keyboard.press("Enter")
    expect(keys.get_by_role("dialog")).to_contain_text("The old key works no more.")
    key_id, secret = handed_out(keys)
    assert works(app, key_id, secret)
    assert not works(app, TEST_API_KEY, TEST_API_SECRET)
    expect(row(keys, TEST_API_KEY).get_by_test_id("key-status")).to_have_text("expired")
    expect(row(keys, TEST_API_KEY).get_by_role("button", name="Revoke")).to_have_count(0)


@pytest.mark.parametrize("hours", ["", "169", "-1", "1.5"])
def test_a_week_is_the_longest_overlap_and_none_is_not_nothing(api: Api, keys: Page, hours: str) -> None:
    dialog = press(keys, TEST_API_KEY, "Roll")
    dialog.get_by_test_id("overlap-hours").fill(hours)
    keys.keyboard.press("Enter")
    expect(dialog.get_by_text("Must be whole hours, 0 to 168.")).to_be_visible()
    assert len(found(api.get("/api_keys"))["data"]) == 1


# --- revoking ------------------------------------------------------------------------------------


def test_a_key_is_revoked_after_it_was_said_when_it_was_used(app: Flask, api: Api, keys: Page) -> None:
    key = made(api.post("/api_keys", {"name": "Old laptop"}))
    expect(row(keys, key["id"])).to_be_visible()
    dialog = press(keys, key["id"], "Revoke")
    expect(dialog).to_contain_text(f"{key['id']} (Old laptop) was never used.")
    expect(dialog).not_to_contain_text("your last key")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    dialog.get_by_role("button", name="Revoke key").click()
    expect(row(keys, key["id"]).get_by_test_id("key-status")).to_have_text("revoked")
    expect(row(keys, key["id"]).get_by_role("button", name=re.compile("Reveal|Roll|Revoke"))).to_have_count(0)
    expect(row(keys, key["id"]).get_by_role("button")).to_be_focused()  # the one that copies the id
    expect(keys.locator("#toast")).to_have_text("The key is revoked.")
    assert not works(app, key["id"], key["secret"])
    assert works(app, TEST_API_KEY, TEST_API_SECRET)


def test_revoking_the_last_key_is_said_to_stop_every_server(app: Flask, api: Api, page: Page) -> None:
    found(api.get("/merchant"))
    sign_in(page, path="/dashboard/keys")
    dialog = press(page, TEST_API_KEY, "Revoke")
    expect(dialog).to_contain_text(re.compile(r"\(Test key\) was last used \d+ sec\.? ago\."))
    expect(dialog).to_contain_text("It is your last key that works: every server of yours will be refused")
    dialog.get_by_role("button", name="Revoke key").click()
    expect(page.get_by_role("heading", name="No key that works")).to_be_visible()
    assert not works(app, TEST_API_KEY, TEST_API_SECRET)


# --- the list ------------------------------------------------------------------------------------


def test_rows_that_are_drawn_anew_leave_the_focus_where_it_was(app: Flask, api: Api, keys: Page) -> None:
    roll = row(keys, TEST_API_KEY).get_by_role("button", name="Roll")
    roll.focus()
    before = roll.element_handle()
    with app.app_context():
        db.session.execute(text("UPDATE api_keys SET name = 'Renamed'"))
        db.session.commit()
    try:
        expect(row(keys, TEST_API_KEY)).to_contain_text("Renamed")
        assert not before.evaluate("(button) => button.isConnected")
        expect(roll).to_be_focused()
    finally:
        with app.app_context():
            db.session.execute(text("UPDATE api_keys SET name = 'Test key'"))
            db.session.commit()


def test_a_list_that_cannot_be_had_is_said_so_and_asked_for_again(api: Api, page: Page, watch: Watch) -> None:
    sign_in(page)
    page.route("**/api/v1/api_keys*", lambda route: route.abort())
    open_page(page, "/keys", "API keys")
    expect(page.get_by_role("alert").filter(has_text="No connection")).to_have_count(2)
    page.unroute("**/api/v1/api_keys*")
    for button in page.get_by_role("button", name="Try again").all()[::-1]:
        button.click()
    expect(page.get_by_test_id("key-row")).to_have_count(1)
    expect(page.get_by_test_id("api-key")).to_have_text(TEST_API_KEY)
    watch.allow("ERR_FAILED")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wrong_with_any_state_in_any_look(
    api: Api, new_context: NewContext, watch: Watch, size: str, scheme: str
) -> None:
    width, height = SIZES[size]
    page = new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
    ).new_page()
    rolled = made(api.post("/api_keys", {"name": "A name that is " + "long " * 16}))
    made(api.post(f"/api_keys/{rolled['id']}/roll", {}))
    assert api.delete(f"/api_keys/{made(api.post('/api_keys'))['id']}").status_code == 204
    sign_in(page, path="/dashboard/keys")
    expect(page.get_by_test_id("key-row")).to_have_count(4)
    expect(page.get_by_test_id("api-key")).to_be_visible()
    wrong = axe(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for button in ("Reveal", "Roll", "Revoke"):
        dialog = press(page, TEST_API_KEY, button)
        expect(dialog).to_be_visible()
        wrong += axe(page)
        page.keyboard.press("Escape")
    press(page, TEST_API_KEY, "Reveal")
    page.get_by_test_id("reveal-password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The password is wrong.")).to_be_visible()
    wrong += axe(page)
    page.get_by_test_id("reveal-password").fill(TEST_PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="The secret")).to_be_visible()
    wrong += axe(page)
    assert wrong == []
    watch.allow("status of 403")
