"""One signed POST to somebody else's server, which may be slow, hostile or gone. It never raises, and it
never takes longer than TOTAL_TIMEOUT_S.
"""

from __future__ import annotations

import errno
import http.client
import io
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from jobs import addresses
from models.signatures import hex_signature, standard_signature
from models.webhooks import AttemptResult

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5  # the name's lookup included
TOTAL_TIMEOUT_S = 10
RESPONSE_READ_BYTES = 65_536  # what a receiver may answer before we hang up
RESPONSE_KEPT_CHARS = 4096
RESPONSE_KEPT_BYTES = 4 * RESPONSE_KEPT_CHARS  # UTF-8 takes no more
ANSWER_MAX_BYTES = 131_072  # on the wire, with headers, trailers and interim answers: no honest one has more
POOLED_ENDPOINTS = 256  # servers whose connections are kept open in one process
POOLED_CONNECTIONS = 16  # to one of them
USER_AGENT = "PaymentGateway-Webhooks/1.0"

# OpenSSL's reasons to reject a certificate (x509_vfy.h).
CERTIFICATE_ERRORS = {
    9: "certificate not valid yet",
    10: "certificate expired",
    62: "the certificate is for another name",
    64: "the certificate is for another address",
}


@dataclass(frozen=True)
class Post:
    """One request. Each secret signs it; none: the endpoint is switched off.

    `timestamp_s` is signed with it. Receivers take one that is minutes off for a replay, so workers give it
    by the database's clock: their own may be wrong.
    """

    url: str
    message_id: str
    body: bytes
    secrets: tuple[str, ...]
    allow_private: bool
    timestamp_s: int = field(default_factory=lambda: int(time.time()))


def post(message: Post) -> AttemptResult:
    """POST it once, signed with both schemes."""
    started = time.monotonic()
    with Deadline(TOTAL_TIMEOUT_S) as deadline:
        try:
            session = _session(message.allow_private)
            with session.post(
                message.url,
                data=message.body,
                headers=_headers(message),
                timeout=(CONNECT_TIMEOUT_S, TOTAL_TIMEOUT_S),
                allow_redirects=False,
                stream=True,
            ) as response:
                text = _read(response)
            if deadline.over:  # what was cut off may look like a whole answer
                raise TimeoutError
        except Exception as error:
            if not isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError | OSError):
                log.warning("posting to %s broke: %r", message.url, error)
            took_ms = _since(started)
            if deadline.over or any(isinstance(cause, TimeoutError) for cause in _causes(error)):
                words = f"timed out after {took_ms / 1000:.0f} s"
            else:
                words = in_plain_words(error)
            return AttemptResult(message.url, duration_ms=took_ms, error=words)
    return AttemptResult(
        message.url,
        duration_ms=_since(started),
        status_code=response.status_code,
        response_body=text,
        error=None if 200 <= response.status_code < 300 else f"answered {response.status_code}",
        retry_after_s=_retry_after_s(response),
        gone=response.status_code == 410,
    )


def in_plain_words(error: Exception) -> str:
    """What went wrong on the way, for the merchant who reads the log."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CERTIFICATE_ERRORS.get(cause.verify_code, "the certificate could not be verified")
        for kind, words in PLAIN_WORDS:
            if isinstance(cause, kind):
                return words
        if isinstance(cause, OSError) and cause.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            return "host unreachable"
    return f"could not be sent ({type(error).__name__})"


class EndlessAnswer(OSError):
    """The receiver sends more than ANSWER_MAX_BYTES."""


# In this order: some are subclasses of others.
PLAIN_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (addresses.NotPublic, "the address is not public"),
    (addresses.LookupTimeout, "the name server did not answer"),
    (socket.gaierror, "the name does not resolve"),
    (ssl.SSLError, "the TLS handshake failed"),
    (EndlessAnswer, "the answer does not end"),
    (ConnectionRefusedError, "connection refused"),
    (http.client.RemoteDisconnected, "hung up without an answer"),
    (ConnectionResetError, "connection reset"),
    (BrokenPipeError, "connection reset"),
    (urllib3.exceptions.InvalidChunkLength, "the answer is not HTTP"),
    (http.client.IncompleteRead, "hung up in the middle of its answer"),
    (http.client.HTTPException, "the answer is not HTTP"),
    (urllib3.exceptions.InvalidHeader, "the answer is not HTTP"),
    (requests.exceptions.InvalidURL, "the URL cannot be called"),
)


class Deadline:
    """Cuts this thread's connection when the time is over.

    A socket's own timeout starts anew with every byte that arrives; this one counts in all.
    """

    def __init__(self, seconds: float):
        self.over = False
        self._line: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        _local.deadline = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _local.deadline = None
        self._let_go()

    def watch(self, connection: socket.socket) -> None:
        """Watch a second handle on the connection: TLS takes the first one over."""
        self._let_go()
        self._line = socket.socket(fileno=os.dup(connection.fileno()))
        if self.over:
            self._cut()

    def _cut(self) -> None:
        self.over = True
        if self._line is not None:
            with suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        if self._line is not None:
            self._line.close()


class _BoundedAnswer(http.client.HTTPResponse):
    """An answer that is counted as it comes in, and whose interim parts (RFC 9110, 15.2) are passed over."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_Counted(sock))

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status in (100, 101) or status >= 200:  # 100: the caller passes over it
                return version, status, reason
            http.client.parse_headers(self.fp)


