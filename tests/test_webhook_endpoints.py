"""Webhook endpoints: made, changed and deleted; their secrets."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from models.base import db
from tests.conftest import Api, found, refused


def test_an_endpoint_is_made_read_changed_and_deleted(api: Api) -> None:
    endpoint = api.endpoint("https://shop.example/hook")
    assert endpoint["events"] == ["*"]
    assert endpoint["secret"].startswith("whsec_")
    path = f"/webhook_endpoints/{endpoint['id']}"
    assert "secret" not in found(api.get(path))
    changed = found(
        api.patch(path, {"events": ["order.paid"], "url": "http://shop.example/", "enabled": False})
    )
    assert (changed["events"], changed["url"], changed["enabled"]) == (
        ["order.paid"],
        "http://shop.example/",
        False,
    )
    assert api.delete(path).status_code == 204
    refused(api.get(path), 404, "NOT_FOUND_ERROR")
    assert found(api.get("/webhook_endpoints"))["data"] == []


def test_another_merchants_endpoint_is_not_found(api: Api, other: Api) -> None:
    path = f"/webhook_endpoints/{api.endpoint('https://shop.example/hook')['id']}"
    for response in (other.get(path), other.patch(path, {"enabled": False}), other.delete(path)):
        refused(response, 404, "NOT_FOUND_ERROR")


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"url": None}, "url"),
        ({"url": "shop.example"}, "url"),
        ({"url": "ftp://shop.example/"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "http://user:pw@shop.example/"}, "url"),
        ({"url": "http://shop.example/ x"}, "url"),
        ({"url": "http://shop.example:99999/"}, "url"),
        ({"url": "http://a..b/"}, "url"),
        ({"url": "http://" + "a" * 64 + ".example/"}, "url"),
        ({"url": "https://shop.example/" + "x" * 2048}, "url"),
        ({"events": []}, "events"),
        ({"events": ["payment.lost"]}, "events.0"),
        ({"events": "*"}, "events"),
        ({"events": ["*", "*"]}, "events"),
        ({"enabled": "perhaps"}, "enabled"),
    ],
)
def test_a_wrong_endpoint_is_refused(api: Api, facts: dict[str, Any], field: str) -> None:
    body = {"url": "https://shop.example/"} | facts
    refused(api.post("/webhook_endpoints", body), 400, "BAD_REQUEST_ERROR", field)


def test_a_merchant_has_a_limited_number_of_endpoints(api: Api) -> None:
    for _ in range(16):
        api.endpoint("https://shop.example/hook")
    refused(api.post("/webhook_endpoints", {"url": "https://shop.example/"}), 400, "BAD_REQUEST_ERROR")


def test_the_secret_is_not_readable_in_the_database(app: Flask, api: Api) -> None:
    secret = api.endpoint("https://shop.example/hook")["secret"]
    with app.app_context():
        stored = bytes(db.session.scalar(text("SELECT secret_encrypted FROM webhook_endpoints")) or b"")
    assert stored
    assert secret.encode() not in stored
