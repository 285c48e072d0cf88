"""Webhook endpoints: where a merchant wants to be told, and the secrets that sign it."""

from __future__ import annotations

from typing import Any

from flask import g
from marshmallow import Schema, fields, validate
from sqlalchemy import select

from jobs.addresses import check_target
from models.signature_doctor import Diagnosis, diagnose
from models.webhook_endpoints import (
    EVENT_PATTERNS,
    EVENT_TYPES,
    WebhookEndpoint,
    WebhookEndpointSchema,
    WebhookEndpointWithSecretSchema,
    WebhookSecretsSchema,
)
from models.webhook_retries import MissedSchema, missed_by
from models.webhooks import WebhookDeliverySchema
from routes.audit import note
from routes.auth import authenticated
from routes.fields import SET, Blueprint, Body, HttpUrl, OverlapHours, Text, TrueOrFalse, each_once
from routes.pagination import PageQuery, page, page_of
from routes.writes import writes

blp = Blueprint(
    "webhook_endpoints", __name__, url_prefix="/api/v1", description="Where merchants are told of changes."
)


def event_filter(**options: Any) -> fields.List:
    each = Text(validate=validate.OneOf([*EVENT_PATTERNS, *EVENT_TYPES]))
    few = validate.Length(min=1, max=len(EVENT_TYPES))
    return fields.List(each, validate=[few, each_once], metadata=SET, **options)


class NewEndpoint(Body):
    url = HttpUrl(required=True, metadata={"example": "https://shop.example/webhook"})
    description = Text(load_default=None, allow_none=True, validate=validate.Length(max=255))
    events = event_filter(load_default=lambda: ["*"])
    enabled = TrueOrFalse(load_default=True)


class EndpointChanges(Body):
    url = HttpUrl()
    description = Text(allow_none=True, validate=validate.Length(max=255))
    events = event_filter()
    enabled = TrueOrFalse()


class Rotation(Body):
    overlap_hours = OverlapHours(
        metadata={"description": "How long the old secret signs too; 0 revokes it at once."}
    )


class ChangedEndpointSchema(WebhookEndpointSchema):
    missed = fields.Nested(
        MissedSchema,
        allow_none=True,
        metadata={"description": "When it was enabled again: what it missed, and how to have it sent."},
    )


@blp.post("/webhook_endpoints")
@authenticated
@writes
@blp.arguments(NewEndpoint)
@blp.response(201, WebhookEndpointWithSecretSchema)
def create_endpoint(body):
    """Register an endpoint. The answer holds its signing secret."""
    check_target(body["url"])
    endpoint = WebhookEndpoint.create(g.merchant_id, **body)
    note("webhook_endpoint.created", endpoint.id, url=endpoint.url)
    return endpoint


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
@blp.response(200, ChangedEndpointSchema)
def change_endpoint(body, endpoint_id):
    """Change an endpoint's url, description, events or enabled."""
    if "url" in body:
        check_target(body["url"])
    endpoint = WebhookEndpoint.of_merchant(g.merchant_id, endpoint_id, lock=True)
    down_since = (
        None if endpoint.enabled else min(filter(None, [endpoint.failing_since, endpoint.disabled_at]))
    )
    endpoint.change(body)
    note("webhook_endpoint.changed", endpoint.id, **body)
    missed = missed_by(endpoint, down_since) if down_since and endpoint.enabled else None
    return {name: getattr(endpoint, name) for name in WebhookEndpointSchema().fields} | {"missed": missed}


@blp.delete("/webhook_endpoints/<id:endpoint_id>")
@authenticated
@writes
@blp.response(204)
def delete_endpoint(endpoint_id):
    """Delete an endpoint. Its delivery log stays."""
    endpoint = WebhookEndpoint.of_merchant(g.merchant_id, endpoint_id, lock=True)
    endpoint.delete()
    note("webhook_endpoint.deleted", endpoint.id)


# --- secrets -------------------------------------------------------------------------------------


@blp.get("/webhook_endpoints/<id:endpoint_id>/secret")
@authenticated
@writes
@blp.response(200, WebhookSecretsSchema)
def reveal_secret(endpoint_id):
    """Reveal an endpoint's signing secret, and the previous one while it signs too."""
    endpoint = WebhookEndpoint.of_merchant(g.merchant_id, endpoint_id)
    note("webhook_endpoint.secret_revealed", endpoint.id)
    return endpoint


@blp.post("/webhook_endpoints/<id:endpoint_id>/rotate_secret")
@authenticated
@writes
@blp.arguments(Rotation)
@blp.response(200, WebhookEndpointWithSecretSchema)
def rotate_secret(body, endpoint_id):
    """Make a new signing secret. The old one signs too for `overlap_hours`."""
    endpoint = WebhookEndpoint.of_merchant(g.merchant_id, endpoint_id, lock=True)
    endpoint.rotate_secret(body["overlap_hours"])
    note("webhook_endpoint.secret_rotated", endpoint.id, overlap_hours=body["overlap_hours"])
    return endpoint


@blp.delete("/webhook_endpoints/<id:endpoint_id>/previous_secret")
@authenticated
@writes
@blp.response(204)
def revoke_previous_secret(endpoint_id):
    """Revoke the previous signing secret: it signs nothing any more."""
    endpoint = WebhookEndpoint.of_merchant(g.merchant_id, endpoint_id, lock=True)
    endpoint.revoke_previous_secret()
    note("webhook_endpoint.previous_secret_revoked", endpoint.id)


# --- for the developer on the other side ---------------------------------------------------------


@blp.post("/webhook_endpoints/<id:endpoint_id>/test")
@authenticated
@writes
@blp.response(201, WebhookDeliverySchema)
def test_endpoint(endpoint_id):
    """Send an endpoint a `webhook.test` event. The answer is its delivery, to be looked at in the log."""
    return WebhookEndpoint.of_merchant(g.merchant_id, endpoint_id).send_test()


class ReceivedSchema(Body):
    body = Text(required=True, metadata={"description": "The raw body, as it was received."})
    headers = fields.Dict(
        keys=Text(), values=Text(), required=True, metadata={"description": "The headers, as received."}
    )
    secret = Text(load_default=None, metadata={"description": "The secret that your receiver uses."})
    computed = Text(load_default=None, metadata={"description": "The signature that your receiver computed."})


class DiagnosisSchema(Schema):
    verified = fields.Boolean(metadata={"description": "Whether a right receiver would accept it now."})
    problem = fields.String(allow_none=True, metadata={"enum": [None, *Diagnosis.PROBLEMS]})
    explanation = fields.String()


@blp.post("/webhook_endpoints/<id:endpoint_id>/verify")
@authenticated
@blp.arguments(ReceivedSchema)
@blp.response(200, DiagnosisSchema)
def verify_signature(body, endpoint_id):
    """Find out why a received webhook does not verify. Changes nothing."""
    return diagnose(WebhookEndpoint.of_merchant(g.merchant_id, endpoint_id), **body)
