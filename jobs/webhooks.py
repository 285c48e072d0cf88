"""Webhook work: post each delivery, in fair shares, and write down how it went."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from config import settings
from jobs.posting import Post, post
from jobs.work import DUE, Work
from models.base import db
from models.webhooks import AttemptResult, WebhookDelivery, WebhookEndpoint

ENDPOINT_SHARE = 16  # deliveries to one endpoint at once, over all workers: a dead one holds no more


class WebhookWork(Work[Post, AttemptResult]):
    queue = "webhooks"
    model = WebhookDelivery

    def due_sql(self, *, lock: bool) -> str:
        """Fair shares: no endpoint may have more than ENDPOINT_SHARE deliveries running at once."""
        return f"""
            SELECT due.id FROM (
                SELECT id FROM webhook_endpoints e
                WHERE EXISTS (
                    SELECT 1 FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.due_at <= {DUE})
                ORDER BY random()
            ) AS endpoint
            CROSS JOIN LATERAL (
                SELECT id FROM webhook_deliveries d
                WHERE d.endpoint_id = endpoint.id AND d.due_at <= {DUE}
                ORDER BY d.due_at, d.seq
                LIMIT greatest(0, {ENDPOINT_SHARE} - (
                    SELECT count(*) FROM webhook_deliveries r
                    WHERE r.endpoint_id = endpoint.id AND r.claim_id IS NOT NULL AND r.due_at > now()))
                {"FOR UPDATE SKIP LOCKED" if lock else ""}
            ) AS due
            LIMIT :limit"""  # noqa: S608 (constants only)

    def prepare(self, rows: Sequence[WebhookDelivery]) -> Iterable[tuple[str, Post]]:
        loaded = db.session.scalars(
            select(WebhookDelivery)
            .where(WebhookDelivery.id.in_([row.id for row in rows]))
            .options(joinedload(WebhookDelivery.event), joinedload(WebhookDelivery.endpoint))
            .order_by(WebhookDelivery.seq)
            .execution_options(populate_existing=True)
        )
        for delivery in loaded:
            endpoint = delivery.endpoint
            yield (
                delivery.id,
                Post(
                    url=endpoint.url,
                    message_id=delivery.event_id,
                    body=delivery.event.payload.encode(),
                    secrets=(endpoint.secret,) if endpoint.enabled else (),
                    allow_private=settings.webhook_allow_private,
                ),
            )

    def act(self, data: Post) -> AttemptResult:
        return post(data) if data.secrets else AttemptResult(duration_ms=0, error="endpoint disabled")

    def settle(self, row: WebhookDelivery, data: Post, outcome: AttemptResult) -> None:
        if not data.secrets:
            row.give_up(f"the endpoint is off: {row.endpoint.disabled_reason}")
            return
        row.record(outcome)
        if outcome.gone:
            endpoint = WebhookEndpoint.lock(row.endpoint_id)
            if endpoint.enabled:
                endpoint.disable("it answered 410 Gone")

    def lock(self, ids: list[str]) -> Sequence[WebhookDelivery]:
        return db.session.scalars(
            select(WebhookDelivery)
            .where(WebhookDelivery.id.in_(ids))
            .options(joinedload(WebhookDelivery.endpoint, innerjoin=True))
            .order_by(WebhookDelivery.id)
            .with_for_update(of=WebhookDelivery, key_share=True)
            .execution_options(populate_existing=True)
        ).all()


WEBHOOKS = WebhookWork()
run = WEBHOOKS.run
