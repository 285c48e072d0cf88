"""Merchants and the API keys that their servers sign in with."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta

from sqlalchemy import ARRAY, ForeignKey, LargeBinary, Text, func, select
from sqlalchemy.orm import Mapped, joinedload, mapped_column, relationship

from models import vault
from models.base import Model, db

LAST_USED_PRECISION = timedelta(minutes=1)  # a write for every request would cost more than it tells

# The seeded merchant of a local gateway: the same everywhere, so that examples can be pasted.
TEST_MERCHANT_ID = "mer_TestMerchant0001"
TEST_EMAIL = "test@example.com"
TEST_PASSWORD = "test-merchant-password"  # noqa: S105 (published on purpose, refused in production)
TEST_API_KEY = "key_test_abc123"
TEST_API_SECRET = "secret_test_xyz789"  # noqa: S105 (as above)
TEST_WEBHOOK_URL = "http://localhost:4000/webhook"


class Merchant(Model):
    """Who sells."""

    __tablename__ = "merchants"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    role: Mapped[str] = mapped_column(server_default="merchant")
    logo_url: Mapped[str | None]
    accent_color: Mapped[str | None]
    frame_origins: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @classmethod
    def lock(cls, merchant_id: str) -> Merchant:
        """The merchant, locked until commit: for what it may have only so many of."""
        locked = {"key_share": True}  # rows that refer to it may still be written
        return db.session.get_one(cls, merchant_id, with_for_update=locked, populate_existing=True)

    @classmethod
    def names(cls, merchant_ids: set[str]) -> dict[str, str]:
        rows = db.session.execute(select(cls.id, cls.name).where(cls.id.in_(merchant_ids)))
        return {row.id: row.name for row in rows}


class ApiKey(Model):
    """A key id and its secret. The secret is sealed, so that its owner can be shown it again."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    merchant_id: Mapped[str] = mapped_column(ForeignKey("merchants.id"))
    secret_encrypted: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    merchant: Mapped[Merchant] = relationship(lazy="raise")

    @classmethod
    def authenticate(cls, key_id: str, secret: str) -> Merchant | None:
        """The merchant whose key this is, or None. Compares in constant time; notes the use."""
        row = db.session.execute(
            select(cls, func.now())
            .where(cls.id == key_id, cls.revoked_at.is_(None))
            .options(joinedload(cls.merchant))
        ).first()
        if row is None:
            return None
        key, now = row
        if not hmac.compare_digest(vault.unseal(key.secret_encrypted).encode(), secret.encode()):
            return None
        if key.last_used_at is None or key.last_used_at < now - LAST_USED_PRECISION:
            key.note_use(now)
        return key.merchant

    def note_use(self, at: datetime) -> None:
        """Committed at once: signing in comes before a request's own transaction and holds no lock in it."""
        self.last_used_at = at
        db.session.commit()
