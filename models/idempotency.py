"""The first answer to a request that carried an Idempotency-Key, kept in one transaction with its effect."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import LargeBinary, delete, func, select, tuple_
from sqlalchemy.orm import Mapped, mapped_column

from models import direct, vault
from models.base import Model, db
from models.errors import Refused, conflict

LIFETIME_S = 24 * 3600


# Held until commit or rollback, and gone with the connection if this process is killed.
LOCK = "SELECT pg_try_advisory_xact_lock(%s), now()"
# A statement of its own: whoever held the lock may have stored an answer since the one before it began.
FIND = """
    SELECT fingerprint, response_status, response_body FROM idempotency_keys
    WHERE scope = %s AND key = %s AND expires_at > now()"""
WRITE = """
    INSERT INTO idempotency_keys AS kept
        (scope, key, fingerprint, response_status, response_body, created_at, expires_at)
    VALUES (%s, %s, %s, %s, %s, now(), now() + make_interval(secs => %s))
    ON CONFLICT (scope, key) DO UPDATE SET
        fingerprint = excluded.fingerprint, response_status = excluded.response_status,
        response_body = excluded.response_body, created_at = excluded.created_at,
        expires_at = excluded.expires_at
    WHERE kept.expires_at <= now() OR kept.response_status IS NULL
    RETURNING 1"""


class Answer(NamedTuple):
    """What the first request was answered."""

    status: int
    body: str


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
    def claim(cls, scope: str, key: str, fingerprints: Collection[bytes]) -> Answer | None:
        """The stored answer if this request was answered before, None if it is ours to answer.

        `fingerprints` are all that the request may have been kept under.

        Raises:
            Refused: CONFLICT_ERROR while the first request still runs; IDEMPOTENCY_ERROR if the key
                was used for a different request.
        """
        session = db.session()
        session.connection()  # it begins the transaction that keeps the lock
        ((is_ours, session.info["now"]),) = direct.rows(LOCK, (_lock_number(scope, key),))
        if not is_ours:
            raise conflict("A request with this Idempotency-Key is still running.", reason="key_in_flight")
        stored = direct.row(FIND, (scope, key))
        if stored is None:
            return None
        of, status, sealed_body = stored
        if bytes(of) not in fingerprints:
            raise Refused("IDEMPOTENCY_ERROR", "This Idempotency-Key was used for a different request.")
        return None if status is None else Answer(status, vault.unseal(bytes(sealed_body)))

    @classmethod
    def reserve(cls, scope: str, key: str, fingerprint: bytes) -> None:
        """Bind the key to this request before its answer is known: for one that commits on the way."""
        direct.rows(WRITE, (scope, key, fingerprint, None, None, LIFETIME_S))

    @classmethod
    def store(cls, scope: str, key: str, fingerprint: bytes, status: int, body: str) -> None:
        """Keep the answer, over a reservation or an expired one if need be."""
        direct.rows(WRITE, (scope, key, fingerprint, status, vault.seal(body), LIFETIME_S))

    @classmethod
    def forget_expired(cls, limit: int) -> None:
        expired = select(cls.scope, cls.key).where(cls.expires_at <= func.now()).limit(limit)
        db.session.execute(delete(cls).where(tuple_(cls.scope, cls.key).in_(expired)))


def _lock_number(scope: str, key: str) -> int:
    """A bigint for the advisory lock. Two keys meeting in 2^64 would cost one needless 409."""
    digest = hashlib.sha256(f"{scope}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
