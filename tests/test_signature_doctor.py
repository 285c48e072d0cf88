"""The signature doctor: every usual mistake of a receiver, made with a real delivery, is named."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from models.base import db
from models.signature_doctor import Diagnosis
from models.signatures import hex_signature, new_secret, standard_signature
from tests.conftest import Api, drain_all, found, made, refused
from tests.receiver import Receiver

STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")


@dataclass(frozen=True)
class Got:
    """What a receiver got, and where it got it."""

    api: Api
    endpoint: dict[str, Any]
    body: str
    headers: dict[str, str]

    @property
    def secret(self) -> str:
        return self.endpoint["secret"]

    @property
    def path(self) -> str:
        return f"/webhook_endpoints/{self.endpoint['id']}"

    def but(self, **headers: str | None) -> Got:
        """With other `webhook-...` headers; None: without it."""
        changed = self.headers | {f"webhook-{name}": value for name, value in headers.items()}
        return replace(self, headers={name: value for name, value in changed.items() if value is not None})

    def signed(self, secret: str | None = None, *, age_s: int = 0) -> Got:
        """Signed anew, as of so many seconds ago."""
        timestamp = int(time.time()) - age_s
        message = (self.headers["webhook-id"], timestamp, self.body.encode())
        return self.but(
            timestamp=str(timestamp), signature=standard_signature(secret or self.secret, *message)
        )

    def diagnose(self, **more: Any) -> dict[str, Any]:
        body = {"body": self.body, "headers": self.headers, **more}
        diagnosis = found(self.api.post(self.path + "/verify", body))
        assert set(diagnosis) == {"verified", "problem", "explanation"}
        assert diagnosis["verified"] == (diagnosis["problem"] is None)
        assert self.secret not in diagnosis["explanation"]
        return diagnosis

    def rotate(self, overlap_hours: int = 1) -> str:
        return found(self.api.post(self.path + "/rotate_secret", {"overlap_hours": overlap_hours}))["secret"]


@pytest.fixture
def got(api: Api, receiver: Receiver) -> Got:
    """A webhook that was really delivered."""
    endpoint = api.endpoint(receiver.url)
    made(api.post(f"/webhook_endpoints/{endpoint['id']}/test"))
    drain_all()
    (received,) = receiver.received
    headers = {name: received.headers[name] for name in (*STANDARD, "x-webhook-signature", "content-type")}
    return Got(api, endpoint, received.body.decode(), headers)


# --- as it came ----------------------------------------------------------------------------------


def test_what_came_as_it_was_sent_is_verified(got: Got) -> None:
    assert got.diagnose()["verified"]
    assert got.diagnose(secret=got.secret)["verified"]


def test_the_names_of_headers_are_the_same_in_any_case(got: Got) -> None:
    assert replace(got, headers={name.title(): value for name, value in got.headers.items()}).diagnose()[
        "verified"
    ]


def test_the_old_secret_is_right_as_long_as_it_lives(got: Got) -> None:
    got.rotate(1)
    assert got.diagnose()["verified"]
    assert got.diagnose(secret=got.secret)["verified"]


# --- as it should not be -------------------------------------------------------------------------


def reencoded(got: Got) -> Got:
    return replace(got, body=json.dumps(json.loads(got.body)))


def from_another_endpoint(got: Got) -> Got:
    other = got.api.endpoint("http://127.0.0.1:1/")
    return got.signed(other["secret"])


def after_a_revocation(got: Got) -> Got:
    got.rotate(0)
    return got


def with_a_secret_before_the_last(got: Got) -> Got:
    got.rotate()
    got.rotate()
    return got


MISTAKES: dict[str, tuple[str, Callable[[Got], Got], str]] = {
    "parsed and written again": ("reencoded_json", reencoded, "The first difference is at byte 6: we sent"),
    "a line end added": (
        "changed_body",
        lambda got: replace(got, body=got.body + "\n"),
        "The first difference is at byte",
    ),
    "cut short": (
        "changed_body",
        lambda got: replace(got, body=got.body[:-1]),
        "The first difference is at byte",
    ),
    "another amount": (
        "changed_body",
        lambda got: replace(got, body=got.body.replace("webhook.test", "webhook.tost")),
        "we sent `",
    ),
    "another endpoint's": ("other_endpoint", from_another_endpoint, "another endpoint of yours, we_"),
    "after a revocation": ("old_secret", after_a_revocation, "which expired at 20"),
    "two rotations ago": ("wrong_signature", with_a_secret_before_the_last, "no secret of this endpoint"),
    "an old recording": ("stale_timestamp", lambda got: got.signed(age_s=301), "30"),
    "a clock that is wrong": ("stale_timestamp", lambda got: got.signed(age_s=-400), "s in the future"),
    "a time in words": ("bad_timestamp", lambda got: got.but(timestamp="today"), "whole seconds"),
    "a time in milliseconds": (
        "bad_timestamp",
        lambda got: got.but(timestamp=got.headers["webhook-timestamp"] + "000"),
        "whole seconds",
    ),
    "an empty time": ("missing_header", lambda got: got.but(timestamp=""), "webhook-timestamp is missing"),
    "no signature": (
        "missing_header",
        lambda got: replace(
            got.but(signature=None), headers={"webhook-id": "evt_1", "webhook-timestamp": "1"}
        ),
        "webhook-signature is missing",
    ),
    "no headers": ("missing_header", lambda got: replace(got, headers={}), "webhook-id is missing"),
    "another version": ("wrong_scheme", lambda got: got.but(signature="v0,AAAA"), "The scheme is v1"),
    "the hex in its place": (
        "wrong_scheme",
        lambda got: got.but(signature=got.headers["x-webhook-signature"]),
        "X-Webhook-Signature",
    ),
    "an id that is not ours": (
        "unknown_message",
        lambda got: got.but(id="evt_nobody"),
        "no event evt_nobody",
    ),
    "parts of two messages": (
        "wrong_signature",
        lambda got: got.but(timestamp=str(int(got.headers["webhook-timestamp"]) - 1)),
        "copied from different messages",
    ),
}


@pytest.mark.parametrize(("problem", "mistake", "words"), MISTAKES.values(), ids=MISTAKES)
def test_what_is_wrong_with_a_message_is_said(
    got: Got, problem: str, mistake: Callable[[Got], Got], words: str
) -> None:
    diagnosis = mistake(got).diagnose()
    assert diagnosis["problem"] == problem, diagnosis
    assert words in diagnosis["explanation"]


@pytest.mark.parametrize(
    ("used", "problem", "words"),
    [
        (lambda _got: new_secret(), "wrong_secret", "not this endpoint's"),
        (lambda _got: "nonsense", "wrong_secret", "not this endpoint's"),
        (lambda _got: "", "wrong_secret", "not this endpoint's"),
        (lambda got: got.secret + "\n", "wrong_secret", "white space"),
        (lambda got: got.secret.removeprefix("whsec_"), "wrong_secret", "lacks its prefix"),
        (lambda got: got.api.endpoint("http://127.0.0.1:1/")["secret"], "other_endpoint", "yours, we_"),
    ],
)
def test_what_is_wrong_with_a_secret_is_said(
    got: Got, used: Callable[[Got], str], problem: str, words: str
) -> None:
    diagnosis = got.diagnose(secret=used(got))
    assert diagnosis["problem"] == problem
    assert words in diagnosis["explanation"]


def test_a_receiver_that_still_has_the_revoked_secret_is_told(got: Got) -> None:
    new = got.rotate(0)
    diagnosis = got.signed(new).diagnose(secret=got.secret)
    assert diagnosis["problem"] == "old_secret"
    assert "signs nothing since 20" in diagnosis["explanation"]


def test_every_problem_has_a_mistake_that_leads_to_it() -> None:
    assert {problem for problem, _, _ in MISTAKES.values()} | {"wrong_secret"} == set(Diagnosis.PROBLEMS)


# --- the hex scheme alone ------------------------------------------------------------------------


def test_the_hex_header_alone_is_judged_too(got: Got) -> None:
    def diagnose(signature: str) -> str | None:
        return replace(got, headers={"X-Webhook-Signature": signature}).diagnose()["problem"]

    right = got.headers["x-webhook-signature"]
    assert diagnose(right) is None
    assert diagnose(right.upper()) is None
    assert diagnose("sha256=" + right) is None
    assert diagnose(hex_signature(new_secret(), got.body.encode())) == "wrong_signature"
    got.rotate(1)
    assert diagnose(right) == "old_secret"


# --- what the receiver computed ------------------------------------------------------------------


def mac(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256)


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def decoded(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"))


def content(got: Got, *parts: str, body: str | None = None) -> bytes:
    named = {name: got.headers[f"webhook-{name}"] for name in ("id", "timestamp")}
    return ".".join([*(named[part] for part in parts), got.body if body is None else body]).encode()


ALL = ("id", "timestamp")
COMPUTED: dict[str, tuple[str | None, Callable[[Got], str], str]] = {
    "right": (None, lambda g: b64(mac(decoded(g.secret), content(g, *ALL))), ""),
    "right, with its version": (None, lambda g: "v1," + b64(mac(decoded(g.secret), content(g, *ALL))), ""),
    "hex": ("wrong_scheme", lambda g: mac(decoded(g.secret), content(g, *ALL)).hex(), "the hex HMAC"),
    "URL-safe": (
        "wrong_scheme",
        lambda g: base64.urlsafe_b64encode(mac(decoded(g.secret), content(g, *ALL))).decode().rstrip("="),
        " base64 HMAC",
    ),
    "the whole secret": (
        "wrong_scheme",
        lambda g: b64(mac(g.secret.encode(), content(g, *ALL))),
        "keyed with the whole secret string",
    ),
    "the secret not decoded": (
        "wrong_scheme",
        lambda g: b64(mac(g.secret.removeprefix("whsec_").encode(), content(g, *ALL))),
        "not decoded",
    ),
    "the body alone": ("wrong_scheme", lambda g: b64(mac(decoded(g.secret), content(g))), "of body, keyed"),
    "without the id": (
        "wrong_scheme",
        lambda g: b64(mac(decoded(g.secret), content(g, "timestamp"))),
        "of timestamp.body",
    ),
    "without the time": (
        "wrong_scheme",
        lambda g: b64(mac(decoded(g.secret), content(g, "id"))),
        "of id.body",
    ),
    "of the body written again": (
        "reencoded_json",
        lambda g: b64(mac(decoded(g.secret), content(g, *ALL, body=json.dumps(json.loads(g.body))))),
        "Use the raw bytes",
    ),
    "the other header": (
        "wrong_scheme",
        lambda g: hex_signature(g.secret, g.body.encode()),
        "compare it with that header",
    ),
    "nothing that is known": ("wrong_signature", lambda _g: b64(b"0" * 32), "No usual mistake"),
    "nothing": ("wrong_signature", lambda _g: "", "No usual mistake"),
}


@pytest.mark.parametrize(("problem", "compute", "words"), COMPUTED.values(), ids=COMPUTED)
def test_the_mistake_that_leads_to_a_computed_signature_is_said(
    got: Got, problem: str | None, compute: Callable[[Got], str], words: str
) -> None:
    diagnosis = got.diagnose(computed=compute(got))
    assert diagnosis["problem"] == problem, diagnosis
    assert words in diagnosis["explanation"]


def test_a_signature_computed_with_the_old_secret_is_said(got: Got) -> None:
    new = got.rotate(0)
    computed = b64(mac(decoded(got.secret), content(got, *ALL)))
    assert got.signed(new).diagnose(computed=computed)["problem"] in ("old_secret", "wrong_signature")
    renewed = got.signed(new)
    computed = b64(mac(decoded(got.secret), content(renewed, *ALL)))
    assert renewed.diagnose(computed=computed)["problem"] == "old_secret"


# --- what it must never do -----------------------------------------------------------------------


def test_it_changes_nothing(app: Flask, got: Got) -> None:
    def everything() -> list[Any]:
        tables = ("webhook_endpoints", "webhook_deliveries", "events", "audit_log", "idempotency_keys")
        with app.app_context():
            return [
                db.session.execute(text(f"SELECT t::text FROM {name} t ORDER BY 1")).all() for name in tables
            ]

    before = everything()
    got.diagnose()
    reencoded(got).diagnose(computed="x", secret=None)
    assert everything() == before


def test_no_secret_is_ever_in_its_answer(got: Got) -> None:
    other = got.api.endpoint("http://127.0.0.1:1/")["secret"]
    new = got.rotate(1)
    for answer in (
        got.diagnose(),
        got.diagnose(secret=other),
        got.diagnose(secret=new_secret()),
        got.signed(other).diagnose(),
        got.diagnose(computed=hex_signature(new, got.body.encode())),
    ):
        for secret in (got.secret, new, other):
            assert secret.removeprefix("whsec_") not in json.dumps(answer)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"headers": {}}, "body"),
        ({"body": "{}"}, "headers"),
        ({"body": {}, "headers": {}}, "body"),
        ({"body": "{}", "headers": []}, "headers"),
        ({"body": "{}", "headers": "webhook-id: 1"}, "headers"),
        ({"body": "{}", "headers": {"webhook-id": 5}}, "headers.webhook-id"),
        ({"body": "{}", "headers": {}, "secret": 5}, "secret"),
        ({"body": "{}", "headers": {}, "computed": []}, "computed"),
    ],
)
def test_a_wrong_question_is_refused(got: Got, body: dict[str, Any], field: str) -> None:
    refused(got.api.post(got.path + "/verify", body), 400, "BAD_REQUEST_ERROR", field)


@pytest.mark.parametrize(
    "garbage",
    ["", "\u20b9\U0001f600", "[" * 20_000, '{"a":' * 5_000, "x" * 60_000, '"\\ud800"', "{}\r\n", "\u2028"],
)
def test_garbage_is_judged_like_anything_else(got: Got, garbage: str) -> None:
    for headers in (got.headers, {}, {"x-webhook-signature": garbage[:100]}):
        assert replace(got, body=garbage, headers=headers).diagnose()["verified"] is False
    short = garbage[:1000]
    assert got.diagnose(secret=short)["verified"] is False
    assert got.diagnose(computed=short)["verified"] is False
    assert replace(got, headers=dict.fromkeys(STANDARD, short)).diagnose()["verified"] is False


def test_half_a_character_is_refused_or_judged_but_never_breaks_it(got: Got) -> None:
    raw = '{"body": "\\ud800", "headers": {"webhook-id": "\\udfff"}, "secret": "\\ud800"}'
    answer = got.api._call("POST", got.path + "/verify", data=raw, content_type="application/json")
    assert answer.status_code in (200, 400), answer.text
