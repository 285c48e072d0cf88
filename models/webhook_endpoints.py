"""Webhook endpoints: where a merchant wants to hear of which events, and the secrets that sign them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from marshmallow import Schema, fields
from sqlalchemy import ARRAY, ForeignKey, Identity, LargeBinary, Text, func, select
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm.attributes import flag_modified

from models import direct, signatures, vault
from models.audit import GATEWAY, AuditEntry
from models.base import Minor, Model, Timestamp, db, memo, new_id, now
from models.errors import bad_request, not_found
from models.merchants import Merchant

if TYPE_CHECKING:
    from models.webhooks import WebhookDelivery

ENDPOINTS_MAX = 16  # a merchant: every event is written once for each
QUICK_MS = 200  # an endpoint whose last answer took no longer may have more at once (as above)
SLOW_MS = 1000  # an endpoint whose last answer took longer waits in the slow lane (see jobs/webhooks.py)
DISABLED_AFTER = timedelta(days=5)  # of nothing but failure

EVENT_TYPES = (
    "order.paid",
    "order.expired",
    "payment.created",
    "payment.requires_action",
    "payment.pending",
    "payment.success",
    "payment.failed",
    "payment.captured",
    "payment.voided",
    "refund.created",
    "refund.processed",
    "refund.failed",
    "webhook.test",
    "webhook_endpoint.disabled",
)
EVENT_PATTERNS = ("*", *dict.fromkeys(name.partition(".")[0] + ".*" for name in EVENT_TYPES))


def is_wanted(event_type: str, patterns: list[str]) -> bool:
    """Whether one of the patterns names the type, the type's family (`payment.*`), or everything (`*`)."""
    family = event_type.partition(".")[0] + ".*"
    return not {"*", family, event_type}.isdisjoint(patterns)


LISTENERS = (
    "SELECT id, merchant_id, events FROM webhook_endpoints WHERE merchant_id = %s AND enabled ORDER BY seq"
)


@dataclass(frozen=True)
class Listener:
    """What the planning of a delivery needs to know of an enabled endpoint."""

    id: str
    merchant_id: str
    events: list[str]

    def wants(self, event_type: str) -> bool:
        return is_wanted(event_type, self.events)


def listeners(merchant_id: str) -> list[Listener]:
    """The merchant's enabled endpoints, the oldest first; looked up once a transaction."""
    known = memo().setdefault("listeners", {})
    if merchant_id not in known:
        known[merchant_id] = [Listener(*row) for row in direct.rows(LISTENERS, (merchant_id,))]
    return known[merchant_id]


