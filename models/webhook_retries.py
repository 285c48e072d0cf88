"""Retrying at once all that failed since a time: after an outage of the merchant's receiver."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from marshmallow import Schema, fields
from sqlalchemy import ARRAY, ColumnElement, ForeignKey, Identity, Text, cast, exists, func, select, update
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Minor, Model, Timestamp, db, mark_due, new_id, now
from models.errors import bad_request, not_found
from models.events import Event
from models.webhook_endpoints import EVENT_TYPES, WebhookEndpoint
from models.webhooks import WebhookDelivery

RETRY_MAX = 10_000  # deliveries one request takes; if there were more, it says so, and is sent again
RETRIES_PER_S = 100  # how fast they fall due: a receiver that just came back is not knocked over again


class WebhookRetry(Model):
    """One request to try again all that failed between `since` and `until`.

    It makes the deliveries due, spread over time; the workers do the rest. How far it is, is a count.
    """

    __tablename__ = "webhook_retries"

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str] = mapped_column(ForeignKey("merchants.id"))
    endpoint_id: Mapped[str | None] = mapped_column(ForeignKey("webhook_endpoints.id"))
    since: Mapped[datetime]
    until: Mapped[datetime]
    include_missed: Mapped[bool] = mapped_column(server_default="false")
    total: Mapped[int]
    has_more: Mapped[bool] = mapped_column(server_default="false")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @classmethod
    def begin(
        cls,
        merchant_id: str,
        *,
        since: datetime,
        until: datetime | None = None,
        endpoint_id: str | None = None,
        include_missed: bool = False,
    ) -> WebhookRetry:
        """Make due what failed from `since` to `until` (now), to one endpoint or to all enabled ones.

        With `include_missed` also the events of that time that the endpoint was never told of, because it
        was disabled (or did not exist).

        Raises:
            Refused: the endpoint is disabled or unknown, or the time is empty.
        """
        until = min(until or now(), now())
        if since >= until:
            raise bad_request("since: Must be in the past, and before until.", field="since")
        if include_missed and endpoint_id is None:
            raise bad_request("endpoint_id: Is needed with include_missed.", field="endpoint_id")
        endpoints = _targets(merchant_id, endpoint_id, lock=include_missed)
        retry = cls(
            id=new_id("whr"),
            merchant_id=merchant_id,
            endpoint_id=endpoint_id,
            since=since,
            until=until,
            include_missed=include_missed,
            total=0,
        )
        db.session.add(retry)
        db.session.flush()
        found = retry._retry_failed([endpoint.id for endpoint in endpoints])
        if include_missed and found <= RETRY_MAX:
            found += retry._send_missed(endpoints[0], already=found)
        retry.total, retry.has_more = min(found, RETRY_MAX), found > RETRY_MAX
        db.session.flush()  # its progress is counted from its deliveries
        if found:
            mark_due("webhooks")
        return retry

    @classmethod
    def of_merchant(cls, merchant_id: str, retry_id: str) -> WebhookRetry:
        retry = db.session.scalar(select(cls).where(cls.id == retry_id, cls.merchant_id == merchant_id))
        if retry is None:
            raise not_found("Webhook retry")
        return retry

    @staticmethod
    def progress(retries: Sequence[WebhookRetry]) -> list[dict[str, Any]]:
        """For each, how many of its deliveries wait, succeeded and failed. A later retry takes over what it
        retries.
        """
        counted: dict[str | None, dict[str, int]] = {
            retry.id: {"pending": 0, "success": 0, "failed": 0} for retry in retries
        }
        columns = (WebhookDelivery.retry_id, WebhookDelivery.status)
        rows = select(*columns, func.count()).where(WebhookDelivery.retry_id.in_(counted)).group_by(*columns)
        for retry_id, status, count in db.session.execute(rows):
            counted[retry_id][status] = count
        return [
            {"status": "running" if counts["pending"] else "done", **counts} for counts in counted.values()
        ]

    def _retry_failed(self, endpoint_ids: list[str]) -> int:
        """Returns how many there were, at most one more than are taken."""
        failed = _failed(self.merchant_id, endpoint_ids, self.since, self.until)
        ids = db.session.scalars(
            select(WebhookDelivery.id)
            .where(failed)
            .order_by(WebhookDelivery.created_at, WebhookDelivery.seq)
            .limit(RETRY_MAX + 1)
            .with_for_update(skip_locked=True, key_share=True)
        ).all()
        numbered = func.unnest(cast(ids[:RETRY_MAX], ARRAY(Text)))
        places = numbered.table_valued("id", with_ordinality="place").render_derived()
        db.session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.id == places.c.id)
            .values(
                status="pending",
                retry_id=self.id,
                due_at=func.now()
                + func.make_interval(0, 0, 0, 0, 0, 0, places.c.place / float(RETRIES_PER_S)),
            ),
            execution_options={"synchronize_session": False},
        )
        return len(ids)

    def _send_missed(self, endpoint: WebhookEndpoint, *, already: int) -> int:
        events = db.session.scalars(
            _missed(endpoint, self.since, self.until)
            .order_by(Event.created_at, Event.seq)
            .limit(RETRY_MAX - already + 1)
        ).all()
        for place, event in enumerate(events[: RETRY_MAX - already], start=already):
            due_at = now() + timedelta(seconds=place / RETRIES_PER_S)
            delivery = WebhookDelivery.of_event(
                event.id, event.type, endpoint, order_id=event.order_id, due_at=due_at
            )
            delivery.retry_id = self.id
            db.session.add(delivery)
        return len(events)


def missed_by(endpoint: WebhookEndpoint, since: datetime) -> dict[str, Any] | None:
    """What an endpoint that is enabled again missed since then, with the body of `POST /webhooks/retry`
    that brings it; None if nothing. Counts up to RETRY_MAX.
    """
    until = now()
    failed = select(WebhookDelivery.id).where(_failed(endpoint.merchant_id, [endpoint.id], since, until))
    counts = [
        db.session.scalar(select(func.count()).select_from(query.limit(RETRY_MAX).subquery())) or 0
        for query in (failed, _missed(endpoint, since, until).with_only_columns(Event.id))
    ]
    if not any(counts):
        return None
    body = {"endpoint_id": endpoint.id, "since": since, "include_missed": True}
    return {"failed": counts[0], "never_sent": counts[1], "retry_with": body}


def _targets(merchant_id: str, endpoint_id: str | None, *, lock: bool) -> Sequence[WebhookEndpoint]:
    """`lock`: two requests at once would both find, and send, what the endpoint was never told of."""
    if endpoint_id is None:
        return WebhookEndpoint.listening(merchant_id)
    endpoint = WebhookEndpoint.of_merchant(merchant_id, endpoint_id, lock=lock)
    endpoint.require_enabled("endpoint_id")
    return [endpoint]


def _failed(
    merchant_id: str, endpoint_ids: list[str], since: datetime, until: datetime
) -> ColumnElement[bool]:
    """Deliveries that failed in that time; those that were never tried count from when they were made."""
    failed_at = func.coalesce(WebhookDelivery.last_attempt_at, WebhookDelivery.created_at)
    return (
        (WebhookDelivery.merchant_id == merchant_id)
        & (WebhookDelivery.status == "failed")
        & WebhookDelivery.endpoint_id.in_(endpoint_ids)
        & (failed_at >= since)
        & (failed_at < until)
    )


def _missed(endpoint: WebhookEndpoint, since: datetime, until: datetime) -> Any:
    """Events of that time that the endpoint wants and has no delivery of."""
    told = exists().where(WebhookDelivery.event_id == Event.id, WebhookDelivery.endpoint_id == endpoint.id)
    wanted = [name for name in EVENT_TYPES if endpoint.wants(name) and not name.startswith("webhook")]
    return select(Event).where(
        Event.merchant_id == endpoint.merchant_id,
        Event.type.in_(wanted),
        Event.created_at >= since,
        Event.created_at < until,
        ~told,
    )


class WebhookRetryRequestSchema(Schema):
    endpoint_id = fields.String()
    since = Timestamp()
    include_missed = fields.Boolean()


class MissedSchema(Schema):
    failed = fields.Integer(metadata={"description": "Deliveries that were given up."})
    never_sent = fields.Integer(metadata={"description": "Events that happened while it was disabled."})
    retry_with = fields.Nested(
        WebhookRetryRequestSchema, metadata={"description": "POST this to /webhooks/retry to have them sent."}
    )


class WebhookRetrySchema(Schema):
    id = fields.String()
    status = fields.String(metadata={"enum": ["running", "done"]})
    endpoint_id = fields.String(allow_none=True)
    since = Timestamp()
    until = Timestamp()
    include_missed = fields.Boolean()
    total = fields.Integer(metadata={"description": "Deliveries that it makes due."})
    pending = fields.Integer()
    success = fields.Integer()
    failed = fields.Integer()
    has_more = fields.Boolean(
        metadata={"description": "There are more than one request takes: when it is done, ask again."}
    )
    created_at = Timestamp()
