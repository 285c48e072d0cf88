"""Faults on request, with which merchants prove their own client: docs/testing-retries.md.

`X-Simulate` on a call of the API makes its answer late, wrong, or lost. Honoured only on a gateway made for
testing, which in production none is; elsewhere it is ignored, as every header that we don't know.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from time import sleep
from typing import Any, NoReturn

from flask import Flask, Response, g, request
from redis import RedisError

from config import Settings
from jobs.wake import fast_redis
from models import vault
from models.base import db
from models.errors import Refused, bad_request
from routes.auth import SAFE_METHODS, session_cookie
from routes.errors import RETRY_AFTER_S, STATUS_OF_CODE, error_response
from routes.requests import API_PREFIX

log = logging.getLogger(__name__)

HEADER = "X-Simulate"
MAX_LATENCY_MS = 30_000  # most clients give up sooner
MAX_TIMES = 100  # no client repeats a request more often
COUNT_TTL_S = 3600  # by then a client has long given up: whoever asks again, asks anew

DROP = "drop-after-commit"
NUMBER = re.compile(r"[0-9]{1,5}")
NUMBERS = {
    "latency": range(MAX_LATENCY_MS + 1),
    "status": range(400, 600),
    "times": range(1, MAX_TIMES + 1),
}
ALLOWED = (
    f"{HEADER} takes latency=0 to {MAX_LATENCY_MS} (ms), and status=400 to 599 or {DROP}; beside any of them "
    f"times=1 to {MAX_TIMES}. Each at most once, separated by commas."
)
# A status that several codes share has its general one first.
CODE_OF_STATUS = {status: code for code, status in reversed(STATUS_OF_CODE.items())}


@dataclass(frozen=True)
class Faults:
    """What one request asks for."""

    latency_ms: int | None
    status: int | None
    drops: bool
    times: int | None

    @classmethod
    def parse(cls, header: str) -> Faults:
        """What an X-Simulate says.

        Raises:
            Refused: BAD_REQUEST_ERROR: it says something else than is allowed.
        """
        asked: dict[str, int] = {}
        for part in header.split(","):
            name, equals, number = part.strip(" \t").partition("=")
            if name == DROP and not equals:
                number = "0"
            elif name not in NUMBERS or not NUMBER.fullmatch(number) or int(number) not in NUMBERS[name]:
                raise _not_allowed()
            if name in asked:
                raise _not_allowed()
            asked[name] = int(number)
        if asked.keys() == {"times"} or asked.keys() >= {"status", DROP}:
            raise _not_allowed()
        return cls(asked.get("latency"), asked.get("status"), DROP in asked, asked.get("times"))


def is_honoured(settings: Settings) -> bool:
    """Whether this gateway is made for testing. Neither setting is allowed in production."""
    return settings.test_endpoints or settings.test_mode


def register(app: Flask) -> None:
    """To be called after register_request_hooks: a simulated answer has its X-Request-Id, too."""
    app.before_request(_begin)
    app.after_request(_end)


class Dropped(Response):
    """No answer: the connection is closed without a byte.

    To the server it looks as if the client had gone, which gunicorn (it goes by the errno) and werkzeug pass
    over in silence. Without a socket, as in Flask's test client, the caller gets the ConnectionResetError.
    """

    def __call__(self, environ: dict[str, Any], start_response: Any) -> NoReturn:  # noqa: ARG002 (WSGI)
        connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)  # werkzeug would else wait for the next request on it
            except OSError:
                log.debug("the client was gone before its answer could be dropped")
        raise ConnectionResetError(errno.ECONNRESET, f"{HEADER}: the answer was dropped")


def _begin() -> Response | None:
    """Answer in the view's place, if a status is asked for; else note what is to be done to its answer."""
    header = request.environ.get("HTTP_X_SIMULATE")
    if header is None or not request.path.startswith(API_PREFIX):
        return None
    faults = Faults.parse(header)
    turn = ""
    if faults.times is not None:
        count = _count(header)
        if count is None or count > faults.times:
            return None
        turn = f" ({count} of {faults.times})"
    g.faults = faults, turn
    return None if faults.status is None else _error(faults.status)


def _end(response: Response) -> Response:
    if "faults" not in g:
        return response
    faults, turn = g.pop("faults")
    done = []
    if faults.latency_ms is not None:
        db.session.rollback()  # nothing is to be kept from others meanwhile; what was done is committed
        sleep(faults.latency_ms / 1000)
        done.append(f"latency={faults.latency_ms}")
    if faults.status is not None:
        done.append(f"status={faults.status}")
    if faults.drops and _has_taken_effect(response):
        done.append(DROP)
        response = Dropped()
    if done:
        told = ", ".join(done) + turn
        response.headers["X-Simulated"] = told
        log.info("simulated for %s %s: %s", request.method, request.path, told)
    return response


def _has_taken_effect(response: Response) -> bool:
    """Whether this very request did something, and not the one that it repeats."""
    return (
        request.method not in SAFE_METHODS
        and response.status_code < 300
        and "Idempotent-Replayed" not in response.headers
    )


def _error(status: int) -> Response:
    code = CODE_OF_STATUS.get(status, "SERVER_ERROR" if status >= 500 else "BAD_REQUEST_ERROR")
    response = error_response(
        code, f"Nothing was done: {HEADER} asked for this {status}.", reason="simulated"
    )
    response.status_code = status
    if status in (429, 503):
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _count(header: str) -> int | None:
    """How many requests like this one there were, it among them. None if Redis, which counts, is away."""
    likeness = json.dumps([*_likeness(), header]).encode()
    key = f"simulate:{vault.keyed_hash('simulated requests', likeness).hex()}"
    try:
        with fast_redis().pipeline() as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, COUNT_TTL_S)
            return pipeline.execute()[0]
    except (RedisError, OSError) as error:
        log.warning("nothing is simulated, for it could not be counted: %s", error)
        return None


def _likeness() -> Iterator[str | None]:
    """What a client sends again when it repeats a request: who asks, for what, and the Idempotency-Key."""
    yield session_cookie()
    for name in ("X-Api-Key", "X-Api-Secret", "Authorization", "Idempotency-Key"):
        yield request.headers.get(name)
    yield from (request.method, request.full_path)


def _not_allowed() -> Refused:
    return bad_request(ALLOWED, field=HEADER)
