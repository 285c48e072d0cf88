"""What the tests of the dashboard share: how a merchant signs in and finds a page."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from models.merchants import TEST_EMAIL, TEST_PASSWORD


def sign_in(
    page: Page,
    live: str = "",
    path: str = "/dashboard/",
    email: str = TEST_EMAIL,
    password: str = TEST_PASSWORD,
) -> None:
    """Open a page of the dashboard, and sign in on the way."""
    page.goto(f"{live}{path}")
    page.get_by_test_id("email-input").fill(email)
    page.get_by_test_id("password-input").fill(password)
    page.get_by_test_id("login-button").click()
    expect(page.get_by_test_id("dashboard")).to_be_visible()


def open_page(page: Page, path: str, heading: str | None = None) -> None:
    """Open a page of the dashboard as who is signed in, and wait until it is there."""
    page.goto(f"/dashboard{path}")
    title = page.get_by_role("heading", level=1)
    expect(title).to_be_visible()
    if heading is not None:
        expect(title).to_have_text(heading)
