"""What the tests of the checkout share: how a shopper finds, fills and pays."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import FrameLocator, Locator, Page, expect

OTP_CARD = "4000000000003220"
Checkout = Page | FrameLocator  # by itself, or in a shop's modal


def open_order(page: Page, order: dict[str, Any], **query: str) -> None:
    extra = "".join(f"&{name}={value}" for name, value in query.items())
    page.goto(f"/checkout?order_id={order['id']}{extra}")


def pay_by_upi(checkout: Checkout, vpa: str = "success@upi") -> None:
    checkout.get_by_test_id("method-upi").click()
    checkout.get_by_test_id("vpa-input").fill(vpa)
    checkout.get_by_test_id("pay-button").click()


def fill_card(checkout: Checkout, number: str = "4242424242424242") -> None:
    """As a browser fills it in. (What is typed key by key is in test_checkout_forms.)"""
    checkout.get_by_test_id("method-card").click()
    checkout.get_by_test_id("card-number-input").fill(number)
    checkout.get_by_test_id("expiry-input").fill("12/49")
    checkout.get_by_test_id("cvv-input").fill("123")
    checkout.get_by_test_id("cardholder-name-input").fill("Asha Rao")


def pay_by_card(checkout: Checkout, number: str = "4242424242424242") -> None:
    fill_card(checkout, number)
    checkout.get_by_test_id("pay-button").click()


def send_otp(checkout: Checkout, otp: str = "1234") -> None:
    checkout.get_by_test_id("otp-input").fill(otp)
    checkout.get_by_test_id("submit-otp-button").click()


def succeeded(checkout: Checkout) -> str:
    """Wait for the success; the payment's id that it shows."""
    expect(checkout.get_by_test_id("success-state")).to_be_visible()
    shown: Locator = checkout.get_by_test_id("payment-id")
    return shown.inner_text()


def failed(checkout: Checkout) -> str:
    """Wait for the failure; the words that it gives."""
    expect(checkout.get_by_test_id("error-state")).to_be_visible()
    return checkout.get_by_test_id("error-message").inner_text()
