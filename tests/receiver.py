"""A merchant's webhook receiver: a real HTTP server that answers as told and keeps what it got."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Receiver:
    """One that runs. `answers` are its next ones: a status, or what handles the request; then 200."""

    url: str
    received: list[Received] = field(default_factory=list)
    answers: list[int | Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)

    @property
    def events(self) -> list[str]:
        return [received.event["event"] for received in self.received]


@contextmanager
def running_receiver(port: int = 0) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for our acknowledgement of its headers

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # whoever sent it was killed on the way: nobody would take that for a body
                self.close_connection = True
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            me.received.append(Received(self.path, headers, body))
            answer = me.answers.pop(0) if me.answers else 200
            if callable(answer):
                answer(self)
                return
            self.send_response(answer)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # with the standard 5, a burst of connections is reset

    server = Server(("127.0.0.1", port), Handler)
    me = Receiver(f"http://127.0.0.1:{server.server_address[1]}/hook")
    with served(server):
        yield me


@contextmanager
def served(server: HTTPServer) -> Iterator[None]:
    """Serve in a thread; at the end wait for it, and for its requests."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer of the receiver with this status, these headers and this body."""

    def handle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return handle


def hang_until(let_go: threading.Event) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer of the receiver: none at all, and in the end it hangs up."""

    def hang(handler: BaseHTTPRequestHandler) -> None:
        let_go.wait(30)
        handler.close_connection = True

    return hang
