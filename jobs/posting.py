"""One signed POST to somebody else's server, which may be slow, hostile or gone. It never raises, and it
never takes longer than TOTAL_TIMEOUT_S.
"""

from __future__ import annotations

import errno
import http.client
import logging
import os
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests
import urllib3

from jobs import addresses
from jobs.connections import Connection, EndlessAnswer, Pool, chunks, read_url
from jobs.deadlines import Deadline
from models.signatures import hex_signature, standard_signature
from models.webhooks import AttemptResult

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5  # the name's lookup included
TOTAL_TIMEOUT_S = 10
RESPONSE_READ_BYTES = 65_536  # what a receiver may answer before we hang up
RESPONSE_KEPT_CHARS = 4096
RESPONSE_KEPT_BYTES = 4 * RESPONSE_KEPT_CHARS  # UTF-8 takes no more
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
            answer, text = _exchange(message, deadline)
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
        status_code=answer.status,
        response_body=text,
        error=None if 200 <= answer.status < 300 else f"answered {answer.status}",
        retry_after_s=_retry_after_s(answer),
        gone=answer.status == 410,
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


# A kept connection that the server had closed, or closed before it answered a byte.
DROPPED = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)

_pool = Pool()
os.register_at_fork(after_in_child=_pool.forget)


def _exchange(message: Post, deadline: Deadline) -> tuple[http.client.HTTPResponse, str]:
    """The answer and what is kept of its body, all in time. The connection is kept open if it can be."""
    server, target = read_url(message.url)
    headers = _headers(message)

    def ask() -> http.client.HTTPResponse:
        return connection.ask(
            target,
            headers,
            message.body,
            deadline=deadline,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            read_timeout_s=TOTAL_TIMEOUT_S,
        )

    connection = _pool.take(server, allow_private=message.allow_private)
    was_kept = connection.sock is not None
    usable = False
    try:
        try:
            answer = ask()
        except ConnectionError as error:
            if not was_kept or deadline.over or not isinstance(error.__cause__, DROPPED):
                raise
            # Closed as we wrote: what is kept open may end at any time. Once more, on a new one.
            connection.close()
            connection = Connection(server, allow_private=message.allow_private)
            answer = ask()
        with answer:
            text, ended = _read(answer)
            usable = ended and connection.sock is not None
        if not deadline.end():  # what was cut off may look like a whole answer
            usable = False
            raise TimeoutError
    finally:
        deadline.end()  # whoever uses the connection next has another one
        if usable:
            _pool.put(connection)
        else:
            connection.close()
    return answer, text


def _headers(message: Post) -> dict[str, str]:
    standard = (message.message_id, message.timestamp_s, message.body)
    return {
        "User-Agent": USER_AGENT,
        "Accept-Encoding": "identity",
        "Accept": "*/*",
        "Connection": "keep-alive",
        "Content-Type": "application/json; charset=utf-8",
        "webhook-id": message.message_id,
        "webhook-timestamp": str(message.timestamp_s),
        "webhook-signature": " ".join(standard_signature(secret, *standard) for secret in message.secrets),
        "X-Webhook-Signature": hex_signature(message.secrets[0], message.body),  # the newest secret's
    }


def _read(answer: http.client.HTTPResponse) -> tuple[str, bool]:
    """The first characters of the answer, and whether it was read to its end: not if that is far."""
    kept, received_bytes, ended = b"", 0, False
    try:
        for chunk in chunks(answer):
            received_bytes += len(chunk)
            if len(kept) < RESPONSE_KEPT_BYTES:  # what is not kept is not held either: many answer at once
                kept += chunk
            if received_bytes >= RESPONSE_READ_BYTES:
                break
        else:
            ended = True
    except Exception as error:
        if not any(isinstance(cause, EndlessAnswer) for cause in _causes(error)):
            raise
    return kept.decode("utf-8", "replace").replace("\0", "\ufffd")[:RESPONSE_KEPT_CHARS], ended


def _retry_after_s(answer: http.client.HTTPResponse) -> int | None:
    """The Retry-After of a 429 or 503, in seconds from now (RFC 9110, 10.2.3: a number, or a date)."""
    if answer.status not in (429, 503):
        return None
    value = answer.getheader("Retry-After", "")
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
