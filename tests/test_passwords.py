"""The password: changed by whoever is signed in, or chosen by a link that works once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pytest
from argon2 import PasswordHasher
from flask import Flask
from werkzeug.test import TestResponse

from models.base import db
from models.merchants import Merchant
from models.passwords import PasswordLink
from tests.conftest import (
    OTHER_EMAIL,
    OTHER_MERCHANT_ID,
    OTHER_PASSWORD,
    Api,
    Dashboard,
    at_once,
    found,
    in_sql,
    refused,
    stored,
)

NEW = "a-new-and-better-password"
ARGON2ID = r"\$argon2id\$v=19\$m=65536,t=3,p=4\$"

TOO_EASY = [
    ("", "Length must be between 1 and 1024."),
    ("x", "Must be 12 to 256 characters."),
    ("short-as-it", "Must be 12 to 256 characters."),
    ("abcdefgh" * 32 + "i", "Must be 12 to 256 characters."),
    ("aaaaaaaaaaaa", "Is too easy to guess."),
    ("abcabcabcabcabcabcabc", "Is too easy to guess."),
    (OTHER_EMAIL, "Is too easy to guess."),
    (OTHER_EMAIL.upper(), "Is too easy to guess."),
]
NO_PASSWORD = [
    None,
    123456789012,
    True,
    ["a-new-and-better-password"],
    "a-new-and\0-better-password",
    "\ud800" * 12,
]


def change(dashboard: Dashboard, password: Any = NEW, current: Any = OTHER_PASSWORD) -> TestResponse:
    return dashboard.post("/password", {"current_password": current, "password": password})


def changed(answer: TestResponse) -> None:
    assert (answer.status_code, answer.data) == (204, b"")


def choose(app: Flask, token: Any, password: Any = NEW) -> TestResponse:
    """As whoever has the link."""
    body = {"token": token, "password": password}
    return Context().run(app.test_client().post, "/api/v1/password/link", json=body)


def sign_in(app: Flask, password: str = NEW) -> TestResponse:
    body = {"email": OTHER_EMAIL, "password": password}
    return Context().run(app.test_client().post, "/api/v1/session", json=body)


def is_signed_in(dashboard: Dashboard) -> bool:
    return dashboard.get("/session").status_code == 200


@pytest.fixture
def link(app: Flask, other: Api) -> Callable[[], str]:
    """Makes a link for the other merchant; gives its token."""

    def link() -> str:
        with app.app_context():
            token = PasswordLink.issue(db.session.get_one(Merchant, OTHER_MERCHANT_ID))
            db.session.commit()
        return token

    return link


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Lets something happen right after the next password was found to be right."""
    acts: list[Callable[[], None]] = []
    real = PasswordHasher.verify

    def verify(self: PasswordHasher, hashed: str, password: str) -> bool:
        right = real(self, hashed, password)
        if acts:
            acts.pop()()
        return right

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    return acts.append


# --- changing it ---------------------------------------------------------------------------------


def test_another_password_is_chosen_and_the_old_one_works_no_more(
    app: Flask, other_dashboard: Dashboard
) -> None:
    changed(change(other_dashboard))
    assert sign_in(app).status_code == 201
    refused(sign_in(app, OTHER_PASSWORD), 401, "AUTHENTICATION_ERROR")
    [row] = found(other_dashboard.get("/audit_log", subject_id=OTHER_MERCHANT_ID))["data"]
    assert (row["action"], row["actor"], row["details"]) == ("password.changed", OTHER_EMAIL, {})


def test_all_other_sessions_end_and_this_one_goes_on(
    app: Flask, dashboard: Dashboard, other_dashboard: Dashboard
) -> None:
    elsewhere = Dashboard(app, OTHER_EMAIL, OTHER_PASSWORD)
    changed(change(other_dashboard))
    assert not is_signed_in(elsewhere)
    assert is_signed_in(other_dashboard)
    assert other_dashboard.order()["merchant_id"] == OTHER_MERCHANT_ID
    assert is_signed_in(dashboard)


