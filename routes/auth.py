"""Who is asking: an API key pair in headers or HTTP Basic, or the dashboard's session cookie.

Everything is looked up within that merchant. A browser sends the cookie whoever made it ask: so what changes
something must also carry the session's CSRF token, which only our own page can read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from flask import g, request

from config import settings
from models.api_keys import ApiKey
from models.errors import Refused
from models.merchants import Merchant
from models.sessions import Session, is_csrf_token
from routes.limits import count_key

View = TypeVar("View", bound=Callable[..., Any])
MAX_CREDENTIAL_LENGTH = 256
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # RFC 9110, 9.2.1: they change nothing


def authenticated(view: View) -> View:
    """The view belongs to a merchant: `g.merchant_id` says which, `g.actor` who is asking.

    Raises:
        Refused: AUTHENTICATION_ERROR; the same words for an unknown key and a wrong secret.
            PERMISSION_ERROR: a change without the session's CSRF token.
    """

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if _offers_a_key() or session_cookie() is None:
            _sign_in_by_key()
        else:
            sign_in_by_session()
        return view(*args, **kwargs)

    return cast(View, wrapper)


def in_dashboard(view: View) -> View:
    """A view for whoever signed in to the dashboard, and not for an API key: `g.session` is theirs."""

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        sign_in_by_session()
        return view(*args, **kwargs)

    return cast(View, wrapper)


def signed_in_operator() -> Merchant:
    """The operator who asks from the dashboard.

    Raises:
        Refused: nobody is signed in, or somebody else.
    """
    merchant = sign_in_by_session(csrf=False).merchant
    if merchant.role != "operator":
        raise Refused("PERMISSION_ERROR", "Only operators may look at this.")
    return merchant


# --- API keys ------------------------------------------------------------------------------------


def _sign_in_by_key() -> None:
    key_id, secret = _credentials()
    merchant_id = ApiKey.authenticate(key_id, secret) if key_id and secret else None
    if merchant_id is None:
        raise Refused("AUTHENTICATION_ERROR", "The API key or secret is missing or wrong.")
    count_key(key_id)
    g.merchant_id, g.actor, g.is_operator = merchant_id, key_id, False


def _offers_a_key() -> bool:
    environ = request.environ
    return "HTTP_X_API_KEY" in environ or "HTTP_X_API_SECRET" in environ or "HTTP_AUTHORIZATION" in environ


def _credentials() -> tuple[str, str]:
    environ = request.environ
    key_id, secret = environ.get("HTTP_X_API_KEY"), environ.get("HTTP_X_API_SECRET")
    if key_id is None and secret is None and request.authorization:
        key_id, secret = request.authorization.username, request.authorization.password
    if not key_id or not secret or max(len(key_id), len(secret)) > MAX_CREDENTIAL_LENGTH:
        return "", ""
    return ("", "") if "\0" in key_id else (key_id, secret)


# --- the dashboard's session ---------------------------------------------------------------------


def cookie_name() -> str:
    """In production with the prefix by which browsers take it from this very host alone (RFC 6265bis)."""
    return "gateway_session" if settings.local else "__Host-gateway_session"


def session_cookie() -> str | None:
    token = request.cookies.get(cookie_name())
    return token if token and len(token) <= MAX_CREDENTIAL_LENGTH else None


def sign_in_by_session(*, csrf: bool = True) -> Session:
    """The session of the cookie; `g.merchant_id`, `g.actor` and `g.session` are set.

    `X-Background: true` marks what a page asks by itself: it does not keep the session from idling out.

    Raises:
        Refused: there is no such session any more; or the CSRF token of a change is missing.
    """
    token = session_cookie()
    used = request.headers.get("X-Background") != "true"
    session = Session.authenticate(token, used=used) if token else None
    if session is None or token is None:
        raise Refused("AUTHENTICATION_ERROR", "Sign in first.", reason="not_signed_in")
    needs_token = csrf and request.method not in SAFE_METHODS
    if needs_token and not is_csrf_token(request.headers.get("X-CSRF-Token", ""), token):
        text = "The X-CSRF-Token is missing, or not this session's."
        raise Refused("PERMISSION_ERROR", text, field="X-CSRF-Token", reason="csrf_token")
    merchant = session.merchant
    g.session, g.merchant_id, g.actor = session, merchant.id, merchant.email
    g.is_operator = merchant.role == "operator"
    return session
