"""The log of webhook deliveries, and trying them again."""

from __future__ import annotations

from collections.abc import Sequence

from flask import g
from marshmallow import Schema, fields, validate
from sqlalchemy import func, select
from sqlalchemy.orm import joinedload, selectinload

from models.base import Timestamp, db
from models.errors import bad_request
from models.webhook_endpoints import EVENT_TYPES, WebhookEndpoint
from models.webhook_retries import WebhookRetry, WebhookRetrySchema
from models.webhooks import WebhookDelivery, WebhookDeliverySchema, WebhookDeliveryWithAttemptsSchema
from routes.audit import note
from routes.auth import authenticated
from routes.errors import refuses
from routes.fields import Blueprint, Body, Text, TrueOrFalse, WholeNumber
from routes.pagination import PageQuery, page, page_of
from routes.writes import writes

OFFSET_MAX = 10_000  # further back, filter: an offset is read through row by row

blp = Blueprint("webhooks", __name__, url_prefix="/api/v1", description="What was sent, and how it went.")


class DeliveryQuery(Body):
    limit = WholeNumber(
        load_default=20,
        validate=validate.Range(min=1, max=100, error="Must be 1 to 100."),
        metadata={"description": "How many at most."},
    )
    offset = WholeNumber(
        load_default=0,
        validate=validate.Range(min=0, max=OFFSET_MAX),
        metadata={"description": "How many to pass over."},
    )
    status = Text(
        validate=validate.OneOf(["pending", "success", "failed"]),
        metadata={"description": "Only those in this state."},
    )
    event = Text(validate=validate.OneOf(EVENT_TYPES), metadata={"description": "Only those of this kind."})
    endpoint_id = Text(metadata={"description": "Only those to this endpoint."})
    event_id = Text(metadata={"description": "Only those of this event."})
    retry_id = Text(metadata={"description": "Only those that this retry sends again."})
    from_ = Timestamp(data_key="from", metadata={"description": "What was made then or later."})
    to = Timestamp(metadata={"description": "What was made before that."})


class DeliveryListSchema(Schema):
    data = fields.List(fields.Nested(WebhookDeliverySchema))
    total = fields.Integer()
    limit = fields.Integer()
    offset = fields.Integer()


class TestsSchema(Schema):
    data = fields.List(fields.Nested(WebhookDeliverySchema))


class RetryRequest(Body):
    since = Timestamp(required=True, metadata={"description": "What failed at that time or later."})
    until = Timestamp(metadata={"description": "And before this time; now, if it is not given."})
    endpoint_id = Text(metadata={"description": "To this endpoint alone; else to all that are enabled."})
    include_missed = TrueOrFalse(
        load_default=False,
        metadata={"description": "Also events of that time that the endpoint was never told of."},
    )


@blp.get("/webhooks")
@authenticated
@blp.arguments(DeliveryQuery, location="query")
@blp.response(200, DeliveryListSchema)
def list_deliveries(args):
    """List deliveries, newest first."""
    filters = [WebhookDelivery.merchant_id == g.merchant_id]
    for name, condition in (
        ("status", WebhookDelivery.status.__eq__),
        ("event", WebhookDelivery.event_type.__eq__),
        ("endpoint_id", WebhookDelivery.endpoint_id.__eq__),
        ("event_id", WebhookDelivery.event_id.__eq__),
        ("retry_id", WebhookDelivery.retry_id.__eq__),
        ("from_", WebhookDelivery.created_at.__ge__),
        ("to", WebhookDelivery.created_at.__lt__),
    ):
        if name in args:
            filters.append(condition(args[name]))
    if args.get("status") == "pending":
        filters.append(WebhookDelivery.due_at.is_not(None))  # says the same, and has an index
    newest = (WebhookDelivery.created_at.desc(), WebhookDelivery.seq.desc())
    rows = select(WebhookDelivery).where(*filters).order_by(*newest)
    limit, offset = args["limit"], args["offset"]
    found = db.session.scalars(rows.limit(limit).offset(offset)).all()
    if len(found) < limit and (found or offset == 0):  # the last page: it tells how many there are
        total = offset + len(found)
    else:
        total = db.session.scalar(select(func.count()).select_from(WebhookDelivery).where(*filters))
    return {"data": found, "total": total, "limit": limit, "offset": offset}


@blp.get("/webhooks/<id:delivery_id>")
@authenticated
@blp.response(200, WebhookDeliveryWithAttemptsSchema)
def get_delivery(delivery_id):
    """Get a delivery with what it sends and every attempt."""
    attempts = selectinload(WebhookDelivery.attempt_log)
    event = joinedload(WebhookDelivery.event, innerjoin=True)
    return WebhookDelivery.of_merchant(g.merchant_id, delivery_id, attempts, event)


@blp.post("/webhooks/<id:delivery_id>/retry")
@authenticated
@writes
@blp.response(200, WebhookDeliverySchema)
def retry_delivery(delivery_id):
    """Try a delivery once more, now."""
    endpoint = joinedload(WebhookDelivery.endpoint, innerjoin=True)
    delivery = WebhookDelivery.of_merchant(g.merchant_id, delivery_id, endpoint, lock=True)
    delivery.retry()
    note("webhook.retried", delivery.id)
    return delivery


@blp.post("/webhooks/retry")
@refuses("NOT_FOUND_ERROR")
@authenticated
@writes
@blp.arguments(RetryRequest)
@blp.response(202, WebhookRetrySchema)
def retry_deliveries(body):
    """Try again all that failed since a time, in the background, 100 a second."""
    retry = WebhookRetry.begin(g.merchant_id, **body)
    note("webhook.all_retried", retry.id, total=retry.total)
    return told([retry])[0]


@blp.get("/webhooks/retries")
@authenticated
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(WebhookRetrySchema))
def list_retries(args):
    """List such retries with their progress, newest first."""
    found = page(select(WebhookRetry).where(WebhookRetry.merchant_id == g.merchant_id), WebhookRetry, args)
    return found | {"data": told(found["data"])}


@blp.get("/webhooks/retries/<id:retry_id>")
@authenticated
@blp.response(200, WebhookRetrySchema)
def get_retry(retry_id):
    """Get a retry with its progress."""
    return told([WebhookRetry.of_merchant(g.merchant_id, retry_id)])[0]


@blp.post("/webhooks/test")
@authenticated
@writes
@blp.response(201, TestsSchema)
def test_endpoints():
    """Send a `webhook.test` event to each enabled endpoint. The answer lists the deliveries."""
    endpoints = WebhookEndpoint.listening(g.merchant_id)
    if not endpoints:
        raise bad_request("No webhook endpoint is enabled.", reason="no_enabled_endpoint")
    return {"data": [endpoint.send_test() for endpoint in endpoints]}


def told(retries: Sequence[WebhookRetry]) -> list[dict[str, object]]:
    """The retries with their progress, as it is now."""
    columns = ("id", "endpoint_id", "since", "until", "include_missed", "total", "has_more", "created_at")
    return [
        {name: getattr(retry, name) for name in columns} | progress
        for retry, progress in zip(retries, WebhookRetry.progress(retries), strict=True)
    ]
