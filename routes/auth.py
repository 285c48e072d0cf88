"""Who is asking: an API key pair in headers or HTTP Basic. Everything is looked up within that merchant."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from flask import g, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from config import settings
from models.errors import Refused
from models.merchants import ApiKey

View = TypeVar("View", bound=Callable[..., Any])
MAX_CREDENTIAL_LENGTH = 256

# Counts what can be asked without a secret. In this process' memory: a limit must not need Redis.
limiter = Limiter(get_remote_address, storage_uri="memory://")


def authenticated(view: View) -> View:
    """The view belongs to a merchant: `g.merchant_id` says which, `g.actor` who is asking.

    Raises:
        Refused: AUTHENTICATION_ERROR; the same words for an unknown key and a wrong secret.
    """

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        key_id, secret = _credentials()
        merchant = ApiKey.authenticate(key_id, secret) if key_id and secret else None
        if merchant is None:
            raise Refused("AUTHENTICATION_ERROR", "The API key or secret is missing or wrong.")
        g.merchant_id, g.actor = merchant.id, key_id
        return view(*args, **kwargs)

    return cast(View, wrapper)


def limited_by_address(view: View) -> View:
    """A public view that changes something: limited by the caller's address."""
    return cast(View, limiter.limit(lambda: settings.public_rate_limit_per_address)(view))


def limited_by_address_and_order(view: View) -> View:
    """A public view that card testers would love: limited by the caller's address and by the order."""
    by_order = limiter.limit(lambda: settings.public_rate_limit_per_order, key_func=_order_in_body)
    return limited_by_address(cast(View, by_order(view)))


def _credentials() -> tuple[str, str]:
    key_id, secret = request.headers.get("X-Api-Key"), request.headers.get("X-Api-Secret")
    if key_id is None and secret is None and request.authorization:
        key_id, secret = request.authorization.username, request.authorization.password
    if not key_id or not secret or max(len(key_id), len(secret)) > MAX_CREDENTIAL_LENGTH:
        return "", ""
    return ("", "") if "\0" in key_id else (key_id, secret)


def _order_in_body() -> str:
    body = request.get_json(silent=True)
    return f"order:{body.get('order_id')}" if isinstance(body, dict) else "order:"
