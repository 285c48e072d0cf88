"""API keys: created, revealed after the password, rolled with an overlap, revoked."""

from __future__ import annotations

import hmac
from collections import Counter
from typing import Any
from unittest import mock

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from models import vault
from models.api_keys import LIVE_KEYS_MAX
from models.merchants import TEST_API_KEY, TEST_API_SECRET, TEST_PASSWORD
from tests.conftest import (
    OTHER_EMAIL,
    OTHER_PASSWORD,
    Api,
    Dashboard,
    at_once,
    found,
    in_sql,
    made,
    refused,
    stored,
)

AT_ONCE = 20
FIELDS = {"id", "name", "status", "last_used_at", "replaced_by", "expires_at", "revoked_at", "created_at"}


def create(api: Api, name: str | None = None) -> dict[str, Any]:
    return made(api.post("/api_keys", {"name": name}))


def roll(api: Api, key: dict[str, Any], **body: Any) -> TestResponse:
    return api.post(f"/api_keys/{key['id']}/roll", body)


def revoke(api: Api, key: dict[str, Any]) -> None:
    assert api.delete(f"/api_keys/{key['id']}").status_code == 204


def reveal(api: Api, key_id: str, password: Any = OTHER_PASSWORD) -> TestResponse:
    return api.post(f"/api_keys/{key_id}/reveal", {"password": password})


def works(app: Flask, key: dict[str, Any]) -> bool:
    answer = Api(app.test_client(), key["id"], key["secret"]).get("/merchant")
    assert answer.status_code == 200 or refused(answer, 401, "AUTHENTICATION_ERROR")
    return answer.status_code == 200


def listed(api: Api) -> dict[str, dict[str, Any]]:
    return {key["id"]: key for key in found(api.get("/api_keys", limit=100))["data"]}


def let_pass(app: Flask, key: dict[str, Any], interval: str) -> None:
    in_sql(
        app,
        f"UPDATE api_keys SET expires_at = expires_at - interval '{interval}' WHERE id = :id",
        id=key["id"],
    )
    app.extensions.pop("signed_in", None)  # as after a moment: what was right is remembered for no longer


def actions(api: Api) -> list[tuple[str, str, dict[str, Any]]]:
    rows = found(api.get("/audit_log", limit=100))["data"]
    return [
        (row["action"], row["subject_id"], row["details"])
        for row in reversed(rows)
        if row["action"].startswith("api_key.")
    ]


# --- creating and listing ------------------------------------------------------------------------


def test_a_new_key_works_at_once(app: Flask, other_dashboard: Dashboard) -> None:
    key = create(other_dashboard, "Shop")
    assert set(key) == FIELDS | {"secret"}
    assert (key["name"], key["status"], key["last_used_at"]) == ("Shop", "active", None)
    assert key["id"].startswith("key_")
    assert key["secret"].startswith("secret_")
    assert len(key["secret"]) >= 50
    assert works(app, key)
    assert Api(app.test_client(), key["id"], key["secret"]).order()["id"]


def test_keys_have_ids_and_secrets_of_their_own_and_need_no_name(other: Api) -> None:
    keys = [create(other), create(other), made(other.post("/api_keys"))]
    assert len({key["id"] for key in keys}) == len({key["secret"] for key in keys}) == 3
    assert {key["name"] for key in keys} == {None}


def test_they_are_listed_newest_first_and_never_with_a_secret(
    app: Flask, other: Api, other_dashboard: Dashboard
) -> None:
    keys = [create(other_dashboard, name) for name in ("a", "b")]
    revoke(other_dashboard, keys[0])
    rolled = made(roll(other_dashboard, keys[1]))
    page = found(other.get("/api_keys"))
    assert [key["id"] for key in page["data"]] == [rolled["id"], keys[1]["id"], keys[0]["id"], "key_other"]
    assert [key["status"] for key in page["data"]] == ["active", "rolled", "revoked", "active"]
    assert all(set(key) == FIELDS for key in page["data"])
    for answer in (other.get("/api_keys"), other_dashboard.get("/api_keys"), other.get("/audit_log")):
        assert not [key for key in (*keys, rolled) if key["secret"] in answer.text]
    first = found(other.get("/api_keys", limit=1))
    assert (first["data"][0]["id"], first["has_more"]) == (rolled["id"], True)
    rest = found(other.get("/api_keys", starting_after=first["next_cursor"]))
    assert rest["data"] == page["data"][1:]


