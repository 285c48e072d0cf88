"""The inbox's page, as a developer sees it: what arrives appears, judged, without a reload."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
import requests
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Watch
from tests.conftest import Api, drain_all, found, made

pytestmark = pytest.mark.browser


@pytest.fixture
def inbox(api: Api, live: str) -> dict[str, Any]:
    return made(api.post("/test/inboxes"))


def open_inbox(page: Page, inbox: dict[str, Any]) -> None:
    page.goto(f"/inbox/{inbox['token']}")
    expect(page.locator("#connection")).to_have_text("Live")


def message(page: Page, event: str) -> Locator:
    return page.locator(".message").filter(has=page.locator(".name", has_text=event))


def post(live: str, inbox: dict[str, Any], body: str, **headers: str) -> None:
    address = f"{live}/inbox/{inbox['token']}"
    assert requests.post(address, data=body.encode(), headers=headers, timeout=10).status_code == 200


def test_a_payments_webhooks_appear_verified_and_newest_first(
    api: Api, inbox: dict[str, Any], page: Page
) -> None:
    open_inbox(page, inbox)
    page.evaluate("window.sameDocument = true")
    api.paid()
    expect(page.locator(".message")).to_have_count(4)
    for event in ("payment.created", "payment.success", "payment.captured", "order.paid"):
        expect(message(page, event).locator(".badge")).to_have_text("Verified")
        expect(message(page, event).locator("time")).to_have_attribute("title", re.compile(r"^20.* UTC$"))
        expect(message(page, event).locator("time")).to_have_text(re.compile("just now|ago$"))
    expect(page.locator("#count")).to_have_text("4 messages")
    expect(page.locator("#announcer")).to_contain_text("New: ")
    for event in found(api.get("/events"))["data"]:
        expect(message(page, event["event"])).to_contain_text(event["id"])
    ids = page.locator(".message").evaluate_all("items => items.map((item) => Number(item.dataset.id))")
    assert ids == sorted(ids, reverse=True)
    assert page.evaluate("window.sameDocument")


def test_a_forgery_appears_as_not_verified_and_says_why(inbox: dict[str, Any], live: str, page: Page) -> None:
    open_inbox(page, inbox)
    post(live, inbox, '{"event":"payment.success"}')
    forged = message(page, "payment.success")
    expect(forged.locator(".badge")).to_have_text("Not verified")
    expect(forged.locator(".wrong")).to_have_text(
        "No webhook-signature header: this was not sent by the gateway."
    )


def test_markup_in_a_message_stays_text(inbox: dict[str, Any], live: str, page: Page) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    open_inbox(page, inbox)
    post(live, inbox, json.dumps({"event": evil, evil: evil}), **{"webhook-id": evil, "X-Evil": evil})
    expect(page.locator(".name")).to_have_text(evil)
    page.locator("summary").click()
    expect(page.get_by_role("group", name="Raw body")).to_contain_text(evil)
    assert page.locator("main img, main script").count() == 0


def test_the_keyboard_alone_opens_a_message(inbox: dict[str, Any], live: str, page: Page) -> None:
    open_inbox(page, inbox)
    post(live, inbox, '{"event":"payment.success","amount":100}')
    expect(page.locator(".message")).to_have_count(1)
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.locator("summary:focus").count():
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="Body", exact=True)).to_have_text(
        '{\n  "event": "payment.success",\n  "amount": 100\n}', use_inner_text=True
    )
    raw = page.get_by_role("group", name="Raw body")
    expect(raw).to_have_text('{"event":"payment.success","amount":100}')
    expect(page.locator(".headers dt").filter(has_text="user-agent")).to_be_visible()
    page.keyboard.press("Enter")
    expect(raw).to_be_hidden()


def test_what_is_no_json_is_shown_raw(inbox: dict[str, Any], live: str, page: Page) -> None:
    post(live, inbox, "just text")
    open_inbox(page, inbox)
    expect(message(page, "No event")).to_contain_text("no webhook-id")
    page.locator("summary").click()
    expect(page.get_by_role("group", name="Raw body")).to_have_text("just text")
    expect(page.get_by_role("group", name="Body", exact=True)).to_have_count(0)


@pytest.mark.parametrize(
    ("events", "hint"),
    [
        (["*"], "payment.created, payment.success, payment.captured, order.paid."),
        (["payment.*"], "payment.created, payment.success, payment.captured."),
        (["order.paid", "refund.*"], "you see here: order.paid."),
        (["refund.*"], "This endpoint asked for refund.* alone"),
    ],
)
def test_an_empty_inbox_says_what_a_payment_will_bring(
    api: Api, live: str, page: Page, events: list[str], hint: str
) -> None:
    open_inbox(page, made(api.post("/test/inboxes", {"events": events})))
    expect(page.locator("#empty")).to_contain_text(hint)


def test_another_attempt_is_numbered_and_a_forgery_is_none(api: Api, live: str, page: Page, make_due) -> None:
    inbox = made(api.post("/test/inboxes", {"answer": 500, "events": ["payment.created"]}))
    open_inbox(page, inbox)
    api.upi(api.order()["id"])
    drain_all()
    expect(page.locator(".message")).to_have_count(1)
    expect(page.locator(".again")).to_have_count(0)
    (delivery,) = found(api.get("/webhooks"))["data"]
    post(live, inbox, "{}", **{"webhook-id": delivery["event_id"]})
    make_due("webhook_deliveries")
    drain_all()
    expect(page.locator(".message")).to_have_count(3)
    expect(page.locator(".message").first.locator(".again")).to_have_text("Attempt 2")
    expect(page.locator(".again")).to_have_count(1)
    page.reload()
    expect(page.locator(".message").first.locator(".again")).to_have_text("Attempt 2")


def test_an_empty_inbox_shows_what_to_do_and_that_works(inbox: dict[str, Any], live: str, page: Page) -> None:
    open_inbox(page, inbox)
    expect(page.get_by_role("heading", name="Nothing has arrived yet")).to_be_visible()
    expect(page.locator("#empty")).to_contain_text(inbox["endpoint"]["url"])
    commands = page.get_by_role("group", name="Commands that make a test payment")
    expect(commands).to_contain_text(f"API={live}/api/v1\nKEY='key_test_abc123:secret_test_xyz789'")
    subprocess.run(["bash", "-ec", commands.inner_text()], check=True, timeout=30, stdout=subprocess.DEVNULL)
    drain_all()
    expect(page.locator(".message")).to_have_count(4)
    expect(page.locator("#empty")).to_be_hidden()


def test_the_commands_are_copied(inbox: dict[str, Any], live: str, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live)
    open_inbox(page, inbox)
    commands = page.get_by_role("group", name="Commands that make a test payment")
    expect(commands).to_contain_text("curl")
    page.get_by_role("button", name="Copy the commands").click()
    expect(page.get_by_role("button", name="Copied the commands")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == commands.inner_text()


def test_copying_needs_no_clipboard_of_the_browsers(inbox: dict[str, Any], page: Page) -> None:
    page.add_init_script("Object.defineProperty(Navigator.prototype, 'clipboard', { value: undefined })")
    open_inbox(page, inbox)
    page.get_by_role("button", name="Copy the endpoint's address").click()
    expect(page.locator("#announcer")).to_have_text("Copied the endpoint's address.")


def test_it_is_cleared_once_that_is_confirmed(api: Api, inbox: dict[str, Any], live: str, page: Page) -> None:
    post(live, inbox, "{}")
    open_inbox(page, inbox)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Keep them").click()
    expect(page.locator(".message")).to_have_count(1)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("dialog").get_by_role("button", name="Clear").click()
    expect(page.locator(".message")).to_have_count(0)
    expect(page.get_by_role("heading", name="Nothing has arrived yet")).to_be_focused()
    assert requests.get(f"{live}/inbox/{inbox['token']}/messages", timeout=10).json()["data"] == []
    post(live, inbox, '{"event":"later"}')
    expect(page.locator(".name")).to_have_text("later")


def test_a_disabled_endpoint_is_said_so_until_it_is_enabled(
    api: Api, inbox: dict[str, Any], page: Page
) -> None:
    path = f"/webhook_endpoints/{inbox['endpoint']['id']}"
    found(api.patch(path, {"enabled": False}))
    open_inbox(page, inbox)
    expect(page.get_by_role("alert")).to_contain_text("disabled (disabled by the merchant)")
    found(api.patch(path, {"enabled": True}))
    expect(page.get_by_role("alert")).to_be_hidden()


def test_an_inbox_whose_endpoint_is_deleted_says_so_and_stops(
    api: Api, inbox: dict[str, Any], page: Page, watch: Watch
) -> None:
    open_inbox(page, inbox)
    assert api.delete(f"/webhook_endpoints/{inbox['endpoint']['id']}").status_code == 204
    expect(page.get_by_role("alert")).to_contain_text("its endpoint was deleted")
    watch.wait_for(page, "status of 404")
    assert len(watch.complaints) == 1


def test_a_gateway_that_does_not_answer_is_said_so_and_asked_ever_more_rarely(
    inbox: dict[str, Any], live: str, page: Page, watch: Watch
) -> None:
    open_inbox(page, inbox)
    page.route("**/messages*", lambda route: route.abort())
    connection = page.locator("#connection")
    expect(connection).to_have_text("No answer, next try in 2 s")
    expect(page.locator("#announcer")).to_have_text("The gateway does not answer.")
    page.unroute("**/messages*")
    post(live, inbox, "{}")
    expect(connection).to_have_text("Live")
    expect(page.locator(".message")).to_have_count(1)
    watch.allow("ERR_FAILED")


@pytest.mark.parametrize("look", [(320, "light"), (320, "dark"), (1920, "light"), (1920, "dark")])
def test_everything_can_be_read_at_any_width_in_light_and_dark(
    api: Api, inbox: dict[str, Any], live: str, page: Page, look: tuple[int, Any]
) -> None:
    page.set_viewport_size({"width": look[0], "height": 700})
    page.emulate_media(color_scheme=look[1])
    open_inbox(page, inbox)
    assert not page.evaluate(SCROLLS_SIDEWAYS)
    api.paid()
    post(live, inbox, "x" * 5000, **{"webhook-id": "y" * 500, "X-" + "n" * 60: "z" * 500})
    expect(page.locator(".message")).to_have_count(5)
    found(api.patch(f"/webhook_endpoints/{inbox['endpoint']['id']}", {"enabled": False}))
    expect(page.get_by_role("alert")).to_be_visible()
    for summary in page.locator("summary").all():
        summary.click()
    assert not page.evaluate(SCROLLS_SIDEWAYS)
    assert page.evaluate(CONTRASTS) == []


SCROLLS_SIDEWAYS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"

# Every text whose contrast with what is behind it is less than WCAG 2.2 asks for (1.4.3: 4.5 to 1).
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((byte) => byte / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgba(getComputedStyle(each).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const shown = element.checkVisibility() && [...element.childNodes].some((node) =>
      node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!shown) continue;
    const [one, other] = [luminance(rgba(getComputedStyle(element).color)), luminance(behind(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) faint.push(`${element.className || element.tagName}: ${contrast.toFixed(2)}`);
  }
  return [...new Set(faint)];
}"""