class WebhookEndpoint(Model):
    """A URL that wants to hear of some of a merchant's events, and the secrets that sign what it gets."""

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str] = mapped_column(ForeignKey("merchants.id"))
    url: Mapped[str]
    description: Mapped[str | None]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{*}")
    enabled: Mapped[bool] = mapped_column(server_default="true")
    disabled_reason: Mapped[str | None]
    disabled_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    slow: Mapped[bool] = mapped_column(server_default="false")
    quick: Mapped[bool] = mapped_column(server_default="false")
    secret_encrypted: Mapped[bytes] = mapped_column(LargeBinary)
    previous_secret_encrypted: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_secret_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]

    # --- finding -----------------------------------------------------------------------------------

    @classmethod
    def lock(cls, endpoint_id: str) -> WebhookEndpoint:
        return db.session.get_one(
            cls, endpoint_id, with_for_update={"key_share": True}, populate_existing=True
        )

    @classmethod
    def of_merchant(cls, merchant_id: str, endpoint_id: str, *, lock: bool = False) -> WebhookEndpoint:
        query = select(cls).where(
            cls.id == endpoint_id, cls.merchant_id == merchant_id, cls.deleted_at.is_(None)
        )
        endpoint = db.session.scalar(query.with_for_update(key_share=True) if lock else query)
        if endpoint is None:
            raise not_found("Webhook endpoint")
        return endpoint

    @classmethod
    def all_of_merchant(cls, merchant_id: str) -> Sequence[WebhookEndpoint]:
        """Those that are not deleted, the oldest first."""
        query = select(cls).where(cls.merchant_id == merchant_id, cls.deleted_at.is_(None))
        return db.session.scalars(query.order_by(cls.seq)).all()

    def wants(self, event_type: str) -> bool:
        return is_wanted(event_type, self.events)

    @classmethod
    def listening(cls, merchant_id: str) -> Sequence[WebhookEndpoint]:
        """The merchant's enabled endpoints, the oldest first."""
        query = select(cls).where(cls.merchant_id == merchant_id, cls.enabled)
        return db.session.scalars(query.order_by(cls.seq)).all()

    # --- what its merchant does --------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        merchant_id: str,
        *,
        url: str,
        events: list[str],
        enabled: bool = True,
        description: str | None = None,
    ) -> WebhookEndpoint:
        """Register one.

        Raises:
            Refused: the merchant has ENDPOINTS_MAX already.
        """
        Merchant.lock(merchant_id)  # one at a time, or the limit could be passed
        if len(cls.all_of_merchant(merchant_id)) >= ENDPOINTS_MAX:
            raise bad_request(f"A merchant has at most {ENDPOINTS_MAX} webhook endpoints.")
        endpoint = cls(
            id=new_id("we"),
            merchant_id=merchant_id,
            url=url,
            description=description,
            events=events,
            enabled=enabled,
            disabled_reason=None if enabled else "disabled by the merchant",
            disabled_at=None if enabled else now(),
            slow=False,
            quick=False,
            secret_encrypted=vault.seal(signatures.new_secret()),
        )
        db.session.add(endpoint)
        db.session.flush()
        return endpoint

    def change(self, changes: dict[str, Any]) -> None:
        """Change `url`, `description`, `events` or `enabled`. An enabled one starts with a clean slate."""
        self.url = changes.get("url", self.url)
        self.description = changes.get("description", self.description)
        self.events = changes.get("events", self.events)
        enabled = changes.get("enabled", self.enabled)
        if enabled and not self.enabled:
            self.enabled, self.disabled_reason, self.disabled_at = True, None, None
            self.failing_since, self.slow, self.quick = None, False, False
        elif self.enabled and not enabled:
            self._switch_off("disabled by the merchant")
        self.updated_at = now()

    def delete(self) -> None:
        """It takes no more events; its delivery log stays."""
        self._switch_off("deleted")
        self.deleted_at = now()

    # --- its secrets -------------------------------------------------------------------------------

    @property
    def secret(self) -> str:
        return vault.unseal(self.secret_encrypted)

    @property
    def previous_secret(self) -> str | None:
        """The secret before the last rotation, live or not."""
        sealed = self.previous_secret_encrypted
        return None if sealed is None else vault.unseal(sealed)

    @property
    def previous_secret_lives(self) -> bool:
        expires_at = self.previous_secret_expires_at
        return expires_at is not None and expires_at > now()

    @property
    def live_secrets(self) -> tuple[str, ...]:
        """The secrets that sign now, the newest first."""
        old = self.previous_secret if self.previous_secret_lives else None
        return (self.secret,) if old is None else (self.secret, old)

    def rotate_secret(self, overlap_hours: int) -> None:
        """Make a new secret. The old one signs too for `overlap_hours`; one older still is dropped."""
        self.previous_secret_encrypted = self.secret_encrypted
        self.previous_secret_expires_at = now() + timedelta(hours=overlap_hours)
        self.secret_encrypted = vault.seal(signatures.new_secret())
        self.updated_at = now()

    def revoke_previous_secret(self) -> None:
        """The old secret signs nothing any more, from now on."""
        if self.previous_secret_lives:
            self.previous_secret_expires_at = self.updated_at = now()

    # --- how it fares ------------------------------------------------------------------------------

    def note(self, *, succeeded: bool, duration_ms: int) -> None:
        """Remember how its last attempt went. Written only when that is news."""
        if succeeded:
            if self.failing_since is not None:
                self.failing_since = None
        elif self.failing_since is None:
            self.failing_since = now()
        slow, quick = duration_ms > SLOW_MS, succeeded and duration_ms <= QUICK_MS
        if (self.slow, self.quick) != (slow, quick):
            self.slow, self.quick = slow, quick
            # Both are written, since nobody locks it: another worker may have changed the other one.
            flag_modified(self, "slow")
            flag_modified(self, "quick")

    @property
    def has_failed_too_long(self) -> bool:
        return self.failing_since is not None and self.failing_since <= now() - DISABLED_AFTER

    @classmethod
    def give_up(cls, endpoint_id: str, reason: str) -> None:
        """Disable it on our own decision: with an event for the other endpoints, and an audit row."""
        db.session.flush()
        endpoint = cls.lock(endpoint_id)
        if not endpoint.enabled:
            return
        endpoint._switch_off(reason)
        endpoint.updated_at = now()
        db.session.flush()
        memo().pop("listeners", None)
        endpoint.tell("webhook_endpoint.disabled")
        AuditEntry.record(
            "webhook_endpoint.disabled", endpoint.merchant_id, GATEWAY, endpoint_id, reason=reason
        )

    def require_enabled(self, field: str | None = None) -> None:
        """Raises:
        Refused: it is disabled.
        """
        if not self.enabled:
            words = f"The endpoint is disabled ({self.disabled_reason})."
            raise bad_request(words, field=field, reason="endpoint_disabled")

    def send_test(self) -> WebhookDelivery:
        """Send it a `webhook.test` event, whatever its filter says.

        Raises:
            Refused: it is disabled.
        """
        self.require_enabled()
        (delivery,) = self.tell("webhook.test", only=self)
        return delivery

    def tell(self, event_type: str, *, only: WebhookEndpoint | None = None) -> list[WebhookDelivery]:
        """Record an event about this endpoint. Returns its deliveries."""
        from models.events import Event  # noqa: PLC0415 (events import endpoints, to plan deliveries)

        return Event.record(event_type, self.merchant_id, None, only=only, webhook_endpoint=self)

    def as_json(self) -> dict[str, Any]:
        return WebhookEndpointSchema().dump(self)

    def _switch_off(self, reason: str) -> None:
        if self.enabled:
            self.disabled_at = now()
        self.enabled, self.disabled_reason = False, reason


