"""The worker command, `python -m jobs.worker`: a small supervisor of RQ workers and the clock.

It restarts what dies, and on SIGTERM lets every process finish what it holds. RQ's own WorkerPool can't set
the workers' TTL and forces its scheduler on, which the clock replaces.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from types import FrameType

from flask import Flask
from redis import Redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer
from rq.worker import DequeueStrategy
from sqlalchemy.exc import DBAPIError

import logs
from config import ConfigError, Settings, load
from jobs.acquirers import get_acquirer
from jobs.clock import Clock
from jobs.wake import QUEUES, GatewayJob
from jobs.work import stopping
from models.base import db
from models.context import core_app
from models.schema import wait_for_schema
from models.workers import BEAT_S, Worker

log = logging.getLogger(__name__)

WORKER_TTL_S = 30  # how long RQ waits for a job at a time; a frozen Redis is noticed 10 s later
REDIS_RETRY_MAX_S = 2.0  # RQ would wait up to a minute between attempts to reach Redis
RESTART_PAUSE_S = 1.0  # a process that dies at once is not restarted in a tight loop
PARENT_CHECK_S = 1.0
COLLECT_AFTER = 50_000  # objects: a batch makes about so many and drops them all, which needs no collector
STOP_TIMEOUT_S = 25.0  # what a process may take to finish; leases bring back what it could not


class GatewayWorker(SimpleWorker):
    """RQ's worker without a fork per job: a job is one drain, and a lease brings back what dies."""

    max_connection_wait_time = REDIS_RETRY_MAX_S
    log_result_lifespan = False

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        stopping.set()
        super().request_stop(signum, frame)


def main() -> int:
    try:
        settings = load()
        get_acquirer(settings)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    logs.set_up(settings.log_level, settings.log_format)
    return Supervisor(settings).run()


class Supervisor:
    """Starts the processes, restarts what dies, ends them all on SIGTERM or SIGINT."""

    def __init__(self, settings: Settings):
        self._roles: dict[str, tuple[Callable[..., None], tuple]] = {"clock": (run_clock, (settings,))}
        for number in range(settings.worker_processes):
            # The first process never posts webhooks: money does not wait for other people's servers.
            queues = QUEUES[:2] if number == 0 and settings.worker_processes > 1 else QUEUES[::-1]
            self._roles[f"worker-{number + 1}"] = (run_worker, (settings, list(queues)))
        self._processes: dict[str, BaseProcess] = {}
        self._stop = False

    def run(self) -> int:
        gc.freeze()  # what is loaded now stays: no collection looks at it, or copies its page in a fork
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        while not self._stop:
            for name in self._roles:
                process = self._processes.get(name)
                if process is None or not process.is_alive():
                    if process is not None:
                        log.warning("%s ended (exit code %s), it is started again", name, process.exitcode)
                    self._start(name)
            time.sleep(RESTART_PAUSE_S)  # a signal does not cut it short: we end at most one pause late
        return self._end()

    def _start(self, name: str) -> None:
        target, args = self._roles[name]
        # Forked from a parent that has no connection and no thread: nothing is shared by accident.
        process = multiprocessing.get_context("fork").Process(target=target, args=args, name=name)
        process.start()
        self._processes[name] = process

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self._stop = True
        for process in self._processes.values():
            if process.is_alive():
                process.terminate()

    def _end(self) -> int:
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in self._processes.values():
            if process.is_alive():
                process.terminate()
        for name, process in self._processes.items():
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                log.warning("%s did not finish in time, it is killed; its leases will run out", name)
                process.kill()
                process.join()
        return 0


def run_worker(settings: Settings, queues: list[str]) -> None:
    """One worker process: takes jobs from Redis, and says in the database that it lives."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _stop_early)
    end_with_parent()
    gc.set_threshold(COLLECT_AFTER)
    app = core_app(settings)
    with app.app_context():
        wait_for_schema(stopping)
        beat = threading.Thread(target=_keep_beating, args=(app, queues), daemon=True)
        beat.start()
        while not stopping.is_set():
            try:
                worker = GatewayWorker(
                    queues,
                    connection=Redis.from_url(settings.redis_url or ""),
                    serializer=JSONSerializer,
                    job_class=GatewayJob,
                    worker_ttl=WORKER_TTL_S,
                )
                # In turn: however much one queue has to do, the others do not wait for its end.
                worker.work(logging_level="WARNING", dequeue_strategy=DequeueStrategy.ROUND_ROBIN)
            except Exception as error:
                log.warning("Redis cannot be used, trying again: %s", error)
            stopping.wait(REDIS_RETRY_MAX_S)
        beat.join(BEAT_S * 2)


def run_clock(settings: Settings) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopping.set())
    end_with_parent()
    app = core_app(settings)
    with app.app_context():
        wait_for_schema(stopping)
    Clock(app).run()


def end_with_parent() -> None:
    """End this process when the supervisor is gone, however it went: nobody would ever restart it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _stop_early(_signum: int, _frame: FrameType | None) -> None:
    """Until RQ's worker has its own handler, and between two of its lives."""
    stopping.set()


def _keep_beating(app: Flask, queues: list[str]) -> None:
    worker_id = f"{socket.gethostname()}:{os.getpid()}:{int(time.time())}"
    with app.app_context():
        while not stopping.is_set():
            try:
                Worker.beat(worker_id, socket.gethostname(), os.getpid(), queues)
                db.session.commit()
            except DBAPIError as error:
                log.warning("the heartbeat did not reach the database: %s", error.orig)
            finally:
                db.session.remove()
            stopping.wait(BEAT_S)
        try:
            Worker.leave(worker_id)
            db.session.commit()
        except DBAPIError:
            log.warning("could not sign off; health forgets this worker by itself")


if __name__ == "__main__":
    sys.exit(main())
