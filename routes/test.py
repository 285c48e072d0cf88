"""What a local gateway offers for trying it out: its test merchant's credentials, how its queues are doing,
and webhook inboxes (see routes/inbox.py).

Registered everywhere, answered only where TEST_ENDPOINTS is on: elsewhere a 404.
"""

from __future__ import annotations

from flask import g, request
from marshmallow import Schema, ValidationError, fields
from sqlalchemy import ColumnElement, func, select

from config import settings
from jobs.addresses import check_target
from models.base import db
from models.errors import Refused, bad_request, not_found
from models.inbox import can_answer, new_token
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
from models.webhook_endpoints import WebhookEndpoint, WebhookEndpointWithSecretSchema
from models.webhooks import WebhookDelivery
from models.workers import Worker
from routes.auth import authenticated
from routes.fields import Blueprint, Body
from routes.webhook_endpoints import event_filter
from routes.writes import writes

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


def _an_answer(status: int) -> None:
    if not can_answer(status):
        raise ValidationError("Must be 200 to 299 or 400 to 599.")


class NewInbox(Body):
    events = event_filter(load_default=lambda: ["*"])
    answer = fields.Integer(
        strict=True,
        validate=_an_answer,
        metadata={"description": "The status that deliveries are answered with, to watch their retries."},
    )


class InboxSchema(Schema):
    token = fields.String()
    page_url = fields.String(metadata={"description": "The page that shows what arrives, as it arrives."})
    endpoint = fields.Nested(WebhookEndpointWithSecretSchema)


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


@blp.post("/inboxes")
@authenticated
@writes
@blp.arguments(NewInbox)
@blp.response(201, InboxSchema)
def create_inbox(body):
    """Make a webhook inbox, and an endpoint that delivers to it."""
    token = new_token()
    answer = f"?answer={body['answer']}" if "answer" in body else ""
    url = f"{settings.inbox_url}/inbox/{token}{answer}"
    try:
        check_target(url)
    except Refused:
        raise bad_request(
            f"No webhook can reach an inbox at INBOX_URL ({settings.inbox_url}): it is private, and "
            "WEBHOOK_ALLOW_PRIVATE is off.",
            reason="inbox_unreachable",
        ) from None
    endpoint = WebhookEndpoint.create(
        g.merchant_id, url=url, events=body["events"], description="the webhook inbox"
    )
    # A host that werkzeug finds no good one, such as gateway_api with its underscore, is empty.
    base = request.host_url if request.host else f"{settings.inbox_url}/"
    return {"token": token, "page_url": f"{base}inbox/{token}", "endpoint": endpoint}


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
