"""Every page of the dashboard, full and empty, wide and narrow, light and dark: axe-core finds nothing, and
nothing sticks out.

With SCREENSHOTS=<folder> each is photographed, which is how the pictures in the README are made.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewContext, Watch, axe
from tests.browser.dashboard import sign_in
from tests.conftest import Api, drain_all, found
from tests.receiver import Receiver

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

SIZES = {"wide": (1280, 900), "phone": (390, 844)}
SCHEMES: list[Literal["light", "dark"]] = ["light", "dark"]


@pytest.fixture
def pages(api: Api, receiver: Receiver) -> dict[str, str]:
    """A merchant to whom everything has happened, and the address of each page."""
    receiver.answers = [200, 200, 500, 500]
    endpoint = api.endpoint(receiver.url)
    held = api.paid(990000, number="5555555555554444", capture="manual", receipt="INV-1041")
    failed = api.card(api.order(45000, receipt="INV-1042")["id"], "4000000000009995")
    payment = api.paid(249900, receipt="INV-1043", notes={"size": "XL"})
    refund = api.post(f"/payments/{payment['id']}/refunds", {"amount": 49900, "reason": "one item returned"})
    drain_all()
    waiting = api.card(api.order(120000)["id"], "4000000000003220")
    drain_all()
    unpaid = api.order(5000, expires_in=3600)
    (delivery, *_) = found(api.get("/webhooks"))["data"]
    (event, *_) = found(api.get("/events"))["data"]
    return {
        "home": "/",
        "payments": "/payments",
        "payment": f"/payments/{payment['id']}",
        "payment-held": f"/payments/{held['id']}",
        "payment-failed": f"/payments/{failed['id']}",
        "payment-waiting": f"/payments/{waiting['id']}",
        "orders": "/orders",
        "order": f"/orders/{payment['order_id']}",
        "order-unpaid": f"/orders/{unpaid['id']}",
        "refunds": "/refunds",
        "refund": f"/refunds/{refund.get_json()['id']}",
        "balance": "/balance",
        "webhooks": f"/webhooks?endpoint={endpoint['id']}",
        "delivery": f"/webhooks/{delivery['id']}",
        "keys": "/keys",
        "events": "/events",
        "event": f"/events/{event['id']}",
        "docs": "/docs",
        "jobs": "/jobs",
        "settings": "/settings",
    }


EMPTY = ("/", "/payments", "/orders", "/refunds", "/balance", "/webhooks", "/events", "/jobs")


def settle(page: Page) -> None:
    """Wait until the page is there and nothing of it loads any more."""
    expect(page.locator("#main h1")).to_be_visible()
    expect(page.locator('#main [aria-busy="true"], #main .state > .spinner')).to_have_count(0)


def look(page: Page, name: str) -> list[str]:
    """What is wrong with the page as it is now."""
    if "SCREENSHOTS" in os.environ:
        page.screenshot(path=Path(os.environ["SCREENSHOTS"]) / f"{name}.png", full_page=True)
    too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    wrong = axe(page) + ([f"sticks out by {too_wide} px"] if too_wide > 0 else [])
    return [f"{name}: {each}" for each in wrong]


@pytest.fixture(params=[f"{size}-{scheme}" for size in SIZES for scheme in SCHEMES])
def view(request: pytest.FixtureRequest, new_context: NewContext) -> tuple[Page, str]:
    size, scheme = request.param.split("-")
    width, height = SIZES[size]
    options: dict[str, Any] = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
    return new_context(**options).new_page(), request.param


def test_nothing_is_wrong_with_any_page(pages: dict[str, str], view: tuple[Page, str]) -> None:
    page, name = view
    sign_in(page)
    wrong = []
    for which, path in pages.items():
        page.goto(f"/dashboard{path}")
        settle(page)
        wrong += look(page, f"{which}-{name}")
    assert wrong == []


def test_nothing_is_wrong_with_pages_that_have_nothing_to_show(api: Api, view: tuple[Page, str]) -> None:
    page, name = view
    page.goto("/dashboard/")
    expect(page.get_by_test_id("login-form")).to_be_visible()
    wrong = look(page, f"login-{name}")
    page.goto("/dashboard/password#x")
    page.reload()
    wrong += look(page, f"password-{name}")
    sign_in(page)
    for path in EMPTY:
        page.goto(f"/dashboard{path}")
        settle(page)
        wrong += look(page, f"empty{path.replace('/', '-')}-{name}")
    assert wrong == []


def test_nothing_is_wrong_with_dialogs_menus_and_problems(
    pages: dict[str, str], view: tuple[Page, str], watch: Watch
) -> None:
    page, name = view
    sign_in(page)
    page.keyboard.press("?")
    wrong = look(page, f"shortcuts-{name}")
    page.keyboard.press("Escape")
    page.get_by_test_id("create-test-order").click()
    wrong += look(page, f"test-order-{name}")
    for which, button in (("payment", "refund"), ("payment-held", "capture"), ("payment-held", "void")):
        page.goto(f"/dashboard{pages[which]}")
        page.get_by_test_id(f"{button}-button").click()
        wrong += look(page, f"{button}-{name}")
    page.goto("/dashboard/payments?status=odd")
    expect(page.get_by_role("alert")).to_be_visible()
    wrong += look(page, f"refused-{name}")
    page.goto("/dashboard/payments?q=nothing")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    wrong += look(page, f"nothing-matches-{name}")
    page.goto("/dashboard/")
    settle(page)
    page.locator("#account").click()
    wrong += look(page, f"account-{name}")
    if name.startswith("phone"):
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Menu").click()
        wrong += look(page, f"menu-{name}")
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_be_visible()
    wrong += look(page, f"offline-{name}")
    page.context.set_offline(False)
    assert wrong == []
    watch.allow("ERR_INTERNET_DISCONNECTED", "status of 400")
