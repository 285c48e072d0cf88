"""One signed POST to somebody else's server, which may be slow, hostile or gone. It never raises, and it
never takes longer than TOTAL_TIMEOUT_S (plus what the name server takes).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from requests_hardened import Config as HardenedConfig
from requests_hardened import HTTPSession
from requests_hardened.ip_filter import InvalidIPAddress
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from models.signatures import hex_signature, standard_signature
from models.webhooks import AttemptResult

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5
TOTAL_TIMEOUT_S = 10
RESPONSE_READ_BYTES = 65_536  # what a receiver may answer before we hang up
RESPONSE_KEPT_CHARS = 4096
USER_AGENT = "PaymentGateway-Webhooks/1.0"


@dataclass(frozen=True)
class Post:
    """One request, all but its time. Each secret signs it; none: the endpoint is switched off."""

    url: str
    message_id: str
    body: bytes
    secrets: tuple[str, ...]
    allow_private: bool


def post(message: Post) -> AttemptResult:
    """POST it once, signed with both schemes."""
    timestamp_s = int(time.time())
    standard = (message.message_id, timestamp_s, message.body)
    signatures = [standard_signature(secret, *standard) for secret in message.secrets]
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Accept-Encoding": "identity",
        "webhook-id": message.message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(signatures),
        "X-Webhook-Signature": hex_signature(message.secrets[0], message.body),
    }
    started = time.monotonic()
    with Deadline(TOTAL_TIMEOUT_S) as deadline:
        try:
            session = _session(message.allow_private)
            with session.post(message.url, data=message.body, headers=headers, stream=True) as response:
                text = _read(response)
            if deadline.over:  # what was cut off may look like a whole answer
                raise requests.Timeout
        except Exception as error:
            if not isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError | OSError):
                log.warning("posting to %s broke: %r", message.url, error)
            took_ms = _since(started)
            timed_out = deadline.over or isinstance(error, requests.ReadTimeout) or "timed out" in repr(error)
            words = f"timed out after {took_ms / 1000:.0f} s" if timed_out else in_plain_words(error)
            return AttemptResult(duration_ms=took_ms, error=words)
    return AttemptResult(
        duration_ms=_since(started),
        status_code=response.status_code,
        response_body=text,
        error=None if 200 <= response.status_code < 300 else f"answered {response.status_code}",
        retry_after_s=_retry_after_s(response),
        gone=response.status_code == 410,
    )


def in_plain_words(error: Exception) -> str:
    """What went wrong on the way, for the merchant who reads the log."""
    text = repr(error)
    if isinstance(error, InvalidIPAddress):
        return "the address is not public"
    if isinstance(error, requests.exceptions.SSLError):
        return "certificate expired" if "expired" in text else "the certificate could not be verified"
    for sign, words in (
        ("refused", "connection refused"),
        ("reset", "connection reset"),
        ("NameResolution", "the name does not resolve"),
        ("resolve domain", "the name does not resolve"),
        ("RemoteDisconnected", "hung up without an answer"),
        ("unreachable", "host unreachable"),
    ):
        if sign in text:
            return words
    return f"could not be sent ({type(error).__name__})"


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


class _Watched:
    """A connection that the thread's deadline can cut, new or reused."""

    sock: Any

    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()  # type: ignore[misc]
        _local.deadline.watch(connection)
        return connection

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            _local.deadline.watch(self.sock)
        super().putrequest(*args, **kwargs)  # type: ignore[misc]


class _WatchedHTTP(_Watched, HTTPConnection):
    pass


class _WatchedHTTPS(_Watched, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPS


_local = threading.local()


def _session(allow_private: bool) -> HTTPSession:
    """A session a thread, so that connections are reused and nothing is shared."""
    sessions = _local.__dict__.setdefault("sessions", {})
    if allow_private not in sessions:
        session = HTTPSession(
            HardenedConfig(
                ip_filter_enable=not allow_private,
                ip_filter_allow_loopback_ips=False,
                never_redirect=True,
                default_timeout=(CONNECT_TIMEOUT_S, TOTAL_TIMEOUT_S),
                user_agent_override=USER_AGENT,
            )
        )
        session.headers["User-Agent"] = USER_AGENT
        session.trust_env = False  # no proxy, no .netrc: the environment is ours, the URL is the merchant's
        for adapter in session.adapters.values():
            pools = {"http": _HTTPPool, "https": _HTTPSPool}
            adapter.poolmanager.pool_classes_by_scheme = pools
        sessions[allow_private] = session
    return sessions[allow_private]


def _read(response: requests.Response) -> str:
    """The first characters of the answer, as they came: nothing is unpacked, nothing is read to its end."""
    received = b""
    for chunk in response.raw.stream(8192, decode_content=False):
        received += chunk
        if len(received) >= RESPONSE_READ_BYTES:
            break
    return received.decode("utf-8", "replace").replace("\0", "�")[:RESPONSE_KEPT_CHARS]


def _retry_after_s(response: requests.Response) -> int | None:
    """The Retry-After of a 429 or 503, in seconds (RFC 9110, 10.2.3; the date form is left alone)."""
    value = response.headers.get("Retry-After", "")
    return int(value) if response.status_code in (429, 503) and value.isdecimal() and len(value) < 7 else None


def _since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)
