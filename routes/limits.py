"""How often may be asked: what needs no secret, because of who tries cards; and with one API key.

Counted in Redis, for all web processes together. No limit needs Redis: while that is away, each process
counts for itself.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Any, TypeVar, cast

from flask import current_app, request
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter
from redis import RedisError

from config import settings
from jobs.wake import fast_redis
from models import vault
from models.callers import one_caller
from models.errors import Refused

View = TypeVar("View", bound=Callable[..., Any])
Counted = tuple[str, tuple[str, ...]]  # a rate, and whose requests it is about
log = logging.getLogger(__name__)

REDIS_REST_S = 5.0  # after a failure: a request would wait 0.2 s to learn that it is still away
REPORTED_SHARE = 100  # an API key's requests are told to Redis whenever they are this part of its limit
CARD_DIGITS_MIN = 12  # less is no card


# --- what needs no secret ------------------------------------------------------------------------


def limited_by_address(view: View) -> View:
    """A public view that changes something: limited by the caller's address.

    Raises:
        Refused: RATE_LIMIT_ERROR, with the seconds until it may be asked again.
    """

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        count([(settings.public_rate_limit_per_address, (view.__name__, one_caller(remote_address())))])
        return view(*args, **kwargs)

    return cast(View, wrapper)


def limited_as_card_testing(view: View) -> View:
    """A public view by which stolen cards could be tried: limited by address, by order and by card.

    Who goes on comes from the limit of a minute into those of an hour and a day: the pause grows.

    Raises:
        Refused: as `limited_by_address`.
    """

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        body = request.get_json(silent=True)
        order_id = body.get("order_id") if isinstance(body, dict) else None
        by: list[Counted] = [
            (settings.public_rate_limit_per_address, (view.__name__, one_caller(remote_address())))
        ]
        by += [(settings.public_rate_limit_per_order, (view.__name__, "order", f"{str(order_id)[:64]!a}"))]
        by += [(settings.public_rate_limit_per_card, ("card", card)) for card in _card_of(body)]
        count(by)
        return view(*args, **kwargs)

    return cast(View, wrapper)


def remote_address() -> str:
    return request.remote_addr or "127.0.0.1"


def count(rates: list[Counted]) -> None:
    """Count one request against these rates, up to the one that is exceeded.

    So a caller who goes on uses up nobody else's, and leaves no new counts of what it makes up.

    Raises:
        Refused: one of them is exceeded.
    """
    for rate, who in rates:
        if wait_s := max(_wait_s(limit, who, 1) for limit in _parsed(rate)):
            raise _too_many(wait_s)


def _card_of(body: Any) -> Iterator[str]:
    """The number of the card that is tried, as a keyed hash, if there is one."""
    card = body.get("card") if isinstance(body, dict) else None
    number = card.get("number") if isinstance(card, dict) else None
    digits = re.sub(r"\D", "", str(number)[:64])
    if len(digits) >= CARD_DIGITS_MIN:
        yield vault.keyed_hash("card rate limit", digits.encode()).hex()[:32]


# --- API keys ------------------------------------------------------------------------------------


class KeyUse:
    """What this process knows of one API key: its requests of which Redis is not told yet, and its pause."""

    __slots__ = ("rests_until", "untold")

    def __init__(self) -> None:
        self.untold, self.rests_until = 0, 0.0


def count_key(key_id: str) -> None:
    """Count one request of an API key, which is known to be one.

    Redis is told of many at once: each time would cost a fifth of the request. So a key may exceed its
    limit by a hundredth for each web process.

    Raises:
        Refused: RATE_LIMIT_ERROR, as above.
    """
    uses: dict[str, KeyUse] = current_app.extensions.setdefault("key_uses", {})
    use = uses.get(key_id) or uses.setdefault(key_id, KeyUse())
    if use.rests_until and (wait_s := use.rests_until - time.monotonic()) > 0:
        raise _too_many(wait_s)
    use.untold += 1
    rate = settings.rate_limit_per_api_key
    if use.untold < _told_at_once(rate):
        return
    cost, use.untold = use.untold, 0
    wait_s = max(_wait_s(limit, ("key", key_id), cost) for limit in _parsed(rate))
    if wait_s:
        use.rests_until = time.monotonic() + wait_s
        raise _too_many(wait_s)


# --- counting ------------------------------------------------------------------------------------


class Counter:
    """The counts of one web app."""

    def __init__(self) -> None:
        pool = fast_redis().connection_pool
        self._shared = FixedWindowRateLimiter(RedisStorage(settings.redis_url or "", connection_pool=pool))
        self._own = FixedWindowRateLimiter(MemoryStorage())
        self._lock = threading.Lock()  # MemoryStorage starts one timer twice when two requests meet
        self._rest_until = 0.0

    def wait_s(self, limit: RateLimitItem, who: tuple[str, ...], cost: int) -> float:
        """Count, and tell how long to wait: 0 if this is still allowed."""
        if time.monotonic() >= self._rest_until:
            try:
                return self._count(self._shared, limit, who, cost)
            except (RedisError, OSError) as error:
                log.warning("rate limits are counted by each process, Redis does not answer: %s", error)
                self._rest_until = time.monotonic() + REDIS_REST_S
        with self._lock:
            return self._count(self._own, limit, who, cost)

    @staticmethod
    def _count(
        limiter: FixedWindowRateLimiter, limit: RateLimitItem, who: tuple[str, ...], cost: int
    ) -> float:
        if limiter.hit(limit, *who, cost=cost):
            return 0.0
        return max(1.0, limiter.get_window_stats(limit, *who).reset_time - time.time())


def _wait_s(limit: RateLimitItem, who: tuple[str, ...], cost: int) -> float:
    extensions = current_app.extensions
    counter = extensions.get("rate_limits") or extensions.setdefault("rate_limits", Counter())
    return counter.wait_s(limit, who, cost)


def _too_many(wait_s: float) -> Refused:
    return Refused("RATE_LIMIT_ERROR", "Too many requests; try again later.", retry_after_s=int(wait_s) + 1)


@cache
def _told_at_once(rate: str) -> int:
    return max(1, min(limit.amount for limit in _parsed(rate)) // REPORTED_SHARE)


@cache
def _parsed(rate: str) -> list[RateLimitItem]:
    return parse_many(rate)
