"""The integration guide: every piece of code is taken from the page, and runs as it is shown there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from playwright.sync_api import Locator, Page, expect

from config import ROOT
from models import vault
from models.base import db
from models.merchants import TEST_API_KEY, TEST_API_SECRET, TEST_MERCHANT_ID
from models.webhook_endpoints import WebhookEndpoint
from tests.browser.checkout import pay_by_upi, succeeded
from tests.browser.conftest import NewContext, Watch, axe
from tests.browser.dashboard import sign_in
from tests.conftest import OTHER_EMAIL, OTHER_PASSWORD, Api, drain_all, found
from tests.processes import free_ports, wait_until
from tests.receiver import Receiver, served
from tests.test_examples import EXAMPLES, FORGERIES, GENUINE, NODE, SECRET, Message, listens, standard_headers

pytestmark = pytest.mark.browser

SIZES = {"wide": (1280, 900), "phone": (390, 844)}
PROGRAMS = {"curl": ("bash", "code.sh"), "python": (sys.executable, "code.py"), "node": (NODE, "code.mjs")}
SECTIONS = [
    "Your keys, and how to sign requests",
    "Create an order",
    "Take the payment",
    "Be told: webhooks",
    "Capture, void, refund",
    "Idempotency and errors",
    "Test numbers",
    "Going live",
]
MINUTE_MS = 60_000

every_language = pytest.mark.parametrize("language", PROGRAMS)


@pytest.fixture
def guide(api: Api, page: Page) -> Page:
    sign_in(page, path="/dashboard/docs")
    expect(page.get_by_test_id("api-docs")).to_be_visible()
    return page


def group(page: Page, label: str) -> Locator:
    """The same code in each language, by the name of its tabs."""
    return page.locator(".snippet").filter(has=page.get_by_role("tablist", name=label, exact=True))


def shown(place: Locator) -> str:
    """The code that is shown there now."""
    text = place.locator("pre:visible").text_content()
    assert text
    return text


def written(folder: Path, language: str, code: str) -> list[str]:
    """The command that runs this code, which is written into a file first, and nothing else is done to it."""
    program, name = PROGRAMS[language]
    (folder / name).write_text(code)
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(EXAMPLES / "node_modules")  # as `npm install` would
    return [program, str(folder / name)]


def run(folder: Path, language: str, code: str, *arguments: str, good: bool = True) -> str:
    """What the code prints."""
    done = subprocess.run(
        [*written(folder, language, code), *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode == 0) == good, done
    return done.stdout


@contextmanager
def running(folder: Path, language: str, code: str, port: int) -> Iterator[Path]:
    """A receiver that listens. Gives the file in which its output is."""
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            written(folder, language, code),
            cwd=folder,
            env={"PATH": os.environ["PATH"]},
            stdout=file,
            stderr=file,
        )
        try:
            wait_until(lambda: process.poll() is not None or listens(port))
            assert process.poll() is None, output.read_text()
            yield output
        finally:
            process.kill()
            process.wait()


# --- the code runs -------------------------------------------------------------------------------


@every_language
def test_every_call_runs_as_it_is_shown(api: Api, page: Page, tmp_path: Path, language: str) -> None:
    order = api.order(34900)
    to_refund = api.paid(10000)
    to_void = api.paid(20000, capture="manual")
    to_capture = api.paid(30000, capture="manual")
    sign_in(page, path=f"/dashboard/docs?lang={language}")

    def runs(label: str) -> str:
        return run(tmp_path, language, shown(group(page, label)))

    assert TEST_MERCHANT_ID in runs("Ask who you are")
    assert order["id"] in shown(group(page, "Ask whether the order is paid"))
    assert re.search(r"\bcreated\b", runs("Ask whether the order is paid"))

    runs("Create an order")
    created = found(api.get("/orders"))["data"][0]
    assert (created["amount"], created["currency"], created["receipt"]) == (34900, "INR", "order-1042")

    runs("Capture a payment")
    assert api.payment(to_capture["id"])["amount_captured"] == 30000
    runs("Capture a payment")  # which changes nothing
    runs("Void a payment")
    assert api.payment(to_void["id"])["status"] == "voided"

    assert "pending" in runs("Refund a payment")
    runs("Refund a payment")  # under the same key
    (refund,) = found(api.get("/refunds"))["data"]
    assert (refund["payment_id"], refund["amount"]) == (to_refund["id"], 100)

    before = len(found(api.get("/orders"))["data"])
    assert "order_" in runs("Try until there is an answer")
    assert len(found(api.get("/orders"))["data"]) == before + 1


@pytest.mark.parametrize("language", ["python", "node"])
def test_a_refusal_ends_the_tries_with_its_words(guide: Page, tmp_path: Path, language: str) -> None:
    guide.goto(f"/dashboard/docs?lang={language}")
    code = shown(group(guide, "Try until there is an answer")).replace("34900", "1")
    done = subprocess.run(written(tmp_path, language, code), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(r"BAD_REQUEST_ERROR: amount: Must be .* \(req_\w+\)", done.stderr), done.stderr


@every_language
def test_a_call_that_is_refused_says_so(guide: Page, tmp_path: Path, language: str) -> None:
    guide.goto(f"/dashboard/docs?lang={language}")
    code = shown(group(guide, "Ask who you are")).replace(TEST_API_SECRET, "wrong")
    done = subprocess.run(written(tmp_path, language, code), capture_output=True, text=True, check=False)
    assert "AUTHENTICATION_ERROR" in done.stdout + done.stderr
    assert (done.returncode == 0) == (language == "curl")  # which prints whatever it gets


@pytest.mark.parametrize(
    "which",
    [
        (language, label)
        for language in ("python", "node")
        for label in ("Verify a webhook", "Verify a webhook without a library")
    ],
)
def test_receivers_take_every_webhook_and_refuse_every_forgery(
    app: Flask, api: Api, page: Page, tmp_path: Path, which: tuple[str, str]
) -> None:
    language, label = which
    (port,) = free_ports(1)
    endpoint = api.endpoint(f"http://127.0.0.1:{port}/hooks/gateway")
    with app.app_context():
        row = db.session.get_one(WebhookEndpoint, endpoint["id"])
        row.secret_encrypted = vault.seal(SECRET)  # the one that the forgeries and the genuine ones know
        db.session.commit()
    sign_in(page, path=f"/dashboard/docs?lang={language}")
    section = page.get_by_test_id("section-webhook-verification")
    expect(group(page, label).locator("pre:visible")).to_contain_text("<your webhook secret>")
    section.get_by_role("button", name="Fill it in").click()
    expect(group(page, label).locator("pre:visible")).to_contain_text(SECRET)
    with running(tmp_path, language, shown(group(page, label)), port) as output:
        api.paid()
        deliveries = found(api.get("/webhooks"))["data"]
        assert [(row["status"], row["response_code"]) for row in deliveries] == [("success", 204)] * 4
        events = sorted(f"{event['event']} {event['id']}" for event in found(api.get("/events"))["data"])
        wait_until(
            lambda: [line for line in sorted(output.read_text().splitlines()) if "evt_" in line] == events
        )

        def answer(message: Message) -> int:
            return requests.post(
                endpoint["url"], data=message.body, headers=message.headers, timeout=10
            ).status_code

        assert {name: answer(make()) for name, make in GENUINE.items()} == dict.fromkeys(GENUINE, 204)
        assert {name: answer(make()) for name, make in FORGERIES.items()} == dict.fromkeys(FORGERIES, 400)


def test_openssl_verifies_what_the_gateway_sends(
    api: Api, page: Page, receiver: Receiver, tmp_path: Path
) -> None:
    api.endpoint(receiver.url)
    api.paid()
    sign_in(page, path="/dashboard/docs?lang=curl")
    snippet = page.get_by_test_id("code-snippet-webhook")
    page.get_by_test_id("section-webhook-verification").get_by_role("button", name="Fill it in").click()
    expect(snippet.locator("pre:visible")).not_to_contain_text("<your")
    received = receiver.received[0]
    headers = standard_headers(Message(received.body, received.headers))
    (tmp_path / "body.json").write_bytes(received.body)
    assert run(tmp_path, "curl", shown(snippet), "body.json", *headers) == "genuine\n"
    (tmp_path / "body.json").write_bytes(received.body + b" ")
    assert run(tmp_path, "curl", shown(snippet), "body.json", *headers, good=False) == "not genuine\n"


def test_the_page_with_the_checkout_takes_a_payment(
    app: Flask, api: Api, new_context: NewContext, live: str, workers: None
) -> None:
    app.config["GATEWAY"] = replace(app.config["GATEWAY"], checkout_url=live)
    order = api.order(34900)
    page = new_context().new_page()
    sign_in(page, path="/dashboard/docs")
    code = shown(page.get_by_test_id("section-sdk-integration").locator(".code").first)
    assert page.get_by_test_id("code-snippet-sdk").text_content() == code
    assert f'src="{live}/checkout.js"' in code
    assert order["id"] in code
    with serving(code) as url:
        shop = new_context().new_page()
        told: list[str] = []
        shop.on("console", lambda message: told.append(message.text))
        shop.goto(url)
        shop.get_by_role("button", name="Pay").click()
        checkout = shop.frame_locator("[data-test-id=payment-iframe]")
        pay_by_upi(checkout)
        payment_id = succeeded(checkout)
        shop.get_by_test_id("close-modal-button").click()
        expect(shop.get_by_test_id("payment-modal")).to_have_count(0)
        assert told == [f"paid {payment_id}", "closed"]
    assert found(api.get(f"/orders/{order['id']}"))["status"] == "paid"


@contextmanager
def serving(page: str) -> Iterator[str]:
    """A shop's page, on an origin of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if self.path == "/" else "image/x-icon")
            self.end_headers()
            self.wfile.write(page.encode() if self.path == "/" else b"")

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with served(server):
        yield f"http://127.0.0.1:{server.server_address[1]}/"


