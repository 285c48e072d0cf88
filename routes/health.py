"""Is the gateway well? And for who sends requests here: is this process alive, does it take any?"""

from __future__ import annotations

from datetime import UTC, datetime
from threading import Event

import flask
from marshmallow import Schema, fields
from redis import RedisError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobs.wake import fast_redis
from models.base import Timestamp, db
from models.workers import Worker
from routes.fields import Blueprint

blp = Blueprint("health", __name__, description="Whether the gateway is well.")
probes = flask.Blueprint("probes", __name__)
stopping = Event()  # this web process was told to end (gunicorn.conf.py): a proxy should ask another one


class HealthSchema(Schema):
    status = fields.String(metadata={"enum": ["healthy", "degraded", "unhealthy"]})
    database = fields.String(metadata={"enum": ["connected", "disconnected"]})
    redis = fields.String(metadata={"enum": ["connected", "disconnected"]})
    workers = fields.Integer()
    timestamp = Timestamp()


@blp.get("/health")
@blp.doc(security=[])
@blp.response(200, HealthSchema)
@blp.alt_response(503, schema=HealthSchema)
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


@probes.get("/live")
def get_live():
    """This process answers. It looks at nothing: to start it anew would mend nothing else."""
    return {"status": "live"}


@probes.get("/ready")
def get_ready():
    """Whether this process takes requests: 503 without the database, and as soon as it is told to end."""
    if stopping.is_set():
        return {"status": "stopping"}, 503
    db.session.execute(text("SELECT 1"))
    return {"status": "ready"}
