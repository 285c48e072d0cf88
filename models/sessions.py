"""Sessions: who is signed in to the dashboard. Kept in the database, so that signing out really ends one."""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime, timedelta

from marshmallow import Schema, fields
from sqlalchemy import ColumnElement, ForeignKey, Identity, LargeBinary, delete, func, select, update
from sqlalchemy.orm import Mapped, joinedload, mapped_column, relationship

from models import vault
from models.base import Minor, Model, Timestamp, db, new_id, now
from models.merchants import Merchant

TOKEN_BYTES = 32  # 256 bits: far beyond guessing, so that a plain hash of it is enough at rest
LIFETIME = timedelta(hours=12)  # a working day; then the password is asked for again, whatever happens
IDLE = timedelta(minutes=15)  # of nobody doing anything (PCI DSS 4.0.1, 8.2.8)
SEEN_PRECISION = timedelta(minutes=1)  # a write for every request would cost more than it tells
USER_AGENT_MAX_LENGTH = 255
CSRF = "csrf token"  # the purpose of the key that makes them


class Session(Model):
    """One browser that somebody signed in with."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Minor, Identity(always=True))
    merchant_id: Mapped[str] = mapped_column(ForeignKey("merchants.id"))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    address: Mapped[str]
    user_agent: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

    merchant: Mapped[Merchant] = relationship(lazy="raise")

    @classmethod
    def begin(cls, merchant: Merchant, *, address: str, user_agent: str) -> tuple[Session, str]:
        """A new session, and the token for its cookie, which is kept nowhere else."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        session = cls(
            id=new_id("ses"),
            merchant=merchant,
            merchant_id=merchant.id,
            token_hash=vault.token_hash(token),
            address=address,
            user_agent=user_agent.replace("\0", "")[:USER_AGENT_MAX_LENGTH],
            created_at=now(),
            seen_at=now(),
            expires_at=now() + LIFETIME,
        )
        db.session.add(session)
        db.session.flush()
        return session, token

    @classmethod
    def authenticate(cls, token: str, *, used: bool) -> Session | None:
        """The session that the token belongs to, with its merchant; None if it is over.

        `used`: somebody does something, which keeps it from idling out; a page that asks by itself does not.
        """
        row = db.session.execute(
            select(cls, func.now())
            .where(cls.token_hash == vault.token_hash(token), cls.lives())
            .options(joinedload(cls.merchant))
        ).first()
        if row is None:
            return None
        session, at = row
        if used and session.seen_at < at - SEEN_PRECISION:
            # It may end at this moment, elsewhere: then there is no row any more.
            noted = update(cls).where(cls.id == session.id).values(seen_at=at).returning(cls.id)
            still_there = db.session.scalar(noted)
            db.session.commit()  # before the request's own transaction, as ApiKey.authenticate
            return session if still_there else None
        return session

    @classmethod
    def end_all(cls, merchant_id: str, *, but: str | None = None) -> None:
        """End every session of the merchant, except the one whose id is `but`."""
        query = delete(cls).where(cls.merchant_id == merchant_id)
        db.session.execute(query if but is None else query.where(cls.id != but))

    def end(self) -> None:
        db.session.execute(delete(Session).where(Session.id == self.id))  # it may have ended already

    @classmethod
    def lives(cls) -> ColumnElement[bool]:
        return (cls.expires_at > func.now()) & (cls.seen_at > func.now() - IDLE)

    @classmethod
    def forget_ended(cls) -> None:
        db.session.execute(delete(cls).where(~cls.lives()))


def csrf_token(token: str) -> str:
    """What a page of this session must send along to change anything: nobody else can know or make it."""
    return vault.keyed_hash(CSRF, token.encode()).hex()


def is_csrf_token(offered: str, token: str) -> bool:
    """Whether it is, or was before SECRET_KEY was replaced: a page keeps the token it was given."""
    known = vault.keyed_hashes(CSRF, token.encode())
    return any(hmac.compare_digest(offered.encode(), each.hex().encode()) for each in known)


class SessionSchema(Schema):
    id = fields.String()
    address = fields.String()
    user_agent = fields.String()
    created_at = Timestamp()
    seen_at = Timestamp(metadata={"description": "To the minute."})
    expires_at = Timestamp()
