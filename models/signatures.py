"""Webhook signatures, as pure functions of the exact bytes.

Two schemes: Standard Webhooks (https://www.standardwebhooks.com, `webhook-signature`), and the hex
HMAC of the body alone (`X-Webhook-Signature`) that older integrations check.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

SECRET_PREFIX = "whsec_"  # noqa: S105 (a prefix, not a secret)
SECRET_BYTES = 32
TOLERANCE_S = 300  # as the Standard Webhooks libraries: an older message may be somebody's recording of it


def new_secret() -> str:
    """A signing secret: `whsec_` and the base64 of 32 random bytes."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def standard_signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """`v1,<base64 HMAC-SHA256 of "id.timestamp.body">`, keyed with the bytes behind `whsec_`."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def is_signed(
    signatures: str, secrets: Iterable[str], message_id: str, timestamp_s: int, body: bytes
) -> bool:
    """Whether a `webhook-signature` was made with one of the secrets. In a rotation it has two entries."""
    given = [signature.encode() for signature in signatures.split()]
    wanted = [standard_signature(secret, message_id, timestamp_s, body).encode() for secret in secrets]
    return any(hmac.compare_digest(one, other) for one in wanted for other in given)


def hex_signature(secret: str, body: bytes) -> str:
    """Hex HMAC-SHA256 of the raw body, keyed with the whole secret string."""
    return hmac.digest(secret.encode(), body, hashlib.sha256).hex()
