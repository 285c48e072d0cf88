"""How the queues are doing: a merchant sees its own work, an operator that of the whole gateway."""

from __future__ import annotations

from typing import Any

from flask import g
from marshmallow import Schema, fields
from sqlalchemy import select

from models import workload
from models.base import Timestamp, db
from models.workers import Worker
from routes.auth import authenticated
from routes.fields import Blueprint

blp = Blueprint("jobs", __name__, url_prefix="/api/v1", description="How the queues are doing.")


class WorkQueueSchema(Schema):
    due = fields.Integer(metadata={"description": "Waits for a worker now."})
    running = fields.Integer()
    later = fields.Integer(metadata={"description": "Waits for its time."})
    done = fields.Integer(metadata={"description": "Of what was made in the last 24 hours."})
    failed = fields.Integer(
        metadata={"description": "Deliveries given up; payments and refunds that broke, and are tried again."}
    )
    oldest_due_at = Timestamp(allow_none=True)


class WorkQueuesSchema(Schema):
    payments = fields.Nested(WorkQueueSchema)
    refunds = fields.Nested(WorkQueueSchema)
    webhooks = fields.Nested(WorkQueueSchema)


class MinuteSchema(Schema):
    at = Timestamp()
    payments = fields.Integer()
    refunds = fields.Integer()
    webhooks = fields.Integer(metadata={"description": "Attempts."})


class WorkerProcessSchema(Schema):
    hostname = fields.String()
    pid = fields.Integer()
    queues = fields.List(fields.String())
    started_at = Timestamp()
    beat_at = Timestamp()


class JobsSchema(Schema):
    scope = fields.String(metadata={"enum": ["merchant", "gateway"]})
    workers_alive = fields.Integer()
    workers = fields.List(
        fields.Nested(WorkerProcessSchema), metadata={"description": "For operators alone."}
    )
    queues = fields.Nested(WorkQueuesSchema)
    minutes = fields.List(fields.Nested(MinuteSchema), metadata={"description": "The last hour."})


@blp.get("/jobs")
@authenticated
@blp.response(200, JobsSchema)
def get_jobs():
    """Get what waits, runs, is done and failed, and the throughput of the last hour.

    Your own; an operator who is signed in to the dashboard sees that of the whole gateway.
    """
    merchant_id = None if g.is_operator else g.merchant_id
    jobs: dict[str, Any] = {
        "scope": "gateway" if g.is_operator else "merchant",
        "workers_alive": Worker.alive(),
        "queues": workload.queues(merchant_id),
        "minutes": workload.throughput(merchant_id),
    }
    if g.is_operator:
        jobs["workers"] = db.session.scalars(select(Worker).where(Worker.lives()).order_by(Worker.id)).all()
    return jobs
