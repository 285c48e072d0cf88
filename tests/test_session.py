"""Signing in to the dashboard and out of it: who gets in, how often one may try, and when it is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextvars import Context
from http.cookies import Morsel, SimpleCookie
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from flask import Flask
from sqlalchemy import event, text
from werkzeug.test import TestResponse

from app import create_app
from jobs import clock
from models import passwords
from models.base import db
from models.merchants import TEST_EMAIL, TEST_MERCHANT_ID, TEST_PASSWORD, Merchant
from models.sessions import USER_AGENT_MAX_LENGTH
from routes.session import SIGNED_IN_COOKIE
from tests.conftest import (
    OTHER_EMAIL,
    OTHER_MERCHANT_ID,
    OTHER_PASSWORD,
    PRODUCTION,
    QUICK_HASHER,
    Api,
    Dashboard,
    at_once,
    found,
    in_sql,
    made,
    refused,
    settings_of,
    stored,
)

ACCOUNT_MAX, ADDRESS_MAX, WINDOW_S = 10, 50, 1800
HOME, ELSEWHERE = "198.51.100.7", "203.0.113.9"


def sign_in(
    app: Flask,
    email: Any = OTHER_EMAIL,
    password: Any = OTHER_PASSWORD,
    address: str = HOME,
    **headers: str,
) -> TestResponse:
    """As a browser that comes for the first time."""
    return Context().run(
        app.test_client().post,
        "/api/v1/session",
        json={"email": email, "password": password},
        headers=headers,
        environ_base={"REMOTE_ADDR": address},
    )


def cookies_of(answer: TestResponse) -> dict[str, Morsel]:
    cookies = [SimpleCookie(header) for header in answer.headers.getlist("Set-Cookie")]
    return {name: morsel for cookie in cookies for name, morsel in cookie.items()}


def cookie_of(answer: TestResponse) -> Morsel:
    """The session's."""
    [cookie] = [cookie for name, cookie in cookies_of(answer).items() if name.endswith("gateway_session")]
    return cookie


def look(app: Flask, token: str, path: str = "/session") -> TestResponse:
    """As whoever has this cookie."""
    client = app.test_client()
    client.set_cookie("gateway_session", token)
    return Context().run(client.get, "/api/v1" + path)


def with_cookies(app: Flask, header: str, path: str = "/session") -> TestResponse:
    """As whoever sends this Cookie header."""
    client = app.test_client(use_cookies=False)
    return Context().run(client.get, "/api/v1" + path, headers={"Cookie": header})


