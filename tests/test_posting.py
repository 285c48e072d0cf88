"""One POST to somebody else's server: whatever it does, it ends in time, and is told in plain words."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme

from jobs.posting import RESPONSE_KEPT_CHARS, Post, post
from models.webhooks import AttemptResult
from tests.receiver import Receiver, answer, hang_until, running_receiver

SECRETS = ("whsec_c2VjcmV0",)


def send(url: str, *, allow_private: bool = True) -> AttemptResult:
    return post(Post(url, "evt_1", b'{"id":"evt_1"}', SECRETS, allow_private))


def port_of(receiver: Receiver) -> int:
    return int(receiver.url.split(":")[2].split("/")[0])


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads one request, then says whatever it likes."""

    def read_and_talk(line: socket.socket) -> None:
        while not line.recv(65536).endswith(b"}"):
            continue
        talk(line)

    with listening(read_and_talk) as port:
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def listening(take: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose connections `take` is given, one after the other."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                line, _ = listener.accept()
                with line, suppress(OSError):
                    take(line)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def says(*parts: bytes, again: int = 1) -> Callable[[socket.socket], None]:
    def talk(line: socket.socket) -> None:
        for _ in range(again):
            for part in parts:
                line.sendall(part)

    return talk


SAYS_OK = says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def reset(line: socket.socket) -> None:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize(
    ("talk", "error"),
    [
        (reset, "connection reset"),
        (says(), "hung up without an answer"),
        (says(b"\x16\x03garbage\r\n\r\n"), "the answer is not HTTP"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), "hung up in the middle of its answer"),
        (
            says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "the answer is not HTTP",
        ),
        (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"), "the answer is not HTTP"),
        (says(b"HTTP/1.1 100 Continue\r\n\r\n", again=100_000), "the answer does not end"),
        (says(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", again=100_000), "the answer does not end"),
        (says(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), "answered 500"),
        (says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "answered 101"),
    ],
    ids=["reset", "silence", "garbage", "half", "chunks", "header", "100", "103", "500", "101"],
)
def test_a_bad_answer_is_told_in_plain_words(talk: Callable[[socket.socket], None], error: str) -> None:
    started = time.monotonic()
    with raw_server(talk) as url:
        result = send(url)
    assert result.error == error
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_an_interim_answer_is_not_the_answer(interim: bytes) -> None:
    talk = says(b"HTTP/1.1 " + interim + b"\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
    with raw_server(talk) as url:
        result = send(url)
    assert (result.status_code, result.error) == (204, None)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:1/", "connection refused"),
        ("http://no-such-host.invalid/", "the name does not resolve"),
        ("https://127.0.0.1:{port}/", "the TLS handshake failed"),
        ("http://" + "a" * 64 + ".example/", "the name does not resolve"),
    ],
)
def test_what_went_wrong_is_said_in_plain_words(receiver: Receiver, url: str, error: str) -> None:
    assert send(url.format(port=port_of(receiver))).error == error


# --- time ----------------------------------------------------------------------------------------


def test_a_receiver_that_hangs_times_out(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.posting.TOTAL_TIMEOUT_S", 1)
    let_go = threading.Event()
    receiver.answers = [hang_until(let_go)]
    result = send(receiver.url)
    let_go.set()
    assert result.error == "timed out after 1 s"


def drip(start: bytes, part: bytes) -> Callable[[socket.socket], None]:
    def talk(line: socket.socket) -> None:
        line.sendall(start)
        for _ in range(100):
            line.sendall(part)
            time.sleep(0.05)

    return talk


@pytest.mark.parametrize(
    ("start", "part"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n"),
    ],
    ids=["headers", "body", "trailers"],
)
def test_a_receiver_that_answers_byte_by_byte_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, start: bytes, part: bytes
) -> None:
    monkeypatch.setattr("jobs.posting.TOTAL_TIMEOUT_S", 1)
    started = time.monotonic()
    with raw_server(drip(start, part)) as url:
        result = send(url)
        assert time.monotonic() - started < 3
    assert result.error == "timed out after 1 s"


def test_a_deadline_that_passes_between_two_posts_does_not_cut_the_second(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.posting.TOTAL_TIMEOUT_S", 1)
    peers = set()

    def note(pause_s: float) -> Callable[[Any], None]:
        def handle(handler: Any) -> None:
            peers.add(handler.client_address)
            time.sleep(pause_s)
            answer(200, b"ok")(handler)

        return handle

    receiver.answers = [note(0), note(0.6)]
    assert send(receiver.url).error is None
    time.sleep(0.6)
    assert send(receiver.url).error is None  # from 0.6 s to 1.2 s: the first one's second is over
    assert len(peers) == 1


def test_a_tls_handshake_byte_by_byte_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.posting.TOTAL_TIMEOUT_S", 1)
    started = time.monotonic()
    with listening(drip(b"\x16\x03\x03\x40\x00", b"\2")) as port:
        result = send(f"https://127.0.0.1:{port}/")
        assert time.monotonic() - started < 3
    assert result.error == "timed out after 1 s"


# --- size ----------------------------------------------------------------------------------------


def test_a_kept_connection_that_ends_as_it_is_used_costs_no_attempt(receiver: Receiver) -> None:
    def hang_up(handler: Any) -> None:
        handler.close_connection = True  # without a byte

    receiver.answers = [200, hang_up, 200, hang_up, hang_up]
    results = [send(receiver.url) for _ in range(3)]
    assert [result.error for result in results] == [None, None, "hung up without an answer"]
    assert len(receiver.received) == 5  # each was posted again once, on a connection of its own


def test_what_the_receiver_said_is_kept_in_part(receiver: Receiver) -> None:
    receiver.answers = [answer(400, b"no\0 \xff" + b"x" * 100_000)]
    result = send(receiver.url)
    assert result.response_body is not None
    assert len(result.response_body) == RESPONSE_KEPT_CHARS
    assert result.response_body.startswith("no\ufffd \ufffdxxx")


def test_an_endless_body_is_not_read_to_its_end() -> None:
    sent = 0

    def talk(line: socket.socket) -> None:
        nonlocal sent
        line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent < 1 << 30:
            sent += line.send(b"x" * 65536)

    memory = psutil.Process().memory_info().rss
    with raw_server(talk) as url:
        result = send(url)
    assert (result.status_code, result.error) == (200, None)
    assert sent < 16 << 20  # what the kernel buffers on both sides, and no more
    assert psutil.Process().memory_info().rss - memory < 20 << 20


def test_endless_trailers_are_cut_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
    with raw_server(says(head, *[b"X-A: b\r\n" * 1000] * 100)) as url:
        result = send(url)
    assert (result.status_code, result.response_body) == (200, "ok")


def test_a_compressed_answer_is_not_unpacked(receiver: Receiver) -> None:
    bomb = gzip.compress(b"\0" * (1 << 26))
    receiver.answers = [answer(200, bomb, Content_Encoding="gzip")]
    memory = psutil.Process().memory_info().rss
    assert send(receiver.url).error is None
    assert psutil.Process().memory_info().rss - memory < 20 << 20


# --- manners -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    with running_receiver() as inside:
        receiver.answers = [answer(status, Location=inside.url)]
        assert send(receiver.url).error == f"answered {status}"
    assert inside.received == []


def test_a_connection_is_used_again(receiver: Receiver) -> None:
    peers = set()

    def note(handler) -> None:
        peers.add(handler.client_address)
        answer(200, b"ok")(handler)

    receiver.answers = [note] * 20
    assert [send(receiver.url).status_code for _ in range(20)] == [200] * 20
    assert len(peers) == 1


def test_a_connection_that_was_closed_meanwhile_is_opened_anew(receiver: Receiver) -> None:
    closed = threading.Event()

    def close(handler) -> None:
        answer(200, b"ok")(handler)
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        closed.set()

    receiver.answers = [close] * 3
    for _ in range(3):
        closed.clear()
        assert send(receiver.url).error is None
        assert closed.wait(10)


def test_no_cookie_comes_back(receiver: Receiver) -> None:
    receiver.answers = [answer(200, b"ok", Set_Cookie="a=b; Path=/")]
    send(receiver.url)
    send(receiver.url)
    assert "cookie" not in receiver.received[1].headers


def test_the_environments_proxy_and_netrc_are_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login us password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert send(receiver.url).error is None
    assert "authorization" not in receiver.received[0].headers


def test_retry_after_may_be_a_date(receiver: Receiver) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)
    receiver.answers = [
        answer(503, Retry_After=at),
        answer(503, Retry_After="soon"),
        answer(500, Retry_After="9"),
    ]
    waits = [send(receiver.url).retry_after_s for _ in range(3)]
    assert waits[0] is not None
    assert 290 <= waits[0] <= 300
    assert waits[1:] == [None, None]


# --- certificates --------------------------------------------------------------------------------


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> trustme.CA:
    """A certificate authority that the gateway trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(tmp_path / "ca.pem"))
    return authority


@contextmanager
def tls_server(
    certificate: trustme.LeafCert,
    say: Callable[[Any], None] = SAYS_OK,
) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    def talk(line: socket.socket) -> None:
        with context.wrap_socket(line, server_side=True) as tls:
            while not tls.recv(65536).endswith(b"}"):  # closed on unread bytes, a line is reset
                pass
            say(tls)

    with listening(talk) as port:
        yield f"https://localhost:{port}/"


def days(count: int) -> datetime:
    return datetime.now(UTC) + timedelta(days=count)


def test_a_good_certificate_is_accepted(authority: trustme.CA) -> None:
    with tls_server(authority.issue_cert("localhost")) as url:
        assert send(url).error is None


def test_a_byte_by_byte_answer_over_tls_is_cut_off(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.posting.TOTAL_TIMEOUT_S", 1)
    started = time.monotonic()
    talk = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"x")
    with tls_server(authority.issue_cert("localhost"), talk) as url:
        result = send(url)
        assert time.monotonic() - started < 3
    assert result.error == "timed out after 1 s"


def test_an_expired_certificate_is_said_so(authority: trustme.CA) -> None:
    expired = authority.issue_cert("localhost", not_before=days(-9), not_after=days(-1))
    with tls_server(expired) as url:
        assert send(url).error == "certificate expired"


def test_a_certificate_of_the_future_is_said_so(authority: trustme.CA) -> None:
    with tls_server(authority.issue_cert("localhost", not_before=days(1), not_after=days(9))) as url:
        assert send(url).error == "certificate not valid yet"


def test_a_certificate_for_another_name_is_said_so(authority: trustme.CA) -> None:
    with tls_server(authority.issue_cert("other.example")) as url:
        assert send(url).error == "the certificate is for another name"


def test_a_certificate_of_an_unknown_authority_is_said_so(authority: trustme.CA) -> None:
    with tls_server(trustme.CA().issue_cert("localhost")) as url:
        assert send(url).error == "the certificate could not be verified"
