"""Connections to strangers' servers, kept open between posts: each goes to an address that was checked, can
be cut by a deadline, and gives answers that are bounded.

They are http.client's: of what urllib3 and requests do on top, a webhook needs next to nothing, at thrice
the price. URLs are still read by requests, once each.
"""

from __future__ import annotations

import errno
import http.client
import io
import os
import socket
import ssl
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3
from requests import adapters
from urllib3.util.ssl_ import create_urllib3_context
from urllib3.util.wait import wait_for_read

from jobs import addresses
from jobs.deadlines import Deadline

ANSWER_MAX_BYTES = 131_072  # on the wire, with headers, trailers and interim answers: no honest one has more
POOLED_ENDPOINTS = 256  # servers whose connections are kept open in one process
POOLED_CONNECTIONS = 16  # to one of them
KNOWN_URLS = 1024  # read once each
CHUNK_BYTES = 8192
SOCKET_OPTIONS = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]  # a small body must not wait for an ACK
PORTS = {"http": 80, "https": 443}
HUNG_UP = (errno.EPIPE, errno.ECONNRESET, errno.EPROTOTYPE)  # the last is macOS' word for the first


class EndlessAnswer(OSError):
    """The receiver sends more than ANSWER_MAX_BYTES."""


class Server(NamedTuple):
    scheme: str
    name: str  # as it is looked up: the dot at the end of a full name means something there
    port: int


@lru_cache(KNOWN_URLS)
def read_url(url: str) -> tuple[Server, str]:
    """The server that a URL leads to, and what it is asked for: quoted, encoded and put right by requests.

    Raises:
        requests.RequestException: it cannot be called.
    """
    prepared = requests.Request("POST", url).prepare()
    parts = urlsplit(prepared.url or "")
    if parts.scheme not in PORTS:
        raise requests.exceptions.InvalidSchema(url)
    return Server(parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme]), prepared.path_url


@lru_cache(1)
def tls_context(authorities: str) -> ssl.SSLContext:
    """urllib3's own, for all connections: to read the authorities costs more than the rest of a handshake."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_verify_locations(authorities)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connection(http.client.HTTPConnection):
    sock: Any  # None: not connected, or given to an answer that ends with it

    def __init__(self, server: Server, *, allow_private: bool):
        super().__init__(server.name.rstrip("."), server.port)
        self.default_port = PORTS[server.scheme]  # it is not named in the Host header
        self.response_class: Any = _BoundedAnswer
        self.key = (server, allow_private)
        self._body = b""

    def ask(
        self,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        deadline: Deadline,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> http.client.HTTPResponse:
        """POST it, and read the head of the answer.

        Raises:
            ConnectionError: from what went wrong.
        """
        try:
            if self.sock is None:
                self._connect(deadline, connect_timeout_s)
            else:
                self.sock.settimeout(connect_timeout_s)
                deadline.watch(self.sock)
            try:
                self._send(target, headers, body)
            except OSError as error:  # it may have answered all the same, and hung up
                if error.errno not in HUNG_UP:
                    raise
            self.sock.settimeout(read_timeout_s)
            return self.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError from error

    def send(self, data: Any) -> None:
        """http.client's head, and the body with it: one packet, and the receiver is woken once."""
        super().send(data + self._body)

    @property
    def is_dropped(self) -> bool:
        """Whether the server has closed it, or said what nobody asked for."""
        return wait_for_read(self.sock, timeout=0)

    def _connect(self, deadline: Deadline, timeout_s: float) -> None:
        server, allow_private = self.key
        line = addresses.connect(
            server.name, server.port, allow_private=allow_private, timeout_s=timeout_s, options=SOCKET_OPTIONS
        )
        if server.scheme == "https":
            line = self._secured(line, deadline)
        self.sock = line
        deadline.watch(line)

    def _secured(self, line: socket.socket, deadline: Deadline) -> ssl.SSLSocket:
        with socket.socket(fileno=os.dup(line.fileno())) as handle:  # the handshake takes over the first one
            deadline.watch(handle)
            try:
                name = self.host.partition("%")[0]  # a link-local address' scope is in no certificate
                return tls_context(adapters.DEFAULT_CA_BUNDLE_PATH).wrap_socket(line, server_hostname=name)
            finally:
                line.close()
                deadline.watch(None)

    def _send(self, target: str, headers: Mapping[str, str], body: bytes) -> None:
        self.putrequest("POST", target, skip_accept_encoding=True)
        for name, value in headers.items():
            self.putheader(name, value)
        self.putheader("Content-Length", str(len(body)))
        self._body = body
        self.endheaders()


class Pool:
    """Connections that wait for another post: the last one in is the first one out."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Any, list[Connection]] = OrderedDict()  # the server last used at the end
        self._lock = threading.Lock()

    def take(self, server: Server, *, allow_private: bool) -> Connection:
        while True:
            with self._lock:
                waiting = self._waiting.get((server, allow_private))
                connection = waiting.pop() if waiting else None
            if connection is None:
                return Connection(server, allow_private=allow_private)
            if not connection.is_dropped:
                return connection
            connection.close()

    def put(self, connection: Connection) -> None:
        """Keep it, unless there are enough."""
        spare = []
        with self._lock:
            waiting = self._waiting.setdefault(connection.key, [])
            self._waiting.move_to_end(connection.key)
            if len(waiting) < POOLED_CONNECTIONS:
                waiting.append(connection)
            else:
                spare.append(connection)
            if len(self._waiting) > POOLED_ENDPOINTS:
                spare += self._waiting.popitem(last=False)[1]
        for each in spare:
            each.close()

    def forget(self) -> None:
        """In a new process: what is in here is its parent's, and the lock may be held for ever."""
        self._lock = threading.Lock()
        while self._waiting:
            for connection in self._waiting.popitem()[1]:
                connection.close()


def chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The answer's body as it came: nothing is unpacked. Read to the end, the answer is closed.

    Raises:
        urllib3.exceptions.HTTPError: from what went wrong.
    """
    if not _is_plain(answer):
        yield from _odd_chunks(answer)
        return
    try:
        while not answer.isclosed():
            if chunk := answer.read(CHUNK_BYTES):
                yield chunk
            elif answer.length:
                raise http.client.IncompleteRead(b"", answer.length)
    except (OSError, http.client.HTTPException) as error:
        raise urllib3.exceptions.ProtocolError from error


def _is_plain(answer: http.client.HTTPResponse) -> bool:
    """Whether its body has a length, said once and as a number, and no other frame."""
    lengths = answer.headers.get_all("Content-Length", ["0"])
    said_once = len(lengths) == 1 and lengths[0].isascii() and lengths[0].isdecimal()
    return said_once and answer.length is not None and "Transfer-Encoding" not in answer.headers


def _odd_chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """What has chunks, or no length, or several: urllib3 reads more of these than http.client."""
    reader = urllib3.HTTPResponse(
        answer,
        urllib3.HTTPHeaderDict(answer.headers.items()),
        answer.status,
        preload_content=False,
        decode_content=False,
        original_response=answer,
        request_method="POST",
    )
    return reader.stream(CHUNK_BYTES)


class _BoundedAnswer(http.client.HTTPResponse):
    """An answer that is counted as it comes in, and whose interim parts (RFC 9110, 15.2) are passed over."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_Counting(sock), *args, **kwargs)  # type: ignore[arg-type]

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status in (100, 101) or status >= 200:  # 100: the caller passes over it
                return version, status, reason
            http.client.parse_headers(self.fp)


class _Counting:
    """As much of a socket as an answer asks for."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Counted(self._sock))


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