# --- what is filled in ---------------------------------------------------------------------------


def test_the_code_has_the_merchants_own_key_and_secret_and_address(guide: Page, live: str) -> None:
    expect(guide.get_by_test_id("section-create-order")).to_be_visible()
    code = shown(guide.get_by_test_id("code-snippet-create-order"))
    for part in (f"{live}/api/v1/orders", f"X-Api-Key: {TEST_API_KEY}", f"X-Api-Secret: {TEST_API_SECRET}"):
        assert part in code
    assert TEST_API_KEY in shown(guide.get_by_test_id("section-sdk-integration").locator(".code").first)
    assert TEST_API_SECRET not in (guide.get_by_test_id("code-snippet-sdk").text_content() or "")


def test_a_secret_is_filled_in_after_the_password_and_taken_out_after_a_minute(
    other: Api, page: Page
) -> None:
    page.clock.install()
    sign_in(page, path="/dashboard/docs", email=OTHER_EMAIL, password=OTHER_PASSWORD)
    snippet = page.get_by_test_id("code-snippet-create-order").locator("pre:visible")
    expect(snippet).to_contain_text("X-Api-Secret: <your secret>")
    first = page.locator("#keys")
    first.get_by_role("button", name="Fill it in").click()
    page.get_by_test_id("reveal-password").fill(OTHER_PASSWORD)
    page.keyboard.press("Enter")
    expect(snippet).to_contain_text("X-Api-Secret: secret_other")
    first.get_by_role("button", name="Hide it again").click()
    expect(snippet).to_contain_text("<your secret>")
    expect(first.get_by_role("button", name="Fill it in")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_test_id("reveal-password").fill(OTHER_PASSWORD)
    page.keyboard.press("Enter")
    expect(snippet).to_contain_text("secret_other")
    page.clock.fast_forward(MINUTE_MS)
    page.clock.run_for(1000)
    expect(snippet).to_contain_text("<your secret>")
    assert "secret_other" not in page.content()


def test_another_endpoint_is_chosen(api: Api, page: Page) -> None:
    (one, other) = (api.endpoint(f"http://localhost:{port}/hook") for port in (4100, 4200))
    sign_in(page, path="/dashboard/docs?lang=python")
    section = page.get_by_test_id("section-webhook-verification")
    expect(section.get_by_label("Endpoint")).to_have_value(other["id"])
    expect(section.locator("pre:visible").first).to_contain_text("app.run(port=4200)")
    section.get_by_role("button", name="Fill it in").click()
    expect(section.locator("pre:visible").first).to_contain_text(other["secret"])
    section.get_by_label("Endpoint").focus()
    section.get_by_label("Endpoint").select_option(one["id"])
    expect(section.locator("pre:visible").first).to_contain_text("app.run(port=4100)")
    expect(section.locator("pre:visible").first).to_contain_text("<your webhook secret>")
    expect(section.get_by_label("Endpoint")).to_be_focused()
    entries = found(api.get("/audit_log"))["data"]
    assert [e["subject_id"] for e in entries if e["action"] == "webhook_endpoint.secret_revealed"] == [
        other["id"]
    ]


def test_what_is_missing_is_said(api: Api, other: Api, page: Page) -> None:
    assert other.delete("/api_keys/key_other").status_code == 204
    sign_in(page, path="/dashboard/docs", email=OTHER_EMAIL, password=OTHER_PASSWORD)
    docs = page.get_by_test_id("api-docs")
    for words in (
        "You have no key that works yet.",
        "You have no endpoint yet.",
        "You have no order that waits to be paid.",
        "You have no payment that waits to be captured.",
        "You have no payment with money to give back.",
    ):
        expect(docs).to_contain_text(words)
    expect(page.get_by_test_id("code-snippet-create-order")).to_contain_text("<your key>")


def test_what_is_missing_is_made_and_filled_in(api: Api, guide: Page, workers: None) -> None:
    guide.get_by_test_id("guide-create-order").click()
    link = guide.get_by_role("link", name="Open its checkout")
    expect(link).to_be_visible()
    (order,) = found(api.get("/orders"))["data"]
    expect(link).to_have_attribute("href", order["checkout_url"])
    assert json.loads(guide.get_by_role("group", name="The answer").inner_text())["id"] == order["id"]
    expect(guide.get_by_test_id("code-snippet-sdk")).to_contain_text(order["id"])
    guide.get_by_test_id("guide-make-payments").click()
    expect(guide.locator("#toast")).to_contain_text("Three payments are made")
    payments = {payment["id"]: payment for payment in found(api.get("/payments"))["data"]}
    assert len(payments) == 3
    for label, captured in (
        ("Capture a payment", False),
        ("Void a payment", False),
        ("Refund a payment", True),
    ):
        (payment_id,) = set(re.findall(r"pay_\w{16}", shown(group(guide, label))))
        assert payments.pop(payment_id)["captured"] == captured


# --- languages -----------------------------------------------------------------------------------


def test_a_language_is_chosen_for_all_code_and_kept_in_the_address(guide: Page) -> None:
    create, capture = group(guide, "Create an order"), group(guide, "Capture a payment")
    expect(create.get_by_role("tab", name="curl")).to_have_attribute("aria-selected", "true")
    capture.get_by_role("tab", name="Node").scroll_into_view_if_needed()
    before = capture.bounding_box()
    capture.get_by_role("tab", name="Node").click()
    after = capture.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(after["y"] - before["y"]) <= 1, "what the reader looks at has moved"
    assert "await fetch(" in shown(create)
    assert guide.url.endswith("/dashboard/docs?lang=node")
    guide.reload()
    assert "await fetch(" in shown(capture)
    expect(create.get_by_role("tabpanel", name="Node")).to_be_visible()
    # What there is not in a language is shown in the first one that there is.
    guide.goto("/dashboard/docs?lang=curl")
    plain = group(guide, "Verify a webhook without a library")
    expect(plain.get_by_role("tab", name="Python")).to_have_attribute("aria-selected", "true")


def test_arrow_keys_go_through_the_languages(guide: Page) -> None:
    tabs = group(guide, "Create an order").get_by_role("tab")
    tabs.first.focus()
    for key, name in (
        ("ArrowRight", "Python"),
        ("ArrowRight", "Node"),
        ("ArrowRight", "curl"),
        ("ArrowLeft", "Node"),
        ("Home", "curl"),
        ("End", "Node"),
    ):
        guide.keyboard.press(key)
        expect(tabs.filter(has_text=name)).to_be_focused()
        expect(tabs.filter(has_text=name)).to_have_attribute("aria-selected", "true")
    assert [tab.get_attribute("tabindex") for tab in tabs.all()] == ["-1", "-1", "0"]


def test_all_code_is_copied_as_it_is_shown(guide: Page, live: str) -> None:
    guide.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live)
    for code in guide.locator(".code:visible").all():
        button = code.get_by_role("button")
        button.click()
        expect(button).to_contain_text("Copied")
        assert guide.evaluate("navigator.clipboard.readText()") == code.locator("pre").text_content()