class WebhookEndpointSchema(Schema):
    id = fields.String()
    url = fields.String()
    description = fields.String(allow_none=True)
    events = fields.List(fields.String())
    enabled = fields.Boolean()
    disabled_reason = fields.String(allow_none=True)
    disabled_at = Timestamp(allow_none=True)
    failing_since = Timestamp(
        allow_none=True,
        metadata={"description": "Nothing has succeeded since; 5 days of it and the endpoint is disabled."},
    )
    previous_secret_expires_at = Timestamp(allow_none=True)
    created_at = Timestamp()
    updated_at = Timestamp()


SECRET_EXAMPLE = {"example": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="}


class WebhookEndpointWithSecretSchema(WebhookEndpointSchema):
    """The answer to creating one or rotating its secret: the only times that it is shown unasked."""

    secret = fields.String(metadata=SECRET_EXAMPLE)


class WebhookSecretsSchema(Schema):
    """What signs now."""

    secret = fields.String(metadata=SECRET_EXAMPLE)
    previous_secret = fields.Function(
        lambda endpoint: endpoint.previous_secret if endpoint.previous_secret_lives else None,
        metadata={"type": ["string", "null"], "description": "Null when it signs no more."},
    )
    previous_secret_expires_at = Timestamp(allow_none=True)
