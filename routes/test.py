"""What a local gateway tells freely: its test merchant's credentials, and how its queues are doing.

Registered everywhere, answered only where TEST_ENDPOINTS is on: elsewhere a 404.
"""

from __future__ import annotations

from marshmallow import Schema, fields
from sqlalchemy import ColumnElement, func, select

from config import settings
from models.base import db
from models.errors import not_found
from models.merchants import (
    TEST_API_KEY,
    TEST_API_SECRET,
    TEST_EMAIL,
    TEST_MERCHANT_ID,
    TEST_PASSWORD,
    TEST_WEBHOOK_URL,
    Merchant,
)
from models.payments import Payment
from models.refunds import Refund
from models.webhook_endpoints import WebhookEndpoint
from models.webhooks import WebhookDelivery
from models.workers import Worker
from routes.fields import Blueprint

blp = Blueprint("test", __name__, url_prefix="/api/v1/test", description="For trying the gateway out.")


@blp.before_request
def _only_where_wanted():
    if not settings.test_endpoints:
        raise not_found("Test endpoint")


class TestMerchantSchema(Schema):
    id = fields.String()
    name = fields.String()
    email = fields.String()
    password = fields.String()
    api_key = fields.String()
    api_secret = fields.String()
    webhook_endpoint_id = fields.String(allow_none=True)
    webhook_secret = fields.String(allow_none=True)
    seeded = fields.Boolean()


class JobCountsSchema(Schema):
    pending = fields.Integer()
    processing = fields.Integer()
    completed = fields.Integer()
    failed = fields.Integer()


class QueuesSchema(Schema):
    payments = fields.Nested(JobCountsSchema)
    refunds = fields.Nested(JobCountsSchema)
    webhooks = fields.Nested(JobCountsSchema)


class JobsStatusSchema(JobCountsSchema):
    worker_status = fields.String(metadata={"enum": ["running", "stopped"]})
    queues = fields.Nested(QueuesSchema)


@blp.get("/merchant")
@blp.doc(security=[])
@blp.response(200, TestMerchantSchema)
def get_test_merchant():
    """Get the seeded test merchant, with all of its credentials."""
    merchant = db.session.get_one(Merchant, TEST_MERCHANT_ID)
    endpoint = db.session.scalar(
        select(WebhookEndpoint)
        .where(WebhookEndpoint.merchant_id == merchant.id, WebhookEndpoint.url == TEST_WEBHOOK_URL)
        .order_by(WebhookEndpoint.seq)
        .limit(1)
    )
    return {
        "id": merchant.id,
        "name": merchant.name,
        "email": TEST_EMAIL,
        "password": TEST_PASSWORD,
        "api_key": TEST_API_KEY,
        "api_secret": TEST_API_SECRET,
        "webhook_endpoint_id": endpoint and endpoint.id,
        "webhook_secret": endpoint and endpoint.secret,
        "seeded": True,
    }


@blp.get("/jobs/status")
@blp.doc(security=[])
@blp.response(200, JobsStatusSchema)
def get_jobs_status():
    """Get how much work waits, runs, is done, and failed.

    `failed` counts deliveries that were given up, and payments and refunds whose processing broke
    (they are tried again; a decline is not a failure of the job).
    """
    queues = {
        "payments": _count(Payment, done=Payment.due_at.is_(None), failed=Payment.work_error.is_not(None)),
        "refunds": _count(Refund, done=Refund.due_at.is_(None), failed=Refund.work_error.is_not(None)),
        "webhooks": _count(
            WebhookDelivery,
            done=WebhookDelivery.status == "success",
            failed=WebhookDelivery.status == "failed",
        ),
    }
    totals = {name: sum(queue[name] for queue in queues.values()) for name in queues["payments"]}
    worker_status = "running" if Worker.alive() else "stopped"
    return totals | {"worker_status": worker_status, "queues": queues}


def _count(model, *, done: ColumnElement[bool], failed: ColumnElement[bool]) -> dict[str, int]:
    """Every row counts once: failed, else processing, else pending, else completed."""
    waiting = model.due_at.is_not(None) & ~failed
    row = db.session.execute(
        select(
            func.count().filter(waiting, model.claim_id.is_(None)).label("pending"),
            func.count().filter(waiting, model.claim_id.is_not(None)).label("processing"),
            func.count().filter(done, ~failed).label("completed"),
            func.count().filter(failed).label("failed"),
        ).select_from(model)
    ).one()
    return dict(row._mapping)
