"""`flask create-merchant` and `flask password-link`, as somebody types them on the gateway's machine."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextvars import Context
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from werkzeug.test import TestResponse

from app import create_app
from commands.merchants import create_merchant, password_link
from config import ROOT
from models.base import db
from models.merchants import TEST_EMAIL
from tests.conftest import (
    PRODUCTION,
    Api,
    Dashboard,
    another_database,
    found,
    in_sql,
    made,
    refused,
    settings_of,
)
from tests.test_passwords import changed, not_valid

NAME, EMAIL, PASSWORD = "Asha's Books", "asha@example.com", "a-password-of-ashas"


def create(
    environ: dict[str, str], *options: str, name: str = NAME, email: str = EMAIL, typed: str | None = None
) -> Result:
    arguments = ["--name", name, "--email", email, *options] if typed is None else list(options)
    return CliRunner().invoke(create_merchant, arguments, env=environ, input=typed)


def link_for(environ: dict[str, str], email: str = EMAIL) -> Result:
    return CliRunner().invoke(password_link, [email], env=environ)


def token_in(result: Result) -> str:
    assert result.exit_code == 0, result.output
    printed = re.search(r"^\S+/dashboard/password#(\S+)$", result.output, re.MULTILINE)
    assert printed, result.output
    return printed[1]


def said(result: Result) -> str:
    """The line that says what is wrong."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    *_usage, line = result.output.strip().splitlines()
    assert line.startswith("Error: ")
    return line


def choose(app: Flask, token: str, password: str = PASSWORD) -> TestResponse:
    body = {"token": token, "password": password}
    return Context().run(app.test_client().post, "/api/v1/password/link", json=body)


@pytest.fixture
def elsewhere(app: Flask, environ: dict[str, str]) -> Iterator[Flask]:
    """The same gateway, as it runs in production."""
    elsewhere = create_app(settings_of(environ | PRODUCTION))
    yield elsewhere
    with elsewhere.app_context():
        db.engine.dispose()


# --- create-merchant -----------------------------------------------------------------------------


def test_whoever_follows_the_printed_link_is_a_merchant_that_takes_payments(
    app: Flask, environ: dict[str, str]
) -> None:
    result = create(environ)
    first, second, third = result.output.splitlines()
    created = re.fullmatch(r"Created Asha's Books \((mer_[A-Za-z0-9]{16})\), merchant\.", first)
    assert created
    assert second == "To choose a password, once and within 24 hours:"
    assert third.startswith("http://localhost:3000/dashboard/password#")
    changed(choose(app, token_in(result)))
    asha = Dashboard(app, EMAIL, PASSWORD)
    merchant = found(asha.get("/merchant"))
    assert (merchant["id"], merchant["name"], merchant["role"]) == (created[1], NAME, "merchant")
    assert found(asha.get("/api_keys"))["data"] == []
    key = made(asha.post("/api_keys", {"name": "Shop"}))
    assert Api(app.test_client(), key["id"], key["secret"]).order()["merchant_id"] == merchant["id"]
    actions = [row["action"] for row in found(asha.get("/audit_log"))["data"]]
    assert actions == ["api_key.created", "session.began", "password.chosen_by_link", "merchant.created"]


def test_it_has_no_password_before(app: Flask, environ: dict[str, str]) -> None:
    token_in(create(environ))
    body = {"email": EMAIL, "password": PASSWORD}
    refused(app.test_client().post("/api/v1/session", json=body), 401, "AUTHENTICATION_ERROR")


def test_an_operator_is_one_from_the_start(app: Flask, environ: dict[str, str]) -> None:
    result = create(environ, "--role", "operator")
    assert result.output.splitlines()[0].endswith(", operator.")
    changed(choose(app, token_in(result)))
    assert found(Dashboard(app, EMAIL, PASSWORD).get("/jobs"))["scope"] == "gateway"


def test_what_is_not_given_is_asked_for(app: Flask, environ: dict[str, str]) -> None:
    token_in(create(environ, typed=f"{NAME}\n{EMAIL}\n"))
    assert in_sql(app, "SELECT name FROM merchants WHERE email = :email", email=EMAIL) == [NAME]


def test_spaces_around_and_the_case_of_the_email_do_not_matter(app: Flask, environ: dict[str, str]) -> None:
    token_in(create(environ, name=f"  {NAME} ", email=" Asha@Example.COM "))
    assert in_sql(app, "SELECT name FROM merchants WHERE email = :email", email=EMAIL) == [NAME]


def test_it_works_in_production(elsewhere: Flask, environ: dict[str, str]) -> None:
    result = create(environ | PRODUCTION)
    assert "\nhttps://dashboard.example/dashboard/password#" in result.output
    changed(choose(elsewhere, token_in(result)))
    body = {"email": EMAIL, "password": PASSWORD}
    made(elsewhere.test_client().post("/api/v1/session", json=body))


