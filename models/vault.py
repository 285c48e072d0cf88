"""Secrets at rest: encryption and keyed hashes, under keys derived from SECRET_KEY.

Each purpose has its own key (HKDF, RFC 5869), so that one can never stand in for another. While SECRET_KEY is
being replaced, what was written under one of SECRET_KEY_FALLBACKS is still understood; nothing new is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from config import ConfigError, settings


def seal(secret: str) -> bytes:
    """Encrypt and authenticate a secret (AES-128-CBC + HMAC-SHA256, the Fernet format)."""
    return _fernet(settings.secret_key).encrypt(secret.encode())


def unseal(sealed: bytes) -> str:
    """Read a sealed secret back.

    Raises:
        ConfigError: it was sealed under another key than SECRET_KEY and its fallbacks.
    """
    try:
        return _ring(settings.secret_keys).decrypt(bytes(sealed)).decode()
    except InvalidToken:
        raise ConfigError(
            "SECRET_KEY: Is not the one that this database was written with, and no fallback is."
        ) from None


def reseal(sealed: bytes) -> bytes | None:
    """The same secret under SECRET_KEY; None if that is what it is sealed under.

    Raises:
        ConfigError: as `unseal`.
    """
    try:
        _fernet(settings.secret_key).decrypt(bytes(sealed))
    except InvalidToken:
        return seal(unseal(sealed))
    return None


def keyed_hash(purpose: str, data: bytes) -> bytes:
    """HMAC-SHA256 under the purpose's own key: equal data can be recognised, never guessed back."""
    return hmac.digest(_derive(settings.secret_key, purpose), data, hashlib.sha256)


def keyed_hashes(purpose: str, data: bytes) -> tuple[bytes, ...]:
    """The keyed hash, and what it was under each of the fallbacks."""
    return tuple(hmac.digest(_derive(key, purpose), data, hashlib.sha256) for key in settings.secret_keys)


def token_hash(token: str) -> bytes:
    """What is kept of a random token that somebody holds: nobody can make the token of it."""
    return hashlib.sha256(token.encode()).digest()


@lru_cache(maxsize=16)
def _fernet(secret_key: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(_derive(secret_key, "secrets at rest")))


@lru_cache(maxsize=4)
def _ring(secret_keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([_fernet(key) for key in secret_keys])


@lru_cache(maxsize=64)
def _derive(secret_key: str, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(secret_key.encode())
