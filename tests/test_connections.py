"""What a post sends, byte for byte, and which connection it takes."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jobs import posting
from jobs.connections import POOLED_CONNECTIONS, POOLED_ENDPOINTS, Connection, Pool, Server, read_url
from jobs.posting import Post, post
from tests.conftest import at_once
from tests.receiver import Receiver, answer
from tests.test_posting import listening, port_of, raw_server, send

SHOP = Server("http", "shop.example", 80)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, list[bytes]]]:
    """A server that every name leads to: its port, and what it was sent."""
    real, requests = socket.getaddrinfo, []

    def here(_host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        return real("127.0.0.1", port, *args, **kwargs)

    def take(line: socket.socket) -> None:
        request = b""
        while not request.endswith(b"}"):
            request += line.recv(65536)
        requests.append(request)
        line.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    monkeypatch.setattr("jobs.addresses.socket.getaddrinfo", here)
    with listening(take) as port:
        yield port, requests


def test_a_request_is_this_to_the_byte(heard: tuple[int, list[bytes]]) -> None:
    port, requests = heard
    url = f"http://shop.example:{port}/hook?a=b"
    secrets = ("whsec_c2VjcmV0", "whsec_QUJD")
    post(Post(url, "evt_1", b'{"id":"evt_1"}', secrets, allow_private=True, timestamp_s=1_700_000_000))
    assert requests[0].decode().split("\r\n") == [
        "POST /hook?a=b HTTP/1.1",
        f"Host: shop.example:{port}",
        "User-Agent: PaymentGateway-Webhooks/1.0",
        "Accept-Encoding: identity",
        "Accept: */*",
        "Connection: keep-alive",
        "Content-Type: application/json; charset=utf-8",
        "webhook-id: evt_1",
        "webhook-timestamp: 1700000000",
        "webhook-signature: v1,99E8UvkaUh85NKgOlytUbAjo+hxs6Eexb3PrUQgHt3Y= "
        "v1,MfrrjC5bkd3wvftFAkUWnq5+OxJvmiFCWL2RO7ISq3g=",
        "X-Webhook-Signature: c9d61dd7b695a32ef72a7f64b4eae744a805ab35dad25801d49a123f254832c0",
        "Content-Length: 14",
        "",
        '{"id":"evt_1"}',
    ]


@pytest.mark.parametrize(
    ("url", "target", "host"),
    [
        ("http://shop.example:{port}", "/", "shop.example:{port}"),
        ("http://shop.example:{port}?a=b", "/?a=b", "shop.example:{port}"),
        ("http://shop.example:{port}/a?", "/a", "shop.example:{port}"),
        ("http://shop.example:{port}/a#b?c", "/a", "shop.example:{port}"),
        ("HTTP://Shop.EXAMPLE:{port}/A", "/A", "shop.example:{port}"),
        ("http://shop.example.:{port}/", "/", "shop.example:{port}"),
        ("http://bücher.example:{port}/", "/", "xn--bcher-kva.example:{port}"),
        ("http://shop.example:{port}/é日", "/%C3%A9%E6%97%A5", "shop.example:{port}"),
        ("http://shop.example:{port}/a%2fb%7Ec%zz", "/a%252Fb%257Ec%25zz", "shop.example:{port}"),
        ("http://shop.example:{port}/a%2fb%7Ec", "/a%2Fb~c", "shop.example:{port}"),
        ("http://shop.example:{port}/a/../b/./c", "/b/c", "shop.example:{port}"),
        ("http://shop.example:{port}//a", "//a", "shop.example:{port}"),
        ("http://shop.example:{port}/[a]{b}|'\"", "/%5Ba%5D%7Bb%7D%7C'%22", "shop.example:{port}"),
        ("http://@shop.example:{port}/", "/", "shop.example:{port}"),
    ],
)
def test_a_url_is_called_as_it_always_was(
    heard: tuple[int, list[bytes]], url: str, target: str, host: str
) -> None:
    port, requests = heard
    assert send(url.replace("{port}", str(port))).error is None
    first, second, *_ = requests[0].decode().split("\r\n")
    assert first == f"POST {target} HTTP/1.1"
    assert second == "Host: " + host.replace("{port}", str(port))


@pytest.mark.parametrize(
    "url", ["http://*.example/", "http://.example/", "http://☃️.example/", "http://a:99999/"]
)
def test_what_is_no_url_cannot_be_called(url: str) -> None:
    assert send(url).error == "the URL cannot be called"


def test_the_port_of_a_scheme_is_not_said() -> None:
    for scheme, port in (("http", 80), ("https", 443)):
        server, _ = read_url(f"{scheme}://shop.example/")
        connection = Connection(server, allow_private=True)
        assert (server.port, connection.default_port) == (port, port)


def test_an_ipv6_address_is_called() -> None:
    asked: list[str] = []

    def take() -> None:
        line, _ = listener.accept()
        with line:
            asked.append(line.recv(65536).decode().split("\r\n")[1])

    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=take)
        thread.start()
        send(f"http://[::1]:{port}/")
        thread.join()
    assert asked == [f"Host: [::1]:{port}"]


# --- which connection ----------------------------------------------------------------------------


def test_head_and_body_are_sent_at_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    sendall = socket.socket.sendall

    def note(line: socket.socket, data: bytes) -> None:
        sent.append(data)
        sendall(line, data)

    monkeypatch.setattr(socket.socket, "sendall", note)
    assert send(receiver.url).error is None
    assert next(data for data in sent if data.startswith(b"POST")).endswith(b'\r\n\r\n{"id":"evt_1"}')


def test_a_connection_with_an_answer_that_was_not_read_to_its_end_is_closed() -> None:
    """Its rest would be taken for the next answer."""
    long = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"20000\r\n" + b"x" * 65536
    talks = 0

    def talk(line: socket.socket) -> None:
        nonlocal talks
        talks += 1
        line.sendall(long)
        line.settimeout(5)
        assert line.recv(1) == b""  # hung up on, not asked again

    with raw_server(talk) as url:
        assert send(url).status_code == 200
        assert send(url).status_code == 200
    assert talks == 2


def test_a_connection_is_not_shared_with_a_forked_process(receiver: Receiver) -> None:
    peers = []

    def note(handler) -> None:
        peers.append(handler.client_address)
        answer(200, b"ok")(handler)

    receiver.answers = [note] * 3
    send(receiver.url)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if send(receiver.url).error is None else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert send(receiver.url).error is None
    mine, childs, again = peers
    assert mine == again != childs


def test_only_so_many_connections_are_kept(receiver: Receiver) -> None:
    all_here = threading.Barrier(POOLED_CONNECTIONS + 4, timeout=10)

    def wait_for_all(handler) -> None:
        all_here.wait()
        answer(200, b"ok")(handler)

    receiver.answers = [wait_for_all] * all_here.parties
    assert {result.error for result in at_once(all_here.parties, lambda _: send(receiver.url))} == {None}
    server, _ = read_url(receiver.url)
    assert server.port == port_of(receiver)
    assert len(posting._pool._waiting[server, True]) == POOLED_CONNECTIONS


def test_only_so_many_servers_connections_are_kept() -> None:
    pool = Pool()
    pairs = []
    for number in range(POOLED_ENDPOINTS + 1):
        connection = Connection(SHOP._replace(port=number + 1), allow_private=True)
        connection.sock, theirs = socket.socketpair()
        pairs.append((connection, connection.sock, theirs))
        pool.put(connection)
    assert pairs[0][2].recv(1) == b""  # the one that waited longest is closed
    (last, *_), first = pairs[-1], pairs[0][0]
    assert pool.take(last.key[0], allow_private=True) is last
    assert pool.take(first.key[0], allow_private=True) is not first
    assert pool.take(pairs[1][0].key[0], allow_private=False) is not pairs[1][0]
    for connection, _, theirs in pairs:
        connection.close()
        theirs.close()