@pytest.mark.parametrize("email", [TEST_EMAIL, TEST_EMAIL.upper()])
def test_an_email_is_one_merchants(app: Flask, environ: dict[str, str], email: str) -> None:
    assert said(create(environ, email=email)) == f"Error: {TEST_EMAIL} is the address of a merchant already."
    assert in_sql(app, "SELECT count(*) FROM merchants") == [1]


@pytest.mark.parametrize(
    "email",
    [
        *("", " ", "asha", "asha@", "@example.com", "asha example.com", "a b@example.com", "a@example..com"),
        *(
            "asha@example.com, b@example.com",
            "Asha <asha@example.com>",
            "asha@example.com\nx",
            "asha\0@a.com",
        ),
        *("asha@example.com\udcff", "\udcff@example.com", f"{'a' * 250}@example.com"),
    ],
)
def test_it_refuses_what_is_no_email(app: Flask, environ: dict[str, str], email: str) -> None:
    line = said(create(environ, email=email))
    assert re.fullmatch(
        r"Error: Invalid value for '--email': Must be (an email address|at most 254 .*)\.", line
    )
    assert in_sql(app, "SELECT count(*) FROM merchants") == [1]
    assert "'EMAIL': Must be " in said(link_for(environ, email))


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "two\nlines", "a\0b", "a\x1b[31mb", "a\udcffb"])
def test_it_refuses_what_is_no_name(app: Flask, environ: dict[str, str], name: str) -> None:
    assert (
        said(create(environ, name=name)) == "Error: Invalid value for '--name': Must be 1 to 100 characters."
    )
    assert in_sql(app, "SELECT count(*) FROM merchants") == [1]


def test_it_refuses_what_is_no_role(app: Flask, environ: dict[str, str]) -> None:
    assert "'merchant', 'operator'" in said(create(environ, "--role", "admin"))


# --- password-link -------------------------------------------------------------------------------


def test_a_new_link_takes_the_place_of_the_first(app: Flask, environ: dict[str, str]) -> None:
    first, second = token_in(create(environ)), token_in(link_for(environ, "  ASHA@example.com"))
    not_valid(choose(app, first))
    changed(choose(app, second))
    Dashboard(app, EMAIL, PASSWORD)


def test_the_old_password_works_until_another_one_is_chosen(app: Flask, environ: dict[str, str]) -> None:
    changed(choose(app, token_in(create(environ))))
    asha = Dashboard(app, EMAIL, PASSWORD)
    token = token_in(link_for(environ))
    found(asha.get("/session"))
    Dashboard(app, EMAIL, PASSWORD)
    changed(choose(app, token, "another-password-of-ashas"))
    refused(asha.get("/session"), 401, "AUTHENTICATION_ERROR")
    asha = Dashboard(app, EMAIL, "another-password-of-ashas")
    actors = {row["action"]: row["actor"] for row in found(asha.get("/audit_log"))["data"]}
    assert (actors["password.link_made"], actors["password.chosen_by_link"]) == ("gateway", EMAIL)


def test_nobody_gets_a_link_who_is_no_merchant(app: Flask, environ: dict[str, str]) -> None:
    line = "Error: Invalid value for EMAIL: There is no merchant with this address."
    assert said(link_for(environ, "nobody@example.com")) == line
    assert in_sql(app, "SELECT count(*) FROM password_links") == [0]


# --- where there is no gateway -------------------------------------------------------------------


def test_without_a_gateway_they_say_how_to_start_one(environ: dict[str, str], tmp_path: Path) -> None:
    nothing = environ | {"DATABASE_URL": "", "DATA_DIR": str(tmp_path)}
    for result in (create(nothing), link_for(nothing)):
        assert result.output == "Error: the gateway is not running; start it with: make run\n"
        assert result.exit_code == 1


def test_a_database_that_is_not_there_is_a_line(environ: dict[str, str]) -> None:
    nowhere = environ | {"DATABASE_URL": "postgresql://gateway:hidden@127.0.0.1:1/payment_gateway"}
    for result in (create(nowhere), link_for(nowhere)):
        assert said(result).startswith("Error: DATABASE_URL: ")
        assert len(result.output.splitlines()) == 1
        assert "hidden" not in result.output


def test_a_database_without_tables_is_a_line(environ: dict[str, str]) -> None:
    with another_database(environ, "nothing_in_it") as settings:
        result = create(settings)
        assert said(result) == 'Error: DATABASE_URL: relation "merchants" does not exist'
        assert len(result.output.splitlines()) == 1


def test_a_setting_that_is_wrong_is_a_line(environ: dict[str, str]) -> None:
    result = create(environ | {"DASHBOARD_URL": "dashboard.example"})
    assert result.output == "Error: DASHBOARD_URL: Must be an http or https URL.\n"


def test_the_flask_command_knows_them(app: Flask, environ: dict[str, str]) -> None:
    command = [sys.executable, "-m", "flask", "create-merchant", "--name", NAME, "--email", EMAIL]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    [token] = re.findall(r"/dashboard/password#(\S+)", done.stdout)
    changed(choose(app, token))
    again = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert again.stderr == f"Error: {EMAIL} is the address of a merchant already.\n"
    assert again.returncode == 1