# --- finding one's way ---------------------------------------------------------------------------


def test_the_contents_lead_to_each_section_and_mark_it(guide: Page) -> None:
    guide.evaluate("window.sameDocument = document.querySelector('#main h1')")
    contents = guide.get_by_role("navigation", name="On this page")
    expect(contents.get_by_role("link")).to_have_text(SECTIONS)
    for name in SECTIONS:
        contents.get_by_role("link", name=name).click()
        title = guide.get_by_role("heading", level=2, name=name)
        expect(title).to_be_in_viewport()
        expect(title).to_be_focused()
        expect(contents.locator("[aria-current]")).to_have_text(name)
        expect(contents).to_be_in_viewport()
    assert guide.url.endswith("/dashboard/docs#live")
    assert guide.evaluate("window.sameDocument.isConnected"), "the page was drawn anew"


def test_an_address_with_a_section_opens_there(guide: Page) -> None:
    guide.goto("/dashboard/docs?lang=python#webhooks")
    expect(guide.get_by_role("heading", name="Be told: webhooks")).to_be_in_viewport()
    expect(guide.locator(".contents [aria-current]")).to_have_text("Be told: webhooks")


def test_it_leads_to_the_reference(guide: Page) -> None:
    reference = guide.get_by_test_id("api-docs").get_by_role("link", name="API reference")
    expect(reference).to_have_attribute("href", "/dashboard/reference")
    expect(guide.get_by_role("link", name="openapi.json")).to_have_attribute("href", "/api/v1/openapi.json")


