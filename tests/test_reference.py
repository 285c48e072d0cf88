"""The API reference: the page, and which files of the package that draws it are served, and how."""

from __future__ import annotations

import gzip
import re

import pytest
from flask import Flask

from config import ROOT
from routes.reference import VERSION, VIEWER

OURS = ROOT / "static/reference"


def test_nothing_runs_or_loads_on_the_page_but_our_own_files(app: Flask) -> None:
    page = app.test_client().get("/dashboard/reference")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    policy = page.headers["Content-Security-Policy"].split("; ")
    for directive in (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    ):
        assert directive in policy
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_names_no_other_host_and_all_that_it_names_is_there(app: Flask) -> None:
    client = app.test_client()
    page = client.get("/dashboard/reference").text
    for text in (page, (OURS / "reference.js").read_text(), (OURS / "reference.css").read_text()):
        assert re.findall(r"(?:https?:)?//[\w*]", text) == []
        assert "{version}" not in text
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(files) == 4
    for path in (*files, "/api/v1/openapi.json"):
        assert client.get(path, buffered=True).status_code == 200, path


def test_the_page_has_no_script_style_or_handler_of_its_own_and_makes_no_html_of_text() -> None:
    page = (OURS / "index.html").read_text()
    assert "<style" not in page
    assert re.findall(r"<script(?![^>]* src=)", page) == []
    assert re.findall(r"\s(?:style|on\w+)=", page) == []
    script = (OURS / "reference.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|InnerHTML|document\.write|\beval\b", script)


@pytest.mark.parametrize(
    ("name", "mimetype"), [("swagger-ui-bundle.js", "text/javascript"), ("swagger-ui.css", "text/css")]
)
def test_the_viewers_files_are_those_of_the_package_and_compressed_for_who_can_read_it(
    app: Flask, name: str, mimetype: str
) -> None:
    client = app.test_client()
    path = f"/static/reference/{name}?v={VERSION}"
    plain, zipped = (
        client.get(path, headers={"Accept-Encoding": coding}) for coding in ("identity", "gzip, br")
    )
    assert plain.data == gzip.decompress(zipped.data) == (VIEWER / name).read_bytes()
    assert "Content-Encoding" not in plain.headers
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert plain.headers["ETag"] != zipped.headers["ETag"]
    for answer in (plain, zipped):
        assert answer.mimetype == mimetype
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("query", ["", "?v=", "?v=0.0.1"])
def test_a_file_that_was_not_asked_for_by_its_version_is_asked_for_again(app: Flask, query: str) -> None:
    client = app.test_client()
    path = f"/static/reference/swagger-ui.css{query}"
    answer = client.get(path)
    assert answer.headers["Cache-Control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize(
    "name",
    [
        "swagger-ui.js",
        "swagger-ui-standalone-preset.js",
        "oauth2-redirect.html",
        "oauth2-redirect.js",
        "index.css",
        "index.html",
        "VERSION",
        "..%2f__init__.py",
        "..%2fapp.py",
        "",
    ],
)
def test_nothing_else_is_served(app: Flask, name: str) -> None:
    assert app.test_client().get(f"/static/reference/{name}", buffered=True).status_code == 404


def test_the_licence_of_the_viewer_is_served(app: Flask) -> None:
    answer = app.test_client().get("/static/reference/LICENSE", headers={"Accept-Encoding": "identity"})
    assert "Apache License" in answer.text
