"""Waking the workers: one RQ job a queue at a time, whose only content is "look for what is due".

After a commit, `SET wake:<queue> 1 NX EX 5`: only who sets it enqueues a job. The job deletes the key
first, then claims. A row committed before the delete is seen by that claim; one committed after it sets
the key anew. So no wake-up is lost, and a thousand rows cost one job.

Redis may be slow, empty or gone: then a wake fails within 0.2 s, is logged, and the clock makes up for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from flask import Flask, current_app
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from config import settings
from models.green import soon

log = logging.getLogger(__name__)

QUEUES = ("payments", "refunds", "webhooks")
WAKE_TTL_S = (
    5  # a wake whose job was lost (Redis emptied, enqueue failed) blocks new ones no longer than this
)
REDIS_TIMEOUT_S = 0.2  # a request never waits longer for Redis; redis-py's default would block it for 4 s
MOMENT_S = 0.002  # how long a wake waits for others
REDIS_REST_S = 1.0  # after a failure, leave Redis alone for so long: one slow request a second, not all
JOB_TIMEOUT_S = 120  # far above any drain's budget: a job that runs longer is stuck
FAILURE_TTL_S = 3600  # failed jobs stay to be looked at; the work itself is still due in the database


class GatewayJob(Job):
    """An RQ job that can only be one of ours.

    JSON data alone would still name any function to import: whoever writes to Redis could run it.
    """

    RUN = {f"jobs.{queue}.run": queue for queue in QUEUES}

    @property
    def func(self) -> Callable[..., Any]:
        if self.func_name not in self.RUN or self.args or self.kwargs:
            raise PermissionError(f"not a job of this gateway: {self.func_name}")
        return import_module(f"jobs.{self.RUN[self.func_name]}").run

    success_callback = failure_callback = stopped_callback = None

    def send_webhooks(self, *_args: Any, **_kwargs: Any) -> None:
        """RQ's own job webhooks would call any URL that stands in Redis."""


def wake(queue: str) -> bool:
    """Make sure that a worker looks at `queue` soon. False (and a log line) if Redis would not hear it."""
    state = current_app.extensions.setdefault("wake", {"rest_until": 0.0})
    if time.monotonic() < state["rest_until"]:
        return False
    client = fast_redis()
    try:
        if client.set(f"wake:{queue}", 1, nx=True, ex=WAKE_TTL_S):
            rq_queue(queue, client).enqueue_call(
                f"jobs.{queue}.run",
                timeout=JOB_TIMEOUT_S,
                result_ttl=0,
                failure_ttl=FAILURE_TTL_S,
                description=f"work off what is due in {queue}",
            )
    except (RedisError, OSError) as error:
        state["rest_until"] = time.monotonic() + REDIS_REST_S
        log.warning("could not wake %s, the clock will: %s", queue, error)
        return False
    return True


def wake_soon(queue: str) -> None:
    """In the web server, wake it beside the request, and once for all requests of the same moment.

    A commit before the moment is over is seen by the wake that follows; one after it has a wake of its own.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    coming: set[str] = app.extensions.setdefault("coming_wakes", set())
    if queue in coming:
        return

    def wake_now() -> None:
        coming.discard(queue)
        with app.app_context():
            wake(queue)

    coming.add(queue)
    if not soon(MOMENT_S, wake_now):
        wake_now()


def woken(queue: str) -> None:
    """The job begins: from here on, a new commit needs a new wake. Before the first claim, always."""
    try:
        fast_redis().delete(f"wake:{queue}")
    except (RedisError, OSError) as error:
        log.warning("could not clear the wake of %s, it expires in %s s: %s", queue, WAKE_TTL_S, error)


def rq_queue(name: str, client: Redis) -> Queue:
    return Queue(name, connection=client, serializer=JSONSerializer, job_class=GatewayJob)


def fast_redis() -> Redis:
    """The app's Redis client for requests: fails fast and does not retry."""
    client = current_app.extensions.get("fast_redis")
    if client is None:
        client = current_app.extensions["fast_redis"] = Redis.from_url(
            settings.redis_url or "",
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
    return client
