"""What holds for every request: its id, its media types, and a JSON reader that nothing can break."""

from __future__ import annotations

import io
import json
import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import IO, Any

import orjson
from flask import Flask, Request, Response, g, request
from flask.json.provider import DefaultJSONProvider
from flask.sessions import SessionInterface
from werkzeug.exceptions import (
    ClientDisconnected,
    HTTPException,
    NotAcceptable,
    RequestEntityTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from werkzeug.utils import cached_property

from models.errors import bad_request
from models.green import within

log = logging.getLogger(__name__)

REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
API_PREFIX = "/api/v1"
BODY_TIME_S = 10  # for 64 KiB at most; its headers have 5 s (keepalive in gunicorn.conf.py)
JSON, ANYTHING = "application/json", "*/*"  # what nearly all clients send, and needs no parsing
FILES = ("/export", ".svg")  # the ends of addresses that answer with something else than JSON


class SafeJSON(DefaultJSONProvider):
    """Compact answers; and no input makes the reader fail with anything but ValueError."""

    sort_keys = False
    compact = True

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:
        try:
            read = orjson.loads(s)
            # Of a key that comes twice, it takes the last. Each has a colon: so many keys, none came twice.
            colons = s.count(b":") if isinstance(s, bytes) else s.count(":")
            if colons == _count_keys(read):
                return read
        except orjson.JSONDecodeError:
            pass
        try:  # what is beyond orjson may be well-formed: then the error can name the field
            text = s.decode() if isinstance(s, bytes) else s  # left to itself, json would guess at UTF-16
            return STRICT.decode(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        try:
            return orjson.dumps(obj, default=self.default).decode()
        except TypeError:  # half a surrogate pair, which somebody sent and is told of
            return super().dumps(obj, **kwargs)


class KeyComesTwice(ValueError):
    """A JSON object has a key twice: which of two amounts was meant, nobody knows (RFC 8259, 4)."""


class JSONRequest(Request):
    """A request whose JSON must be an object, in UTF-8."""

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body. One whose length was announced is read at once: werkzeug's own reader takes its time."""
        length = self.content_length
        if length is None or length > (self.max_content_length or 0):
            return super().stream
        body = self.environ["wsgi.input"].read(length)
        if len(body) < length:
            raise ClientDisconnected
        return io.BytesIO(body)

    def on_json_loading_failed(self, e: ValueError | None) -> Any:
        if e is None:
            raise UnsupportedMediaType("Send JSON, with Content-Type: application/json.")
        if isinstance(e, KeyComesTwice):
            raise bad_request(f"{e}: Comes twice.", field=str(e))
        raise bad_request("The body is not valid JSON.")


class NoSession(SessionInterface):
    """Flask's own cookie is not used: nothing is read from it, and nothing written."""

    def open_session(self, app: Flask, request: Request) -> None:  # noqa: ARG002
        return None

    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        pass


def register_request_hooks(app: Flask) -> None:
    app.session_interface = NoSession()
    app.json = SafeJSON(app)
    app.request_class = JSONRequest
    app.ensure_sync = _as_it_is  # type: ignore[assignment, method-assign]
    app.before_request(_identify)
    app.before_request(_check_media_types)
    if app.config["GATEWAY"].request_log:
        app.after_request(_log_request)  # the last to be called: of them, Flask begins with the last
    app.after_request(_name_request)


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    """No view and no hook is a coroutine: Flask need not look at each, each time."""
    return function


def read_body() -> bytes:
    """The body's bytes. That it is late, too short or not what its headers say is the caller's mistake."""
    try:
        with within(BODY_TIME_S, RequestTimeout):
            body = request.get_data()
            # Of a body of no announced length, werkzeug reads what is allowed and passes over the rest.
            if request.content_length is None and len(body) == request.max_content_length:
                _refuse_more(request.environ["wsgi.input"])
    except HTTPException:
        raise
    except Exception:
        raise bad_request("The body could not be read.") from None
    return body


def _refuse_more(stream: IO[bytes]) -> None:
    if stream.read(1):
        raise RequestEntityTooLarge


def _count_keys(value: Any) -> int:
    count, below = 0, [value]
    for each in below:  # which grows meanwhile
        if isinstance(each, dict):
            count += len(each)
            below.extend(each.values())
        elif isinstance(each, list):
            below.extend(each)
    return count


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for key, value in pairs:
        if key in read:
            raise KeyComesTwice(key)
        read[key] = value
    return read


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


STRICT = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_each_once)


def _identify() -> None:
    asked = _the_request()
    offered = asked.environ.get("HTTP_X_REQUEST_ID", "")
    g.began_s = time.perf_counter()
    g.request_id = offered if REQUEST_ID_PATTERN.fullmatch(offered) else "req_" + secrets.token_hex(8)


def _check_media_types() -> None:
    asked = _the_request()
    if not asked.path.startswith(API_PREFIX):
        return
    accept = asked.environ.get("HTTP_ACCEPT", ANYTHING)
    if (
        accept not in (ANYTHING, JSON)
        and asked.accept_mimetypes
        and not asked.accept_mimetypes.accept_json
        and not asked.path.endswith(FILES)
    ):
        raise NotAcceptable("The API answers in application/json.")
    has_body = bool(asked.content_length) or asked.environ.get("HTTP_TRANSFER_ENCODING")
    if has_body and asked.method in ("POST", "PATCH", "PUT"):
        read_body()
        if asked.environ.get("CONTENT_TYPE") != JSON and not _is_json_in_utf8():
            raise UnsupportedMediaType("Send JSON in UTF-8, with Content-Type: application/json.")
        if not isinstance(asked.get_json(), dict):
            raise bad_request("The body must be a JSON object.")


def _is_json_in_utf8() -> bool:
    charset = request.mimetype_params.get("charset", "utf-8")
    return request.is_json and charset.lower() in ("utf-8", "utf8")


def _name_request(response: Response) -> Response:
    response.headers.add("X-Request-Id", g.get("request_id", ""))
    return response


def _log_request(response: Response) -> Response:
    """One line a request: by its route, never its address or query, which are the caller's to fill."""
    asked = _the_request()
    ids = {name: str(value) for name, value in (asked.view_args or {}).items() if name.endswith("_id")}
    facts = {
        "method": asked.method,
        "route": asked.url_rule.rule if asked.url_rule else None,
        "status": response.status_code,
        "duration_ms": round((time.perf_counter() - g.began_s) * 1000, 1),
        "address": asked.remote_addr,
    }
    log.info("%(method)s %(route)s %(status)d %(duration_ms).1f ms", facts, extra=facts | ids)
    return response


def _the_request() -> Request:
    """Flask's `request` is looked up anew each time that something of it is read."""
    return request._get_current_object()  # type: ignore[attr-defined]
