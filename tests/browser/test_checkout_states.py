"""Every state of the checkout, wide and narrow, light and dark: axe-core finds nothing, nothing sticks out.

With SCREENSHOTS=<folder> each is photographed, which is how the pictures in the README are made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Page, expect
from sqlalchemy import text

from models.base import db
from tests.browser.checkout import OTP_CARD, failed, fill_card, open_order, pay_by_card, pay_by_upi, succeeded
from tests.browser.conftest import NewContext, Watch, axe
from tests.conftest import Api, drain_all, found
from tests.processes import wait_until

pytestmark = pytest.mark.browser

SIZES = {"wide": (1280, 800), "phone": (375, 740), "small": (320, 568)}
AMOUNT = 249900


def fresh(api: Api, page: Page, **facts: Any) -> dict[str, Any]:
    order = api.order(AMOUNT, callback_url="https://shop.example/thanks", **facts)
    open_order(page, order)
    return order


def begun(api: Api, order: dict[str, Any]) -> None:
    """Wait for the payment to be there, and let the acquirer answer."""
    wait_until(lambda: found(api.get(f"/orders/{order['id']}/payments"))["data"])
    drain_all()


def upi(api: Api, page: Page) -> None:
    fresh(api, page, expires_in=900)
    expect(page.get_by_role("timer")).to_be_visible()


def upi_wrong(api: Api, page: Page) -> None:
    fresh(api, page)
    pay_by_upi(page, "asha@")
    expect(page.locator(".wrong", has_text="looks like")).to_be_visible()


def card(api: Api, page: Page) -> None:
    fresh(api, page)
    page.get_by_test_id("method-card").click()


def card_filled(api: Api, page: Page) -> None:
    fresh(api, page)
    fill_card(page, "5555555555554444")


def card_wrong(api: Api, page: Page) -> None:
    fresh(api, page)
    fill_card(page, "4242424242424241")
    page.get_by_test_id("expiry-input").fill("1225")
    page.get_by_test_id("cvv-input").fill("1")
    page.get_by_test_id("cardholder-name-input").fill("")
    page.get_by_test_id("pay-button").click()
    expect(page.locator(".wrong", has_text="Enter the name")).to_be_visible()


def processing(api: Api, page: Page) -> None:
    order = fresh(api, page)
    pay_by_upi(page)
    wait_until(lambda: found(api.get(f"/orders/{order['id']}/payments"))["data"])
    expect(page.get_by_test_id("processing-message")).to_contain_text("deciding")


def offline(api: Api, page: Page) -> None:
    processing(api, page)
    page.context.set_offline(True)
    expect(page.locator(".problem", has_text="No connection")).to_be_visible()


def otp(api: Api, page: Page) -> None:
    order = fresh(api, page)
    pay_by_card(page, OTP_CARD)
    begun(api, order)
    expect(page.get_by_test_id("otp-input")).to_be_visible()


def qr(api: Api, page: Page) -> None:
    order = fresh(api, page)
    page.get_by_test_id("show-qr-button").click()
    begun(api, order)
    expect(page.get_by_test_id("qr-code")).to_be_visible()


def qr_simulator(api: Api, page: Page) -> None:
    qr(api, page)
    page.get_by_test_id("simulator").locator("summary").click()


def collect(api: Api, page: Page) -> None:
    order = fresh(api, page)
    pay_by_upi(page, "pending@upi")
    begun(api, order)
    expect(page.get_by_test_id("upi-approval-state")).to_be_visible()


def success(api: Api, page: Page) -> None:
    order = fresh(api, page)
    pay_by_upi(page)
    begun(api, order)
    succeeded(page)


def failure(api: Api, page: Page) -> None:
    order = fresh(api, page)
    pay_by_card(page, "4000000000009995")
    begun(api, order)
    failed(page)


def paid(api: Api, page: Page) -> None:
    payment = api.paid(AMOUNT)
    open_order(page, {"id": payment["order_id"]})
    expect(page.get_by_role("heading", name="Already paid")).to_be_visible()


def unknown(_api: Api, page: Page) -> None:
    open_order(page, {"id": "order_none"})
    expect(page.get_by_role("heading", name="Order not found")).to_be_visible()


def phone(api: Api, page: Page) -> None:
    order = api.order(AMOUNT)
    payment = api.post("/payments", {"order_id": order["id"], "method": "upi", "flow": "qr"}).get_json()
    drain_all()
    page.goto(f"/sim/upi/{payment['id']}")
    expect(page.get_by_role("button", name="Approve")).to_be_visible()


STATES: list[Callable[[Api, Page], None]] = [
    *(upi, upi_wrong, card, card_filled, card_wrong, processing, offline, otp, qr, qr_simulator, collect),
    *(success, failure, paid, unknown, phone),
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_state_is_accessible_and_fits(
    api: Api, page: Page, watch: Watch, state: Callable[[Api, Page], None]
) -> None:
    state(api, page)
    look_at(page, state.__name__)
    watch.allow("ERR_INTERNET", "status of 404")


def test_an_expired_order_is_accessible_and_fits(app: Flask, api: Api, page: Page) -> None:
    order = api.order(AMOUNT, expires_in=60)
    with app.app_context():
        db.session.execute(text("UPDATE orders SET expires_at = now()"))
        db.session.commit()
    open_order(page, order)
    expect(page.get_by_role("heading", name="This order has expired")).to_be_visible()
    look_at(page, "expired")


def test_a_phone_and_hindi_are_accessible_and_fit(api: Api, new_context: NewContext) -> None:
    page = new_context(
        locale="hi-IN", is_mobile=True, has_touch=True, viewport={"width": 375, "height": 740}
    ).new_page()
    order = fresh(api, page)
    expect(page.get_by_test_id("upi-app-button")).to_be_visible()
    look_at(page, "phone_upi_hindi")
    page.get_by_test_id("upi-app-button").click()
    begun(api, order)
    expect(page.get_by_test_id("upi-app-link")).to_be_visible()
    look_at(page, "phone_intent_hindi")


def test_the_modal_is_accessible(api: Api, page: Page) -> None:
    page.goto("/sdk/example.html")
    assert axe(page) == []
    page.get_by_role("button", name="Buy").first.click()
    checkout = page.frame_locator("[data-test-id=payment-iframe]")
    expect(checkout.get_by_test_id("pay-button")).to_be_visible()
    look_at(page, "modal")
    pay_by_upi(checkout)
    expect(checkout.get_by_test_id("processing-state")).to_be_visible()
    page.get_by_test_id("close-modal-button").click()
    expect(checkout.get_by_role("button", name="Keep waiting")).to_be_visible()
    look_at(page, "modal_close")


def look_at(page: Page, name: str) -> None:
    """In every size and both schemes."""
    page.emulate_media(reduced_motion="reduce")
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert too_wide <= 0, f"{name} is {too_wide} px too wide at {width} px"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            photograph(page, f"{name}-{size}-{scheme}")
            assert axe(page) == [], f"{name}, {size}, {scheme}"


def photograph(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")
