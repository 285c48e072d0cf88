"""How often may be asked what needs no secret. Counted by this process: a limit must not need Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

from flask import request
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from config import settings
from models.errors import Refused

View = TypeVar("View", bound=Callable[..., Any])

_counter = FixedWindowRateLimiter(MemoryStorage())


def limited_by_address(view: View) -> View:
    """A public view that changes something: limited by the caller's address.

    Raises:
        Refused: RATE_LIMIT_ERROR, with the seconds until it may be asked again.
    """

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        count(settings.public_rate_limit_per_address, view.__name__, remote_address())
        return view(*args, **kwargs)

    return cast(View, wrapper)


def limited_by_address_and_order(view: View) -> View:
    """A public view that card testers would love: limited by the caller's address and by the order."""

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        body = request.get_json(silent=True)
        order_id = body.get("order_id") if isinstance(body, dict) else ""
        count(settings.public_rate_limit_per_order, view.__name__, f"order:{order_id}")
        return view(*args, **kwargs)

    return limited_by_address(cast(View, wrapper))


def remote_address() -> str:
    return request.remote_addr or "127.0.0.1"


def count(rate: str, *who: str) -> None:
    limit = _parsed(rate)
    if not _counter.hit(limit, *who):
        wait_s = int(_counter.get_window_stats(limit, *who).reset_time - time.time())
        raise Refused("RATE_LIMIT_ERROR", "Too many requests; try again later.", retry_after_s=max(1, wait_s))


@cache
def _parsed(rate: str) -> RateLimitItem:
    return parse(rate)
