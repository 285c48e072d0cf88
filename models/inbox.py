"""The webhook inbox of a local gateway: what arrived at `.../inbox/<token>`, and whether it is genuine.

An inbox is no row of its own. It is there as long as a webhook endpoint points to it, so nobody can fill
the database who has no key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import token_urlsafe
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from marshmallow import Schema, fields
from sqlalchemy import Identity, LargeBinary, delete, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Minor, Model, db, isoformat, now
from models.errors import not_found
from models.signatures import TOLERANCE_S, is_signed
from models.webhook_endpoints import WebhookEndpoint

TOKEN_PATTERN = "[A-Za-z0-9_-]{8,64}"  # noqa: S105 (a pattern, not a secret)
TOKEN_BYTES = 18  # 24 characters: whoever knows the token may read, so it is beyond guessing
MESSAGES_KEPT = 100  # a token: enough for an afternoon of trying, at most 6.4 MB
HEADERS_KEPT = 50  # a message: a delivery has about ten, proxies add a few
HEADER_KEPT_CHARS = 4096  # of a header's name or value
INBOX_LOCK = 7_264_005  # advisory, beside the token's hash; any number that nobody else uses


def new_token() -> str:
    return token_urlsafe(TOKEN_BYTES)


def token_of(url: str) -> str | None:
    """The token of a URL that leads to an inbox, whatever its host."""
    found = re.search(rf"/inbox/({TOKEN_PATTERN})\Z", urlsplit(url).path)
    return found[1] if found else None


def can_answer(status: int) -> bool:
    """Whether an inbox may answer so: 1xx is no final answer, and 3xx would have to lead somewhere."""
    return 200 <= status <= 299 or 400 <= status <= 599


@dataclass(frozen=True)
class Inbox:
    """The inbox of a token, with the endpoints that point to it: enabled ones first, then the oldest."""

    token: str
    endpoints: Sequence[WebhookEndpoint]

    @classmethod
    def of(cls, token: str) -> Inbox:
        """The inbox that at least one endpoint points to.

        Raises:
            Refused: NOT_FOUND_ERROR if none does.
        """
        # Every row is looked at: a local gateway has a handful.
        query = select(WebhookEndpoint).where(
            WebhookEndpoint.deleted_at.is_(None),
            WebhookEndpoint.url.contains(f"/inbox/{token}", autoescape=True),
        )
        near = db.session.scalars(query.order_by(WebhookEndpoint.enabled.desc(), WebhookEndpoint.seq))
        endpoints = [endpoint for endpoint in near if token_of(endpoint.url) == token]
        if not endpoints:
            raise not_found("Inbox")
        return cls(token, endpoints)

    @property
    def endpoint(self) -> WebhookEndpoint:
        return self.endpoints[0]

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(secret for endpoint in self.endpoints for secret in endpoint.live_secrets)

    def receive(self, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Judge a message and keep it, and of the older ones only the latest."""
        # One at a time: else an id could become visible after a later one, and who asks for what comes
        # after that one would never see it.
        db.session.execute(select(func.pg_advisory_xact_lock(INBOX_LOCK, func.hashtext(self.token))))
        kept_headers = _storable(headers)
        verdict = judge(kept_headers, body, self.secrets, now().timestamp())
        db.session.add(InboxMessage(token=self.token, headers=kept_headers, body=body, **verdict._asdict()))
        db.session.flush()
        mine = InboxMessage.token == self.token
        kept = select(InboxMessage.id).where(mine).order_by(InboxMessage.id.desc()).limit(MESSAGES_KEPT)
        db.session.execute(delete(InboxMessage).where(mine, InboxMessage.id.not_in(kept)))

    def messages(self, *, after: int = 0) -> Sequence[InboxMessage]:
        """What arrived after the message with that id, newest first."""
        query = select(InboxMessage).where(InboxMessage.token == self.token, InboxMessage.id > after)
        return db.session.scalars(query.order_by(InboxMessage.id.desc())).all()

    def empty(self) -> None:
        db.session.execute(delete(InboxMessage).where(InboxMessage.token == self.token))


class InboxMessage(Model):
    """One POST as it came, and the verdict on it at the time of its arrival, by the secrets of then."""

    __tablename__ = "inbox_messages"

    id: Mapped[int] = mapped_column(Minor, Identity(always=True), primary_key=True)
    token: Mapped[str]
    # Not the transaction's beginning: it may have waited for another one's end.
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    headers: Mapped[dict[str, str]] = mapped_column(JSONB)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    verified: Mapped[bool]
    explanation: Mapped[str]

    def as_json(self) -> dict[str, Any]:
        text = bytes(self.body).decode("utf-8", "replace")
        return {
            "id": self.id,
            "received_at": isoformat(self.received_at),
            "event": _event_of(text),
            "event_id": self.headers.get("webhook-id"),
            "headers": self.headers,
            "body": text,
            "signature": {"verified": self.verified, "explanation": self.explanation},
        }


class Verdict(NamedTuple):
    """Whether a message is genuine, and why, for the developer who reads it."""

    verified: bool
    explanation: str


def judge(headers: Mapping[str, str], body: bytes, secrets: Iterable[str], received_at_s: float) -> Verdict:
    """Check a message by the Standard Webhooks scheme, as a receiver of it would have to."""
    wrong = _what_is_wrong(headers, body, secrets, received_at_s)
    return Verdict(wrong is None, wrong or "verified with the endpoint's secret")


def _what_is_wrong(
    headers: Mapping[str, str], body: bytes, secrets: Iterable[str], received_at_s: float
) -> str | None:
    """The signature comes before the time: of a message that anybody may have made, the age says nothing."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    wrong = None
    if "webhook-signature" not in headers:
        wrong = "no webhook-signature header: this was not sent by the gateway"
    elif not message_id:
        wrong = "no webhook-id header: the signature covers it"
    elif not re.fullmatch(r"[0-9]{1,12}", timestamp):
        wrong = "no webhook-timestamp header in seconds: the signature covers it"
    elif not is_signed(headers["webhook-signature"], secrets, message_id, int(timestamp), body):
        wrong = "the signature does not match: wrong secret or changed body"
    elif received_at_s - int(timestamp) > TOLERANCE_S:
        wrong = "the timestamp is older than 5 minutes"
    elif int(timestamp) - received_at_s > TOLERANCE_S:
        wrong = "the timestamp is more than 5 minutes ahead"
    return wrong


def _event_of(text: str) -> str | None:
    """The event that a body says it tells of, whoever sent it."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    event = body.get("event") if isinstance(body, dict) else None
    return event if isinstance(event, str) else None


def _storable(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Names in lower case, for they are the same in any; without NUL, which PostgreSQL cannot hold."""
    kept = list(headers)[:HEADERS_KEPT]
    return {_cut(name).lower(): _cut(value) for name, value in kept}


def _cut(header: str) -> str:
    return header[:HEADER_KEPT_CHARS].replace("\0", "\ufffd")


class InboxEndpointSchema(Schema):
    """What is told of the endpoint behind an inbox: no secret, for the token is all that is asked for."""

    id = fields.String()
    url = fields.String()
    events = fields.List(fields.String())
    enabled = fields.Boolean()
    disabled_reason = fields.String(allow_none=True)
