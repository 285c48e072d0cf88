"""How the queues are doing: a merchant sees its own work, an operator that of the whole gateway."""

from __future__ import annotations

from typing import Any

from flask import g
from marshmallow import Schema, fields
from sqlalchemy import select

from models import workload
from models.base import Timestamp, db
from models.unknown import KINDS, LISTED_MAX, UNKNOWN_FLAGGED_AFTER, count_unknown, unknown_outcomes
from models.verification import Verification
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


class UnknownOutcomeSchema(Schema):
    kind = fields.String(metadata={"enum": list(KINDS)})
    id = fields.String(metadata={"description": "By which the acquirer knows it."})
    payment_id = fields.String()
    merchant_id = fields.String()
    operation = fields.String(metadata={"enum": ["authorize", "capture", "void", "refund"]})
    amount = fields.Integer(metadata={"description": "Minor units."})
    currency = fields.String()
    since = Timestamp()
    tries = fields.Integer(
        metadata={"description": "How often the acquirer was asked, the first time included."}
    )
    next_look_at = Timestamp()
    flagged = fields.Boolean()


class UnknownSchema(Schema):
    """What the acquirer gave no definite answer to. It is looked up until it has one, and never guessed."""

    count = fields.Integer()
    flagged = fields.Integer(
        metadata={"description": f"Unknown for {UNKNOWN_FLAGGED_AFTER.days} day or longer: ask the acquirer."}
    )
    oldest_since = Timestamp(allow_none=True)
    outcomes = fields.List(
        fields.Nested(UnknownOutcomeSchema), metadata={"description": f"The {LISTED_MAX} oldest."}
    )


class VerificationSchema(Schema):
    """The last proof that money, history and work are right, as `flask verify` or the clock made it."""

    finished_at = Timestamp()
    breaks = fields.Integer()


class JobsSchema(Schema):
    scope = fields.String(metadata={"enum": ["merchant", "gateway"]})
    workers_alive = fields.Integer()
    workers = fields.List(
        fields.Nested(WorkerProcessSchema), metadata={"description": "For operators alone."}
    )
    verification = fields.Nested(
        VerificationSchema,
        metadata={"description": "For operators alone; absent before the first one."},
    )
    queues = fields.Nested(WorkQueuesSchema)
    minutes = fields.List(fields.Nested(MinuteSchema), metadata={"description": "The last hour."})
    unknown_ = fields.Nested(UnknownSchema, attribute="unknown", data_key="unknown")  # a Schema has its own


@blp.get("/jobs")
@authenticated
@blp.response(200, JobsSchema)
def get_jobs():
    """Get what waits, runs, is done and failed, what has no answer, and the throughput of the last hour.

    Your own; an operator who is signed in to the dashboard sees that of the whole gateway.
    """
    merchant_id = None if g.is_operator else g.merchant_id
    jobs: dict[str, Any] = {
        "scope": "gateway" if g.is_operator else "merchant",
        "workers_alive": Worker.alive(),
        "queues": workload.queues(merchant_id),
        "minutes": workload.throughput(merchant_id),
        "unknown": _unknown(merchant_id),
    }
    if g.is_operator:
        jobs["workers"] = db.session.scalars(select(Worker).where(Worker.lives()).order_by(Worker.id)).all()
        if latest := Verification.latest():
            jobs["verification"] = latest
    return jobs


def _unknown(merchant_id: str | None) -> dict[str, Any]:
    counts = [count_unknown(kind, merchant_id) for kind in KINDS]
    return {
        "count": sum(each.count for each in counts),
        "flagged": sum(each.flagged for each in counts),
        "oldest_since": min((each.oldest_since for each in counts if each.oldest_since), default=None),
        "outcomes": unknown_outcomes(merchant_id),
    }