# --- test numbers and going live -----------------------------------------------------------------


def test_the_test_numbers_are_those_of_the_readme(guide: Page) -> None:
    table = guide.get_by_test_id("test-numbers")
    readme = (ROOT / "README.md").read_text().split("### Test numbers")[1].split("\n### ")[0]
    numbers = set(re.findall(r"\b\d{16}\b", readme))
    numbers |= {f"400000000000{end}" for end in re.findall(r"\.\.\.(\d{4})", readme)}
    assert len(numbers) == 15
    assert set(re.findall(r"\d{16}", table.inner_text())) == numbers
    outcomes = (
        r"card_declined|\w+_funds|(?:lost|stolen|expired)_card|incorrect_cvc|processing_error|payment_\w+"
    )
    assert set(re.findall(outcomes, table.inner_text())) == set(re.findall(outcomes, readme))


def test_a_real_bank_has_no_test_numbers(api: Api, page: Page) -> None:
    def answer(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, json=response.json() | {"simulated": False})

    page.route("**/api/v1/session", answer)
    sign_in(page, path="/dashboard/docs")
    contents = page.get_by_role("navigation", name="On this page")
    expect(contents.get_by_role("link")).to_have_text([name for name in SECTIONS if name != "Test numbers"])
    expect(page.get_by_test_id("test-numbers")).to_have_count(0)
    expect(page.get_by_test_id("guide-create-order")).to_have_count(0)
    expect(page.get_by_test_id("guide-make-payments")).to_have_count(0)


