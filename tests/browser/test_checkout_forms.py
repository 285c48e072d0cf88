"""The checkout's forms, its words, and how it looks: what a shopper types, reads and sees."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.checkout import OTP_CARD, failed, fill_card, open_order, pay_by_upi
from tests.browser.conftest import NewContext, Watch
from tests.conftest import Api, drain_all, found
from tests.processes import wait_until

pytestmark = pytest.mark.browser

# --- forms ---------------------------------------------------------------------------------------


FIELDS = [
    ("vpa-input", "asha -> asha", "A UPI ID looks like name@bank."),
    ("vpa-input", "asha@okbank -> asha@okbank", ""),
    ("card-number-input", "4242424242424242 -> 4242 4242 4242 4242", ""),
    ("card-number-input", "4242-4242 4242 4242 -> 4242 4242 4242 4242", ""),
    ("card-number-input", "४२४२४२४२४२४२४२४२ -> 4242 4242 4242 4242", ""),
    ("card-number-input", "378282246310005 -> 3782 822463 10005", ""),
    (
        "card-number-input",
        "4242424242424241 -> 4242 4242 4242 4241",
        "This is not a card number. Please check the digits.",
    ),
    ("card-number-input", "424242 -> 4242 42", "The card number is incomplete."),
    ("expiry-input", "1249 -> 12 / 49", ""),
    ("expiry-input", "849 -> 08 / 49", ""),
    ("expiry-input", "12/2049 -> 12 / 49", ""),
    ("expiry-input", "1349 -> 13 / 49", "There is no such month."),
    ("expiry-input", "1225 -> 12 / 25", "This card has expired."),
    ("expiry-input", "12 -> 12 / ", "Enter month and year, like 08 / 27."),
    ("cvv-input", "12 -> 12", "The security code has 3 digits."),
    ("cvv-input", "12345 -> 123", ""),
    (
        "cardholder-name-input",
        "4242 4242 4242 4242 -> 4242 4242 4242 4242",
        "Enter a name, not a number.",
    ),
]


def test_a_field_is_shaped_and_judged_as_it_is_typed(api: Api, page: Page) -> None:
    open_order(page, api.order())
    for field, typed, error in FIELDS:
        keys, shown = typed.split(" -> ")
        page.get_by_test_id("method-upi" if field == "vpa-input" else "method-card").click()
        box = page.get_by_test_id(field)
        box.fill("")
        box.press_sequentially(keys)
        expect(box).to_have_value(shown)
        box.blur()
        expect(box).to_have_attribute("aria-invalid", "true" if error else "false")
        expect(box).to_have_accessible_description(re.compile(re.escape(error) + "$"))


def test_a_pasted_card_number_is_shaped(api: Api, page: Page) -> None:
    open_order(page, api.order())
    page.get_by_test_id("method-card").click()
    box = page.get_by_test_id("card-number-input")
    box.fill("5555555555554444")
    expect(box).to_have_value("5555 5555 5555 4444")
    expect(page.locator("#network")).to_have_text("Mastercard")


NETWORKS = [
    *(("4", "Visa"), ("2221", "Mastercard"), ("2720", "Mastercard"), ("2721", ""), ("37", "Amex")),
    *(("6527", "RuPay"), ("6011", "Discover"), ("36", "Diners"), ("9", "")),
]


def test_the_network_is_marked(api: Api, page: Page) -> None:
    open_order(page, api.order())
    page.get_by_test_id("method-card").click()
    for number, network in NETWORKS:
        page.get_by_test_id("card-number-input").fill(number)
        expect(page.locator("#network")).to_have_text(network)


def test_a_digit_mended_in_the_middle_keeps_the_caret(api: Api, page: Page) -> None:
    open_order(page, api.order())
    page.get_by_test_id("method-card").click()
    box = page.get_by_test_id("card-number-input")
    box.press_sequentially("424242424242424")
    for _ in range(10):
        box.press("ArrowLeft")
    box.press_sequentially("9")
    assert box.input_value() == "4242 4249 2424 2424"
    assert box.evaluate("(input) => input.selectionStart") == len("4242 4249")


def test_an_expiry_can_be_erased_key_by_key(api: Api, page: Page) -> None:
    open_order(page, api.order())
    page.get_by_test_id("method-card").click()
    box = page.get_by_test_id("expiry-input")
    box.press_sequentially("1249")
    for _ in range(8):
        box.press("Backspace")
    expect(box).to_have_value("")
    box.press_sequentially("0131")
    expect(box).to_have_value("01 / 31")


def test_an_empty_form_is_not_sent_and_says_what_is_missing(api: Api, page: Page, watch: Watch) -> None:
    open_order(page, api.order())
    page.get_by_test_id("method-card").click()
    page.get_by_test_id("pay-button").click()
    expect(page.get_by_test_id("card-number-input")).to_be_focused()
    for words in ("your card number", "the expiry date", "the security code", "the name on the card"):
        expect(page.locator(".wrong", has_text=f"Enter {words}.")).to_be_visible()
    assert not any(request.method == "POST" for request in watch.requests)


def test_browsers_are_told_what_each_field_is_for(api: Api, page: Page) -> None:
    open_order(page, api.order())
    page.get_by_test_id("method-card").click()
    fields = {
        "Card number": ("cc-number", "numeric"),
        "Expiry date": ("cc-exp", "numeric"),
        "Security code": ("cc-csc", "numeric"),
        "Name on card": ("cc-name", None),
    }
    for label, (autocomplete, mode) in fields.items():
        box = page.get_by_label(label)
        expect(box).to_have_attribute("autocomplete", autocomplete)
        assert box.get_attribute("inputmode") == mode


def test_the_keyboard_alone_pays(api: Api, page: Page, workers: None) -> None:
    open_order(page, api.order())
    expect(page.get_by_test_id("pay-button")).to_be_visible()

    def tab_to(target: Locator) -> None:
        for _ in range(15):
            if target.evaluate("(element) => element === document.activeElement"):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{target} cannot be reached by Tab")

    tab_to(page.get_by_test_id("method-card"))
    page.keyboard.press("Enter")
    tab_to(page.get_by_test_id("card-number-input"))
    for typed in (OTP_CARD, "1249", "123", "Asha Rao"):
        page.keyboard.type(typed)
        page.keyboard.press("Tab")
    expect(page.get_by_test_id("pay-button")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("otp-input")).to_be_focused()
    page.keyboard.type("12")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Payment failed")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_test_id("retry-button")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page.get_by_test_id("method-upi"))
    page.keyboard.press("Space")
    tab_to(page.get_by_test_id("vpa-input"))
    page.keyboard.type("success@upi")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Payment successful")).to_be_focused()


def test_what_happens_is_told_to_those_who_do_not_see_it(api: Api, page: Page) -> None:
    open_order(page, api.order())
    pay_by_upi(page)
    said = page.locator("#announcer")
    expect(said).to_have_attribute("role", "status")
    expect(said).to_have_text("The bank is deciding. This takes a few seconds.")
    drain_all()
    expect(said).to_have_text("Test Merchant has received your payment.")


def test_nothing_turns_or_pops_up_where_that_is_not_wanted(api: Api, page: Page) -> None:
    open_order(page, api.order())
    pay_by_upi(page)
    expect(page.get_by_test_id("processing-message")).to_contain_text("The bank is deciding")
    spinner = page.locator(".spinner")
    page.emulate_media(reduced_motion="no-preference")
    expect(spinner).to_have_css("animation-timing-function", "linear")
    page.emulate_media(reduced_motion="reduce")
    eight_steps = re.compile(r"^steps\(8")  # one each half second
    expect(spinner).to_have_css("animation-timing-function", eight_steps)
    drain_all()
    arrived = page.locator(".mark.good")
    expect(arrived).to_have_css("animation-name", "none")
    page.emulate_media(reduced_motion="no-preference")
    expect(arrived).to_have_css("animation-name", "arrive")


# --- languages and looks -------------------------------------------------------------------------


def test_it_speaks_hindi_to_those_who_read_it(api: Api, new_context: NewContext, workers: None) -> None:
    page = new_context(locale="hi-IN").new_page()
    open_order(page, api.order(12345600))
    expect(page.get_by_test_id("pay-button")).to_have_text("₹1,23,456.00 का भुगतान करें")
    expect(page.locator("html")).to_have_attribute("lang", "hi")
    pay_by_upi(page, "failure@upi")
    assert failed(page).endswith("आपके पैसे नहीं कटे हैं। फिर कोशिश करें या दूसरा तरीका चुनें।")


def test_the_language_can_be_changed_at_any_time(api: Api, page: Page) -> None:
    open_order(page, api.order())
    fill_card(page, "4242424242424241")
    page.get_by_role("button", name="हिन्दी").click()
    expect(page.get_by_text("कार्ड नंबर सही नहीं है। अंक जाँचें।").first).to_be_visible()
    expect(page.get_by_test_id("card-number-input")).to_have_value("4242 4242 4242 4241")
    page.reload()
    expect(page.get_by_test_id("method-card")).to_have_text("कार्ड")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_test_id("method-card")).to_have_text("Card")
    pay_by_upi(page, "failure@upi")
    wait_until(lambda: found(api.get("/payments"))["data"])
    drain_all()
    assert failed(page).startswith("Your bank declined the payment.")
    page.get_by_role("button", name="हिन्दी").click()
    expect(page.get_by_test_id("error-message")).to_contain_text("बैंक ने भुगतान अस्वीकार कर दिया।")


def test_both_languages_say_the_same(api: Api, page: Page) -> None:
    open_order(page, api.order())
    english, hindi = page.evaluate(
        "Promise.all(['en', 'hi'].map((code) => import(`/static/checkout/words.${code}.js`)))"
        ".then((modules) => modules.map((module) => module.default))"
    )
    assert list(english) == list(hindi)
    for key, words in english.items():
        assert sorted(re.findall(r"\{\w+\}", words)) == sorted(re.findall(r"\{\w+\}", hindi[key])), key
        assert hindi[key].strip(), key


def test_a_merchants_colour_and_initials_are_shown(api: Api, page: Page) -> None:
    found(api.patch("/merchant", {"name": "asha books", "accent_color": "#ffdd00"}))
    try:
        open_order(page, api.order())
        expect(page.locator("#avatar")).to_have_text("AB")
        expect(page.get_by_test_id("show-qr-button")).to_have_css("background-color", "rgb(255, 221, 0)")
        expect(page.get_by_test_id("show-qr-button")).to_have_css("color", "rgb(0, 0, 0)")
        found(
            api.patch("/merchant", {"logo_url": f"{page.url.split('/checkout')[0]}/static/checkout/none.png"})
        )
        page.route(
            "**/none.png", lambda route: route.fulfill(body=pixel(), headers={"Content-Type": "image/png"})
        )
        page.reload()
        expect(page.locator("#avatar img")).to_be_visible()
    finally:
        found(api.patch("/merchant", {"name": "Test Merchant", "accent_color": None, "logo_url": None}))


def test_a_logo_that_is_gone_leaves_the_initials(api: Api, page: Page, watch: Watch, live: str) -> None:
    found(api.patch("/merchant", {"logo_url": f"{live}/static/checkout/none.png"}))
    try:
        open_order(page, api.order())
        expect(page.locator("#avatar")).to_have_text("TM")
        watch.wait_for(page, "status of 404")
        expect(page.locator("#avatar")).to_have_text("TM")
    finally:
        found(api.patch("/merchant", {"logo_url": None}))


@pytest.mark.parametrize("locale", ["en-IN", "hi-IN"])
def test_it_is_light_and_nothing_blocks_its_first_paint(
    api: Api, new_context: NewContext, locale: str
) -> None:
    sizes: dict[str, int] = {}
    page = new_context(locale=locale).new_page()
    page.on("response", lambda response: sizes.update({response.url: len(response.body())}))
    open_order(page, api.order())
    expect(page.get_by_test_id("pay-button")).to_be_visible()
    fill_card(page)
    assert sum(sizes.values()) < 60 * 1024, sizes
    assert len(sizes) > 5
    blocking = page.evaluate(
        "performance.getEntriesByType('resource')"
        ".filter((entry) => entry.renderBlockingStatus === 'blocking')"
        ".map((entry) => new URL(entry.name).pathname)"
    )
    assert blocking == ["/static/checkout/checkout.css"]


def pixel() -> bytes:
    image = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(image, "PNG")
    return image.getvalue()