class _Counted(io.RawIOBase):
    def __init__(self, sock: socket.socket) -> None:
        self._raw = sock.makefile("rb", buffering=0)
        self._left = ANSWER_MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise EndlessAnswer
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Guarded:
    """A connection to an address that was checked, whose answers are bounded, and which the thread's
    deadline can cut, new or reused.
    """

    sock: Any
    response_class: Any = _BoundedAnswer
    allow_private = False

    def _new_conn(self) -> socket.socket:
        line = addresses.connect(
            self._dns_host,  # type: ignore[attr-defined]
            self.port,  # type: ignore[attr-defined]
            allow_private=self.allow_private,
            timeout_s=CONNECT_TIMEOUT_S,
            options=self.socket_options,  # type: ignore[attr-defined]
        )
        _local.deadline.watch(line)
        return line

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            _local.deadline.watch(self.sock)
        super().putrequest(*args, **kwargs)  # type: ignore[misc]


class _GuardedHTTP(_Guarded, HTTPConnection):
    pass


class _GuardedHTTPS(_Guarded, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _GuardedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedHTTPS


class _FreeHTTPPool(HTTPConnectionPool):
    ConnectionCls = type("_FreeHTTP", (_GuardedHTTP,), {"allow_private": True})


class _FreeHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = type("_FreeHTTPS", (_GuardedHTTPS,), {"allow_private": True})


_local = threading.local()
_sessions: dict[bool, requests.Session] = {}
_one_makes_it = threading.Lock()


def _session(allow_private: bool) -> requests.Session:
    """The process' session: its threads share the connections, and nothing else is kept between posts."""
    with _one_makes_it:
        if allow_private not in _sessions:
            session = requests.Session()
            session.trust_env = (
                False  # no proxy, no .netrc: the environment is ours, the URL is the merchant's
            )
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            pools = (_FreeHTTPPool, _FreeHTTPSPool) if allow_private else (_HTTPPool, _HTTPSPool)
            for scheme, pool in zip(("http", "https"), pools, strict=True):
                adapter = HTTPAdapter(POOLED_ENDPOINTS, POOLED_CONNECTIONS)
                adapter.poolmanager.pool_classes_by_scheme = {scheme: pool}
                session.mount(f"{scheme}://", adapter)
            _sessions[allow_private] = session
    return _sessions[allow_private]


def _headers(message: Post) -> dict[str, str]:
    standard = (message.message_id, message.timestamp_s, message.body)
    return {
        "Content-Type": "application/json; charset=utf-8",
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
        "webhook-id": message.message_id,
        "webhook-timestamp": str(message.timestamp_s),
        "webhook-signature": " ".join(standard_signature(secret, *standard) for secret in message.secrets),
        "X-Webhook-Signature": hex_signature(message.secrets[0], message.body),  # the newest secret's
    }


def _read(response: requests.Response) -> str:
    """The first characters of the answer, as they came: nothing is unpacked, nothing is read to its end."""
    kept, received_bytes = b"", 0
    try:
        for chunk in response.raw.stream(8192, decode_content=False):
            received_bytes += len(chunk)
            if len(kept) < RESPONSE_KEPT_BYTES:  # what is not kept is not held either: many answer at once
                kept += chunk
            if received_bytes >= RESPONSE_READ_BYTES:
                break
    except Exception as error:
        if not any(isinstance(cause, EndlessAnswer) for cause in _causes(error)):
            raise
    return kept.decode("utf-8", "replace").replace("\0", "\ufffd")[:RESPONSE_KEPT_CHARS]


def _retry_after_s(response: requests.Response) -> int | None:
    """The Retry-After of a 429 or 503, in seconds from now (RFC 9110, 10.2.3: a number, or a date)."""
    value = response.headers.get("Retry-After", "")
    if response.status_code not in (429, 503):
        return None
    if value.isascii() and value.isdecimal():
        return int(value[:9])
    try:
        at = parsedate_to_datetime(value)
        return max(0, int((at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()))
    except (ValueError, OverflowError):
        return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it was made of, the outermost first, each once."""
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        context = None if each.__suppress_context__ else each.__context__
        inner = (each.__cause__, getattr(each, "reason", None), *each.args, context)
        waiting += [one for one in inner if isinstance(one, BaseException)]


def _since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)
