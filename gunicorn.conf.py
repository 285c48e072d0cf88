"""The web server: one app on three ports.

Its worker class is gevent: a request that waits, for the database or for a client that sends slowly, holds
no thread (docs/performance.md has the comparison). Hence the first lines, before anything else is imported.
"""

from gevent import monkey

monkey.patch_all()

import gc
import logging

import logs
from config import ConfigError, cautions, load
from models.green import wait_for_postgres

try:
    _settings = load()
except ConfigError as error:
    raise SystemExit(f"error: {error}") from None

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
