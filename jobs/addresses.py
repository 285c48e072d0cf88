"""Where webhooks may go: public addresses alone, unless WEBHOOK_ALLOW_PRIVATE.

A merchant's URL must not become a way into our own network. So a name is looked up once, every address
that it has must be public, and the connection goes to one of those very addresses: between the look and
the connection nothing is asked again that could answer differently.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any
from urllib.parse import urlsplit

import requests

from config import settings
from models.errors import bad_request

LOOKUP_THREADS = 32  # names looked up at once: a name server that hangs keeps one for up to half a minute
SAVE_LOOKUP_TIMEOUT_S = 2.0  # a request is not kept waiting for a slow name server

# Of IPv6 only 2000::/3 is handed out to hosts (RFC 4291, 2.4): all else, ::ffff:0:0/96 and the other ways to
# write an IPv4 address included, is refused. Of both, what IANA's special-purpose registries reserve
# (https://www.iana.org/assignments/iana-ipv4-special-registry, .../iana-ipv6-special-registry). Spelled
# out, for `ipaddress.is_global` differs between Python versions and lets multicast through.
IPV6_HOSTS = ipaddress.ip_network("2000::/3")
RESERVED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' NAT, and some clouds' metadata (100.100.100.200)
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host agent, public only by its number
        "169.254.0.0/16",  # link-local: most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, and a cloud's metadata (192.0.0.192)
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # protocol assignments: Teredo, ORCHID ...
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",  # documentation
    )
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotPublic(OSError):
    """The target has an address that webhooks may not be sent to."""


class LookupTimeout(OSError):
    """The name server did not answer in time."""


def is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in IPV6_HOSTS:
        return False
    return not any(address in network for network in RESERVED if network.version == address.version)


def check_target(url: str) -> None:
    """Refuse a webhook URL that could never be called. A name that nobody knows yet is let through: every
    delivery looks again.

    Raises:
        Refused: an address of its host is not public.
    """
    if settings.webhook_allow_private:
        return
    try:
        parts = urlsplit(requests.Request("POST", url).prepare().url or "")  # the host as it will be called
        port = parts.port or (443 if parts.scheme == "https" else 80)
        look_up(parts.hostname or "", port, allow_private=False, timeout_s=SAVE_LOOKUP_TIMEOUT_S)
    except NotPublic:
        raise bad_request("url: Must not lead to a private address.", field="url") from None
    except requests.RequestException:
        raise bad_request("url: Must be an http or https URL.", field="url") from None
    except OSError:
        return


def look_up(host: str, port: int, *, allow_private: bool, timeout_s: float) -> list[Any]:
    """What `socket.getaddrinfo` knows of the host, if all of it may be called.

    Raises:
        NotPublic: an address of it is not public.
        LookupTimeout: no answer within `timeout_s`.
        socket.gaierror: there is no such name.
    """
    name = host.strip("[]")
    if not allow_private and is_localhost(name):
        raise NotPublic(name)
    try:
        found = _lookups.of(name, port).result(timeout_s)
    except FutureTimeoutError:
        raise LookupTimeout(name) from None
    except UnicodeError as error:  # a label that IDNA cannot hold
        raise socket.gaierror(socket.EAI_NONAME, "not a name") from error
    for *_, address in found:
        # Without the scope of a link-local address, which is no part of its number.
        if not allow_private and not is_public(ipaddress.ip_address(str(address[0]).partition("%")[0])):
            raise NotPublic(name)
    return found


def connect(
    host: str, port: int, *, allow_private: bool, timeout_s: float, options: list[Any]
) -> socket.socket:
    """A connection to one of the host's addresses, tried in turn, within `timeout_s` in all.

    Raises:
        OSError: as `look_up`, or what the last address said.
    """
    deadline = time.monotonic() + timeout_s
    found = look_up(host, port, allow_private=allow_private, timeout_s=timeout_s)
    failure: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            break
        line = socket.socket(family, kind, protocol)
        try:
            for option in options:
                line.setsockopt(*option)
            line.settimeout(left_s / (len(found) - number))  # one that is silent leaves time for the others
            line.connect(address)
        except OSError as error:
            line.close()
            failure = error
        else:
            return line
    raise failure


def is_localhost(name: str) -> bool:
    """Whether a name means this machine, whatever a name server says (RFC 6761, 6.3)."""
    return name.rstrip(".").lower().rpartition(".")[2] == "localhost"


class _Lookups:
    """Threads for `getaddrinfo`, which cannot be given a timeout. Whoever asks for a name that is being
    looked up waits for that answer: a name server that hangs keeps one thread a name, not one a delivery.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None  # made on first use: processes fork
        self._running: dict[tuple[str, int], Future[list[Any]]] = {}
        self._one_asks = threading.Lock()

    def of(self, name: str, port: int) -> Future[list[Any]]:
        with self._one_asks:
            lookup = self._running.get((name, port))
            if lookup is not None:
                return lookup
            if self._pool is None:
                self._pool = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup")
            lookup = self._pool.submit(socket.getaddrinfo, name, port, type=socket.SOCK_STREAM)
            self._running[name, port] = lookup
        lookup.add_done_callback(lambda _: self._running.pop((name, port)))
        return lookup


def _start_anew() -> None:
    """A fork has none of the threads, and a lock that may be held for ever."""
    global _lookups  # noqa: PLW0603
    _lookups = _Lookups()


_lookups = _Lookups()
os.register_at_fork(after_in_child=_start_anew)
