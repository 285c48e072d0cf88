"""Webhook endpoints, and the log of what was delivered to them."""

from __future__ import annotations

from typing import Any

from flask import g
from marshmallow import Schema, fields, validate
from sqlalchemy import func, select
from sqlalchemy.orm import joinedload, selectinload

from jobs.addresses import check_target
from models.base import db
from models.errors import bad_request
from models.merchants import Merchant
from models.webhooks import (
    EVENT_TYPES,
    WebhookDelivery,
    WebhookDeliverySchema,
    WebhookDeliveryWithAttemptsSchema,
    WebhookEndpoint,
    WebhookEndpointSchema,
    WebhookEndpointWithSecretSchema,
)
from routes.auth import authenticated
from routes.fields import Blueprint, Body, HttpUrl, Text, WholeNumber, each_once
from routes.pagination import PageQuery, page, page_of
from routes.writes import writes

ENDPOINTS_MAX = 16  # a merchant: every event is written once for each
OFFSET_MAX = 10_000  # further back, filter: an offset is read through row by row

blp = Blueprint("webhooks", __name__, url_prefix="/api/v1", description="How merchants hear of changes.")


def event_filter(**options: Any) -> fields.List:
    each = Text(validate=validate.OneOf(["*", *EVENT_TYPES]))
    return fields.List(each, validate=[validate.Length(min=1, max=len(EVENT_TYPES)), each_once], **options)


class NewEndpoint(Body):
    url = HttpUrl(required=True, metadata={"example": "https://shop.example/webhook"})
    events = event_filter(load_default=lambda: ["*"])
    enabled = fields.Boolean(load_default=True)


class EndpointChanges(Body):
    url = HttpUrl()
    events = event_filter()
    enabled = fields.Boolean()


class DeliveryQuery(Body):
    limit = WholeNumber(load_default=20, validate=validate.Range(min=1, max=100, error="Must be 1 to 100."))
    offset = WholeNumber(load_default=0, validate=validate.Range(min=0, max=OFFSET_MAX))
    status = Text(validate=validate.OneOf(["pending", "success", "failed"]))
    event = Text(validate=validate.OneOf(EVENT_TYPES))
    endpoint_id = Text()


class DeliveryListSchema(Schema):
    data = fields.List(fields.Nested(WebhookDeliverySchema))
    total = fields.Integer()
    limit = fields.Integer()
    offset = fields.Integer()


# --- endpoints -----------------------------------------------------------------------------------


@blp.post("/webhook_endpoints")
@authenticated
@writes
@blp.arguments(NewEndpoint)
@blp.response(201, WebhookEndpointWithSecretSchema)
def create_endpoint(body):
    """Register an endpoint. The answer holds its signing secret."""
    check_target(body["url"])
    Merchant.lock(g.merchant_id)  # one at a time, or the limit could be passed
    mine = (WebhookEndpoint.merchant_id == g.merchant_id, WebhookEndpoint.deleted_at.is_(None))
    if (db.session.scalar(select(func.count()).where(*mine)) or 0) >= ENDPOINTS_MAX:
        raise bad_request(f"A merchant has at most {ENDPOINTS_MAX} webhook endpoints.")
    return WebhookEndpoint.create(g.merchant_id, **body)


@blp.get("/webhook_endpoints")
@authenticated
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(WebhookEndpointSchema))
def list_endpoints(args):
    """List endpoints, newest first."""
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.merchant_id == g.merchant_id, WebhookEndpoint.deleted_at.is_(None)
    )
    return page(query, WebhookEndpoint, args)


@blp.get("/webhook_endpoints/<id:endpoint_id>")
@authenticated
@blp.response(200, WebhookEndpointSchema)
def get_endpoint(endpoint_id):
    """Get an endpoint."""
    return WebhookEndpoint.of_merchant(g.merchant_id, endpoint_id)


@blp.patch("/webhook_endpoints/<id:endpoint_id>")
@authenticated
@writes
@blp.arguments(EndpointChanges)
@blp.response(200, WebhookEndpointSchema)
def change_endpoint(body, endpoint_id):
    """Change an endpoint's url, events or enabled."""
    if "url" in body:
        check_target(body["url"])
    endpoint = WebhookEndpoint.of_merchant(g.merchant_id, endpoint_id, lock=True)
    endpoint.change(body)
    return endpoint


@blp.delete("/webhook_endpoints/<id:endpoint_id>")
@authenticated
@writes
@blp.response(204)
def delete_endpoint(endpoint_id):
    """Delete an endpoint. Its delivery log stays."""
    WebhookEndpoint.of_merchant(g.merchant_id, endpoint_id, lock=True).delete()


# --- the delivery log ----------------------------------------------------------------------------


@blp.get("/webhooks")
@authenticated
@blp.arguments(DeliveryQuery, location="query")
@blp.response(200, DeliveryListSchema)
def list_deliveries(args):
    """List deliveries, newest first."""
    filters = [WebhookDelivery.merchant_id == g.merchant_id]
    for name, column in (
        ("status", WebhookDelivery.status),
        ("event", WebhookDelivery.event_type),
        ("endpoint_id", WebhookDelivery.endpoint_id),
    ):
        if name in args:
            filters.append(column == args[name])
    newest = (WebhookDelivery.created_at.desc(), WebhookDelivery.seq.desc())
    rows = select(WebhookDelivery).where(*filters).order_by(*newest)
    return {
        "data": db.session.scalars(rows.limit(args["limit"]).offset(args["offset"])).all(),
        "total": db.session.scalar(select(func.count()).select_from(WebhookDelivery).where(*filters)),
        "limit": args["limit"],
        "offset": args["offset"],
    }


@blp.get("/webhooks/<id:delivery_id>")
@authenticated
@blp.response(200, WebhookDeliveryWithAttemptsSchema)
def get_delivery(delivery_id):
    """Get a delivery with every attempt."""
    attempts = selectinload(WebhookDelivery.attempt_log)
    return WebhookDelivery.of_merchant(g.merchant_id, delivery_id, attempts)


@blp.post("/webhooks/<id:delivery_id>/retry")
@authenticated
@writes
@blp.response(200, WebhookDeliverySchema)
def retry_delivery(delivery_id):
    """Try a delivery once more, now."""
    endpoint = joinedload(WebhookDelivery.endpoint, innerjoin=True)
    delivery = WebhookDelivery.of_merchant(g.merchant_id, delivery_id, endpoint, lock=True)
    delivery.retry()
    return delivery