def test_it_is_kept_as_argon2id_and_nowhere_else(app: Flask, other_dashboard: Dashboard) -> None:
    changed(change(other_dashboard))
    hashed = in_sql(
        app,
        "SELECT count(*) FROM merchants WHERE id = :id AND password_hash ~ :form",
        id=OTHER_MERCHANT_ID,
        form=ARGON2ID,
    )
    assert hashed == [1]
    assert NEW not in str(stored(app))
    assert NEW.encode().hex() not in str(stored(app))


def test_keys_go_on_working(other: Api, other_dashboard: Dashboard) -> None:
    changed(change(other_dashboard))
    found(other.get("/orders"))


def test_a_wrong_current_password_changes_nothing(app: Flask, other_dashboard: Dashboard) -> None:
    elsewhere = Dashboard(app, OTHER_EMAIL, OTHER_PASSWORD)
    error = refused(change(other_dashboard, current=NEW), 403, "PERMISSION_ERROR", "current_password")
    assert error["reason"] == "wrong_password"
    assert is_signed_in(elsewhere)
    assert sign_in(app, OTHER_PASSWORD).status_code == 201


def test_wrong_ones_are_counted_with_those_of_signing_in(app: Flask, other_dashboard: Dashboard) -> None:
    for _ in range(5):
        refused(change(other_dashboard, current=NEW), 403, "PERMISSION_ERROR", "current_password")
        refused(sign_in(app), 401, "AUTHENTICATION_ERROR")
    answer = change(other_dashboard)
    refused(answer, 429, "RATE_LIMIT_ERROR", "current_password")
    assert int(answer.headers["Retry-After"]) > 800
    refused(sign_in(app, OTHER_PASSWORD), 429, "RATE_LIMIT_ERROR")


def test_a_right_one_is_not_counted_even_if_the_new_one_will_not_do(
    app: Flask, other_dashboard: Dashboard
) -> None:
    for _ in range(11):
        refused(change(other_dashboard, "short"), 400, "BAD_REQUEST_ERROR", "password")
    changed(change(other_dashboard))
    assert in_sql(app, "SELECT count(*) FROM password_failures") == [0]


@pytest.mark.parametrize(("password", "text"), TOO_EASY)
def test_it_refuses_what_is_easily_guessed(
    app: Flask, other_dashboard: Dashboard, password: str, text: str
) -> None:
    error = refused(change(other_dashboard, password), 400, "BAD_REQUEST_ERROR", "password")
    assert error["description"] == f"password: {text}"
    assert sign_in(app, OTHER_PASSWORD).status_code == 201


@pytest.mark.parametrize("password", NO_PASSWORD)
def test_it_refuses_what_is_no_password(other_dashboard: Dashboard, password: Any) -> None:
    refused(change(other_dashboard, password), 400, "BAD_REQUEST_ERROR", "password")
    refused(change(other_dashboard, current=password), 400, "BAD_REQUEST_ERROR", "current_password")


@pytest.mark.parametrize(
    "password",
    [
        "twelve chars",
        "abcdefgh" * 32,
        "पासवर्ड बहुत अच्छा है",
        "\U0001f600\U0001f601\U0001f602\U0001f603" * 3,
        "  leading and trailing  ",
    ],
)
def test_anything_else_of_12_to_256_characters_will_do(
    app: Flask, other_dashboard: Dashboard, password: str
) -> None:
    changed(change(other_dashboard, password))
    assert sign_in(app, password).status_code == 201
    refused(sign_in(app, password.strip() + "."), 401, "AUTHENTICATION_ERROR")


def test_who_signs_in_with_the_old_one_at_that_moment_does_not_get_in(
    app: Flask, other_dashboard: Dashboard, meanwhile: Any
) -> None:
    meanwhile(lambda: changed(change(other_dashboard)))
    refused(sign_in(app, OTHER_PASSWORD), 401, "AUTHENTICATION_ERROR")
    assert len(found(other_dashboard.get("/sessions"))["data"]) == 1


def test_of_two_changes_at_that_moment_one_is_made(
    app: Flask, other_dashboard: Dashboard, link: Any, meanwhile: Any
) -> None:
    token = link()
    meanwhile(lambda: changed(choose(app, token)))
    refused(change(other_dashboard, "what-an-intruder-chose"), 403, "PERMISSION_ERROR", "current_password")
    assert sign_in(app).status_code == 201


# --- choosing it by a link -----------------------------------------------------------------------