def test_the_list_before_going_live_knows_what_is_done(api: Api, guide: Page) -> None:
    items = guide.locator(".checklist li")
    endpoint = items.filter(has_text="webhook endpoint")
    expect(endpoint).to_contain_text("to do")
    expect(items.filter(has_text="of your own")).to_contain_text("to do")
    api.endpoint("https://127.0.0.1:4443/webhook")
    api.post("/api_keys")
    guide.reload()
    expect(endpoint).to_contain_text("done")
    expect(items.filter(has_text="of your own")).to_contain_text("done")


# --- all of it -----------------------------------------------------------------------------------


def test_a_gateway_that_fails_is_said_so_and_asked_again(api: Api, page: Page, watch: Watch) -> None:
    sign_in(page)
    page.route("**/api/v1/orders*", lambda route: route.fulfill(status=503, body="{}"))
    page.goto("/dashboard/docs")
    expect(page.get_by_role("alert")).to_contain_text("This did not work")
    page.unroute("**/api/v1/orders*")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_test_id("api-docs")).to_be_visible()
    watch.allow("status of 503")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wrong_in_any_look(api: Api, new_context: NewContext, size: str, scheme: str) -> None:
    width, height = SIZES[size]
    page = new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
    api.paid()
    api.paid(capture="manual")
    for port in (4100, 4200):
        api.endpoint(f"http://localhost:{port}/a-long-path/" + "of-many-parts/" * 10)
    sign_in(page, path="/dashboard/docs")
    wrong = []
    for language in PROGRAMS:
        group(page, "Create an order").locator(f"[role=tab][id$={language}]").click()
        expect(page.locator(f"[role=tabpanel][id$={language}-code]").first).to_be_visible()
        wrong += axe(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_test_id("guide-create-order").click()
    expect(page.get_by_role("link", name="Open its checkout")).to_be_visible()
    drain_all()
    wrong += axe(page)
    assert wrong == []
