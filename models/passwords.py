"""Passwords: checked slowly and not often, and chosen by a link that works once."""

from __future__ import annotations

import logging
import secrets
import threading
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import ForeignKey, Identity, LargeBinary, delete, func, select
from sqlalchemy.orm import Mapped, mapped_column

from models import vault
from models.base import Minor, Model, db, now
from models.callers import one_caller
from models.errors import Refused, bad_request
from models.green import off_the_loop
from models.merchants import Merchant
from models.sessions import Session

log = logging.getLogger(__name__)

LENGTH_MIN = 12  # characters; with the throttle below, beyond guessing (NIST SP 800-63B asks for 8)
LENGTH_MAX = 256  # hashing takes any length, but nobody types more

# Wrong passwords within the window; then nobody gets a try until the first of them is older than that.
WINDOW = timedelta(minutes=30)  # PCI DSS 4.0.1, 8.3.4
FAILURES_MAX_PER_ACCOUNT = 10
FAILURES_MAX_PER_ADDRESS = 50  # an office shares one

LINK_LIFETIME = timedelta(hours=24)
LINK_TOKEN_BYTES = 32

# A check takes 64 MiB and a tenth of a second of one processor: a crowd of them has to queue.
_checking = threading.BoundedSemaphore(2)
_hasher = PasswordHasher()  # argon2id, with the library's parameters (RFC 9106, low memory)


class PasswordFailure(Model):
    """One wrong password, or one that is just being checked."""

    __tablename__ = "password_failures"

    id: Mapped[int] = mapped_column(Minor, Identity(always=True), primary_key=True)
    scope: Mapped[bytes] = mapped_column(LargeBinary)
    failed_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @classmethod
    def forgive(cls, scope: bytes, *others: int) -> None:
        db.session.execute(delete(cls).where((cls.scope == scope) | cls.id.in_(others)))

    @classmethod
    def forget_old(cls) -> None:
        db.session.execute(delete(cls).where(cls.failed_at < func.now() - WINDOW))


class PasswordLink(Model):
    """A link by which a merchant chooses its password. Its token is in the address alone."""

    __tablename__ = "password_links"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(ForeignKey("merchants.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]

    @classmethod
    def issue(cls, merchant: Merchant) -> str:
        """The token of a new link. Those issued before work no more."""
        db.session.execute(delete(cls).where(cls.merchant_id == merchant.id, cls.used_at.is_(None)))
        token = secrets.token_urlsafe(LINK_TOKEN_BYTES)
        link = cls(
            token_hash=vault.token_hash(token), merchant_id=merchant.id, expires_at=now() + LINK_LIFETIME
        )
        db.session.add(link)
        db.session.flush()
        return token

    @classmethod
    def redeem(cls, token: str, password: str) -> Merchant:
        """Choose the password of the merchant whose link it is, and sign everybody out.

        Raises:
            Refused: the link was used, has expired, or never was; or the password will not do.
        """
        link = db.session.get(cls, vault.token_hash(token), with_for_update=True)
        if link is None or link.used_at is not None or link.expires_at <= now():
            text = "This link has been used, or has expired. Ask for a new one."
            raise bad_request(text, field="token", reason="link_not_valid")
        merchant = Merchant.lock(link.merchant_id)
        choose(merchant, password)
        link.used_at = now()
        Session.end_all(merchant.id)
        PasswordFailure.forgive(_scope("account", merchant.email))  # nobody knew that one by heart
        return merchant


def log_in(email: str, password: str, address: str) -> Merchant:
    """The merchant whose address and password these are.

    Raises:
        Refused: they are not, in the same words and the same time whether or not there is such a merchant;
            or there were too many wrong ones (RATE_LIMIT_ERROR).
    """
    merchant = Merchant.by_email(email)
    right = _check(merchant, password, email.lower(), address)  # whoever it is, or is not
    if merchant is None or not right:
        # A line, and no row of the audit log: that would take longer where there is such a merchant.
        log.warning(
            "signing in was refused", extra={"merchant_id": merchant and merchant.id, "address": address}
        )
        raise Refused("AUTHENTICATION_ERROR", "The email or the password is wrong.")
    return merchant


def confirm(merchant: Merchant, password: str, address: str, *, field: str = "password") -> None:
    """Whoever is signed in gives the password again.

    Raises:
        Refused: it is wrong, or was too often.
    """
    if not _check(merchant, password, merchant.email, address, field=field):
        raise Refused("PERMISSION_ERROR", "The password is wrong.", field=field, reason="wrong_password")


def choose(merchant: Merchant, password: str) -> None:
    """Give the merchant a new password.

    Raises:
        Refused: it is too short, too long, or no secret.
    """
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        text = f"password: Must be {LENGTH_MIN} to {LENGTH_MAX} characters."
        raise bad_request(text, field="password")
    known = (merchant.email, merchant.email.partition("@")[0], merchant.name)
    if len(set(password)) < LENGTH_MIN // 3 or password.lower() in [word.lower() for word in known]:
        raise bad_request("password: Is too easy to guess.", field="password")
    with _checking:
        merchant.password_hash = off_the_loop(_hasher.hash, password)


def _check(
    merchant: Merchant | None, password: str, email: str, address: str, *, field: str | None = None
) -> bool:
    """Whether the password is right. Counts it as wrong first, so that a crowd at once gains nothing."""
    scopes = {
        _scope("account", email): FAILURES_MAX_PER_ACCOUNT,
        _scope("address", one_caller(address)): FAILURES_MAX_PER_ADDRESS,
    }
    counted = _count(scopes, field)
    hashed = merchant.password_hash if merchant is not None else None
    with _checking:
        right = off_the_loop(_is_of, hashed or _nobodys_hash(), password)
    if merchant is None or not right:
        return False
    PasswordFailure.forgive(next(iter(scopes)), *counted)
    db.session.commit()  # it was right, even if what it was given for is refused
    # Locked until commit: nobody chooses another one, and ends all sessions, while this one begins something.
    return Merchant.lock(merchant.id).password_hash == hashed


def _is_of(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, password)
    except VerifyMismatchError:  # raised in a thread of gevent's, it would be printed
        return False


def _count(scopes: dict[bytes, int], field: str | None) -> list[int]:
    """Note a failure in each scope, committed at once. Returns their ids.

    Raises:
        Refused: there are too many already.
    """
    for scope in sorted(scopes):  # in one order: two that wait for each other would wait for ever
        number = int.from_bytes(scope[:8], "big", signed=True)
        db.session.execute(select(func.pg_advisory_xact_lock(number)))
    for scope, limit in scopes.items():
        counting = (PasswordFailure.scope == scope) & (PasswordFailure.failed_at > now() - WINDOW)
        count, first = db.session.execute(
            select(func.count(), func.min(PasswordFailure.failed_at)).where(counting)
        ).one()
        if count >= limit:
            wait_s = int((first + WINDOW - now()).total_seconds()) + 1
            raise Refused(
                "RATE_LIMIT_ERROR",
                f"Too many wrong passwords; try again in {-(-wait_s // 60)} min.",
                field=field,
                retry_after_s=wait_s,
            )
    failures = [PasswordFailure(scope=scope) for scope in scopes]
    db.session.add_all(failures)
    db.session.flush()
    ids = [failure.id for failure in failures]
    db.session.commit()
    return ids


def _scope(kind: str, value: str) -> bytes:
    return vault.keyed_hash("password failures", f"{kind}:{value}".encode())


@cache
def _nobodys_hash() -> str:
    """Checked against when there is no such merchant: it takes as long."""
    return _hasher.hash(secrets.token_urlsafe())
