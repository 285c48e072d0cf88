"""How a view changes something: one transaction, its answer stored beside its effect, then the wake.

A POST may carry an `Idempotency-Key`. The first answer is kept in the same transaction as what it tells of,
so that both exist or neither does; a repetition is answered with it. A request that was refused did nothing
and keeps nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from flask import Response, current_app, g, request

from jobs import work
from models import vault
from models.errors import bad_request
from models.idempotency import Answer, IdempotencyKey

View = TypeVar("View", bound=Callable[..., Any])
MAX_KEY_LENGTH = 255


def writes(view: View) -> View:
    """Commit what the view did, and for a POST honour the Idempotency-Key. Goes around `blp.response`."""

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        key = _idempotency_key()
        if key is None:
            response = view(*args, **kwargs)
            work.commit()
            return response
        scope, fingerprints = _scope(), _fingerprints()
        stored = IdempotencyKey.claim(scope, key, fingerprints)
        g.idempotency = claimed = (scope, key, fingerprints[0])
        if stored is not None:
            return _replay(stored)
        response = current_app.make_response(view(*args, **kwargs))
        IdempotencyKey.store(*claimed, response.status_code, response.get_data(as_text=True))
        work.commit()
        return response

    return cast(View, wrapper)


def commit_on_the_way() -> None:
    """Commit within a view, which is about to call the outside world. Its Idempotency-Key stays its own."""
    if "idempotency" in g:
        IdempotencyKey.reserve(*g.idempotency)
    work.commit()


def _idempotency_key() -> str | None:
    key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is None or request.method != "POST":
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise bad_request(
            f"The Idempotency-Key must be 1 to {MAX_KEY_LENGTH} printable ASCII characters.",
            field="Idempotency-Key",
        )
    return key


def _scope() -> str:
    """Whose key it is: the merchant's, or on the public side the payment's or the order's."""
    if "merchant_id" in g:
        return g.merchant_id
    body = request.get_json(silent=True) or {}
    of = (request.view_args or {}).get("payment_id") or body.get("order_id")
    return f"public:{str(of)[:64]!a}"


def _fingerprints() -> tuple[bytes, ...]:
    """Keyed hashes of what was asked: the one to keep, then those of SECRET_KEY's fallbacks.

    Keyed, because the body may hold a card number. Of its CVV nothing is kept, not even so: whoever had the
    key would only have to try a thousand (PCI DSS 4.0.1, 3.3.1.2). So it is not compared.
    """
    body: Any = request.get_json(silent=True) if request.get_data() else None
    card = body.get("card") if isinstance(body, dict) else None
    if isinstance(card, dict):
        body = body | {"card": {name: value for name, value in card.items() if name != "cvv"}}
    try:
        canonical = json.dumps([request.method, request.path, body], sort_keys=True)
    except RecursionError:
        raise bad_request("The body is nested too deeply.") from None
    return vault.keyed_hashes("idempotency fingerprint", canonical.encode())


def _replay(stored: Answer) -> Response:
    response = Response(stored.body, status=stored.status, mimetype="application/json")
    response.headers["Idempotent-Replayed"] = "true"
    return response
