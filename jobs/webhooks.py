"""Webhook work: post each delivery, signed, and write down how it went."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import requests
from requests_hardened import Config as HardenedConfig
from requests_hardened import HTTPSession
from requests_hardened.ip_filter import InvalidIPAddress
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from config import settings
from jobs.work import Work
from models.base import db
from models.signatures import hex_signature, standard_signature
from models.webhooks import AttemptResult, WebhookDelivery

CONNECT_TIMEOUT_S = 5
TOTAL_TIMEOUT_S = 10
RESPONSE_READ_BYTES = 65_536  # what a receiver may answer before we hang up
RESPONSE_KEPT_CHARS = 4096
ENDPOINT_SHARE = (
    16  # deliveries to one endpoint at once, over all workers: a dead one holds no more than this
)
USER_AGENT = "PaymentGateway-Webhooks/1.0"


@dataclass(frozen=True)
class Post:
    """One signed request, all but its timestamp. `secrets` sign in turn; none = the endpoint is off."""

    url: str
    message_id: str
    body: bytes
    secrets: tuple[str, ...]
    allow_private: bool


class WebhookWork(Work[Post, AttemptResult]):
    queue = "webhooks"
    model = WebhookDelivery

    def due_sql(self, *, lock: bool) -> str:
        """Fair shares: no endpoint may have more than ENDPOINT_SHARE deliveries running at once."""
        return f"""
            SELECT due.id FROM (
                SELECT id FROM webhook_endpoints e
                WHERE EXISTS (
                    SELECT 1 FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.due_at <= now())
                ORDER BY random()
            ) AS endpoint
            CROSS JOIN LATERAL (
                SELECT id FROM webhook_deliveries d
                WHERE d.endpoint_id = endpoint.id AND d.due_at <= now()
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
            row.give_up("the endpoint is disabled")
            return
        row.record(outcome)
        if outcome.gone:
            row.endpoint.disable("it answered 410 Gone")

    def lock(self, ids: list[str]) -> Sequence[WebhookDelivery]:
        return db.session.scalars(
            select(WebhookDelivery)
            .where(WebhookDelivery.id.in_(ids))
            .options(joinedload(WebhookDelivery.endpoint, innerjoin=True))
            .order_by(WebhookDelivery.id)
            .with_for_update(of=WebhookDelivery, key_share=True)
            .execution_options(populate_existing=True)
        ).all()


def post(message: Post) -> AttemptResult:
    """POST it once, signed with both schemes. Never raises for what the other side does."""
    timestamp_s = int(time.time())
    signatures = [
        standard_signature(s, message.message_id, timestamp_s, message.body) for s in message.secrets
    ]
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "webhook-id": message.message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(signatures),
        "X-Webhook-Signature": hex_signature(message.secrets[0], message.body),
    }
    started = time.monotonic()
    try:
        with _session(message.allow_private).post(
            message.url,
            data=message.body,
            headers=headers,
            timeout=(CONNECT_TIMEOUT_S, TOTAL_TIMEOUT_S),
            stream=True,
        ) as response:
            text = _read(response, started + TOTAL_TIMEOUT_S)
    except (requests.RequestException, OSError) as error:
        return AttemptResult(duration_ms=_since(started), error=in_plain_words(error))
    return AttemptResult(
        duration_ms=_since(started),
        status_code=response.status_code,
        response_body=text,
        error=None if 200 <= response.status_code < 300 else f"answered {response.status_code}",
        retry_after_s=_retry_after_s(response),
        gone=response.status_code == 410,
    )


def in_plain_words(error: Exception) -> str:
    """What went wrong on the way, for the merchant who reads the log."""
    text = repr(error)
    if isinstance(error, InvalidIPAddress):
        return "the address is not public"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT_S} s"
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return f"timed out after {TOTAL_TIMEOUT_S} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "certificate expired" if "expired" in text else "the certificate could not be verified"
    for sign, words in (
        ("refused", "connection refused"),
        ("reset", "connection reset"),
        ("NameResolution", "the name does not resolve"),
        ("resolve domain", "the name does not resolve"),
        ("RemoteDisconnected", "hung up without an answer"),
        ("unreachable", "host unreachable"),
    ):
        if sign in text:
            return words
    return f"could not be sent ({type(error).__name__})"


_local = threading.local()


def _session(allow_private: bool) -> HTTPSession:
    """A session a thread, so that connections are reused and nothing is shared."""
    sessions = _local.__dict__.setdefault("sessions", {})
    if allow_private not in sessions:
        session = HTTPSession(
            HardenedConfig(
                ip_filter_enable=not allow_private,
                ip_filter_allow_loopback_ips=False,
                never_redirect=True,
                default_timeout=(CONNECT_TIMEOUT_S, TOTAL_TIMEOUT_S),
                user_agent_override=USER_AGENT,
            )
        )
        session.trust_env = False  # no proxy, no .netrc: the environment is ours, the URL is the merchant's
        sessions[allow_private] = session
    return sessions[allow_private]


def _read(response: requests.Response, deadline: float) -> str:
    """The first characters of the answer; reads no further than RESPONSE_READ_BYTES or the deadline."""
    received = b""
    for chunk in response.iter_content(8192):
        received += chunk
        if len(received) >= RESPONSE_READ_BYTES or time.monotonic() > deadline:
            break
    return received.decode("utf-8", "replace").replace("\0", "�")[:RESPONSE_KEPT_CHARS]


def _retry_after_s(response: requests.Response) -> int | None:
    """The Retry-After of a 429 or 503, in seconds (RFC 9110, 10.2.3; the date form is left alone)."""
    value = response.headers.get("Retry-After", "")
    return int(value) if response.status_code in (429, 503) and value.isdecimal() and len(value) < 7 else None


def _since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)


WEBHOOKS = WebhookWork()
run = WEBHOOKS.run
