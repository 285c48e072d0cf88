"""The API reference as a merchant reads it: the whole live document, and nothing that sends a request."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import NewContext, Watch, axe

pytestmark = pytest.mark.browser

METHODS = ("get", "post", "put", "patch", "delete")
SCROLLS_SIDEWAYS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


SAMPLES = [  # a description, parameters, a body, no key, no JSON, no answer
    ("GET", "/health"),
    ("GET", "/api/v1/orders"),
    ("POST", "/api/v1/payments"),
    ("GET", "/api/v1/payments/{payment_id}/public/qr.svg"),
    ("PATCH", "/api/v1/merchant"),
    ("DELETE", "/api/v1/webhook_endpoints/{endpoint_id}"),
]


@pytest.fixture
def document(live: str) -> dict[str, Any]:
    return requests.get(f"{live}/api/v1/openapi.json", timeout=10).json()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, item[method])
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]


def open_reference(page: Page, place: str = "") -> None:
    page.goto(f"/dashboard/reference{place}")
    expect(page.locator(".opblock").first).to_be_visible()
    expect(page.locator("#state")).to_be_empty()


def operation(page: Page, method: str, path: str) -> Locator:
    shown = page.locator(f'[data-path="{path}"]')
    return page.locator(f".opblock-{method.lower()}").filter(has=shown)


def open_samples(page: Page, samples: list[tuple[str, str]] = SAMPLES) -> None:
    for method, path in samples:
        operation(page, method, path).locator(".opblock-summary-control").click()
    expect(page.locator(".opblock .responses-table")).to_have_count(len(samples))
    expect(page.locator(".errors-wrapper")).to_have_count(0)


def test_every_operation_of_the_live_document_is_there(document: dict[str, Any], page: Page) -> None:
    open_reference(page)
    expected = operations(document)
    expect(page.locator(".webhooks .opblock-summary-path")).to_have_text(list(document["webhooks"]))
    shown = page.locator(".opblock").evaluate_all(
        """blocks => blocks.filter((block) => !block.closest(".webhooks")).map((block) => [
          block.querySelector(".opblock-summary-method").textContent,
          block.querySelector(".opblock-summary-path").dataset.path,
          block.querySelector(".opblock-summary-description").textContent.replace(/[“”]/g, "`"),
          !block.querySelector(".no-key"),
        ])"""
    )
    assert sorted(map(tuple, shown)) == sorted(
        (method, path, each["summary"], each.get("security") != []) for method, path, each in expected
    )
    expect(page.locator("#list .method")).to_have_count(len(expected))
    expect(page.locator("#about")).to_contain_text(document["info"]["title"])
    for header in ("X-Api-Key", "X-Api-Secret"):
        expect(page.locator("#about")).to_contain_text(header)


def test_an_operation_says_what_it_takes_and_answers(page: Page) -> None:
    open_reference(page)
    create = operation(page, "POST", "/api/v1/orders")
    create.locator(".opblock-summary-control").click()
    expect(create.locator('[data-param-name="Idempotency-Key"]')).to_contain_text("maxLength: 255")
    body = create.locator(".opblock-section-request-body")
    expect(body).to_contain_text("Seconds. Without it, the order never expires.")
    expect(body.locator(".enum").first).to_contain_text('"INR"')
    expect(create.locator('.response[data-code="201"] .json-schema-2020-12__title').first).to_have_text(
        "Order"
    )
    paid = create.locator('.response[data-code="409"]')
    expect(paid).to_contain_text("CONFLICT_ERROR: What is there now stands in the way")
    body.get_by_role("tab", name="Example Value").click()
    expect(body.locator("pre.example .key").first).to_have_text('"amount"')
    listing = operation(page, "GET", "/api/v1/orders")
    listing.locator(".opblock-summary-control").click()
    status = listing.locator('[data-param-name="status"]')
    expect(status).to_contain_text("Available values: created, attempted, paid, expired")


def test_nothing_is_sent_but_the_question_for_the_document_and_that_unsigned(
    live: str, page: Page, watch: Watch
) -> None:
    page.context.add_cookies([{"name": "session", "value": "secret", "url": live}])
    open_reference(page)
    open_samples(page)
    sent = [request for request in watch.requests if "/static/" not in request.url]
    assert [request.url.removeprefix(live) for request in sent] == [
        "/dashboard/reference",
        "/api/v1/openapi.json",
    ]
    assert "cookie" not in sent[1].all_headers()
    assert {request.method for request in watch.requests} == {"GET"}
    expect(page.get_by_role("button", name="Try it out")).to_have_count(0)
    expect(page.get_by_role("button", name="Authorize")).to_have_count(0)
    expect(page.locator("main").locator("input, textarea, form, select:visible")).to_have_count(0)
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0


def test_markup_in_the_document_stays_text(document: dict[str, Any], page: Page) -> None:
    evil = "<img src=x onerror=alert(1)><b>bold</b> `<i>code</i>`"
    document["info"]["description"] = document["tags"][0]["description"] = evil
    document["paths"] = {
        "/evil": {
            "get": {
                "summary": evil,
                "description": evil,
                "tags": [document["tags"][0]["name"]],
                "parameters": [
                    {"name": evil, "in": "query", "description": evil, "schema": {"enum": [evil]}}
                ],
                "responses": {
                    "200": {
                        "description": evil,
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "description": evil,
                                    "properties": {evil: {"const": evil}},
                                }
                            }
                        },
                    }
                },
            }
        }
    }
    page.route("**/openapi.json", lambda route: route.fulfill(json=document))
    open_reference(page)
    open_samples(page, [("GET", "/evil")])
    expect(page.locator(".opblock-description")).to_have_text(evil.replace("`", ""))
    expect(page.locator("#about")).to_contain_text("<b>bold</b>")
    expect(page.locator(".response .response-col_description")).to_contain_text("<img src=x")
    assert page.locator("main :is(img, b)").count() == 0


# --- finding one's way ---------------------------------------------------------------------------


def test_the_contents_are_filtered_and_lead_to_an_operation(page: Page) -> None:
    open_reference(page)
    page.get_by_role("searchbox", name="Filter operations").fill("POST refund")
    links = page.locator("#list li:visible li:visible a")
    expect(links).to_have_count(1)
    links.click()
    refund = operation(page, "POST", "/api/v1/payments/{payment_id}/refunds")
    expect(refund.locator(".responses-table")).to_be_visible()
    expect(refund).to_be_in_viewport()
    expect(links).to_have_attribute("aria-current", "location")
    refund.locator(".opblock-summary-control").click()
    expect(refund.locator(".responses-table")).to_have_count(0)
    links.click()
    expect(refund.locator(".responses-table")).to_be_visible()
    page.get_by_role("searchbox", name="Filter operations").fill("no such thing")
    expect(page.locator("#nothing")).to_have_text("Nothing is called so.")


def test_every_link_of_the_contents_leads_somewhere(page: Page) -> None:
    open_reference(page)
    lost = page.locator("#list a").evaluate_all(
        "links => links.map((link) => link.hash.slice(1)).filter((id) => !document.getElementById(id))"
    )
    assert lost == []


def test_an_address_leads_to_its_operation_and_back(page: Page) -> None:
    open_reference(page, "#operations-Webhook_endpoints-list_endpoints")
    listing = operation(page, "GET", "/api/v1/webhook_endpoints")
    expect(listing.locator(".responses-table")).to_be_visible()
    expect(listing).to_be_in_viewport()
    page.locator("#list a").first.click()
    expect(page.get_by_role("heading", name="Health")).to_be_in_viewport()
    page.go_back()
    expect(listing).to_be_in_viewport()


def test_the_keyboard_alone_opens_an_operation_and_its_schemas(page: Page) -> None:
    open_reference(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the operations")).to_be_focused()
    page.keyboard.press("Enter")
    focused = page.locator(":focus")
    for _ in range(2):  # the tag's own button, and its first operation's
        page.keyboard.press("Tab")
    expect(focused).to_have_class("opblock-summary-control")
    expect(focused).not_to_have_css("outline-style", "none")
    page.keyboard.press("Enter")
    health = operation(page, "GET", "/health")
    schema = health.locator(".json-schema-2020-12-accordion").first
    expect(schema).to_have_attribute("aria-expanded", "true")
    schema.focus()
    page.keyboard.press("Space")
    expect(schema).to_have_attribute("aria-expanded", "false")
    health.locator(".opblock-summary-control").focus()
    page.keyboard.press("Enter")
    expect(health.locator(".responses-table")).to_have_count(0)


def test_on_a_phone_the_contents_are_folded_until_they_are_needed(new_context: NewContext) -> None:
    page = new_context(viewport={"width": 390, "height": 800}, has_touch=True).new_page()
    open_reference(page)
    expect(page.locator("#list")).to_be_hidden()
    page.get_by_text("Find an operation").tap()
    page.get_by_role("link", name="Create an order").tap()
    expect(page.locator("#list")).to_be_hidden()
    create = operation(page, "POST", "/api/v1/orders")
    expect(create.locator(".responses-table")).to_be_visible()
    expect(create).to_be_in_viewport()


# --- how it looks --------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [(390, "light"), (320, "dark"), (1280, "light"), (1280, "dark")])
def test_everything_can_be_read_by_everybody_at_any_width_in_light_and_dark(
    new_context: NewContext, look: tuple[int, Any]
) -> None:
    """Operations of every kind open, with schemas and an example. Nothing is excepted from axe-core."""
    page = new_context(viewport={"width": look[0], "height": 800}, color_scheme=look[1]).new_page()
    open_reference(page)
    open_samples(page)
    page.get_by_role("tab", name="Example Value").first.click()
    page.locator(".models-control").click()
    page.locator(".models .json-schema-2020-12-accordion").first.click()
    assert not page.evaluate(SCROLLS_SIDEWAYS)
    assert axe(page) == []


def test_it_becomes_dark_with_the_system(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    open_reference(page)
    card = page.locator(".opblock").first
    expect(card).to_have_css("background-color", "rgb(255, 255, 255)")
    page.emulate_media(color_scheme="dark")
    expect(card).to_have_css("background-color", "rgb(22, 27, 34)")
    expect(page.locator("html")).to_have_css("background-color", "rgb(14, 17, 22)")


# --- when something is wrong ---------------------------------------------------------------------


def test_a_document_that_does_not_come_is_said_so_and_asked_for_again(page: Page, watch: Watch) -> None:
    def refuse(route: Route) -> None:
        route.fulfill(status=503, json={})

    page.route("**/openapi.json", refuse)
    page.goto("/dashboard/reference")
    expect(page.locator("#state")).to_contain_text("The reference could not be loaded.")
    assert axe(page) == []
    watch.allow("status of 503", "The answer was 503.")
    page.unroute("**/openapi.json")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".opblock").first).to_be_visible()
    expect(page.locator("#state")).to_be_empty()


def test_a_viewer_that_does_not_come_is_said_so(page: Page, watch: Watch) -> None:
    page.route("**/swagger-ui-bundle.js*", lambda route: route.abort())
    page.goto("/dashboard/reference")
    expect(page.locator("#state")).to_contain_text("The reference could not be loaded.")
    watch.allow("ERR_FAILED")
    watch.wait_for(page, "Swagger UI did not come.")
