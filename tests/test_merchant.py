"""The merchant: who it is, what its checkout looks like, which sites may frame it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text

from models.audit import AuditEntry
from models.base import db
from models.colours import accent
from tests.conftest import Api, found, refused


@pytest.fixture(autouse=True)
def as_it_was(app: Flask) -> Iterator[None]:
    """The test merchant outlives a test: give it back its own face."""
    yield
    with app.app_context():
        db.session.execute(
            text(
                "UPDATE merchants SET name = 'Test Merchant', logo_url = NULL, accent_color = NULL, "
                "frame_origins = '{}'"
            )
        )
        db.session.commit()


def test_a_merchant_sees_itself(api: Api) -> None:
    assert found(api.get("/merchant")) == {
        "id": "mer_TestMerchant0001",
        "name": "Test Merchant",
        "email": "test@example.com",
        "role": "operator",
        "logo_url": None,
        "accent_color": None,
        "frame_origins": [],
    }


def test_it_changes_what_is_named_and_nothing_else(app: Flask, api: Api) -> None:
    face = {
        "name": "Asha's Books",
        "logo_url": "https://cdn.example/logo.png",
        "accent_color": "#0b7a4b",
        "frame_origins": ["https://shop.example", "http://localhost:5000"],
    }
    before = found(api.get("/merchant"))
    assert found(api.patch("/merchant", face)) == before | face
    assert found(api.patch("/merchant", {"accent_color": "#AABBCC"})) == before | face | {
        "accent_color": "#aabbcc"
    }
    assert found(api.patch("/merchant", {"logo_url": None, "email": "x@y.example"}))["logo_url"] is None
    assert found(api.get("/merchant"))["email"] == "test@example.com"
    with app.app_context():
        actions = db.session.scalars(select(AuditEntry.action)).all()
    assert actions == ["merchant.changed"] * 3


def test_the_checkout_shows_its_face_and_nothing_else_of_it(app: Flask, api: Api) -> None:
    found(api.patch("/merchant", {"accent_color": "#0b7a4b", "frame_origins": ["https://shop.example"]}))
    shown = found(app.test_client().get(f"/api/v1/orders/{api.order()['id']}/public"))
    assert shown["merchant"] == {"name": "Test Merchant", "logo_url": None}
    assert shown["accent"] == accent("#0b7a4b")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": None}, "name"),
        ({"logo_url": "javascript:alert(1)"}, "logo_url"),
        ({"logo_url": "https://exämple.example/x.png"}, "logo_url"),
        ({"logo_url": "https://a.example;script-src/x.png"}, "logo_url"),
        ({"accent_color": "red"}, "accent_color"),
        ({"accent_color": "#fff"}, "accent_color"),
        ({"accent_color": "#0b7a4b; x"}, "accent_color"),
        ({"frame_origins": ["shop.example"]}, "frame_origins.0"),
        ({"frame_origins": ["https://shop.example/path"]}, "frame_origins.0"),
        ({"frame_origins": ["https://*.example"]}, "frame_origins.0"),
        ({"frame_origins": ["https://a.example", "https://b.example; script-src *"]}, "frame_origins.1"),
        ({"frame_origins": ["https://a.example", "https://A.example:443"]}, "frame_origins"),
        ({"frame_origins": [f"https://{n}.example" for n in range(33)]}, "frame_origins"),
        ({"frame_origins": "https://shop.example"}, "frame_origins"),
        ({"frame_origins": None}, "frame_origins"),
    ],
)
def test_it_refuses_what_is_wrong(api: Api, body: dict[str, Any], field: str) -> None:
    before = found(api.get("/merchant"))
    refused(api.patch("/merchant", {"accent_color": "#000000"} | body), 400, "BAD_REQUEST_ERROR", field)
    assert found(api.get("/merchant")) == before


def test_an_origin_is_kept_as_browsers_write_it(api: Api) -> None:
    given = ["HTTPS://Shop.Example:443", "http://127.0.0.1:5000", "http://[::1]:80"]
    kept = found(api.patch("/merchant", {"frame_origins": given}))["frame_origins"]
    assert kept == ["https://shop.example", "http://127.0.0.1:5000", "http://[::1]"]


def test_a_merchant_changes_itself_alone(api: Api, other: Api) -> None:
    found(other.patch("/merchant", {"name": "Another"}))
    assert found(api.get("/merchant"))["name"] == "Test Merchant"


def test_without_a_key_there_is_nothing_to_see(app: Flask) -> None:
    refused(app.test_client().get("/api/v1/merchant"), 401, "AUTHENTICATION_ERROR")
    refused(app.test_client().patch("/api/v1/merchant", json={}), 401, "AUTHENTICATION_ERROR")
