"""Merchants: who sells, and who operates."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ARRAY, Text, func, select
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Model, db, new_id
from models.errors import bad_request

ROLES = ("merchant", "operator")

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
    password_hash: Mapped[str | None]
    role: Mapped[str] = mapped_column(server_default="merchant")
    logo_url: Mapped[str | None]
    accent_color: Mapped[str | None]
    frame_origins: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @classmethod
    def create(cls, *, name: str, email: str, role: str = "merchant") -> Merchant:
        """A new merchant, who has no password yet (see models/passwords.py).

        Raises:
            Refused: the address is taken.
        """
        if cls.by_email(email) is not None:
            raise bad_request(f"{email} is the address of a merchant already.", field="email")
        merchant = cls(id=new_id("mer"), name=name, email=email.lower(), role=role)
        db.session.add(merchant)
        db.session.flush()
        return merchant

    @classmethod
    def by_email(cls, email: str) -> Merchant | None:
        return db.session.scalar(select(cls).where(cls.email == email.lower()))

    @classmethod
    def lock(cls, merchant_id: str) -> Merchant:
        """The merchant, locked until commit: for what it may have only so many of."""
        locked = {"key_share": True}  # rows that refer to it may still be written
        return db.session.get_one(cls, merchant_id, with_for_update=locked, populate_existing=True)

    @classmethod
    def names(cls, merchant_ids: set[str]) -> dict[str, str]:
        rows = db.session.execute(select(cls.id, cls.name).where(cls.id.in_(merchant_ids)))
        return {row.id: row.name for row in rows}
