"""Why a received webhook does not verify, told to the developer of the receiver."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import select

from models.base import db, isoformat, now
from models.events import Event
from models.signatures import SECRET_PREFIX, TOLERANCE_S, hex_signature, is_signed
from models.webhook_endpoints import WebhookEndpoint

EXCERPT_CHARS = 20  # around the first difference of two bodies

STANDARD = "base64 HMAC-SHA256 of id.timestamp.body, keyed with the bytes that are base64 behind whsec_"


@dataclass(frozen=True)
class Diagnosis:
    """`verified`: a right receiver would accept it now. `problem`: what is wrong, if anything."""

    PROBLEMS: ClassVar = (
        "missing_header",
        "wrong_scheme",
        "bad_timestamp",
        "stale_timestamp",
        "wrong_secret",
        "old_secret",
        "other_endpoint",
        "reencoded_json",
        "changed_body",
        "unknown_message",
        "wrong_signature",
    )

    verified: bool
    problem: str | None
    explanation: str


def diagnose(
    endpoint: WebhookEndpoint,
    *,
    body: str,
    headers: dict[str, str],
    secret: str | None = None,
    computed: str | None = None,
) -> Diagnosis:
    """Examine what a receiver got, byte for byte, and if it is told, the secret that the receiver uses and
    the signature that it computed. The likeliest mistakes first.
    """
    return (
        _secret_that_is_used(endpoint, secret)
        or _Message.examine(endpoint, body, headers, computed)
        or _wrong("wrong_signature", "It cannot be told what is wrong.")
    )


def _wrong(problem: str, explanation: str) -> Diagnosis:
    return Diagnosis(False, problem, explanation)


def _right(explanation: str) -> Diagnosis:
    return Diagnosis(True, None, explanation)


# --- the secret ----------------------------------------------------------------------------------


def _secret_that_is_used(endpoint: WebhookEndpoint, used: str | None) -> Diagnosis | None:
    if used is None or used in endpoint.live_secrets:
        return None
    if used == endpoint.previous_secret:
        expired_at = isoformat(endpoint.previous_secret_expires_at or now())
        return _wrong(
            "old_secret", f"The secret is the previous one, which signs nothing since {expired_at}."
        )
    if used.strip() in (endpoint.secret, endpoint.previous_secret):
        return _wrong("wrong_secret", "The secret has white space around it: strip it when you read it.")
    if SECRET_PREFIX + used in (endpoint.secret, endpoint.previous_secret):
        return _wrong("wrong_secret", f"The secret lacks its prefix {SECRET_PREFIX}: store it whole.")
    other = _owner_of_secret(endpoint, used)
    if other:
        return _wrong("other_endpoint", f"The secret is that of another endpoint of yours, {other}.")
    return _wrong("wrong_secret", "The secret is not this endpoint's; reveal it and copy it anew.")


def _owner_of_secret(endpoint: WebhookEndpoint, used: str) -> str | None:
    for other in WebhookEndpoint.all_of_merchant(endpoint.merchant_id):
        if other.id != endpoint.id and used in (other.secret, other.previous_secret):
            return other.id
    return None


# --- the message ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Message:
    endpoint: WebhookEndpoint
    id: str
    timestamp_s: int
    signatures: str  # as the header has them
    body: bytes
    sent: bytes | None  # the body of that event as it was sent, if there is such an event

    @classmethod
    def examine(
        cls, endpoint: WebhookEndpoint, body: str, headers: dict[str, str], computed: str | None
    ) -> Diagnosis:
        given = {name.strip().lower(): value.strip() for name, value in headers.items()}
        needed = ("webhook-id", "webhook-timestamp", "webhook-signature")
        missing = [name for name in needed if not given.get(name)]
        if len(missing) == len(needed) and "x-webhook-signature" in given and computed is None:
            return _examine_hex(endpoint, body.encode(), given["x-webhook-signature"])
        if missing:
            return _wrong(
                "missing_header",
                f"The header {missing[0]} is missing: does a proxy drop it, or a framework rename it?",
            )
        timestamp = given["webhook-timestamp"]
        if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < 12):
            return _wrong("bad_timestamp", "webhook-timestamp must be whole seconds, as we send it.")
        event = db.session.scalar(
            select(Event).where(Event.id == given["webhook-id"], Event.merchant_id == endpoint.merchant_id)
        )
        message = cls(
            endpoint=endpoint,
            id=given["webhook-id"],
            timestamp_s=int(timestamp),
            signatures=given["webhook-signature"],
            body=body.encode(),
            sent=None if event is None else event.payload.encode(),
        )
        return message.explain_computed(computed) or message.explain()

    def explain(self) -> Diagnosis:
        if not any(signature.startswith("v1,") for signature in self.signatures.split()):
            return _wrong(
                "wrong_scheme",
                "webhook-signature has no entry that begins with v1, - it is not what we sent. "
                f"The scheme is v1, and the {STANDARD}. (The plain hex one is X-Webhook-Signature.)",
            )
        if self.is_signed_with(self.endpoint.secret, self.body):
            return self.judge_age("It verifies with the endpoint's secret.")
        old = self.endpoint.previous_secret
        if old is not None and self.is_signed_with(old, self.body):
            until = isoformat(self.endpoint.previous_secret_expires_at or now())
            if self.endpoint.previous_secret_lives:
                return self.judge_age(f"It verifies with the previous secret, which lives until {until}.")
            return _wrong("old_secret", f"It is signed with the previous secret, which expired at {until}.")
        return self.explain_mismatch()

    def explain_mismatch(self) -> Diagnosis:
        mine = [secret for secret in (self.endpoint.secret, self.endpoint.previous_secret) if secret]
        if self.sent is not None and any(self.is_signed_with(secret, self.sent) for secret in mine):
            return self.explain_body(self.sent)
        for other in WebhookEndpoint.all_of_merchant(self.endpoint.merchant_id):
            secrets = [secret for secret in (other.secret, other.previous_secret) if secret]
            bodies = [self.body, *([self.sent] if self.sent is not None else [])]
            if other.id != self.endpoint.id and any(
                self.is_signed_with(secret, body) for secret in secrets for body in bodies
            ):
                return _wrong("other_endpoint", f"It was sent to another endpoint of yours, {other.id}.")
        if self.sent is None:
            return _wrong("unknown_message", f"There is no event {self.id}: it did not come from us.")
        return _wrong(
            "wrong_signature",
            "Id and event are ours, but no secret of this endpoint made the signature: id, timestamp or "
            "signature were changed on the way or copied from different messages, or the secret is older "
            "than the previous one.",
        )

    def explain_body(self, sent: bytes) -> Diagnosis:
        """The signature is ours and for this event, only the body is not as it was sent."""
        position = next(
            (at for at, (a, b) in enumerate(zip(self.body, sent, strict=False)) if a != b),
            min(len(self.body), len(sent)),
        )
        window = slice(max(0, position - EXCERPT_CHARS), position + EXCERPT_CHARS)
        where = (
            f"The first difference is at byte {position}: we sent {_excerpt(sent[window])}, "
            f"you have {_excerpt(self.body[window])}."
        )
        if _same_json(self.body, sent) and self.body.strip() != sent.strip():
            return _wrong(
                "reencoded_json",
                f"The body was parsed and written again: verify the raw bytes, before any parser. {where}",
            )
        return _wrong("changed_body", f"The body is not what we sent. {where}")

    def judge_age(self, words: str) -> Diagnosis:
        age_s = int(now().timestamp()) - self.timestamp_s
        if abs(age_s) <= TOLERANCE_S:
            return _right(
                words + " If your receiver refuses it, its secret or its handling of the body is wrong."
            )
        when = f"{age_s} s old" if age_s > 0 else f"{-age_s} s in the future"
        return _wrong(
            "stale_timestamp",
            f"{words} But its timestamp is {when}, and receivers refuse more than {TOLERANCE_S} s: "
            "is it an old recording, or is your clock wrong?",
        )

    def is_signed_with(self, secret: str, body: bytes) -> bool:
        return is_signed(self.signatures, [secret], self.id, self.timestamp_s, body)

    # --- what the receiver computed ----------------------------------------------------------------

    def explain_computed(self, computed: str | None) -> Diagnosis | None:
        """Which mistake leads to the signature that the receiver computed. None: none that is known."""
        if computed is None:
            return None
        bare = computed.strip().removeprefix("v1,").removeprefix("sha256=")
        for key_words, key in self._keys():
            for body_words, body in self._bodies():
                for text_words, signed in self._texts(body):
                    digest = hmac.digest(key, signed, hashlib.sha256)
                    for form, written in _forms(digest):
                        if hmac.compare_digest(written.encode(), bare.encode()):
                            return self._judge_computed(form, text_words, body_words, key_words)
        return _wrong(
            "wrong_signature",
            "No usual mistake leads to what your receiver computed: is it keyed with another secret?",
        )

    def _judge_computed(self, form: str, text: str, body: str, key: str) -> Diagnosis | None:
        if (form, text, body, key) == ("base64", "id.timestamp.body", "raw", "decoded"):
            return None  # it is right: what came is wrong, if anything
        if (form, text, body, key) == ("hex", "body", "raw", "whole"):
            return _wrong(
                "wrong_scheme", "Your receiver computed X-Webhook-Signature: compare it with that header."
            )
        keys = {
            "decoded": "the decoded bytes",
            "whole": "the whole secret string",
            "undecoded": "the base64 text behind whsec_, not decoded",
            "previous": "the previous secret",
        }
        bodies = {"raw": "", "reencoded": ", of the body parsed and written again"}
        said = (
            f"Your receiver computed the {form} HMAC-SHA256 of {text}{bodies[body]}, keyed with {keys[key]}."
        )
        if body == "reencoded":
            return _wrong("reencoded_json", f"{said} Use the raw bytes of the body.")
        if key == "previous":
            return _wrong("old_secret", said)
        return _wrong("wrong_scheme", f"{said} The scheme is the {STANDARD}.")

    def _keys(self) -> Iterator[tuple[str, bytes]]:
        secret = self.endpoint.secret
        yield "decoded", _decoded(secret)
        yield "whole", secret.encode()
        yield "undecoded", secret.removeprefix(SECRET_PREFIX).encode()
        if self.endpoint.previous_secret:
            yield "previous", _decoded(self.endpoint.previous_secret)

    def _bodies(self) -> Iterator[tuple[str, bytes]]:
        yield "raw", self.body
        try:
            parsed = json.loads(self.body)
        except (ValueError, RecursionError):
            return
        for separators in ((", ", ": "), (",", ":")):
            for ascii_only in (True, False):
                for sort_keys in (False, True):
                    again = json.dumps(
                        parsed, separators=separators, ensure_ascii=ascii_only, sort_keys=sort_keys
                    )
                    yield "reencoded", again.encode("utf-8", "surrogatepass")

    def _texts(self, body: bytes) -> Iterator[tuple[str, bytes]]:
        yield "id.timestamp.body", f"{self.id}.{self.timestamp_s}.".encode() + body
        yield "body", body
        yield "timestamp.body", f"{self.timestamp_s}.".encode() + body
        yield "id.body", f"{self.id}.".encode() + body


def _examine_hex(endpoint: WebhookEndpoint, body: bytes, given: str) -> Diagnosis:
    """The older scheme alone: it says nothing of id and time, so nothing can be looked up."""
    given = given.removeprefix("sha256=").lower()
    if hmac.compare_digest(hex_signature(endpoint.secret, body).encode(), given.encode()):
        return _right("X-Webhook-Signature verifies with the endpoint's secret.")
    old = endpoint.previous_secret
    if old is not None and hmac.compare_digest(hex_signature(old, body).encode(), given.encode()):
        return _wrong("old_secret", "X-Webhook-Signature was made with the previous secret.")
    return _wrong(
        "wrong_signature",
        "X-Webhook-Signature does not match: another secret, or not the raw bytes of the body. "
        "Send the webhook-... headers too, and more can be told.",
    )


def _decoded(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    except binascii.Error:
        return b""


def _forms(digest: bytes) -> Iterator[tuple[str, str]]:
    yield "base64", base64.b64encode(digest).decode()
    yield "hex", digest.hex()
    yield "hex", digest.hex().upper()
    yield "unpadded base64", base64.b64encode(digest).decode().rstrip("=")
    yield "URL-safe base64", base64.urlsafe_b64encode(digest).decode()
    yield "URL-safe base64", base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except (ValueError, RecursionError):
        return False


def _excerpt(part: bytes) -> str:
    text = part.decode("utf-8", "replace")
    return f"`{text}`" if part else "its end"
