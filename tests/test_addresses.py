"""Where webhooks may go: nothing of our own network can be reached by a merchant's URL."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from app import create_app
from jobs import addresses
from jobs.addresses import LOOKUP_THREADS
from jobs.posting import Post, post
from jobs.webhooks import WEBHOOKS
from models.base import db
from tests.conftest import Api, at_once, drain, found, made, refused, settings_of
from tests.receiver import Receiver

PRIVATE = (
    *("0.0.0.1", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.8.8.8", "168.63.129.16"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1"),
    *("192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8"),
    *("64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::"),
    *("3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1"),
)
PUBLIC = (
    *("1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1"),
    *("168.63.129.17", "198.20.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "2400:cb00::1"),
)

# What attackers write instead of http://127.0.0.1/ and http://169.254.169.254/.
FORBIDDEN_URLS = (
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::1]:{port}/",
    "http://0x7f000001:{port}/",
    "http://2130706433:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://0:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://localhost:{port}/",
    "http://localhost.:{port}/",
    "http://LOCALHOST:{port}/",
    "http://shop.localhost:{port}/",
    "http://127.0.0.1:{port}/",
    "https://10.0.0.1/",
)


@pytest.mark.parametrize("number", PRIVATE)
def test_a_reserved_address_is_not_public(number: str) -> None:
    assert not addresses.is_public(ipaddress.ip_address(number))


@pytest.mark.parametrize("number", PUBLIC)
def test_an_ordinary_address_is_public(number: str) -> None:
    assert addresses.is_public(ipaddress.ip_address(number))


@pytest.fixture
def strict(environ: dict[str, str], app: Flask) -> Flask:
    """The gateway as it is in production: no webhook to a private address."""
    return create_app(settings_of(environ | {"WEBHOOK_ALLOW_PRIVATE": "false"}))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """A name server: for each name the answers that it gives, one after the other; the last one stays."""
    known: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def answer(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host not in known:
            return real(host, port, *args, **kwargs)
        answers = known[host]
        numbers = answers.pop(0) if len(answers) > 1 else answers[0]
        return [entry for number in numbers for entry in real(number, port, *args, **kwargs)]

    monkeypatch.setattr("jobs.addresses.socket.getaddrinfo", answer)
    return known


def port_of(receiver: Receiver) -> str:
    return receiver.url.split(":")[2].split("/")[0]


@pytest.mark.parametrize("url", FORBIDDEN_URLS)
def test_a_private_target_is_refused_when_it_is_saved(strict: Flask, receiver: Receiver, url: str) -> None:
    api = Api(strict.test_client())
    url = url.format(port=port_of(receiver))
    refused(api.post("/webhook_endpoints", {"url": url}), 400, "BAD_REQUEST_ERROR", "url")
    endpoint = made(api.post("/webhook_endpoints", {"url": "https://8.8.8.8/"}))
    path = f"/webhook_endpoints/{endpoint['id']}"
    refused(api.patch(path, {"url": url}), 400, "BAD_REQUEST_ERROR", "url")
    assert found(api.get(path))["url"] == "https://8.8.8.8/"


@pytest.mark.parametrize("url", FORBIDDEN_URLS)
def test_a_private_target_is_not_reached_even_if_it_was_saved(
    strict: Flask, receiver: Receiver, url: str
) -> None:
    api = Api(strict.test_client())
    made(api.post("/webhook_endpoints", {"url": "https://8.8.8.8/", "events": ["payment.created"]}))
    with strict.app_context():
        saved = {"url": url.format(port=port_of(receiver))}
        db.session.execute(text("UPDATE webhook_endpoints SET url = :url"), saved)
        db.session.commit()
        api.upi(api.order()["id"])
        drain(WEBHOOKS)
    (delivery,) = found(api.get("/webhooks"))["data"]
    assert delivery["attempts"] == 1
    assert delivery["error"] in ("the address is not public", "the URL cannot be called")
    assert receiver.received == []


def test_a_name_that_is_public_first_and_private_then_is_looked_up_once(
    names: dict[str, list[list[str]]], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    names["rebind.example"] = [["192.0.1.1"], ["127.0.0.1"]]

    def refuse(_socket: socket.socket, address: Any) -> None:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    url = f"http://rebind.example:{port_of(receiver)}/"
    result = post(Post(url, "evt_1", b"{}", ("whsec_c2VjcmV0",), allow_private=False))
    assert asked == [("192.0.1.1", int(port_of(receiver)))]
    assert result.error == "connection refused"
    assert receiver.received == []


def test_every_address_of_a_name_must_be_public(
    names: dict[str, list[list[str]]], receiver: Receiver, strict: Flask
) -> None:
    names["mixed.example"] = [["8.8.8.8", "127.0.0.1"]]
    url = f"http://mixed.example:{port_of(receiver)}/"
    result = post(Post(url, "evt_1", b"{}", ("whsec_c2VjcmV0",), allow_private=False))
    assert result.error == "the address is not public"
    refused(
        Api(strict.test_client()).post("/webhook_endpoints", {"url": url}), 400, "BAD_REQUEST_ERROR", "url"
    )
    assert receiver.received == []


def test_a_name_that_nobody_knows_yet_can_be_saved(strict: Flask) -> None:
    made(Api(strict.test_client()).post("/webhook_endpoints", {"url": "https://soon.invalid/hook"}))


def test_the_host_header_keeps_the_name(names: dict[str, list[list[str]]], receiver: Receiver) -> None:
    names["shop.example"] = [["127.0.0.1"]]
    url = f"http://shop.example:{port_of(receiver)}/hook"
    assert post(Post(url, "evt_1", b"{}", ("whsec_c2VjcmV0",), allow_private=True)).status_code == 200
    assert receiver.received[0].headers["host"] == f"shop.example:{port_of(receiver)}"


def test_the_next_address_is_tried_when_one_refuses(
    names: dict[str, list[list[str]]], receiver: Receiver
) -> None:
    names["two.example"] = [["127.0.0.2", "127.0.0.1"]]
    url = f"http://two.example:{port_of(receiver)}/"
    assert post(Post(url, "evt_1", b"{}", ("whsec_c2VjcmV0",), allow_private=True)).status_code == 200


def test_a_name_server_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    hang: Callable[..., Any] = lambda *_args, **_kwargs: let_go.wait(30)  # noqa: E731
    monkeypatch.setattr("jobs.addresses.socket.getaddrinfo", hang)
    monkeypatch.setattr("jobs.posting.CONNECT_TIMEOUT_S", 0.3)
    result = post(Post("http://slow.example/", "evt_1", b"{}", ("whsec_c2VjcmV0",), allow_private=False))
    let_go.set()
    assert result.error == "the name server did not answer"
    assert result.duration_ms < 5000


def test_nor_does_it_keep_other_names_from_being_looked_up(
    names: dict[str, list[list[str]]], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, asked = threading.Event(), []
    answer = socket.getaddrinfo

    def hang(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "stuck.example":
            return answer(host, *args, **kwargs)
        asked.append(host)
        let_go.wait(30)
        raise socket.gaierror

    names["fast.example"] = [["127.0.0.1"]]
    monkeypatch.setattr("jobs.addresses.socket.getaddrinfo", hang)
    slow = at_once(2 * LOOKUP_THREADS, lambda _: addresses._lookups.of("stuck.example", 80))
    url = f"http://fast.example:{port_of(receiver)}/"
    result = post(Post(url, "evt_1", b"{}", ("whsec_c2VjcmV0",), allow_private=True))
    let_go.set()
    assert result.status_code == 200
    assert all(isinstance(lookup.exception(30), socket.gaierror) for lookup in slow)
    assert asked == ["stuck.example"]
