"""A webhook receiver that costs little: `python -m bench.receiver`, a process of its own.

It understands just enough HTTP to answer each POST with 200 on a connection that stays open, and writes down
when the webhook of which payment came. Times are of the monotonic clock, which all processes of one machine
share. `GET /arrivals` gives and forgets them.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from config import ROOT

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
PAYMENT = re.compile(rb'"id": ?"(pay_[A-Za-z0-9]{16})"')
STOP_S = 10

arrivals: dict[str, float] = {}


class Connection(asyncio.Protocol):
    """One client, and what of its next request is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            found = LENGTH.search(head)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            self._transport.write(_all_arrivals() if head.startswith(b"GET ") else OK)
            if paid := PAYMENT.search(body):
                arrivals.setdefault(paid[1].decode(), time.monotonic())


def _all_arrivals() -> bytes:
    body = json.dumps(arrivals).encode()
    arrivals.clear()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@dataclass(frozen=True)
class Receiver:
    """One that runs."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def arrivals(self) -> dict[str, float]:
        """When (monotonic seconds) the first webhook of each payment came, since the last call."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/arrivals", timeout=STOP_S) as answer:
            return json.loads(answer.read())


@contextmanager
def running() -> Iterator[Receiver]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.receiver"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield Receiver(int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait(STOP_S)
        if process.stdout is not None:
            process.stdout.close()


if __name__ == "__main__":
    asyncio.run(serve())