def test_secrets_are_stored_sealed(app: Flask, other: Api) -> None:
    keys = [made(other.post("/api_keys", {}, key="once"))]
    keys.append(made(roll(other, keys[0])))
    everything = str(stored(app))
    for key in keys:
        assert key["id"] in everything
        assert key["secret"] not in everything
        assert key["secret"].encode().hex() not in everything


@pytest.mark.parametrize("name", ["", "x" * 101, 1, True, ["x"], {"x": 1}, "a\0b", "\ud83d"])
def test_it_refuses_what_is_no_name(other: Api, name: Any) -> None:
    refused(other.post("/api_keys", {"name": name}), 400, "BAD_REQUEST_ERROR", "name")


def test_a_repeated_request_makes_one_key_and_gives_its_secret_again(app: Flask, other: Api) -> None:
    first = other.post("/api_keys", {"name": "Shop"}, key="once")
    again = other.post("/api_keys", {"name": "Shop"}, key="once")
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert works(app, made(again))
    assert len(listed(other)) == 2


def test_its_last_use_is_noted_to_the_minute(app: Flask, other: Api) -> None:
    key = create(other)
    assert listed(other)[key["id"]]["last_used_at"] is None
    assert works(app, key)
    first = listed(other)[key["id"]]["last_used_at"]
    assert first is not None
    assert works(app, key)
    assert listed(other)[key["id"]]["last_used_at"] == first
    in_sql(app, "UPDATE api_keys SET last_used_at = last_used_at - interval '61 seconds'")
    app.extensions.pop("signed_in")
    assert works(app, key)
    assert listed(other)[key["id"]]["last_used_at"] >= first


def test_a_wrong_secret_is_no_use(app: Flask, other: Api) -> None:
    key = create(other)
    assert not works(app, key | {"secret": key["secret"] + "x"})
    assert listed(other)[key["id"]]["last_used_at"] is None


# --- revealing -----------------------------------------------------------------------------------


def test_the_password_reveals_the_secret(app: Flask, other_dashboard: Dashboard) -> None:
    key = create(other_dashboard, "Shop")
    revealed = found(reveal(other_dashboard, key["id"]))
    assert revealed == key
    assert found(reveal(other_dashboard, "key_other"))["secret"] == "secret_other"
    assert actions(other_dashboard)[1:] == [
        ("api_key.revealed", key["id"], {}),
        ("api_key.revealed", "key_other", {}),
    ]


def test_so_it_does_for_a_key_and_for_an_operator(api: Api, dashboard: Dashboard) -> None:
    for client in (api, dashboard):
        answer = found(reveal(client, TEST_API_KEY, TEST_PASSWORD))
        assert (answer["id"], answer["secret"]) == (TEST_API_KEY, TEST_API_SECRET)


def test_a_wrong_password_reveals_nothing(app: Flask, other: Api, other_dashboard: Dashboard) -> None:
    for client in (other, other_dashboard):
        answer = reveal(client, "key_other", TEST_PASSWORD)
        assert refused(answer, 403, "PERMISSION_ERROR", "password")["reason"] == "wrong_password"
        assert "secret_other" not in answer.text
    assert actions(other) == []


def test_it_can_be_tried_10_times(app: Flask, other: Api, other_dashboard: Dashboard) -> None:
    for client in (other, other_dashboard) * 5:
        refused(reveal(client, "key_other", "wrong"), 403, "PERMISSION_ERROR", "password")
    answer = reveal(other_dashboard, "key_other")
    refused(answer, 429, "RATE_LIMIT_ERROR", "password")
    assert int(answer.headers["Retry-After"]) > 800
    body = {"email": OTHER_EMAIL, "password": OTHER_PASSWORD}
    refused(app.test_client().post("/api/v1/session", json=body), 429, "RATE_LIMIT_ERROR")
    in_sql(app, "UPDATE password_failures SET failed_at = failed_at - interval '30 minutes'")
    found(reveal(other_dashboard, "key_other"))


