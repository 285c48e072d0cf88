"""Is the gateway well?"""

from __future__ import annotations

from datetime import UTC, datetime

from marshmallow import Schema, fields
from redis import RedisError
from sqlalchemy.exc import DBAPIError

from jobs.wake import fast_redis
from models.base import Timestamp
from models.workers import Worker
from routes.fields import Blueprint

blp = Blueprint("health", __name__, description="Whether the gateway is well.")


class HealthSchema(Schema):
    status = fields.String(metadata={"enum": ["healthy", "degraded", "unhealthy"]})
    database = fields.String(metadata={"enum": ["connected", "disconnected"]})
    redis = fields.String(metadata={"enum": ["connected", "disconnected"]})
    workers = fields.Integer()
    timestamp = Timestamp()


@blp.get("/health")
@blp.doc(security=[])
@blp.response(200, HealthSchema)
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
    answer = {
        "status": status,
        "database": database,
        "redis": redis,
        "workers": workers,
        "timestamp": datetime.now(UTC),
    }
    return answer, 503 if status == "unhealthy" else 200
