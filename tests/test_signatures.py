"""Webhook signatures, against published vectors and the published library."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import standardwebhooks
from standardwebhooks import Webhook

from models.signatures import hex_signature, new_secret, standard_signature

# The worked example in the Standard Webhooks documentation, as its reference libraries test it.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_it_signs_the_published_example() -> None:
    assert standard_signature(SECRET, MESSAGE_ID, TIMESTAMP, BODY) == SIGNATURE


def test_the_published_library_verifies_us() -> None:
    secret, body = new_secret(), '{"name":"ÄÖ ₹ 支付"}'.encode()
    timestamp = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": standard_signature(secret, "evt_1", timestamp, body),
    }
    assert Webhook(secret).verify(body, headers) == {"name": "ÄÖ ₹ 支付"}
    forged = headers | {"webhook-id": "evt_2"}
    try:
        Webhook(secret).verify(body, forged)
    except standardwebhooks.WebhookVerificationError:
        return
    raise AssertionError("a forged id was accepted")


def test_the_hex_signature_is_rfc_4231_case_2() -> None:
    digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert hex_signature("Jefe", b"what do ya want for nothing?") == digest


def test_a_secret_is_32_random_bytes() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(len(base64.b64decode(secret.removeprefix("whsec_"))) == 32 for secret in secrets)
