"""What is measured: the whole gateway as `make run` starts it, and a bare app in the same gunicorn."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import psutil
from flask import Flask

from bench.receiver import Receiver
from bench.receiver import running as running_receiver
from bench.settle import url_of
from bench.webhooks import app_of
from config import ROOT
from tests.processes import Running, environ_of, gateway, wait_until

STOP_S = 20
QUIET = {
    **{"REQUEST_LOG": "false", "LOG_LEVEL": "WARNING", "PROCESSING_DELAY_MS": "0-0"},
    "RATE_LIMIT_PER_API_KEY": "1000000 per second",  # counted, but never reached
}


@dataclass(frozen=True)
class Stack:
    """One gateway, what is needed to put rows into it, and its webhook endpoint, which is off at first."""

    running: Running
    app: Flask
    receiver: Receiver
    endpoint_id: str
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.running.port}"

    @property
    def database_url(self) -> str:
        return url_of(self.app)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Within it, the endpoint is on."""
        self.switch(on=True)
        try:
            yield
        finally:
            self.switch(on=False)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it, workers and clock stand still, so that what the web server does is all that is done.

        For a few seconds: a clock that stands still for longer loses its office (jobs/clock.py, HANGS_S).
        """
        still = [
            process
            for process in psutil.Process(self.running.process.pid).children(recursive=True)
            if process.cmdline()[-1:] == ["jobs.worker"]
        ]
        for process in still:
            process.suspend()
        try:
            yield
        finally:
            for process in still:
                process.resume()

    def switch(self, *, on: bool) -> None:
        """Have the endpoint told of payments from now on, or not."""
        path = f"/api/v1/webhook_endpoints/{self.endpoint_id}"
        status, answer = self.running.call("PATCH", path, {"enabled": on})
        if status != 200:
            raise RuntimeError(f"the endpoint could not be switched: {answer}")


@contextmanager
def stack(folder: Path, name: str = "data") -> Iterator[Stack]:
    """One that runs, with its data in `folder`."""
    with ExitStack() as leave:
        running = leave.enter_context(gateway(folder / name, **QUIET))
        receiver = leave.enter_context(running_receiver())
        endpoint = running.post("/webhook_endpoints", {"url": receiver.url, "events": ["payment.success"]})
        made = Stack(running, app_of(running), receiver, endpoint["id"], folder)
        made.switch(on=False)
        yield made


@contextmanager
def bare_flask(folder: Path) -> Iterator[str]:
    """The URL of the bare app (bench/bare.py): gunicorn.conf.py is the same, so processes and threads are."""
    environ = environ_of(folder / "bare", **QUIET)
    command = [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", "bench.bare:app"]
    with (folder / "bare.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{environ['PORT']}"

    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"the bare app ended: {(folder / 'bare.log').read_text()}")
        request = urllib.request.Request(f"{url}/bare", method="POST")  # noqa: S310
        with suppress(URLError, OSError), urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310
            return answer.status == 201
        return False

    try:
        wait_until(answers)
        yield url
    finally:
        process.terminate()
        process.wait(STOP_S)
