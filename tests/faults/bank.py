"""The bank of the fault harness: a server beside the gateway, and the acquirer by which it is asked.

The gateway's processes load `HttpBank` (ACQUIRER). The server knows which process asks, and so which one to
kill or to freeze while it waits for an answer, with its claims in hand.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps, loads

import requests

from config import Settings
from jobs.acquirers import Approved, Ask, Declined, NotFound, Result, Unknown
from models.instruments import Card
from tests.bank import Bank
from tests.receiver import served

ANSWER_TIMEOUT_S = 4.0  # then the answer is Unknown
RESULTS = {kind.__name__: kind for kind in (Approved, Declined, NotFound, Unknown)}


class HttpBank:
    """Implements jobs.acquirers.Acquirer: asks the server at BANK_URL."""

    simulated = True  # the phone's page is there

    def __init__(self, _settings: Settings):
        self._url = os.environ["BANK_URL"]
        self._local = threading.local()

    def tokenize(self, card: Card) -> str:
        return f"tok_{card.last4}"

    def authenticate(self, token: str | None, otp: str) -> str:
        return f"{token}_{otp}"

    def cancel(self, token: str | None) -> str:
        return f"{token}_cancelled"

    def authorize(self, ask: Ask) -> Result:
        return self._ask(ask)

    def capture(self, ask: Ask) -> Result:
        return self._ask(ask)

    def void(self, ask: Ask) -> Result:
        return self._ask(ask)

    def refund(self, ask: Ask) -> Result:
        return self._ask(ask)

    def lookup(self, ask: Ask) -> Result:
        return self._ask(ask, looked_up=True)

    def _ask(self, ask: Ask, looked_up: bool = False) -> Result:
        body = {"ask": asdict(ask), "looked_up": looked_up, "pid": os.getpid()}
        try:
            answer = self._session().post(self._url, json=body, timeout=ANSWER_TIMEOUT_S).json()
        except (requests.RequestException, ValueError):
            return Unknown()
        return RESULTS[answer.pop("result")](**answer)

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        return self._local.session


@dataclass
class BankServer:
    """One that runs. `latency_s` is how long it thinks over a request, `times` how often that arrives."""

    url: str
    bank: Bank
    latency_s: Callable[[Ask], float] = lambda _ask: 0.0
    times: Callable[[Ask], int] = lambda _ask: 1
    waiting: Counter[int] = field(default_factory=Counter)  # requests that wait for an answer, by who asks
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def answer(self, ask: Ask, looked_up: bool, pid: int) -> Result:
        with self._changed:
            self.waiting[pid] += 1
            self._changed.notify_all()
        try:
            time.sleep(self.latency_s(ask))
            if looked_up:
                return self.bank.lookup(ask)
            results = [getattr(self.bank, ask.operation)(ask) for _ in range(self.times(ask))]
            return results[-1]
        finally:
            with self._changed:
                self.waiting[pid] -= 1

    def somebody_waits(self, among: Callable[[], set[int]], timeout_s: float = 20) -> int:
        """The process id of one of them that waits for an answer, as soon as there is one."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                pids = among()
                for pid, count in self.waiting.items():
                    if count and pid in pids:
                        return pid
                if not self._changed.wait(min(0.2, deadline - time.monotonic())) and (
                    time.monotonic() > deadline
                ):
                    raise AssertionError(f"nobody asked the bank within {timeout_s} s")


@contextmanager
def running_bank() -> Iterator[BankServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                asked = loads(body)
            except ValueError:  # whoever sent it was killed on the way
                self.close_connection = True
                return
            result = me.answer(Ask(**asked["ask"]), asked["looked_up"], asked["pid"])
            answer = dumps({"result": type(result).__name__, **asdict(result)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # whoever asked is gone
                self.close_connection = True

        def log_message(self, *_args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    me = BankServer(f"http://127.0.0.1:{server.server_address[1]}/", Bank())
    with served(server):
        yield me
