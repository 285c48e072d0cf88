"""One app on three ports: each answers `/` in its own way."""

from __future__ import annotations

import re

import pytest
from flask import Flask


@pytest.mark.parametrize(
    ("port", "title"), [(3000, "Dashboard"), (3001, "Checkout")], ids=["dashboard", "checkout"]
)
def test_a_pages_port_answers_with_its_page(app: Flask, port: int, title: str) -> None:
    client = app.test_client()
    page = client.get("/", base_url=f"http://localhost:{port}", buffered=True)
    assert page.status_code == 200
    assert f"<title>{title}" in page.text
    assert client.get(f"/{title.lower()}/", buffered=True).text == page.text
    for link in re.findall(r'href="(/[^"]+)"', page.text):
        assert client.get(link, buffered=True).status_code == 200, link


def test_the_main_port_leads_to_the_api_description(app: Flask) -> None:
    answer = app.test_client().get("/", base_url="http://localhost:8000")
    assert (answer.status_code, answer.location) == (302, "/api/v1/openapi.json")


def test_the_checkout_address_of_an_order_answers(app: Flask) -> None:
    assert app.test_client().get("/checkout?order_id=order_x", buffered=True).status_code == 200
