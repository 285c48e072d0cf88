"""Webhook work: post each delivery, in fair shares and in order, and write down how it went."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.orm import joinedload

from config import settings
from jobs.posting import Post, post
from jobs.work import DUE, Work
from models import direct
from models.base import db, now
from models.webhook_endpoints import WebhookEndpoint
from models.webhooks import AttemptResult, WebhookDelivery

# At once, over all workers:
ENDPOINT_SHARE = 16  # deliveries to one endpoint: a dead one holds no more
QUICK_SHARE = 64  # to one whose last answer came at once: half of one worker's slots
SLOW_LANE = 32  # deliveries to all slow endpoints together: most of one worker's slots stay free of them
CLAIM_LOCK = 7_264_004  # advisory: who counts the shares must see what others have claimed

PAYLOADS = "SELECT id, payload FROM events WHERE id = ANY(%s)"
RUNNING = "r.claim_id IS NOT NULL AND r.due_at > now()"


class WebhookWork(Work[Post, AttemptResult]):
    queue = "webhooks"
    model = WebhookDelivery

    def due_sql(self, *, lock: bool) -> str:
        """Fair shares, in order.

        No endpoint has more than ENDPOINT_SHARE deliveries running at once (a quick one QUICK_SHARE), and all
        whose last answer was slow have SLOW_LANE between them: the first in the result, but never all of it.
        What is told of one order is told in order: a delivery waits while an earlier one of the same order
        waits for its first attempt, or is in it.
        """
        lane = f"""
            SELECT due.id FROM (
                SELECT id, quick FROM webhook_endpoints e
                WHERE {{slow}} slow AND EXISTS (
                    SELECT 1 FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.due_at <= {DUE})
                ORDER BY random()
            ) AS endpoint
            CROSS JOIN LATERAL (
                SELECT id FROM webhook_deliveries d
                WHERE d.endpoint_id = endpoint.id AND d.due_at <= {DUE}
                  AND (d.attempts > 0 OR d.order_id IS NULL OR NOT EXISTS (
                    SELECT 1 FROM webhook_deliveries p
                    WHERE p.endpoint_id = d.endpoint_id AND p.order_id = d.order_id AND p.seq < d.seq
                      AND p.due_at IS NOT NULL AND p.attempts = 0 AND p.tries <= 1))
                ORDER BY d.due_at, d.seq
                LIMIT greatest(0, CASE WHEN endpoint.quick THEN {QUICK_SHARE} ELSE {ENDPOINT_SHARE} END - (
                    SELECT count(*) FROM webhook_deliveries r
                    WHERE r.endpoint_id = endpoint.id AND {RUNNING}))
                {"FOR UPDATE SKIP LOCKED" if lock else ""}
            ) AS due"""  # noqa: S608 (constants only)
        slow_running = f"""
            SELECT count(*) FROM webhook_deliveries r JOIN webhook_endpoints e ON e.id = r.endpoint_id
            WHERE e.slow AND {RUNNING}"""  # noqa: S608
        return f"""
            SELECT id FROM (
                ({lane.format(slow="")} LIMIT greatest(0, {SLOW_LANE} - ({slow_running})))
                UNION ALL
                ({lane.format(slow="NOT")} LIMIT :limit)
            ) AS lanes LIMIT :limit"""  # noqa: S608

    def before_claim(self) -> None:
        db.session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": CLAIM_LOCK})

    def prepare(self, rows: Sequence[Row[Any]]) -> Iterable[tuple[str, Post]]:
        endpoints = {
            endpoint.id: (endpoint.url, endpoint.live_secrets if endpoint.enabled else ())
            for endpoint in db.session.scalars(
                select(WebhookEndpoint)
                .where(WebhookEndpoint.id.in_({row.endpoint_id for row in rows}))
                .execution_options(populate_existing=True)
            )
        }
        payloads = dict(direct.rows(PAYLOADS, ([row.event_id for row in rows],)))
        timestamp_s = int(now().timestamp())
        for row in sorted(rows, key=lambda row: row.seq):
            url, secrets = endpoints[row.endpoint_id]
            yield (
                row.id,
                Post(
                    url=url,
                    message_id=row.event_id,
                    body=payloads[row.event_id].encode(),
                    secrets=secrets,
                    allow_private=settings.webhook_allow_private,
                    timestamp_s=timestamp_s,
                ),
            )

    def act(self, data: Post) -> AttemptResult:
        if not data.secrets:
            return AttemptResult(data.url, duration_ms=0, error="endpoint disabled")
        return post(data)

    def settle(self, row: WebhookDelivery, data: Post, outcome: AttemptResult) -> None:
        if not data.secrets:
            row.give_up(f"the endpoint is off: {row.endpoint.disabled_reason}")
            return
        row.record(outcome)
        endpoint = row.endpoint
        endpoint.note(succeeded=outcome.error is None, duration_ms=outcome.duration_ms)
        if outcome.gone:
            WebhookEndpoint.give_up(endpoint.id, "it answered 410 Gone")
        elif row.status == "failed" and endpoint.has_failed_too_long:
            WebhookEndpoint.give_up(endpoint.id, "nothing but failure for 5 days")

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