def test_twenty_at_once_try_10_times_in_all(app: Flask, other: Api) -> None:
    callers = [Api(app.test_client(), "key_other", "secret_other") for _ in range(AT_ONCE)]
    statuses = at_once(AT_ONCE, lambda n: reveal(callers[n], "key_other", "wrong").status_code)
    assert Counter(statuses) == {403: 10, 429: AT_ONCE - 10}


def test_without_a_password_nothing_is_revealed(app: Flask, other: Api) -> None:
    in_sql(app, "UPDATE merchants SET password_hash = NULL WHERE email = :email", email=OTHER_EMAIL)
    for password in (OTHER_PASSWORD, "x", "None"):
        refused(reveal(other, "key_other", password), 403, "PERMISSION_ERROR", "password")


@pytest.mark.parametrize("password", [None, "", 1, ["x"], "a\0b", "\udc00", "x" * 1025])
def test_it_refuses_what_is_no_password(other: Api, password: Any) -> None:
    refused(reveal(other, "key_other", password), 400, "BAD_REQUEST_ERROR", "password")
    refused(other.post("/api_keys/key_other/reveal"), 400, "BAD_REQUEST_ERROR", "password")


def test_a_secret_is_revealed_anew_each_time_whatever_the_idempotency_key(other: Api) -> None:
    path = "/api_keys/key_other/reveal"
    found(other.post(path, {"password": OTHER_PASSWORD}, key="once"))
    refused(other.post(path, {"password": "wrong"}, key="once"), 403, "PERMISSION_ERROR", "password")


# --- rolling -------------------------------------------------------------------------------------


def test_while_they_overlap_both_keys_work_and_then_the_new_one_alone(app: Flask, other: Api) -> None:
    old = create(other, "Shop")
    new = made(roll(other, old, overlap_hours=2))
    assert (new["name"], new["status"], set(new)) == ("Shop", "active", FIELDS | {"secret"})
    assert works(app, old)
    assert works(app, new)
    shown = listed(other)[old["id"]]
    assert (shown["status"], shown["replaced_by"]) == ("rolled", new["id"])
    let_pass(app, old, "119 minutes")
    assert works(app, old)
    let_pass(app, old, "1 minute")
    assert not works(app, old)
    assert works(app, new)
    assert listed(other)[old["id"]]["status"] == "expired"
    assert actions(other)[-1] == ("api_key.rolled", old["id"], {"into": new["id"], "overlap_hours": 2})


def test_they_overlap_for_a_day_unless_it_is_said(app: Flask, other: Api) -> None:
    for body, hours in (({}, 24), ({"overlap_hours": 168}, 168)):
        old = create(other)
        new = made(roll(other, old, **body))
        overlap = "SELECT extract(epoch FROM o.expires_at - n.created_at)::int FROM api_keys o, api_keys n "
        where = "WHERE o.id = :old AND n.id = :new"
        assert in_sql(app, overlap + where, old=old["id"], new=new["id"]) == [hours * 3600]


def test_without_an_overlap_the_old_key_ends_at_once(app: Flask, other: Api) -> None:
    old = create(other)
    new = made(roll(other, old, overlap_hours=0))
    assert [works(app, key) for key in (old, new)] == [False, True]
    assert listed(other)[old["id"]]["status"] == "expired"


def test_a_key_rolls_itself(app: Flask, other: Api) -> None:
    old = create(other)
    itself = Api(app.test_client(), old["id"], old["secret"])
    new = made(roll(itself, old, overlap_hours=0))
    refused(itself.get("/merchant"), 401, "AUTHENTICATION_ERROR")
    assert works(app, new)


def test_a_chain_of_keys_each_replaces_the_one_before(app: Flask, other: Api) -> None:
    keys = [create(other)]
    for _ in range(3):
        keys.append(made(roll(other, keys[-1])))
    assert all(works(app, key) for key in keys)
    shown = listed(other)
    assert [shown[key["id"]]["replaced_by"] for key in keys] == [*(key["id"] for key in keys[1:]), None]


