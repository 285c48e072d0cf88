"""Secrets at rest: encryption and keyed hashes, under keys derived from SECRET_KEY.

Each purpose has its own key (HKDF, RFC 5869), so that one can never stand in for another.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from config import ConfigError, settings


def seal(secret: str) -> bytes:
    """Encrypt and authenticate a secret (AES-128-CBC + HMAC-SHA256, the Fernet format)."""
    return _fernet(settings.secret_key).encrypt(secret.encode())


def unseal(sealed: bytes) -> str:
    """Read a sealed secret back.

    Raises:
        ConfigError: it was sealed under another SECRET_KEY.
    """
    try:
        return _fernet(settings.secret_key).decrypt(bytes(sealed)).decode()
    except InvalidToken:
        raise ConfigError("SECRET_KEY: Is not the one that this database was written with.") from None


def keyed_hash(purpose: str, data: bytes) -> bytes:
    """HMAC-SHA256 under the purpose's own key: equal data can be recognised, never guessed back."""
    return hmac.digest(_derive(settings.secret_key, purpose), data, hashlib.sha256)


def token_hash(token: str) -> bytes:
    """What is kept of a random token that somebody holds: nobody can make the token of it."""
    return hashlib.sha256(token.encode()).digest()


@lru_cache(maxsize=4)
def _fernet(secret_key: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(_derive(secret_key, "secrets at rest")))


@lru_cache(maxsize=16)
def _derive(secret_key: str, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(secret_key.encode())