def test_a_link_chooses_the_password_and_ends_all_sessions(
    app: Flask, dashboard: Dashboard, other_dashboard: Dashboard, link: Any
) -> None:
    elsewhere = Dashboard(app, OTHER_EMAIL, OTHER_PASSWORD)
    changed(choose(app, link()))
    assert [is_signed_in(each) for each in (other_dashboard, elsewhere, dashboard)] == [False, False, True]
    refused(sign_in(app, OTHER_PASSWORD), 401, "AUTHENTICATION_ERROR")
    fresh = Dashboard(app, OTHER_EMAIL, NEW)
    [row] = found(fresh.get("/audit_log", subject_id=OTHER_MERCHANT_ID))["data"]
    assert (row["action"], row["actor"]) == ("password.chosen_by_link", OTHER_EMAIL)


def test_it_gives_a_merchant_without_a_password_its_first(app: Flask, link: Any) -> None:
    in_sql(app, "UPDATE merchants SET password_hash = NULL WHERE id = :id", id=OTHER_MERCHANT_ID)
    for nothing in ("x", "None", "null", OTHER_PASSWORD):
        refused(sign_in(app, nothing), 401, "AUTHENTICATION_ERROR")
    refused(sign_in(app, ""), 400, "BAD_REQUEST_ERROR", "password")
    changed(choose(app, link()))
    assert sign_in(app).status_code == 201


def not_valid(answer: TestResponse) -> None:
    error = refused(answer, 400, "BAD_REQUEST_ERROR", "token")
    assert error["reason"] == "link_not_valid"


def test_a_link_works_once(app: Flask, link: Any) -> None:
    token = link()
    changed(choose(app, token))
    not_valid(choose(app, token, "yet-another-password"))
    assert sign_in(app).status_code == 201


def test_whoever_tried_too_often_may_sign_in_after_it(app: Flask, link: Any) -> None:
    for _ in range(10):
        refused(sign_in(app), 401, "AUTHENTICATION_ERROR")
    refused(sign_in(app), 429, "RATE_LIMIT_ERROR")
    changed(choose(app, link()))
    assert sign_in(app).status_code == 201


def test_used_many_times_at_once_it_works_once(app: Flask, link: Any) -> None:
    token = link()
    statuses = at_once(8, lambda number: choose(app, token, f"the-password-of-number-{number}").status_code)
    assert Counter(statuses) == {204: 1, 400: 7}
    assert sign_in(app, f"the-password-of-number-{statuses.index(204)}").status_code == 201


def test_a_link_works_for_24_hours(app: Flask, link: Any) -> None:
    token = link()
    assert in_sql(app, "SELECT expires_at - created_at = interval '24 hours' FROM password_links") == [True]
    in_sql(app, "UPDATE password_links SET expires_at = now()")
    not_valid(choose(app, token))
    in_sql(app, "UPDATE password_links SET expires_at = now() + interval '1 minute'")
    changed(choose(app, token))


def test_a_newer_link_takes_the_place_of_an_older_one(app: Flask, link: Any) -> None:
    older, newer = link(), link()
    not_valid(choose(app, older))
    changed(choose(app, newer))


@pytest.mark.parametrize("token", ["x", "x" * 128, "é", "' OR true --"])
def test_any_other_token_is_no_link(app: Flask, link: Any, token: str) -> None:
    link()
    not_valid(choose(app, token))


@pytest.mark.parametrize("token", [None, "", "x" * 129, 1, ["x"], {"x": 1}, "a\0b", "\ud800"])
def test_it_refuses_what_is_no_token(app: Flask, token: Any) -> None:
    refused(choose(app, token), 400, "BAD_REQUEST_ERROR", "token")


@pytest.mark.parametrize(("password", "text"), TOO_EASY)
def test_a_password_that_will_not_do_uses_the_link_up_no_more_than_it_changes(
    app: Flask, link: Any, password: str, text: str
) -> None:
    token = link()
    error = refused(choose(app, token, password), 400, "BAD_REQUEST_ERROR", "password")
    assert error["description"] == f"password: {text}"
    changed(choose(app, token))


def test_what_is_stored_of_a_link_is_of_no_use(app: Flask, link: Any) -> None:
    token = link()
    everything = str(stored(app))
    assert token not in everything
    assert token.encode().hex() not in everything
