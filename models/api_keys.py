"""API keys: what a merchant's servers sign in with, and how one key is replaced by the next."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from datetime import datetime, timedelta

from flask import current_app
from marshmallow import Schema, fields
from sqlalchemy import ColumnElement, ForeignKey, Identity, LargeBinary, exists, func, or_, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models import vault
from models.base import Minor, Model, Timestamp, db, new_id, now
from models.errors import bad_request, not_found
from models.merchants import Merchant

LAST_USED_PRECISION = timedelta(minutes=1)  # a write for every request would cost more than it tells
LIVE_KEYS_MAX = 16  # a merchant: more of them nobody keeps an eye on
SECRET_BYTES = 32
REMEMBERED_S = 1.5  # who signed in: a revoked key is useless within 2 s, everywhere
REMEMBERED_MAX = 4096  # keys in one process


class ApiKey(Model):
    """A key id and its secret. The secret is sealed, so that its owner can be shown it again."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str] = mapped_column(ForeignKey("merchants.id"))
    name: Mapped[str | None]
    secret_encrypted: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    merchant: Mapped[Merchant] = relationship(lazy="raise")

    # --- signing in --------------------------------------------------------------------------------

    @classmethod
    def authenticate(cls, key_id: str, secret: str) -> str | None:
        """The id of the merchant whose key this is, or None. Compares in constant time; notes the use.

        What was right is remembered for REMEMBERED_S: so long may a key be used after it was revoked.
        """
        remembered: dict[bytes, tuple[float, str]] = current_app.extensions.setdefault("signed_in", {})
        offered = hashlib.sha256(f"{key_id}\0{secret}".encode()).digest()
        until_s, merchant_id = remembered.get(offered, (0.0, ""))
        if time.monotonic() < until_s:
            return merchant_id
        row = db.session.execute(select(cls, func.now()).where(cls.id == key_id, cls._live())).first()
        # Unsealed and compared whether or not there is one: an unknown key takes as long as a wrong secret.
        wanted = vault.unseal(row[0].secret_encrypted if row else _nobodys_secret())
        if not hmac.compare_digest(wanted.encode(), secret.encode()) or row is None:
            return None
        key, now = row
        if key.last_used_at is None or key.last_used_at < now - LAST_USED_PRECISION:
            key.last_used_at = now
        db.session.commit()  # signing in comes before a request's own transaction and holds no lock in it
        if len(remembered) >= REMEMBERED_MAX:
            remembered.clear()
        remembered[offered] = time.monotonic() + REMEMBERED_S, key.merchant_id
        return key.merchant_id

    @classmethod
    def belongs(cls, key_id: str, merchant_id: str) -> bool:
        """Whether it is a live key of this merchant."""
        mine = exists().where(cls.id == key_id, cls.merchant_id == merchant_id, cls._live())
        return bool(db.session.scalar(select(mine)))

    # --- what its merchant does --------------------------------------------------------------------

    @classmethod
    def of_merchant(cls, merchant_id: str, key_id: str, *, lock: bool = False) -> ApiKey:
        query = select(cls).where(cls.id == key_id, cls.merchant_id == merchant_id)
        key = db.session.scalar(query.with_for_update(key_share=True) if lock else query)
        if key is None:
            raise not_found("API key")
        return key

    @classmethod
    def create(cls, merchant_id: str, *, name: str | None = None) -> ApiKey:
        """A new key with a secret from a cryptographic source.

        Raises:
            Refused: the merchant has LIVE_KEYS_MAX of them.
        """
        Merchant.lock(merchant_id)  # one at a time, or the limit could be passed
        live = select(func.count()).select_from(cls).where(cls.merchant_id == merchant_id, cls._live())
        if (db.session.scalar(live) or 0) >= LIVE_KEYS_MAX:
            raise bad_request(f"A merchant has at most {LIVE_KEYS_MAX} API keys; revoke one first.")
        key = cls(
            id=new_id("key"),
            merchant_id=merchant_id,
            name=name,
            secret_encrypted=vault.seal("secret_" + secrets.token_urlsafe(SECRET_BYTES)),
            created_at=now(),
        )
        db.session.add(key)
        db.session.flush()
        return key

    def roll(self, overlap_hours: int) -> ApiKey:
        """The key that replaces this one, which works for `overlap_hours` more.

        Raises:
            Refused: it works no more, or was rolled already.
        """
        if not self.live:
            raise bad_request("The key works no more; create a new one.", reason="key_not_live")
        if self.replaced_by is not None:
            raise bad_request(f"The key was rolled already, into {self.replaced_by}.", reason="key_rolled")
        new = ApiKey.create(self.merchant_id, name=self.name)
        self.replaced_by, self.expires_at = new.id, now() + timedelta(hours=overlap_hours)
        _forget_who_signed_in()
        return new

    def revoke(self) -> None:
        """It signs nobody in any more, from now on."""
        self.revoked_at = self.revoked_at or now()
        _forget_who_signed_in()

    @property
    def secret(self) -> str:
        return vault.unseal(self.secret_encrypted)

    @property
    def live(self) -> bool:
        return self.status in ("active", "rolled")

    @property
    def status(self) -> str:
        """`active`; `rolled`: replaced, and working until it expires; `expired`; `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is None:
            return "active"
        return "rolled" if self.expires_at > now() else "expired"

    @classmethod
    def _live(cls) -> ColumnElement[bool]:
        return cls.revoked_at.is_(None) & or_(cls.expires_at.is_(None), cls.expires_at > func.now())


def _nobodys_secret() -> bytes:
    sealed: bytes | None = current_app.extensions.get("nobodys_secret")
    if sealed is None:
        sealed = vault.seal(secrets.token_urlsafe(SECRET_BYTES))
        current_app.extensions["nobodys_secret"] = sealed
    return sealed


def _forget_who_signed_in() -> None:
    """In this process at once; the others forget by themselves."""
    current_app.extensions.pop("signed_in", None)


class ApiKeySchema(Schema):
    id = fields.String(metadata={"example": "key_2DeEaLx2VtdQf3kZ"})
    name = fields.String(allow_none=True)
    status = fields.String(metadata={"enum": ["active", "rolled", "expired", "revoked"]})
    last_used_at = Timestamp(allow_none=True, metadata={"description": "To the minute."})
    replaced_by = fields.String(allow_none=True)
    expires_at = Timestamp(allow_none=True)
    revoked_at = Timestamp(allow_none=True)
    created_at = Timestamp()


class ApiKeyWithSecretSchema(ApiKeySchema):
    """The answer to creating, rolling or revealing a key."""

    secret = fields.String()
