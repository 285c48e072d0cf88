"""The history of what happened."""

from __future__ import annotations

from flask import g
from marshmallow import validate
from sqlalchemy import select

from models.base import db
from models.errors import not_found
from models.events import Event, EventSchema
from models.webhook_endpoints import EVENT_TYPES
from routes.auth import authenticated
from routes.fields import Blueprint, Text
from routes.pagination import PageQuery, filtered, page, page_of

blp = Blueprint("events", __name__, url_prefix="/api/v1", description="What happened, as webhooks tell it.")


class EventQuery(PageQuery):
    event = Text(
        validate=validate.OneOf(EVENT_TYPES), attribute="type", metadata={"description": "Only those."}
    )
    order_id = Text(metadata={"description": "Only what befell this order."})
    payment_id = Text(metadata={"description": "Only what befell this payment."})
    refund_id = Text(metadata={"description": "Only what befell this refund."})


@blp.get("/events")
@authenticated
@blp.arguments(EventQuery, location="query")
@blp.response(200, page_of(EventSchema))
def list_events(args):
    """List events, newest first."""
    query = select(Event).where(Event.merchant_id == g.merchant_id)
    query = filtered(query, Event, args, "type", "order_id", "payment_id", "refund_id")
    return page(query, Event, args)


@blp.get("/events/<id:event_id>")
@authenticated
@blp.response(200, EventSchema)
def get_event(event_id):
    """Get an event."""
    event = db.session.scalar(select(Event).where(Event.id == event_id, Event.merchant_id == g.merchant_id))
    if event is None:
        raise not_found("Event")
    return event