def test_a_key_is_rolled_once(app: Flask, other: Api) -> None:
    old = create(other)
    new = made(roll(other, old))
    error = refused(roll(other, old), 400, "BAD_REQUEST_ERROR")
    assert (error["reason"], new["id"] in error["description"]) == ("key_rolled", True)
    assert len(listed(other)) == 3


@pytest.mark.parametrize("itself", [False, True], ids=["by another key", "by itself"])
def test_rolled_many_times_at_once_it_is_rolled_once(app: Flask, other: Api, itself: bool) -> None:
    old = create(other)
    pair = (old["id"], old["secret"]) if itself else ("key_other", "secret_other")
    callers = [Api(app.test_client(), *pair) for _ in range(AT_ONCE)]
    statuses = at_once(AT_ONCE, lambda n: roll(callers[n], old).status_code)
    assert Counter(statuses) == {201: 1, 400: AT_ONCE - 1}
    assert len(listed(other)) == 3


def test_what_works_no_more_is_not_rolled(app: Flask, other: Api) -> None:
    revoked, expired = create(other), create(other)
    revoke(other, revoked)
    made(roll(other, expired, overlap_hours=0))
    for key in (revoked, expired):
        error = refused(roll(other, key), 400, "BAD_REQUEST_ERROR")
        assert error["reason"] == "key_not_live"


@pytest.mark.parametrize("hours", [-1, 169, 1.5, "24", True, None, [1], 10**30])
def test_it_refuses_any_other_overlap(other: Api, hours: Any) -> None:
    refused(
        other.post("/api_keys/key_other/roll", {"overlap_hours": hours}),
        400,
        "BAD_REQUEST_ERROR",
        "overlap_hours",
    )


def test_a_repeated_roll_gives_the_same_key_again(other: Api) -> None:
    first = other.post("/api_keys/key_other/roll", {}, key="once")
    again = other.post("/api_keys/key_other/roll", {}, key="once")
    assert made(again) == made(first)
    assert len(listed(other)) == 2


# --- revoking ------------------------------------------------------------------------------------


def test_a_revoked_key_ends_at_once(app: Flask, other: Api) -> None:
    key = create(other)
    assert works(app, key)
    revoke(other, key)
    assert not works(app, key)
    shown = listed(other)[key["id"]]
    assert shown["status"] == "revoked"
    assert shown["revoked_at"] is not None
    revoke(other, key)
    assert listed(other)[key["id"]] == shown


def test_so_does_one_that_was_rolled(app: Flask, other: Api) -> None:
    old = create(other)
    new = made(roll(other, old))
    revoke(other, old)
    assert [works(app, key) for key in (old, new)] == [False, True]
    assert listed(other)[old["id"]]["status"] == "revoked"


def test_a_merchant_may_revoke_its_last_key(app: Flask, other: Api, other_dashboard: Dashboard) -> None:
    assert other.delete("/api_keys/key_other").status_code == 204
    refused(other.get("/merchant"), 401, "AUTHENTICATION_ERROR")
    assert works(app, create(other_dashboard))


def test_what_was_done_is_in_the_audit_log_without_a_secret(app: Flask, other_dashboard: Dashboard) -> None:
    key = create(other_dashboard, "Shop")
    new = made(roll(other_dashboard, key))
    found(reveal(other_dashboard, new["id"]))
    revoke(other_dashboard, new)
    assert actions(other_dashboard) == [
        ("api_key.created", key["id"], {}),
        ("api_key.rolled", key["id"], {"into": new["id"], "overlap_hours": 24}),
        ("api_key.revealed", new["id"], {}),
        ("api_key.revoked", new["id"], {}),
    ]
    log = str(stored(app)["audit_log"])
    assert not [secret for secret in (key["secret"], new["secret"], OTHER_PASSWORD) if secret in log]
    rows = found(other_dashboard.get("/audit_log", limit=4))["data"]
    assert {row["actor"] for row in rows} == {OTHER_EMAIL}


# --- how many ------------------------------------------------------------------------------------


