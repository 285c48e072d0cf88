"""Secrets in the database are sealed, and come under a new SECRET_KEY without anybody noticing."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Context

import pytest
from click.testing import CliRunner
from flask import Flask
from sqlalchemy import text

import commands
from app import create_app
from config import ConfigError
from models import vault
from models.base import db
from tests.conftest import OTHER_EMAIL, OTHER_PASSWORD, Api, found, made, refused, settings_of

OLD = "the-key-that-was-used-until-now-0123456789"
NEW = "the-key-that-is-used-from-now-on-9876543210"


class Under:
    def __init__(self, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch):
        self._environ, self._monkeypatch = environ, monkeypatch
        self.apps: list[Flask] = []

    def keys(self, key: str, fallbacks: str = "") -> Flask:
        environ = self._environ | {"SECRET_KEY": key, "SECRET_KEY_FALLBACKS": fallbacks}
        self.apps.append(create_app(settings_of(environ)))
        return self.apps[-1]

    def rotate(self, key: str, fallbacks: str) -> str:
        """What the command says."""
        for name, value in (self._environ | {"SECRET_KEY": key, "SECRET_KEY_FALLBACKS": fallbacks}).items():
            self._monkeypatch.setenv(name, value)
        result = CliRunner().invoke(commands.app.cli, ["rotate-secrets"])
        assert result.exit_code == 0, result.output
        return result.output


@pytest.fixture
def under(app: Flask, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Under]:
    """This gateway, under other keys. Afterwards everything is sealed as it was."""
    gateways = Under(environ, monkeypatch)
    try:
        yield gateways
    finally:
        gateways.rotate(environ["SECRET_KEY"], ",".join([OLD, NEW]))
        for each in gateways.apps:
            with each.app_context():
                db.engine.dispose()


def merchant_of(app: Flask, api: Api) -> Api:
    return Api(app.test_client(), api.headers["X-Api-Key"], api.headers["X-Api-Secret"])


def test_nothing_secret_lies_open(api: Api, context: None) -> None:
    key = made(api.post("/api_keys", {}, key="once"))
    endpoint = made(api.post("/webhook_endpoints", {"url": "http://localhost:4000/"}, key="twice"))
    tables = ["api_keys", "webhook_endpoints", "idempotency_keys", "events", "audit_log"]
    for table in tables:
        rows = str(db.session.execute(text(f"SELECT t::text, t.* FROM {table} t")).all())
        for secret in (key["secret"], endpoint["secret"]):
            assert secret not in rows
            assert secret.encode().hex() not in rows


def test_the_whole_rotation_interrupts_nobody(under: Under, environ: dict[str, str], api: Api) -> None:
    now = environ["SECRET_KEY"]
    order = made(api.post("/orders", {"amount": 10000}, key="a-retry"))
    endpoint = made(api.post("/webhook_endpoints", {"url": "http://localhost:4000/"}))
    found(api.post(f"/webhook_endpoints/{endpoint['id']}/rotate_secret"))
    secrets = found(api.get(f"/webhook_endpoints/{endpoint['id']}/secret"))

    # 1. Every process learns to read the new key; 2. every process writes under it. In between, both run.
    learning, writing = under.keys(now, NEW), under.keys(NEW, now)
    for one, other in ((writing, learning), (learning, writing)):
        key = made(merchant_of(one, api).post("/api_keys"))
        found(Api(other.test_client(), key["id"], key["secret"]).get("/balance"))
        again = merchant_of(one, api).post("/orders", {"amount": 10000}, key="a-retry")
        assert made(again) == order
        assert again.headers["Idempotent-Replayed"] == "true"
        changed = merchant_of(one, api).post("/orders", {"amount": 10001}, key="a-retry")
        refused(changed, 422, "IDEMPOTENCY_ERROR")

    # 3. What was sealed before is sealed anew, once; 4. nobody needs the old key any more.
    said = under.rotate(NEW, now)
    assert "api_keys: 2 sealed anew" in said
    assert "webhook_endpoints: 1 sealed anew" in said
    assert "idempotency_keys: 1 sealed anew" in said
    assert under.rotate(NEW, now).count(": 0 sealed anew") == 3
    alone = under.keys(NEW)
    assert found(merchant_of(alone, api).get(f"/webhook_endpoints/{endpoint['id']}/secret")) == secrets
    with pytest.raises(ConfigError, match=r"^SECRET_KEY: Is not the one"):
        under.keys(now)
    # A day later: what a key was first used for is a hash under the old one.
    again = merchant_of(alone, api).post("/orders", {"amount": 10000}, key="a-retry")
    refused(again, 422, "IDEMPOTENCY_ERROR")


def test_a_page_that_is_open_goes_on_working(under: Under, environ: dict[str, str], other: Api) -> None:
    before, after = under.keys(environ["SECRET_KEY"]), under.keys(NEW, environ["SECRET_KEY"])
    client = before.test_client()
    body = {"email": OTHER_EMAIL, "password": OTHER_PASSWORD}
    token = made(Context().run(client.post, "/api/v1/session", json=body))["csrf_token"]
    cookie = client.get_cookie("gateway_session")
    assert cookie is not None
    later = after.test_client()
    later.set_cookie("gateway_session", cookie.value)

    def change(csrf_token: str) -> int:
        headers = {"X-CSRF-Token": csrf_token}
        return Context().run(later.patch, "/api/v1/merchant", json={}, headers=headers).status_code

    assert change(token) == 200
    assert change("0" * 64) == 403


def test_a_rotation_without_the_old_key_says_so_and_changes_nothing(
    under: Under, app: Flask, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (environ | {"SECRET_KEY": NEW}).items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(commands.app.cli, ["rotate-secrets"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: SECRET_KEY: Is not the one")
    create_app(settings_of(environ))


def test_more_rows_than_one_batch(
    under: Under, api: Api, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.sealed.BATCH", 2)
    for number in range(5):
        made(api.post("/orders", {"amount": 10000}, key=f"number {number}"))
    assert "idempotency_keys: 5 sealed anew" in under.rotate(NEW, environ["SECRET_KEY"])


def test_what_one_purpose_makes_no_other_understands(context: None) -> None:
    hashes = {vault.keyed_hash(purpose, b"x") for purpose in ("csrf token", "card fingerprint")}
    assert len(hashes) == 2
    assert vault.reseal(vault.seal("s")) is None
