"""One app on three ports: each answers `/` in its own way. And the headers of the pages on which one pays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from werkzeug.test import TestResponse

from config import ROOT
from models.base import db
from models.merchants import Merchant
from models.orders import Order
from tests.conftest import Api, made


@pytest.mark.parametrize(
    ("port", "title"), [(3000, "Dashboard"), (3001, "Checkout")], ids=["dashboard", "checkout"]
)
def test_a_pages_port_answers_with_its_page(app: Flask, port: int, title: str) -> None:
    client = app.test_client()
    page = client.get("/", base_url=f"http://localhost:{port}", buffered=True)
    assert page.status_code == 200
    assert f"<title>{title}" in page.text
    assert client.get(f"/{title.lower()}/", buffered=True).text == page.text
    for link in re.findall(r'(?:href|src)="(/[^"]+)"', page.text):
        assert client.get(link, buffered=True).status_code == 200, link


def test_the_main_port_leads_to_the_api_description(app: Flask) -> None:
    answer = app.test_client().get("/", base_url="http://localhost:8000")
    assert (answer.status_code, answer.location) == (302, "/api/v1/openapi.json")


# --- the headers of a page on which one pays -----------------------------------------------------


def checkout(app: Flask, order_id: str = "order_x") -> TestResponse:
    return app.test_client().get("/checkout", query_string={"order_id": order_id}, buffered=True)


def policy(page: TestResponse) -> dict[str, str]:
    """The Content-Security-Policy, by directive."""
    directives = page.headers["Content-Security-Policy"].split("; ")
    return {name: rest for name, _, rest in (directive.partition(" ") for directive in directives)}


@pytest.fixture
def in_production(app: Flask) -> Iterator[None]:
    before = app.config["GATEWAY"]
    app.config["GATEWAY"] = replace(before, app_env="production")
    yield
    app.config["GATEWAY"] = before


@pytest.fixture
def merchant(app: Flask) -> Iterator[None]:
    """A merchant with a logo and two sites."""
    facts = {
        "logo_url": "https://cdn.example/a b;script-src *,x/logo.png?v=1",
        "frame_origins": ["https://shop.example", "https://www.shop.example"],
    }
    change(app, **facts)
    yield
    change(app, logo_url=None, frame_origins=[])


def change(app: Flask, **facts: object) -> None:
    with app.app_context():
        for name, value in facts.items():
            setattr(db.session.get_one(Merchant, "mer_TestMerchant0001"), name, value)
        db.session.commit()


@pytest.mark.parametrize("path", ["/checkout", "/checkout/", "/sim/upi/pay_x"])
def test_nothing_runs_or_loads_on_a_page_but_our_own_files(app: Flask, path: str) -> None:
    page = app.test_client().get(path, buffered=True)
    said = policy(page)
    assert said["default-src"] == said["base-uri"] == said["form-action"] == "'none'"
    assert said["script-src"] == said["style-src"] == said["connect-src"] == "'self'"
    assert said["img-src"] == "'self' data:"
    assert said["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("folder", ["checkout", "sim"])
def test_a_page_has_no_script_style_or_handler_of_its_own(folder: str) -> None:
    page = (ROOT / "static" / folder / "index.html").read_text()
    assert "<style" not in page
    assert re.findall(r"<script(?![^>]* src=)", page) == []
    assert re.findall(r"\s(?:style|on\w+)=", page) == []
    for script in (ROOT / "static" / folder).glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", script.read_text()
        )


def test_locally_any_site_may_frame_the_checkout(app: Flask, api: Api) -> None:
    assert "frame-ancestors" not in policy(checkout(app, api.order()["id"]))


def test_in_production_only_the_sites_that_the_merchant_lists(
    app: Flask, api: Api, other: Api, in_production: None, merchant: None
) -> None:
    listed = "https://shop.example https://www.shop.example"
    assert policy(checkout(app, api.order()["id"]))["frame-ancestors"] == listed
    assert policy(checkout(app, other.order()["id"]))["frame-ancestors"] == "'none'"
    assert policy(checkout(app))["frame-ancestors"] == "'none'"


def test_nobody_may_frame_the_simulated_phone(app: Flask) -> None:
    assert policy(app.test_client().get("/sim/upi/pay_x", buffered=True))["frame-ancestors"] == "'none'"


def test_a_logo_may_come_from_where_it_is_and_can_say_nothing_else(
    app: Flask, api: Api, merchant: None
) -> None:
    said = policy(checkout(app, api.order()["id"]))
    assert said["img-src"] == "'self' data: https://cdn.example/a%20b%3Bscript-src%20%2A%2Cx/logo.png"
    assert said["script-src"] == "'self'"


@pytest.mark.parametrize("order_id", ["", "order_x", "\0", "%00", "x" * 3000, "💥"])
def test_a_page_is_served_whatever_the_order(app: Flask, order_id: str) -> None:
    assert checkout(app, order_id).status_code == 200


def test_a_page_is_served_while_the_database_is_away(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_order_id: str) -> Order:
        raise OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr(Order, "public", gone)
    assert checkout(app).status_code == 200


# --- the files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/checkout.js", "/sdk/checkout.js", "/sdk/checkout.d.ts"])
def test_the_sdk_is_for_every_site(app: Flask, path: str) -> None:
    answer = app.test_client().get(path, buffered=True)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "max-age=300" in answer.headers["Cache-Control"]


def test_the_example_shop_is_there_with_the_test_merchant_alone(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/sdk/example.html", buffered=True).status_code == 200
    before = app.config["GATEWAY"]
    app.config["GATEWAY"] = replace(before, test_endpoints=False)
    try:
        assert client.get("/sdk/example.html", buffered=True).status_code == 404
        assert client.get("/sdk/checkout.js", buffered=True).status_code == 200
    finally:
        app.config["GATEWAY"] = before


@pytest.mark.parametrize(
    "path", ["/sdk/..%2fapp.py", "/static/checkout/..%2f..%2fapp.py", "/sdk/none", "/static/sim/"]
)
def test_no_other_file_is_served(app: Flask, path: str) -> None:
    assert app.test_client().get(path, buffered=True).status_code == 404


# --- what the page is told of an order -----------------------------------------------------------


def public(app: Flask, order_id: str, **query: str) -> TestResponse:
    return app.test_client().get(f"/api/v1/orders/{order_id}/public", query_string=query)


def test_the_latest_payment_is_told(app: Flask, api: Api) -> None:
    order_id = api.order()["id"]
    assert public(app, order_id).get_json()["payment"] is None
    body = {"order_id": order_id, "method": "upi", "vpa": "success@upi"}
    payment = made(app.test_client().post("/api/v1/payments/public", json=body))
    assert public(app, order_id).get_json()["payment"] == payment


def test_a_key_has_to_be_one_of_the_orders_merchant(app: Flask, api: Api, other: Api) -> None:
    order_id = api.order()["id"]
    assert public(app, order_id, key="key_test_abc123").status_code == 200
    for key in ("key_other", "key_of_nobody", ""):
        answer = public(app, order_id, key=key)
        assert (answer.status_code, answer.get_json()["error"]["field"]) == (401, "key")


def test_a_revoked_key_is_none(app: Flask, api: Api, other: Api) -> None:
    order_id = other.order()["id"]
    assert public(app, order_id, key="key_other").status_code == 200
    with app.app_context():
        db.session.execute(text("UPDATE api_keys SET revoked_at = now() WHERE id = 'key_other'"))
        db.session.commit()
    assert public(app, order_id, key="key_other").status_code == 401


def test_a_page_may_ask_for_another_accent(app: Flask, api: Api) -> None:
    order_id = api.order()["id"]
    assert public(app, order_id, color="#FFDD00").get_json()["accent"]["brand"] == "#ffdd00"
    answer = public(app, order_id, color="red")
    assert (answer.status_code, answer.get_json()["error"]["field"]) == (400, "color")