def not_signed_in(answer: TestResponse) -> None:
    assert refused(answer, 401, "AUTHENTICATION_ERROR")["reason"] == "not_signed_in"


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that passwords were checked against."""
    hashes: list[str] = []
    real = PasswordHasher.verify

    def verify(self: PasswordHasher, hashed: str, password: str) -> bool:
        hashes.append(hashed)
        return real(self, hashed, password)

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    return hashes


@pytest.fixture
def elsewhere(app: Flask, environ: dict[str, str]) -> Iterator[Flask]:
    """The same gateway, as it runs in production."""
    elsewhere = create_app(settings_of(environ | PRODUCTION))
    yield elsewhere
    with elsewhere.app_context():
        db.engine.dispose()


# --- signing in ----------------------------------------------------------------------------------


def test_the_password_signs_in(app: Flask) -> None:
    answer = sign_in(app, TEST_EMAIL, TEST_PASSWORD, **{"User-Agent": "Firefox/999"})
    signed_in = made(answer)
    assert signed_in["merchant"]["id"] == TEST_MERCHANT_ID
    assert (signed_in["merchant"]["email"], signed_in["merchant"]["role"]) == (TEST_EMAIL, "operator")
    session = signed_in["session"]
    assert (session["address"], session["user_agent"]) == (HOME, "Firefox/999")
    assert session["created_at"] == session["seen_at"] < session["expires_at"]
    assert (signed_in["simulated"], signed_in["test_merchant"]) == (True, True)
    assert len(signed_in["csrf_token"]) == 64
    assert answer.headers["Cache-Control"] == "no-store"
    assert found(look(app, cookie_of(answer).value)) == signed_in


def test_an_ordinary_merchant_signs_in_whatever_the_case_of_its_email(app: Flask, other: Api) -> None:
    signed_in = made(sign_in(app, "OTHER@Example.COM"))
    assert signed_in["merchant"]["id"] == OTHER_MERCHANT_ID
    assert (signed_in["merchant"]["role"], signed_in["test_merchant"]) == ("merchant", False)
    assert "password" not in str(signed_in)


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(app: Flask, other: Api) -> None:
    cookie = cookie_of(sign_in(app))
    assert cookie.key == "gateway_session"
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert (cookie["domain"], cookie["secure"], cookie["max-age"]) == ("", "", str(12 * 3600))
    assert len(cookie.value) >= 43  # 256 bits


def test_in_production_it_is_sent_by_tls_alone_and_to_this_very_host(elsewhere: Flask, other: Api) -> None:
    answer = sign_in(elsewhere)
    cookie = cookie_of(answer)
    assert cookie.key == "__Host-gateway_session"
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert (cookie["domain"], cookie["secure"]) == ("", True)
    assert made(answer)["test_merchant"] is False
    client = elsewhere.test_client()
    client.set_cookie("gateway_session", cookie.value)  # the name without its prefix is nobody's
    not_signed_in(client.get("/api/v1/session"))
    spec = found(elsewhere.test_client().get("/api/v1/openapi.json"))
    assert spec["components"]["securitySchemes"]["Session"]["name"] == cookie.key


@pytest.mark.parametrize("production", [False, True], ids=["here", "in production"])
def test_beside_it_the_page_gets_one_that_says_no_more_than_that_somebody_is_signed_in(
    app: Flask, elsewhere: Flask, other: Api, production: bool
) -> None:
    answer = sign_in(elsewhere if production else app)
    cookies = cookies_of(answer)
    assert set(cookies) == {cookie_of(answer).key, SIGNED_IN_COOKIE}
    hint = cookies[SIGNED_IN_COOKIE]
    assert (hint.value, hint["max-age"], hint["path"]) == ("1", str(12 * 3600), "/")
    assert (hint["httponly"], hint["samesite"], hint["secure"]) == ("", "Strict", production or "")


def test_every_sign_in_is_another_session_with_tokens_of_its_own(app: Flask, other: Api) -> None:
    answers = [sign_in(app) for _ in range(3)]
    assert len({cookie_of(answer).value for answer in answers}) == 3
    assert len({made(answer)["csrf_token"] for answer in answers}) == 3
    assert len({made(answer)["session"]["id"] for answer in answers}) == 3


def test_signing_in_again_ends_the_session_that_the_browser_had(app: Flask, dashboard: Dashboard) -> None:
    elsewhere = Dashboard(app)
    before = dashboard.token
    dashboard.sign_in()
    assert dashboard.token != before
    not_signed_in(look(app, before))
    found(dashboard.get("/session"))
    found(elsewhere.get("/session"))


def test_so_does_signing_in_as_another_merchant(app: Flask, other: Api, dashboard: Dashboard) -> None:
    before = dashboard.token
    dashboard.sign_in(OTHER_EMAIL, OTHER_PASSWORD)
    not_signed_in(look(app, before))
    assert found(dashboard.get("/merchant"))["email"] == OTHER_EMAIL


def test_a_failed_sign_in_leaves_the_browser_as_it_was(dashboard: Dashboard) -> None:
    refused(
        dashboard.post("/session", {"email": TEST_EMAIL, "password": "wrong"}), 401, "AUTHENTICATION_ERROR"
    )
    found(dashboard.get("/session"))


def test_what_is_stored_signs_nobody_in(app: Flask, dashboard: Dashboard, other: Api) -> None:
    refused(sign_in(app, OTHER_EMAIL, "a-mistyped-password"), 401, "AUTHENTICATION_ERROR")
    csrf_token = dashboard.headers["X-CSRF-Token"]
    everything = str(stored(app))
    assert TEST_EMAIL in everything
    for secret in (dashboard.token, csrf_token, TEST_PASSWORD, "a-mistyped-password"):
        assert secret not in everything
        assert secret.encode().hex() not in everything
    assert csrf_token not in everything.replace("\\x", "")


@pytest.mark.parametrize("agent", ["x" * 10_000, "a\0b", "Ünïcödé", ""])
def test_any_browser_may_be_used(app: Flask, other: Api, agent: str) -> None:
    session = made(sign_in(app, **{"User-Agent": agent}))["session"]
    assert session["user_agent"] == agent.replace("\0", "")[:USER_AGENT_MAX_LENGTH]


# --- who does not get in -------------------------------------------------------------------------


def test_a_wrong_password_and_an_unknown_email_are_told_alike(
    app: Flask, other: Api, verified: list[str]
) -> None:
    in_sql(app, "UPDATE merchants SET password_hash = NULL WHERE id = :id", id=OTHER_MERCHANT_ID)
    wrong, unknown, without = (
        sign_in(app, email, "a-wrong-password") for email in (TEST_EMAIL, "nobody@example.com", OTHER_EMAIL)
    )
    errors = [refused(answer, 401, "AUTHENTICATION_ERROR") for answer in (wrong, unknown, without)]
    for error in errors:
        error.pop("request_id")
    assert errors[0] == errors[1] == errors[2]
    assert [set(dict(answer.headers)) for answer in (unknown, without)] == [set(dict(wrong.headers))] * 2
    # The same work each time: one check, of a hash that takes as long.
    assert len(verified) == 3
    assert extract_parameters(verified[1]) == extract_parameters(verified[0])
    assert extract_parameters(verified[2]) == extract_parameters(verified[0])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "email"),
        ({"password": "x"}, "email"),
        ({"email": TEST_EMAIL}, "password"),
        ({"email": None, "password": "x"}, "email"),
        ({"email": "", "password": "x"}, "email"),
        ({"email": ["x"], "password": "x"}, "email"),
        ({"email": {"$ne": ""}, "password": "x"}, "email"),
        ({"email": 12, "password": "x"}, "email"),
        ({"email": "x" * 321, "password": "x"}, "email"),
        ({"email": "a\0@example.com", "password": "x"}, "email"),
        ({"email": "\ud800@example.com", "password": "x"}, "email"),
        ({"email": TEST_EMAIL, "password": ""}, "password"),
        ({"email": TEST_EMAIL, "password": True}, "password"),
        ({"email": TEST_EMAIL, "password": "x" * 1025}, "password"),
        ({"email": TEST_EMAIL, "password": "a\0b"}, "password"),
        ({"email": TEST_EMAIL, "password": "\udfff"}, "password"),
    ],
)
def test_it_refuses_what_is_no_email_or_password(
    app: Flask, verified: list[str], body: dict, field: str
) -> None:
    refused(app.test_client().post("/api/v1/session", json=body), 400, "BAD_REQUEST_ERROR", field)
    assert not verified


def test_a_form_of_another_site_signs_nobody_in(app: Flask) -> None:
    form = {"email": TEST_EMAIL, "password": TEST_PASSWORD}
    refused(app.test_client().post("/api/v1/session", data=form), 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "token", ["", "x", "x" * 257, "x" * 5000, "a%00b", "\xff\xfe", "é", '"', "a;b", "'; DROP TABLE sessions"]
)
def test_any_other_cookie_is_nobodys(app: Flask, dashboard: Dashboard, token: str) -> None:
    for path in ("/session", "/sessions", "/orders"):
        answer = with_cookies(app, f"gateway_session={token}", path)
        refused(answer, 401, "AUTHENTICATION_ERROR")


def test_of_two_cookies_one_is_taken_and_the_other_does_not_matter(app: Flask, dashboard: Dashboard) -> None:
    for cookies, status in (
        (f"gateway_session={dashboard.token}; gateway_session=planted", 200),
        (f"gateway_session=planted; gateway_session={dashboard.token}", 401),
    ):
        assert with_cookies(app, cookies).status_code == status


def test_an_api_key_is_no_session(api: Api) -> None:
    for answer in (
        *(api.get("/session"), api.get("/sessions"), api.delete("/session"), api.delete("/sessions")),
        api.post("/password", {"current_password": TEST_PASSWORD, "password": "another-good-password"}),
    ):
        not_signed_in(answer)


# --- how often one may try -----------------------------------------------------------------------


def fail(
    app: Flask, times: int, email: str = OTHER_EMAIL, address: str = HOME, **headers: str
) -> list[TestResponse]:
    answers = [sign_in(app, email, "wrong", address, **headers) for _ in range(times)]
    for answer in answers:
        refused(answer, 401, "AUTHENTICATION_ERROR")
    return answers


def throttled(answer: TestResponse) -> int:
    """After how many seconds it may be tried again."""
    error = refused(answer, 429, "RATE_LIMIT_ERROR")
    wait_s = int(answer.headers["Retry-After"])
    assert 0 < wait_s <= WINDOW_S
    assert error["description"] == f"Too many wrong passwords; try again in {-(-wait_s // 60)} min."
    return wait_s


def let_pass(app: Flask, seconds: int) -> None:
    """All that was tried was tried so many seconds earlier."""
    in_sql(app, f"UPDATE password_failures SET failed_at = failed_at - interval '{seconds} seconds'")


@pytest.fixture
def emails(app: Flask) -> list[str]:
    """Those of as many merchants as it takes to fail as often as an address may, with one try to spare."""
    emails = [f"merchant-{number}@example.com" for number in range(ADDRESS_MAX // (ACCOUNT_MAX - 1) + 1)]
    with app.app_context():
        for email in emails:
            merchant = Merchant.create(name="A shop", email=email)
            merchant.password_hash = QUICK_HASHER.hash(OTHER_PASSWORD)
        db.session.commit()
    return emails


def exhaust(app: Flask, emails: list[str], address: str = HOME, **headers: str) -> None:
    """Give as many wrong passwords as an address may, and no account as many as it may."""
    left = ADDRESS_MAX
    for email in emails:
        fail(app, min(left, ACCOUNT_MAX - 1), email, address, **headers)
        left -= min(left, ACCOUNT_MAX - 1)
    assert left == 0


def test_after_10_wrong_passwords_an_account_is_closed_for_a_while(
    app: Flask, other: Api, verified: list[str]
) -> None:
    fail(app, ACCOUNT_MAX)
    assert throttled(sign_in(app)) > WINDOW_S - 60
    assert throttled(sign_in(app, OTHER_EMAIL.upper(), address=ELSEWHERE)) > WINDOW_S - 60
    assert len(verified) == ACCOUNT_MAX
    made(sign_in(app, TEST_EMAIL, TEST_PASSWORD))


def test_one_that_does_not_exist_is_closed_as_well(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_nobodys_hash", lambda: QUICK_HASHER.hash("x"))
    fail(app, ACCOUNT_MAX, "nobody@example.com")
    throttled(sign_in(app, "nobody@example.com"))


def test_asking_while_it_is_closed_does_not_keep_it_closed(app: Flask, other: Api) -> None:
    fail(app, ACCOUNT_MAX)
    let_pass(app, WINDOW_S - 30)
    assert throttled(sign_in(app)) <= 31
    let_pass(app, 31)
    made(sign_in(app))


def test_it_opens_one_try_at_a_time(app: Flask, other: Api) -> None:
    fail(app, 1)
    let_pass(app, WINDOW_S - 300)
    fail(app, ACCOUNT_MAX - 1)
    assert throttled(sign_in(app)) <= 301
    let_pass(app, 301)
    fail(app, 1)
    assert 300 < throttled(sign_in(app)) <= WINDOW_S - 300


def test_the_right_password_forgives_the_account(app: Flask, other: Api) -> None:
    for _ in range(3):
        fail(app, ACCOUNT_MAX - 1)
        made(sign_in(app))
    assert in_sql(app, "SELECT count(*) FROM password_failures") == [3 * (ACCOUNT_MAX - 1)]  # the address'


def test_after_50_wrong_passwords_an_address_is_closed_for_a_while(app: Flask, emails: list[str]) -> None:
    exhaust(app, emails)
    throttled(sign_in(app, emails[-1]))
    throttled(sign_in(app, TEST_EMAIL, TEST_PASSWORD))
    made(sign_in(app, emails[0], address=ELSEWHERE))
    let_pass(app, WINDOW_S + 1)
    made(sign_in(app, emails[-1]))


def test_who_has_an_account_does_not_open_the_address_with_it(
    app: Flask, other: Api, emails: list[str]
) -> None:
    fail(app, 5)
    for email in emails[:5]:
        fail(app, 8, email)
        made(sign_in(app, email))
    made(sign_in(app))
    fail(app, 5, emails[5])
    throttled(sign_in(app))


@pytest.mark.parametrize(
    ("one", "same", "another"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"),
        ("::ffff:198.51.100.7", "198.51.100.7", "::ffff:203.0.113.9"),
    ],
    ids=["the network of one IPv6 customer", "IPv4 on an IPv6 socket"],
)
def test_an_address_is_what_one_customer_has(
    app: Flask, emails: list[str], one: str, same: str, another: str
) -> None:
    exhaust(app, emails, one)
    throttled(sign_in(app, emails[-1], address=same))
    made(sign_in(app, emails[-1], address=another))


def test_a_header_makes_no_other_address(app: Flask, emails: list[str]) -> None:
    for number, email in enumerate(emails[:5]):
        for n in range(ACCOUNT_MAX - 1):
            fail(app, 1, email, **{"X-Forwarded-For": f"6.6.{number}.{n}", "X-Real-Ip": f"6.6.{number}.{n}"})
    fail(app, 5, emails[5], **{"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"})
    throttled(sign_in(app, emails[5], **{"X-Forwarded-For": "9.9.9.9"}))


def test_a_proxy_of_ours_says_which_address_it_is(
    app: Flask, environ: dict[str, str], emails: list[str]
) -> None:
    behind = create_app(settings_of(environ | {"TRUSTED_PROXIES": "1"}))
    exhaust(behind, emails, **{"X-Forwarded-For": f"6.6.6.6, {ELSEWHERE}"})
    throttled(sign_in(behind, emails[5], **{"X-Forwarded-For": f"9.9.9.9, {ELSEWHERE}"}))
    session = made(sign_in(behind, emails[5], **{"X-Forwarded-For": f"{ELSEWHERE}, 192.0.2.1"}))["session"]
    assert session["address"] == "192.0.2.1"
    with behind.app_context():
        db.engine.dispose()


def test_twenty_at_once_get_no_more_tries_than_one_by_one(
    app: Flask, other: Api, verified: list[str]
) -> None:
    statuses = Counter(at_once(20, lambda _: sign_in(app, OTHER_EMAIL, "wrong").status_code))
    assert statuses == {401: ACCOUNT_MAX, 429: 20 - ACCOUNT_MAX}
    assert len(verified) == ACCOUNT_MAX


def test_what_strangers_typed_is_kept_no_longer_than_it_counts(app: Flask, other: Api) -> None:
    fail(app, 2)
    let_pass(app, WINDOW_S + 1)
    fail(app, 1)
    with app.app_context():
        clock.forget()
    assert in_sql(app, "SELECT count(*) FROM password_failures") == [2]


# --- who is signed in, and for how long ----------------------------------------------------------


def test_a_session_is_what_is_asked_with(api: Api, dashboard: Dashboard) -> None:
    order = api.order()
    assert found(dashboard.get("/orders"))["data"] == [order]
    assert dashboard.order()["merchant_id"] == TEST_MERCHANT_ID


def test_sessions_are_listed_newest_first(app: Flask, dashboard: Dashboard, other_dashboard: Api) -> None:
    made(sign_in(app, TEST_EMAIL, TEST_PASSWORD, ELSEWHERE, **{"User-Agent": "Phone"}))
    newest, first = found(dashboard.get("/sessions"))["data"]
    assert (newest["address"], newest["user_agent"]) == (ELSEWHERE, "Phone")
    assert first == found(dashboard.get("/session"))["session"]
    page = found(dashboard.get("/sessions", limit=1))
    assert (page["data"], page["next_cursor"]) == ([newest], newest["id"])
    in_sql(app, "UPDATE sessions SET expires_at = now() WHERE id = :id", id=newest["id"])
    assert found(dashboard.get("/sessions"))["data"] == [first]


def test_signing_out_ends_the_session_whoever_has_its_cookie(app: Flask, dashboard: Dashboard) -> None:
    elsewhere, token = Dashboard(app), dashboard.token
    answer = dashboard.delete("/session")
    assert answer.status_code == 204
    cookie = cookie_of(answer)
    assert (cookie.value, cookie["max-age"], cookie["httponly"]) == ("", "0", True)
    assert [each["max-age"] for each in cookies_of(answer).values()] == ["0", "0"]
    not_signed_in(look(app, token))
    refused(look(app, token, "/orders"), 401, "AUTHENTICATION_ERROR")
    found(elsewhere.get("/session"))
    assert in_sql(app, "SELECT count(*) FROM sessions") == [1]


def test_signing_out_everywhere_ends_all_of_the_merchants(
    app: Flask, dashboard: Dashboard, other_dashboard: Dashboard
) -> None:
    elsewhere = Dashboard(app)
    tokens = [dashboard.token, elsewhere.token]
    assert dashboard.delete("/sessions").status_code == 204
    for token in tokens:
        not_signed_in(look(app, token))
    found(other_dashboard.get("/session"))


def test_who_signed_in_and_out_is_in_the_audit_log(app: Flask, api: Api) -> None:
    session = made(sign_in(app, TEST_EMAIL, TEST_PASSWORD))["session"]
    dashboard = Dashboard(app)
    assert dashboard.delete("/session").status_code == 204
    assert Dashboard(app).delete("/sessions").status_code == 204
    rows = found(api.get("/audit_log"))["data"]
    actions = ["session.all_ended", "session.began", "session.ended", "session.began", "session.began"]
    assert [row["action"] for row in rows] == actions
    assert {row["actor"] for row in rows} == {TEST_EMAIL}
    assert (rows[-1]["subject_id"], rows[-1]["details"]) == (session["id"], {"address": HOME})


def test_nobody_stays_signed_in_who_does_nothing_for_a_quarter_of_an_hour(
    app: Flask, dashboard: Dashboard
) -> None:
    in_sql(app, "UPDATE sessions SET seen_at = now() - interval '14 minutes 50 seconds'")
    found(dashboard.get("/orders"))
    in_sql(app, "UPDATE sessions SET seen_at = now() - interval '15 minutes'")
    not_signed_in(dashboard.get("/session"))
    refused(dashboard.post("/orders", {"amount": 10000}), 401, "AUTHENTICATION_ERROR")


def test_what_is_done_keeps_it_and_what_a_page_asks_by_itself_does_not(
    app: Flask, dashboard: Dashboard
) -> None:
    ten_minutes_ago = "UPDATE sessions SET seen_at = now() - interval '10 minutes' RETURNING seen_at"
    [before] = in_sql(app, ten_minutes_ago)
    for path in ("/orders", "/session", "/payments/stats", "/jobs"):
        found(dashboard.in_background().get(path))
    assert in_sql(app, "SELECT seen_at FROM sessions") == [before]
    found(dashboard.get("/orders"))
    assert in_sql(app, "SELECT now() - seen_at < interval '1 minute' FROM sessions") == [True]


def test_nobody_stays_signed_in_for_longer_than_12_hours(app: Flask, dashboard: Dashboard) -> None:
    lasts = "SELECT expires_at - created_at = interval '12 hours' FROM sessions"
    assert in_sql(app, lasts) == [True]
    found(dashboard.get("/session"))
    in_sql(app, "UPDATE sessions SET expires_at = now() + interval '1 minute'")
    found(dashboard.get("/session"))
    in_sql(app, "UPDATE sessions SET expires_at = now()")
    not_signed_in(dashboard.get("/session"))


def test_sessions_that_are_over_are_swept(app: Flask, dashboard: Dashboard) -> None:
    Dashboard(app), Dashboard(app)
    in_sql(app, "UPDATE sessions SET expires_at = now() WHERE seq = (SELECT max(seq) FROM sessions)")
    in_sql(
        app,
        "UPDATE sessions SET seen_at = now() - interval '1 hour' WHERE seq = (SELECT min(seq) FROM sessions)",
    )
    with app.app_context():
        clock.forget()
    assert in_sql(app, "SELECT count(*) FROM sessions") == [1]


def test_one_that_ends_while_it_is_used_is_over(app: Flask, dashboard: Dashboard) -> None:
    """It is signed out elsewhere between being found and being noted as used."""
    in_sql(app, "UPDATE sessions SET seen_at = now() - interval '10 minutes'")
    token = dashboard.token

    def end_it(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE sessions"):
            with engine.begin() as elsewhere:
                elsewhere.execute(text("DELETE FROM sessions"))

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", end_it)
    try:
        not_signed_in(look(app, token))
    finally:
        event.remove(engine, "before_cursor_execute", end_it)
