"""The first answer to a request that carried an Idempotency-Key, kept in one transaction with its effect."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import LargeBinary, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from models import vault
from models.base import Model, db, now
from models.errors import Refused, conflict

LIFETIME = timedelta(hours=24)


class IdempotencyKey(Model):
    """A stored answer. While the first request runs there is no answer yet, only its advisory lock."""

    __tablename__ = "idempotency_keys"

    scope: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    response_status: Mapped[int | None]
    response_body: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

    @classmethod
    def claim(cls, scope: str, key: str, fingerprint: bytes) -> IdempotencyKey | None:
        """The stored answer if this request was answered before, None if it is ours to answer.

        Raises:
            Refused: CONFLICT_ERROR while the first request still runs; IDEMPOTENCY_ERROR if the key
                was used for a different request.
        """
        # Held until commit or rollback, and gone with the connection if this process is killed.
        if not db.session.scalar(select(func.pg_try_advisory_xact_lock(_lock_number(scope, key)))):
            raise conflict("A request with this Idempotency-Key is still running.", reason="key_in_flight")
        stored = db.session.scalar(
            select(cls).where(cls.scope == scope, cls.key == key, cls.expires_at > func.now())
        )
        if stored is not None and bytes(stored.fingerprint) != fingerprint:
            raise Refused("IDEMPOTENCY_ERROR", "This Idempotency-Key was used for a different request.")
        return stored if stored is not None and stored.response_status is not None else None

    @classmethod
    def reserve(cls, scope: str, key: str, fingerprint: bytes) -> None:
        """Bind the key to this request before its answer is known: for one that commits on the way."""
        cls._write(scope, key, fingerprint, None, None)

    @classmethod
    def store(cls, scope: str, key: str, fingerprint: bytes, status: int, body: str) -> None:
        """Keep the answer, over a reservation or an expired one if need be."""
        cls._write(scope, key, fingerprint, status, vault.seal(body))

    @classmethod
    def _write(
        cls, scope: str, key: str, fingerprint: bytes, status: int | None, sealed_body: bytes | None
    ) -> None:
        values = {
            "fingerprint": fingerprint,
            "response_status": status,
            "response_body": sealed_body,
            "created_at": func.now(),
            "expires_at": now() + LIFETIME,
        }
        row = insert(cls).values(scope=scope, key=key, **values)
        db.session.execute(
            row.on_conflict_do_update(
                index_elements=[cls.scope, cls.key],
                set_=values,
                where=(cls.expires_at <= func.now()) | cls.response_status.is_(None),
            )
        )

    @classmethod
    def forget_expired(cls, limit: int) -> None:
        expired = select(cls.scope, cls.key).where(cls.expires_at <= func.now()).limit(limit)
        db.session.execute(delete(cls).where(tuple_(cls.scope, cls.key).in_(expired)))

    @property
    def body(self) -> str:
        return vault.unseal(self.response_body or b"")


def _lock_number(scope: str, key: str) -> int:
    """A bigint for the advisory lock. Two keys meeting in 2^64 would cost one needless 409."""
    digest = hashlib.sha256(f"{scope}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
