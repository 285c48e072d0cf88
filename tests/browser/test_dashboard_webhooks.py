"""Webhooks in the dashboard: endpoints and their secrets, the log, every attempt, retries, and events."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Locator, Page, Route, expect

from models.webhook_endpoints import ENDPOINTS_MAX, EVENT_TYPES
from tests.browser.conftest import Watch, axe
from tests.browser.dashboard import open_page, sign_in
from tests.conftest import Api, drain_all, found, in_sql, made
from tests.receiver import Receiver
from tests.test_webhook_endpoints import exhaust
from tests.test_webhook_retries import fail_deliveries

pytestmark = pytest.mark.browser

MakeDue = Callable[[str], None]
NOBODY = "http://127.0.0.1:1/"
MASK = re.compile("^whsec_•+$")


def open_webhooks(page: Page, query: str = "") -> None:
    sign_in(page, path=f"/dashboard/webhooks{query}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Webhooks")


def endpoints(api: Api) -> list[dict[str, Any]]:
    return found(api.get("/webhook_endpoints"))["data"]


def secrets(api: Api, endpoint: dict[str, Any]) -> dict[str, Any]:
    return found(api.get(f"/webhook_endpoints/{endpoint['id']}/secret"))


def toast(page: Page) -> Locator:
    return page.locator("#toast")


def save(page: Page, said: str = "Saved.") -> None:
    with page.expect_response(lambda response: response.request.method in ("POST", "PATCH")):
        page.get_by_test_id("save-webhook-button").click()
    expect(page.get_by_test_id("webhook-config-form")).not_to_have_attribute("aria-busy", "true")
    expect(toast(page)).to_have_text(said)


def row(page: Page, event: str) -> Locator:
    one = page.get_by_test_id("webhook-event").filter(has_text=re.compile(f"^{re.escape(event)}$"))
    return page.get_by_test_id("webhook-log-item").filter(has=one)


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


# --- endpoints -----------------------------------------------------------------------------------


def test_the_first_endpoint_is_added_and_its_secret_is_shown(api: Api, page: Page) -> None:
    open_webhooks(page)
    expect(page.get_by_role("heading", name="Where should we tell your server?")).to_be_visible()
    expect(page.get_by_role("heading", name="Nothing sent yet")).to_be_visible()
    page.get_by_test_id("webhook-config").get_by_test_id("webhook-url-input").fill("https://shop.example/w")
    page.get_by_label("Description").fill("the shop")
    save(page, "The endpoint is there.")
    (endpoint,) = endpoints(api)
    assert (endpoint["url"], endpoint["description"]) == ("https://shop.example/w", "the shop")
    assert (endpoint["events"], endpoint["enabled"]) == (["*"], True)
    expect(page).to_have_url(re.compile(f"endpoint={endpoint['id']}$"))
    expect(page.get_by_test_id("webhook-secret")).to_have_text(secrets(api, endpoint)["secret"])
    page.reload()
    expect(page.get_by_test_id("webhook-secret")).to_have_text(MASK)


def test_what_is_no_address_is_refused_at_its_field(api: Api, page: Page, watch: Watch) -> None:
    open_webhooks(page)
    page.get_by_test_id("save-webhook-button").click()
    url = page.get_by_test_id("webhook-url-input")
    expect(page.get_by_text("Where to? Give an http or https address.")).to_be_visible()
    expect(url).to_be_focused()
    url.fill("ftp://shop.example")
    page.get_by_test_id("save-webhook-button").click()
    expect(page.get_by_text("Must be an http or https URL.")).to_be_visible()
    expect(url).to_have_attribute("aria-invalid", "true")
    assert endpoints(api) == []
    watch.allow("status of 400")


def test_another_one_is_added_and_each_is_chosen_by_its_address(api: Api, page: Page) -> None:
    first = api.endpoint("https://one.example/w")
    open_webhooks(page)
    expect(page.get_by_test_id("endpoint-choice")).to_have_count(0)
    page.get_by_role("link", name="Add an endpoint").click()
    expect(page.get_by_role("heading", name="Another endpoint")).to_be_visible()
    page.get_by_test_id("webhook-url-input").fill("https://two.example/w")
    save(page, "The endpoint is there.")
    expect(page.get_by_test_id("endpoint-choice")).to_have_count(2)
    page.get_by_test_id("endpoint-choice").filter(has_text="one.example").click()
    expect(page).to_have_url(re.compile(f"endpoint={first['id']}$"))
    expect(page.get_by_test_id("webhook-url-input")).to_have_value(first["url"])
    chosen = page.locator("[aria-current=true]")
    expect(chosen).to_contain_text("one.example/w")


def test_with_as_many_as_there_can_be_none_is_added(api: Api, page: Page) -> None:
    for number in range(ENDPOINTS_MAX):
        api.endpoint(f"https://shop.example/{number}")
    open_webhooks(page, "?endpoint=new")
    expect(page.get_by_text("16 endpoints, the most there can be")).to_be_visible()
    expect(page.get_by_role("link", name="Add an endpoint")).to_have_count(0)
    expect(page.get_by_test_id("webhook-url-input")).to_have_value(
        f"https://shop.example/{ENDPOINTS_MAX - 1}"
    )


def test_address_description_and_events_are_changed(api: Api, page: Page) -> None:
    api.endpoint("https://shop.example/w", events=["payment.success", "webhook.test"])
    open_webhooks(page)
    expect(page.get_by_role("heading", name="shop.example/w")).to_be_visible()
    page.get_by_test_id("webhook-url-input").fill("https://shop.example/v2")
    page.get_by_label("Description").fill("the new one")
    page.get_by_label("All refund events").check()
    expect(page.get_by_label("refund.failed")).to_be_checked()
    expect(page.get_by_label("refund.failed")).to_be_disabled()
    page.get_by_label("order.paid").check()
    save(page)
    (endpoint,) = endpoints(api)
    assert (endpoint["url"], endpoint["description"]) == ("https://shop.example/v2", "the new one")
    assert set(endpoint["events"]) == {"payment.success", "webhook.test", "refund.*", "order.paid"}
    expect(page.get_by_role("heading", name="shop.example/v2")).to_be_visible()
    page.get_by_label("All, also kinds").check()
    expect(page.get_by_label("order.paid")).to_be_hidden()
    save(page)
    assert endpoints(api)[0]["events"] == ["*"]


def test_at_least_one_kind_of_event_is_chosen(api: Api, page: Page) -> None:
    api.endpoint("https://shop.example/w")
    open_webhooks(page)
    page.get_by_label("All, also kinds").uncheck()
    page.get_by_test_id("save-webhook-button").click()
    expect(page.get_by_text("Choose at least one.")).to_be_visible()
    assert endpoints(api)[0]["events"] == ["*"]


def test_saving_undoes_nothing_that_changed_elsewhere(api: Api, page: Page) -> None:
    endpoint = api.endpoint("https://shop.example/w")
    open_webhooks(page)
    expect(page.get_by_role("switch")).to_be_checked()
    found(api.patch(f"/webhook_endpoints/{endpoint['id']}", {"enabled": False, "events": ["order.*"]}))
    page.get_by_label("Description").fill("the shop")
    save(page)
    (after,) = endpoints(api)
    assert (after["enabled"], after["events"], after["description"]) == (False, ["order.*"], "the shop")
    expect(page.get_by_role("switch")).not_to_be_checked()
    expect(page.get_by_test_id("endpoint-state")).to_have_text("disabled")
    expect(page.get_by_label("All order events")).to_be_checked()


def test_one_that_fails_and_one_that_was_given_up_say_so(
    app: Flask, api: Api, receiver: Receiver, page: Page, make_due: MakeDue
) -> None:
    api.endpoint(receiver.url, events=["payment.created"])
    receiver.answers = [500]
    api.upi(api.order()["id"])
    drain_all()
    open_webhooks(page)
    expect(page.get_by_test_id("endpoint-state")).to_have_text("failing")
    expect(page.get_by_test_id("webhook-config")).to_contain_text("After five days")
    receiver.answers = [410]
    make_due("webhook_deliveries")
    drain_all()
    page.reload()
    expect(page.get_by_test_id("endpoint-state")).to_have_text("disabled")
    expect(page.get_by_test_id("webhook-config")).to_contain_text("it answered 410 Gone")


def test_it_is_deleted_once_that_is_confirmed(api: Api, page: Page) -> None:
    api.endpoint("https://shop.example/w")
    open_webhooks(page)
    page.get_by_role("button", name="Delete …").click()
    expect(dialog(page)).to_contain_text("https://shop.example/w")
    expect(dialog(page).get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Enter")
    assert len(endpoints(api)) == 1
    page.get_by_role("button", name="Delete …").click()
    dialog(page).get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("heading", name="Where should we tell your server?")).to_be_visible()
    assert endpoints(api) == []


def test_markup_in_addresses_and_answers_stays_text(
    api: Api, receiver: Receiver, page: Page, make_due: MakeDue
) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"

    def answer(handler: Any) -> None:
        handler.send_response(500)
        handler.send_header("Content-Length", str(len(evil)))
        handler.end_headers()
        handler.wfile.write(evil.encode())

    receiver.answers = [answer]
    endpoint = api.endpoint(receiver.url, description=evil)
    api.endpoint("https://other.example/w")
    made(api.post(f"/webhook_endpoints/{endpoint['id']}/test"))
    drain_all()
    open_webhooks(page, f"?endpoint={endpoint['id']}")
    expect(page.get_by_test_id("endpoint-choice").filter(has_text=evil)).to_be_visible()
    row(page, "webhook.test").get_by_test_id("webhook-event").click()
    expect(page.get_by_role("group", name="Answer")).to_have_text(evil)
    assert page.locator("main img, main script").count() == 0


# --- secrets -------------------------------------------------------------------------------------


def test_the_secret_is_masked_until_it_is_revealed(api: Api, page: Page) -> None:
    endpoint = api.endpoint("https://shop.example/w")
    open_webhooks(page)
    secret = page.get_by_test_id("webhook-secret")
    expect(secret).to_have_text(MASK)
    expect(page.get_by_role("button", name="Copy the secret")).to_be_hidden()
    page.get_by_test_id("reveal-secret-button").click()
    expect(secret).to_have_text(endpoint["secret"])
    expect(page.get_by_role("button", name="Copy the secret")).to_be_visible()
    page.get_by_role("button", name="Hide").click()
    expect(secret).to_have_text(MASK)


def test_after_a_rotation_the_old_secret_signs_too_until_it_is_revoked(api: Api, page: Page) -> None:
    endpoint = api.endpoint("https://shop.example/w")
    open_webhooks(page)
    page.get_by_test_id("regenerate-secret-button").click()
    hours = dialog(page).get_by_label("The old one signs too for so many hours")
    expect(hours).to_have_value("24")
    hours.fill("48")
    dialog(page).get_by_role("button", name="Rotate").click()
    expect(toast(page)).to_have_text("This is the new secret. Bring it to your servers.")
    live = secrets(api, endpoint)
    assert (live["previous_secret"], live["secret"] == endpoint["secret"]) == (endpoint["secret"], False)
    in_two_days = datetime.now(UTC) + timedelta(hours=48)
    until = datetime.fromisoformat(live["previous_secret_expires_at"])
    assert abs(until - in_two_days) < timedelta(minutes=1)
    expect(page.get_by_test_id("webhook-secret")).to_have_text(live["secret"])
    overlap = page.get_by_test_id("overlap")
    expect(overlap).to_contain_text("The old secret signs too until")
    expect(overlap.locator("time")).to_have_attribute("datetime", live["previous_secret_expires_at"])
    expect(overlap.get_by_test_id("previous-secret")).to_have_text(endpoint["secret"])
    assert axe(page) == []

    page.reload()
    expect(page.get_by_test_id("previous-secret")).to_have_text(MASK)
    page.get_by_test_id("revoke-secret-button").click()
    dialog(page).get_by_role("button", name="Revoke it").click()
    expect(page.get_by_test_id("overlap")).to_be_hidden()
    assert secrets(api, endpoint)["previous_secret"] is None


def test_a_rotation_without_an_overlap_is_worded_as_the_danger_it_is(api: Api, page: Page) -> None:
    endpoint = api.endpoint("https://shop.example/w")
    open_webhooks(page)
    page.get_by_test_id("regenerate-secret-button").click()
    hours = dialog(page).get_by_label("The old one signs too for so many hours")
    for wrong in ("", "169", "-1", "1.5"):
        hours.fill(wrong)
        dialog(page).get_by_role("button", name="Rotate").click()
        expect(dialog(page)).to_contain_text("Must be a whole number from 0 to 168.")
    hours.fill("0")
    expect(dialog(page).get_by_role("alert")).to_contain_text("refuse every webhook")
    assert axe(page) == []
    dialog(page).get_by_role("button", name="Revoke the old one and rotate").click()
    expect(dialog(page)).to_have_count(0)
    live = secrets(api, endpoint)
    expect(page.get_by_test_id("webhook-secret")).to_have_text(live["secret"])
    expect(page.get_by_test_id("overlap")).to_be_hidden()
    assert (live["previous_secret"], live["secret"] == endpoint["secret"]) == (None, False)


def test_the_doctor_says_why_a_signature_does_not_verify(api: Api, receiver: Receiver, page: Page) -> None:
    endpoint = api.endpoint(receiver.url)
    made(api.post(f"/webhook_endpoints/{endpoint['id']}/test"))
    drain_all()
    (message,) = receiver.received
    open_webhooks(page)
    page.get_by_text("Signature doctor: why does a webhook not verify?").click()
    form = page.get_by_role("form", name="Signature doctor")
    form.get_by_label("Body, byte for byte").fill(message.body.decode())
    signed = {name: value for name, value in message.headers.items() if name.startswith("webhook-")}
    form.get_by_label("Headers, one a line").fill("\n".join(f"{name}: {signed[name]}" for name in signed))
    form.get_by_role("button", name="Find out why").click()
    expect(page.get_by_test_id("diagnosis")).to_contain_text("It verifies.")
    form.get_by_label("Body, byte for byte").fill(json.dumps(json.loads(message.body), indent=2))
    form.get_by_role("button", name="Find out why").click()
    expect(page.get_by_test_id("diagnosis")).to_contain_text("parsed and written again")
    assert axe(page) == []


# --- trying it out -------------------------------------------------------------------------------


def test_a_test_is_sent_and_how_it_goes_is_shown(
    api: Api, receiver: Receiver, page: Page, workers: None
) -> None:
    api.endpoint(receiver.url, events=["order.paid"])
    open_webhooks(page)
    page.get_by_test_id("test-webhook-button").click()
    result = page.get_by_test_id("test-result")
    expect(result).to_contain_text("It answered 200 in")
    assert receiver.events == ["webhook.test"]
    expect(row(page, "webhook.test").get_by_test_id("webhook-status")).to_have_text("success")
    receiver.answers = [503]
    page.get_by_test_id("test-webhook-button").click()
    expect(result).to_contain_text(re.compile(r"Attempt 1: answered 503 in .* The next one is due"))
    result.get_by_role("link", name="See it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("webhook.test")


def test_one_that_is_disabled_is_not_tested(api: Api, page: Page) -> None:
    api.endpoint("https://shop.example/w", enabled=False)
    open_webhooks(page)
    page.get_by_test_id("test-webhook-button").click()
    expect(toast(page)).to_have_text("It is disabled. Enable it, save, and try again.")
    assert found(api.get("/webhooks"))["data"] == []


def test_a_new_inbox_opens_and_shows_what_arrives(api: Api, page: Page, watch: Watch, workers: None) -> None:
    open_webhooks(page)
    with page.context.expect_page() as opened:
        page.get_by_test_id("new-inbox-button").click()
    inbox = opened.value
    expect(inbox.get_by_role("heading", name="Nothing has arrived yet")).to_be_visible()
    (endpoint,) = endpoints(api)
    expect(page.get_by_test_id("webhook-url-input")).to_have_value(endpoint["url"])
    path = "/inbox/" + endpoint["url"].rpartition("/")[2]
    expect(page.get_by_test_id("open-inbox")).to_have_attribute("href", path)
    assert inbox.url.endswith(path)
    page.get_by_test_id("test-webhook-button").click()
    expect(inbox.locator(".message")).to_contain_text("webhook.test")
    expect(inbox.locator(".message .badge")).to_have_text("Verified")


# --- the log -------------------------------------------------------------------------------------


def test_a_row_tells_how_a_delivery_went(api: Api, receiver: Receiver, page: Page, make_due: MakeDue) -> None:
    endpoint = api.endpoint(receiver.url, events=["payment.created"])
    exhaust(api, receiver, make_due)
    made(api.post(f"/webhook_endpoints/{endpoint['id']}/test"))
    drain_all()
    open_webhooks(page)
    failed = row(page, "payment.created")
    expect(failed.get_by_test_id("webhook-status")).to_have_text("failed")
    expect(failed.get_by_test_id("webhook-attempts")).to_have_text("5")
    expect(failed.get_by_test_id("webhook-response-code")).to_have_text("500")
    expect(failed.get_by_test_id("webhook-last-attempt")).to_have_attribute("title", re.compile(" UTC$"))
    expect(row(page, "webhook.test").get_by_test_id("webhook-response-code")).to_have_text("200")
    expect(page.get_by_test_id("health-success")).to_have_text("1")
    expect(page.get_by_test_id("health-failed")).to_have_text("1")
    expect(page.get_by_test_id("health-share")).to_have_text("50%")
    table = page.get_by_test_id("webhook-logs-table")
    expect(table.get_by_test_id("webhook-log-item")).to_have_count(2)


def test_what_is_sent_appears_without_a_reload(api: Api, receiver: Receiver, page: Page) -> None:
    api.endpoint(receiver.url)
    open_webhooks(page)
    page.evaluate("window.sameDocument = true")
    expect(page.get_by_role("heading", name="Nothing sent yet")).to_be_visible()
    api.paid()
    expect(page.get_by_test_id("webhook-log-item")).to_have_count(4)
    expect(row(page, "order.paid").get_by_test_id("webhook-status")).to_have_text("success")
    assert page.evaluate("window.sameDocument")


def test_the_filters_are_in_the_address(
    app: Flask, api: Api, receiver: Receiver, page: Page, watch: Watch
) -> None:
    fail_deliveries(app, api.endpoint(NOBODY, events=["refund.*"])["id"], 1)
    good = api.endpoint(receiver.url, events=["order.paid"])
    api.paid()
    open_webhooks(page)
    items = page.get_by_test_id("webhook-log-item")
    expect(items).to_have_count(2)
    page.evaluate("window.sameDocument = true")
    filters = page.get_by_role("form", name="Filters")
    filters.get_by_label("Status").select_option("failed")
    expect(items).to_have_count(1)
    expect(row(page, "webhook.test")).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?status=failed$"))
    page.go_back()
    expect(items).to_have_count(2)
    expect(filters.get_by_label("Status")).to_have_value("")
    page.go_forward()
    expect(items).to_have_count(1)
    expect(filters.get_by_label("Status")).to_have_value("failed")
    filters.get_by_role("button", name="Clear").click()
    expect(items).to_have_count(2)
    filters.get_by_label("Event").select_option("order.paid")
    expect(items).to_have_count(1)
    filters.get_by_label("Endpoint").select_option(good["id"])
    assert page.evaluate("window.sameDocument")
    page.reload()
    expect(filters.get_by_label("Event")).to_have_value("order.paid")
    expect(filters.get_by_label("Endpoint")).to_have_value(good["id"])
    expect(items).to_have_count(1)
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%d")
    filters.get_by_label("From").fill(tomorrow)
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.get_by_role("button", name="Clear the filters").click()
    expect(items).to_have_count(2)
    page.go_back()
    expect(filters.get_by_label("From")).to_have_value(tomorrow)
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()

    page.goto("/dashboard/webhooks?status=odd")
    expect(page.get_by_role("alert")).to_be_visible()
    filters.get_by_role("button", name="Clear").click()
    expect(items).to_have_count(2)
    watch.allow("status of 400")


def test_an_answer_that_comes_late_does_not_undo_a_filter(
    app: Flask, api: Api, receiver: Receiver, page: Page
) -> None:
    fail_deliveries(app, api.endpoint(receiver.url, events=["order.paid"])["id"], 1)
    open_webhooks(page)
    items = page.get_by_test_id("webhook-log-item")
    expect(items).to_have_count(1)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile(r"/webhooks\?limit"), hold)
    with page.expect_request(re.compile(r"/webhooks\?limit")):
        pass
    page.get_by_role("form", name="Filters").get_by_label("Status").select_option("success")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    with page.expect_response(re.compile(r"/webhooks\?limit")):
        held[0].continue_()
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    expect(items).to_have_count(0)


def test_pages_go_by_offset_in_the_address(app: Flask, api: Api, page: Page) -> None:
    fail_deliveries(app, api.endpoint(NOBODY)["id"], 45)
    open_webhooks(page)
    items = page.get_by_test_id("webhook-log-item")
    pager = page.get_by_role("navigation", name="Pages of deliveries")
    expect(pager).to_contain_text("1\N{EN DASH}20 of 45")
    expect(pager.get_by_role("button", name="Previous")).to_be_disabled()
    pager.get_by_role("button", name="Next").click()
    expect(pager).to_contain_text("21\N{EN DASH}40 of 45")
    expect(page).to_have_url(re.compile(r"\?offset=20$"))
    pager.get_by_role("button", name="Next").click()
    expect(pager).to_contain_text("41\N{EN DASH}45 of 45")
    expect(items).to_have_count(5)
    expect(pager.get_by_role("button", name="Next")).to_be_disabled()
    page.go_back()
    expect(pager).to_contain_text("21\N{EN DASH}40 of 45")
    page.goto("/dashboard/webhooks?offset=60")
    expect(page.get_by_role("heading", name="No more")).to_be_visible()
    page.get_by_role("button", name="To the first page").click()
    expect(pager).to_contain_text("1\N{EN DASH}20 of 45")


# --- trying again --------------------------------------------------------------------------------


def test_one_that_failed_is_tried_again_by_the_keyboard_alone(
    api: Api, receiver: Receiver, page: Page, make_due: MakeDue
) -> None:
    api.endpoint(receiver.url, events=["payment.created"])
    exhaust(api, receiver, make_due)
    open_webhooks(page)
    retry = row(page, "payment.created").get_by_test_id("retry-webhook-button")
    expect(retry).to_have_accessible_name("Retry payment.created")
    retry.focus()
    page.keyboard.press("Enter")
    expect(toast(page)).to_have_text("payment.created is on its way again.")
    expect(row(page, "payment.created").get_by_test_id("webhook-status")).to_have_text("pending")
    expect(retry).to_be_focused()
    drain_all()
    expect(row(page, "payment.created").get_by_test_id("webhook-status")).to_have_text("success")
    expect(row(page, "payment.created").get_by_test_id("webhook-attempts")).to_have_text("6")
    expect(retry).to_have_accessible_name("Resend payment.created")
    expect(retry).to_be_focused()


def test_one_whose_endpoint_is_off_says_why_it_is_not_tried_again(app: Flask, api: Api, page: Page) -> None:
    endpoint = api.endpoint("https://shop.example/w")
    fail_deliveries(app, endpoint["id"], 1)
    found(api.patch(f"/webhook_endpoints/{endpoint['id']}", {"enabled": False}))
    open_webhooks(page)
    retry = row(page, "webhook.test").get_by_test_id("retry-webhook-button")
    expect(retry).to_have_attribute("aria-disabled", "true")
    why = "Its endpoint is disabled (disabled by the merchant). Enable it first."
    expect(retry).to_have_attribute("title", why)
    retry.click(force=True)
    expect(toast(page)).to_have_text(why)
    page.get_by_role("switch").check()
    save(page)
    expect(retry).not_to_have_attribute("aria-disabled", "true")
    assert api.delete(f"/webhook_endpoints/{endpoint['id']}").status_code == 204
    page.reload()
    expect(retry).to_have_attribute("title", "Its endpoint is deleted.")


def test_all_that_failed_are_tried_again_with_their_progress(
    app: Flask, api: Api, receiver: Receiver, page: Page
) -> None:
    fail_deliveries(app, api.endpoint(receiver.url)["id"], 30)
    fail_deliveries(app, api.endpoint(NOBODY)["id"], 2)
    open_webhooks(page)
    page.get_by_test_id("retry-all-button").click()
    assert axe(page) == []
    dialog(page).get_by_role("button", name="Retry them").click()
    progress = page.get_by_test_id("retry-progress")
    expect(progress).to_contain_text("0 of 32 deliveries tried again: 0 delivered, 0 failed again.")
    assert axe(page) == []
    page.reload()
    expect(progress).to_contain_text("0 of 32 deliveries tried again")
    in_sql(app, "UPDATE webhook_deliveries SET due_at = now() WHERE due_at IS NOT NULL")
    drain_all()
    expect(progress).to_contain_text("Done: 30 delivered, 2 failed again.")
    expect(page.get_by_test_id("webhook-status").first).to_have_text("failed")
    page.get_by_role("button", name="Show them").click()
    expect(page).to_have_url(re.compile(r"\?retry_id=whr_\w+$"))
    expect(page.get_by_role("form", name="Filters")).to_contain_text("Of one retry alone.")
    progress.get_by_role("button", name="Close").click()
    expect(progress).to_have_count(0)


def test_a_retry_of_all_is_of_a_time_and_an_endpoint(app: Flask, api: Api, page: Page, watch: Watch) -> None:
    fail_deliveries(app, api.endpoint("https://one.example/w")["id"], 3)
    fail_deliveries(app, api.endpoint("https://two.example/w")["id"], 2)
    in_sql(app, "UPDATE webhook_deliveries SET last_attempt_at = last_attempt_at - interval '3 days'")
    open_webhooks(page)
    page.get_by_test_id("retry-all-button").click()
    dialog(page).get_by_role("button", name="Retry them").click()
    expect(toast(page)).to_have_text("Nothing failed in that time.")
    page.get_by_test_id("retry-all-button").click()
    since = dialog(page).get_by_label("Failed since")
    since.fill("2199-01-01T00:00")
    dialog(page).get_by_role("button", name="Retry them").click()
    expect(dialog(page)).to_contain_text("Must be in the past")
    since.fill((datetime.now() - timedelta(days=4)).strftime("%Y-%m-%dT%H:%M"))
    dialog(page).get_by_label("Endpoint").select_option(label="one.example/w")
    expect(dialog(page).get_by_label("Also events of that time")).not_to_be_checked()
    dialog(page).get_by_role("button", name="Retry them").click()
    expect(page.get_by_test_id("retry-progress")).to_contain_text("0 of 3 deliveries")
    watch.allow("status of 400")


def test_a_new_endpoint_is_sent_what_happened_before_it_was_there(
    app: Flask, api: Api, receiver: Receiver, page: Page
) -> None:
    api.paid()
    api.endpoint(receiver.url, events=["order.*"])
    fail_deliveries(app, api.endpoint(NOBODY, events=["refund.*"])["id"], 1)
    open_webhooks(page)
    page.get_by_test_id("retry-all-button").click()
    also = dialog(page).get_by_label("Also events of that time that it was never told of")
    expect(also).to_be_hidden()
    dialog(page).get_by_label("Endpoint").select_option(label=receiver.url.removeprefix("http://"))
    also.check()
    dialog(page).get_by_role("button", name="Retry them").click()
    expect(page.get_by_test_id("retry-progress")).to_contain_text("0 of 1 delivery tried again")
    drain_all()
    expect(page.get_by_test_id("retry-progress")).to_contain_text("Done: 1 delivered, 0 failed again.")
    assert receiver.events == ["order.paid"]


def test_one_that_is_enabled_again_is_offered_what_it_missed(
    app: Flask, api: Api, receiver: Receiver, page: Page
) -> None:
    endpoint = api.endpoint(receiver.url, events=["payment.*"])
    open_webhooks(page)
    page.get_by_role("switch").uncheck()
    save(page)
    expect(page.get_by_test_id("endpoint-state")).to_have_text("disabled")
    api.paid()
    page.get_by_role("switch").check()
    save(page)
    missed = page.get_by_test_id("missed")
    expect(missed).to_contain_text("3 events happened while it was off.")
    assert axe(page) == []
    page.get_by_test_id("send-missed-button").click()
    expect(page.get_by_test_id("retry-progress")).to_contain_text("0 of 3 deliveries tried again")
    expect(missed).to_have_count(0)
    in_sql(app, "UPDATE webhook_deliveries SET due_at = now() WHERE due_at IS NOT NULL")
    drain_all()
    expect(page.get_by_test_id("retry-progress")).to_contain_text("Done: 3 delivered, 0 failed again.")
    assert receiver.events == ["payment.created", "payment.success", "payment.captured"]
    assert found(api.get(f"/webhook_endpoints/{endpoint['id']}"))["enabled"]


# --- one delivery --------------------------------------------------------------------------------


def test_a_delivery_shows_what_is_sent_and_every_attempt(
    api: Api, receiver: Receiver, page: Page, make_due: MakeDue
) -> None:
    endpoint = api.endpoint(receiver.url, events=["payment.success"])
    receiver.answers = [500]
    payment = api.paid()
    delivery = api.only_delivery()
    open_webhooks(page)
    row(page, "payment.success").get_by_test_id("webhook-event").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("payment.success")
    expect(page.get_by_test_id("webhook-status")).to_have_text("pending")
    expect(page.get_by_test_id("next-attempt")).to_have_text(re.compile(r"^in \d+ s|1 min"))
    main = page.get_by_role("main")
    for path in (
        f"/events/{delivery['event_id']}",
        f"/payments/{payment['id']}",
        f"/orders/{payment['order_id']}",
        f"/webhooks?endpoint={endpoint['id']}",
    ):
        expect(main.locator(f'a[href="/dashboard{path}"]').first).to_be_visible()
    expect(page.get_by_test_id("raw-payload")).to_have_text(delivery["payload"])
    pretty = json.dumps(json.loads(delivery["payload"]), indent=2)
    expect(page.get_by_test_id("payload")).to_have_text(pretty, use_inner_text=True)
    expect(page.get_by_role("group", name="Request headers")).to_contain_text(
        f"webhook-id: {delivery['event_id']}"
    )
    attempts = page.get_by_test_id("attempts").locator("li")
    expect(attempts).to_have_count(1)
    expect(attempts.first).to_contain_text("Attempt 1")
    expect(attempts.first).to_contain_text("Answered 500.")
    expect(attempts.first.get_by_role("group", name="Answer")).to_have_text("ok")

    page.evaluate("window.sameDocument = true")
    make_due("webhook_deliveries")
    drain_all()
    expect(attempts).to_have_count(2)
    expect(attempts.first).to_contain_text("Attempt 2")
    expect(attempts.first.locator(".badge")).to_have_text("200")
    expect(attempts.last.get_by_role("group", name="Answer")).to_be_visible()  # still open
    expect(page.get_by_test_id("webhook-status")).to_have_text("success")
    assert page.evaluate("window.sameDocument")
    assert axe(page) == []


def test_a_delivery_is_tried_again_and_the_attempt_appears(
    api: Api, receiver: Receiver, page: Page, make_due: MakeDue
) -> None:
    api.endpoint(receiver.url, events=["payment.created"])
    exhaust(api, receiver, make_due)
    sign_in(page, path=f"/dashboard/webhooks/{api.only_delivery()['id']}")
    expect(page.get_by_role("heading", name="5 attempts")).to_be_visible()
    retry = page.get_by_test_id("retry-webhook-button")
    retry.click()
    expect(page.get_by_test_id("webhook-status")).to_have_text("pending")
    expect(retry).to_be_focused()
    drain_all()
    expect(page.get_by_role("heading", name="6 attempts")).to_be_visible()
    expect(page.get_by_test_id("webhook-status")).to_have_text("success")
    expect(page.locator("#announcer")).to_have_text("Attempt 6: answered 200.")


def test_one_without_an_answer_says_why(api: Api, page: Page) -> None:
    endpoint = api.endpoint(NOBODY)
    made(api.post(f"/webhook_endpoints/{endpoint['id']}/test"))
    open_webhooks(page)
    expect(row(page, "webhook.test").get_by_test_id("retry-webhook-button")).to_have_count(0)
    row(page, "webhook.test").get_by_test_id("webhook-event").click()
    expect(page.get_by_role("heading", name="On its way")).to_be_visible()
    expect(page.get_by_test_id("retry-webhook-button")).to_have_count(0)
    drain_all()
    expect(page.get_by_test_id("attempts")).to_contain_text("Connection refused.")
    expect(page.get_by_test_id("attempts")).to_contain_text("There was no answer.")


def test_a_delivery_that_is_not_there_is_said_so(api: Api, page: Page, watch: Watch) -> None:
    sign_in(page, path="/dashboard/webhooks/whd_Nothing")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    watch.allow("status of 404")


# --- events --------------------------------------------------------------------------------------


def test_events_are_found_by_kind_and_by_what_they_are_about(api: Api, page: Page) -> None:
    api.paid()
    payment = api.paid()
    refund = made(api.post(f"/payments/{payment['id']}/refunds", {"amount": 2500}))
    drain_all()
    sign_in(page, path="/dashboard/events")
    rows = page.get_by_test_id("event-row")
    expect(rows).to_have_count(10)
    expect(rows.first).to_contain_text("refund.processed")
    expect(rows.first).to_contain_text("₹25.00")
    for about, count in ((payment["id"], 5), (payment["order_id"], 6), (refund["id"], 2), ("pay_nothing", 0)):
        page.get_by_label("Order, payment or refund").fill(about)
        page.get_by_label("Order, payment or refund").press("Enter")
        expect(rows).to_have_count(count)
    page.get_by_role("link", name="Clear the filters").click()
    page.get_by_label("Event", exact=True).select_option("order.paid")
    expect(rows).to_have_count(2)
    expect(page.get_by_test_id("event-link").first).to_have_text("order.paid")


def test_an_event_shows_its_payload_and_to_whom_it_was_sent(
    api: Api, receiver: Receiver, page: Page, live: str
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live)
    api.endpoint(receiver.url, events=["payment.success"])
    api.endpoint(f"{receiver.url}/other", events=["payment.*"])
    payment = api.paid()
    sign_in(page, path="/dashboard/events?event=payment.success")
    page.get_by_test_id("event-link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("payment.success")
    expect(page.get_by_test_id("webhook-log-item")).to_have_count(2)
    page.get_by_role("button", name="Copy Payload").click()
    expect(page.get_by_role("button", name="Copied Payload")).to_be_visible()
    sent = next(each for each in receiver.received if each.event["event"] == "payment.success")
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == sent.event
    expect(page.get_by_test_id("event-payload").locator(".key").first).to_have_text('"id"')
    expect(page.locator(f'main a[href="/dashboard/payments/{payment["id"]}"]')).to_be_visible()
    assert axe(page) == []
    page.get_by_test_id("webhook-event").first.click()
    expect(page.get_by_test_id("raw-payload")).to_have_text(sent.body.decode())


def test_an_event_that_nobody_asked_for_says_so(api: Api, page: Page) -> None:
    api.paid()
    sign_in(page, path="/dashboard/events?event=order.paid")
    page.get_by_test_id("event-link").click()
    expect(page.get_by_role("heading", name="Sent to nobody")).to_be_visible()


def test_the_page_knows_every_kind_of_event(api: Api, page: Page) -> None:
    sign_in(page, path="/dashboard/events")
    known = page.evaluate("import('/static/dashboard/pages/events.js').then((events) => events.EVENT_TYPES)")
    assert sorted(known) == sorted(EVENT_TYPES)
    open_page(page, "/webhooks")
    page.get_by_label("All, also kinds").uncheck()
    for kind in EVENT_TYPES:
        if kind != "webhook.test":  # which is sent whatever the filter says
            expect(page.get_by_label(kind, exact=True)).to_be_visible()