def test_a_merchant_has_16_keys_that_work(app: Flask, other: Api) -> None:
    keys = [create(other) for _ in range(LIVE_KEYS_MAX - 1)]
    for answer in (other.post("/api_keys"), roll(other, keys[0])):
        error = refused(answer, 400, "BAD_REQUEST_ERROR")
        assert error["description"] == "A merchant has at most 16 API keys; revoke one first."
    revoke(other, keys[0])
    rolled = made(roll(other, keys[1], overlap_hours=1))
    refused(other.post("/api_keys"), 400, "BAD_REQUEST_ERROR")
    let_pass(app, keys[1], "1 hour")
    create(other)
    assert works(app, rolled)


def test_made_at_once_they_are_no_more(app: Flask, other: Api) -> None:
    callers = [Api(app.test_client(), "key_other", "secret_other") for _ in range(AT_ONCE)]
    statuses = at_once(AT_ONCE, lambda n: callers[n].post("/api_keys").status_code)
    assert Counter(statuses) == {201: LIVE_KEYS_MAX - 1, 400: AT_ONCE - LIVE_KEYS_MAX + 1}


def test_made_and_rolled_at_once_they_are_no_more(app: Flask, other: Api) -> None:
    keys = [create(other) for _ in range(10)]
    callers = [Api(app.test_client(), "key_other", "secret_other") for _ in range(AT_ONCE)]

    def act(n: int) -> int:
        answer = callers[n].post("/api_keys") if n % 2 else roll(callers[n], keys[n // 2])
        return answer.status_code

    assert Counter(at_once(AT_ONCE, act)) == {201: 5, 400: AT_ONCE - 5}
    live = [key for key in listed(other).values() if key["status"] in ("active", "rolled")]
    assert len(live) == LIVE_KEYS_MAX


def test_each_merchant_has_as_many(api: Api, other: Api) -> None:
    for _ in range(LIVE_KEYS_MAX - 1):
        create(other)
    create(api)


# --- the checkout --------------------------------------------------------------------------------


def test_a_checkout_names_a_key_of_the_merchant_that_works(app: Flask, api: Api, other: Api) -> None:
    def shown(key_id: str) -> int:
        query = {"key": key_id}
        answer = app.test_client().get(f"/api/v1/orders/{order}/public", query_string=query)
        assert answer.status_code == 200 or refused(answer, 401, "AUTHENTICATION_ERROR", "key")
        return answer.status_code

    order = other.order()["id"]
    key = create(other)
    assert shown(key["id"]) == 200
    new = made(roll(other, key, overlap_hours=1))
    assert (shown(key["id"]), shown(new["id"])) == (200, 200)
    let_pass(app, key, "1 hour")
    assert (shown(key["id"]), shown(new["id"])) == (401, 200)
    revoke(other, new)
    assert shown(new["id"]) == 401
    assert (shown(TEST_API_KEY), shown("key_doesNotExist0000")) == (401, 401)


# --- other merchants' ----------------------------------------------------------------------------


def test_another_merchants_key_is_not_found(api: Api, dashboard: Dashboard, other: Api) -> None:
    for client in (api, dashboard):
        assert "key_other" not in listed(client)
        refused(roll(client, {"id": "key_other"}), 404, "NOT_FOUND_ERROR")
        refused(client.delete("/api_keys/key_other"), 404, "NOT_FOUND_ERROR")
        refused(reveal(client, "key_other", TEST_PASSWORD), 404, "NOT_FOUND_ERROR")
        refused(
            client.get("/api_keys", starting_after="key_other"), 400, "BAD_REQUEST_ERROR", "starting_after"
        )
    assert found(other.get("/merchant"))["email"] == OTHER_EMAIL


def test_an_unknown_key_is_checked_as_thoroughly_as_a_wrong_secret(app: Flask, api: Api) -> None:
    """So that the time it takes does not tell them apart."""

    def steps(key: str) -> tuple[int, int]:
        with (
            mock.patch.object(vault, "unseal", wraps=vault.unseal) as unseal,
            mock.patch.object(hmac, "compare_digest", wraps=hmac.compare_digest) as compare,
        ):
            headers = {"X-Api-Key": key, "X-Api-Secret": "wrong"}
            refused(app.test_client().get("/api/v1/balance", headers=headers), 401, "AUTHENTICATION_ERROR")
        return unseal.call_count, compare.call_count

    assert steps("key_unknown000000000") == steps(api.headers["X-Api-Key"]) == (1, 1)
