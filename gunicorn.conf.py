"""The web server: one app on three ports.

Its worker class is gevent: a request that waits, for the database or for a client that sends slowly, holds
no thread (docs/performance.md has the comparison). Hence the first lines, before anything else is imported.
"""

from gevent import monkey

monkey.patch_all()

import gc
import logging
import os
import shutil
import signal
import tempfile
from functools import partial
from types import SimpleNamespace
from typing import Any

from gevent.server import StreamServer
from gunicorn.http.wsgi import Response
from gunicorn.workers import ggevent

import logs
from config import ConfigError, cautions, load
from models.green import wait_for_postgres

try:
    _settings = load()
except ConfigError as error:
    raise SystemExit(f"error: {error}") from None

os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="gateway-metrics-")  # see routes/measure.py
logs.set_up(_settings.log_level, _settings.log_format)
for _caution in cautions(_settings):
    logging.getLogger("config").warning(_caution)
wait_for_postgres()
wsgi_app = "app:web_app()"
preload_app = True  # made once, before the fork: one check of the database, one copy in memory
_host = f"[{_settings.host}]" if ":" in _settings.host else _settings.host  # IPv6
bind = [f"{_host}:{port}" for port in (_settings.port, _settings.dashboard_port, _settings.checkout_port)]
workers = _settings.web_workers
worker_class = "gevent"
worker_connections = 900  # clients at once in one process, below the usual limit of 1024 open files
timeout = 30  # seconds a worker may be silent before it is replaced
graceful_timeout = 8  # seconds to finish what is under way; `make run` ends everything in under 10
keepalive = 5
limit_request_line = 4094
limit_request_fields = 64
control_socket_disable = True  # its place is the home folder, which two copies would share
logger_class = "logs.GunicornLogger"  # the standard one quotes what it could not read: a card, perhaps
loglevel = _settings.log_level.lower()

COLLECT_AFTER = 20_000  # objects: those of many requests; a usual one leaves nothing to the collector


def when_ready(_server: object) -> None:
    gc.freeze()  # what is loaded now stays: no collection looks at it, or copies its page in a fork
    gc.set_threshold(COLLECT_AFTER)


# --- told to end: nobody's request is lost (tests/test_rolling_restart.py) -----------------------


def post_worker_init(worker: Any) -> None:
    """Told to end, a process is not ready at once, and closes each connection with its next answer."""
    from routes.health import stopping  # noqa: PLC0415 (only now is all loaded that it needs)

    def end(signum: int, frame: Any) -> None:
        stopping.set()
        Response.should_close = _closes
        worker.handle_exit(signum, frame)  # within a second it takes no new ones

    signal.signal(signal.SIGTERM, end)


_should_close = Response.should_close


def _closes(response: Response) -> bool:
    """True, but for an answer whose head has said something else: its client may ask once more."""
    if not response.headers_sent:
        response.force_close()
    return _should_close(response)


class _Server(StreamServer):
    """Loses nobody when it closes. Else those that it took last would fail, as gunicorn asks the listener for
    its name when their turn comes; and those that it has not taken yet would be reset.
    """

    def __init__(self, listener: Any, handle: partial[None], **options: Any):
        name = listener.getsockname()
        super().__init__(listener, partial(handle.func, SimpleNamespace(getsockname=lambda: name)), **options)

    def close(self) -> None:
        while not self.closed and (client := self.do_read()) is not None:  # `stop` closes once more
            self.do_handle(*client)
        super().close()


ggevent.StreamServer = _Server


def on_exit(_server: object) -> None:
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
