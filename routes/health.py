"""Is the gateway well?"""

from __future__ import annotations

from datetime import UTC, datetime

from flask import jsonify
from redis import RedisError
from sqlalchemy.exc import DBAPIError

from jobs.wake import fast_redis
from models.base import isoformat
from models.workers import Worker
from routes.fields import Blueprint

blp = Blueprint("health", __name__, description="Whether the gateway is well.")


@blp.get("/health")
@blp.doc(security=[])
def get_health():
    """Tell how the gateway is.

    `healthy`; `degraded` when Redis or the workers are gone (still 200: payments are taken, and settled
    later); `unhealthy` with 503 when the database is gone.
    """
    try:
        workers, database = Worker.alive(), "connected"
    except DBAPIError:
        workers, database = 0, "disconnected"
    try:
        fast_redis().ping()
        redis = "connected"
    except (RedisError, OSError):
        redis = "disconnected"
    if database != "connected":
        status = "unhealthy"
    elif redis != "connected" or workers == 0:
        status = "degraded"
    else:
        status = "healthy"
    answer = jsonify(
        status=status,
        database=database,
        redis=redis,
        workers=workers,
        timestamp=isoformat(datetime.now(UTC)),
    )
    answer.status_code = 503 if status == "unhealthy" else 200
    return answer
