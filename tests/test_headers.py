"""The security headers: on every answer of every address, the refusals and failures included."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from app import MAX_BODY_BYTES, create_app
from models.base import db
from models.orders import Order
from tests.conftest import PRODUCTION, Api, Dashboard, drain_all, made, settings_of

NEVER_SHARED = "Cross-Origin-Resource-Policy"
CLOSED = {"default-src": ["'none'"], "frame-ancestors": ["'none'"]}

# What stands in an address for each of its parts, if the id of something that exists does not.
EXAMPLES = {
    "instance_number": "0",
    "queue_name": "payments",
    "registry_name": "failed",
    "per_page": 5,
    "order": "asc",
    "page": 1,
    "filename": "css/main.css",
    "token": "a" * 32,
    "name": "checkout.js",
}


def policy(answer: TestResponse) -> dict[str, list[str]]:
    directives = answer.headers["Content-Security-Policy"].split("; ")
    return {name: sources.split() for name, _, sources in (each.partition(" ") for each in directives)}


def assert_protected(answer: TestResponse, what: object) -> None:
    headers = answer.headers
    names = [name.lower() for name in headers.keys()]  # noqa: SIM118 (all of them, repeated ones too)
    assert len(set(names) - {"set-cookie"}) == len([each for each in names if each != "set-cookie"]), what
    assert headers["X-Content-Type-Options"] == "nosniff", what
    assert headers["Referrer-Policy"] in ("no-referrer", "same-origin"), what
    assert headers["Cache-Control"], what
    assert headers["X-Request-Id"], what
    assert headers[NEVER_SHARED] in ("same-origin", "cross-origin"), what
    assert policy(answer)["default-src"][0] in ("'none'", "'self'"), what
    if answer.text.lower().startswith("<!doctype html>") and policy(answer) != CLOSED:
        assert "camera=()" in headers["Permissions-Policy"], what
        assert "Cross-Origin-Opener-Policy" in headers, what


def examples_of(api: Api) -> dict[str, str]:
    payment = api.paid()
    return {"payment_id": payment["id"], "order_id": payment["order_id"]}


def addresses(app: Flask, examples: dict[str, str]) -> Iterator[tuple[str, str, Rule]]:
    """Each method of each; what signs out comes last."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: "session" in rule.rule):
        if rule.build_only:
            continue
        chosen = {name: examples.get(name) or EXAMPLES.get(name, "none" * 4) for name in rule.arguments}
        built = rule.build(chosen | dict(rule.defaults or {}))
        assert built, rule
        for method in sorted(rule.methods or ()):
            yield method, built[1], rule


def test_every_answer_of_every_address_has_them(app: Flask, api: Api, dashboard: Dashboard) -> None:
    examples, statuses, rules = examples_of(api), set(), set()
    for client, headers in ((app.test_client(), {}), (dashboard._client, dashboard.headers)):
        for method, path, rule in addresses(app, examples):
            answer = client.open(path, method=method, headers=headers, buffered=True)
            assert_protected(answer, (method, path))
            statuses.add(answer.status_code)
            rules.add(rule.rule)
    assert len(rules) > 80
    assert statuses >= {200, 201, 204, 302, 400, 401, 403, 404, 409}, statuses


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing/here", 404),
        ("GET", "/api/v1/nothing", 404),
        ("PUT", "/api/v1/orders", 405),
        ("GET", "/checkout.js/", 404),
        ("GET", "/inbox/short", 404),
        ("GET", "/dashboard", 308),
        ("GET", "/", 302),
    ],
)
def test_what_is_at_no_address_has_them(app: Flask, method: str, path: str, status: int) -> None:
    answer = app.test_client().open(path, method=method)
    assert answer.status_code == status
    assert_protected(answer, path)
    assert policy(answer) == CLOSED


def test_a_body_that_is_too_large_or_no_json_has_them(app: Flask, api: Api) -> None:
    client = app.test_client()
    for body, status in ((b"x" * (MAX_BODY_BYTES + 1), 413), (b"{", 400), (b"<a>", 415)):
        media = "text/xml" if status == 415 else "application/json"
        answer = client.post("/api/v1/orders", data=body, content_type=media, headers=api.headers)
        assert answer.status_code == status
        assert_protected(answer, status)


@pytest.mark.parametrize(
    ("failure", "status"), [(RuntimeError(), 500), (OperationalError("", {}, Exception("gone")), 503)]
)
def test_a_failure_of_ours_has_them(
    app: Flask, api: Api, monkeypatch: pytest.MonkeyPatch, failure: Exception, status: int
) -> None:
    def fail(*_args: object, **_facts: object) -> Order:
        raise failure

    monkeypatch.setattr(Order, "of_merchant", fail)
    monkeypatch.setattr(Order, "public", fail)
    answer = app.test_client().get("/api/v1/orders/order_1234567890abcdef/public")
    assert answer.status_code == status
    assert_protected(answer, status)


def test_other_sites_may_load_the_sdk_and_a_qr_code_and_nothing_else(app: Flask, api: Api) -> None:
    payment = made(api.post("/payments", {"order_id": api.order()["id"], "method": "upi", "flow": "qr"}))
    drain_all()
    shared = {"/checkout.js", "/sdk/checkout.js", f"/api/v1/payments/{payment['id']}/public/qr.svg"}
    client = app.test_client()
    for path in shared:
        answer = client.get(path, buffered=True)
        assert (answer.status_code, answer.headers[NEVER_SHARED]) == (200, "cross-origin"), path
    for path in (
        "/checkout",
        "/static/checkout/checkout.js",
        "/login",
        f"/api/v1/payments/{payment['id']}/public",
    ):
        answer = client.get(path, buffered=True)
        assert (answer.status_code, answer.headers[NEVER_SHARED]) == (200, "same-origin"), path


def test_only_a_shops_window_keeps_hold_of_a_page_of_ours(app: Flask) -> None:
    client = app.test_client()
    for path, said in (
        ("/checkout", "unsafe-none"),
        ("/login", "same-origin"),
        ("/sim/upi/pay_x", "same-origin"),
    ):
        assert client.get(path, buffered=True).headers["Cross-Origin-Opener-Policy"] == said


def test_a_page_that_is_fetched_as_a_file_is_dead(app: Flask) -> None:
    """Its own address sets the policy; the file's has none that would let it run, or be framed."""
    for folder in ("checkout", "sim", "dashboard"):
        answer = app.test_client().get(f"/static/{folder}/index.html", buffered=True)
        assert policy(answer) == CLOSED


def test_in_production_a_browser_is_told_to_stay_with_tls(app: Flask, environ: dict[str, str]) -> None:
    its_app = create_app(settings_of(PRODUCTION | environ))
    try:
        for path in ("/checkout", "/health", "/nothing"):
            answer = its_app.test_client().get(path, buffered=True)
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
            assert_protected(answer, path)
    finally:
        with its_app.app_context():
            db.engine.dispose()
    assert "Strict-Transport-Security" not in app.test_client().get("/health").headers
