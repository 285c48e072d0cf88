"""What every model stands on: the session, ids, the database's time, and the note that work is due."""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, ClassVar

import psycopg2
from flask_sqlalchemy import SQLAlchemy
from marshmallow import Schema, fields
from sqlalchemy import BigInteger, DateTime, Integer, Text, event, func, select
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import DeclarativeBase, Session, SessionTransaction
from sqlalchemy.pool import Pool

# An id's 16 characters after its prefix: when it was made, so that what is made together lies together in
# every index, however large; and 65 random bits, of which a guesser would have to try all for each second.
ID_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase  # in the order of "C"
ID_TIME_LENGTH = 5  # of seconds: 62^5 of them are 29 years; then the order, and nothing else, begins anew
ID_RANDOM_LENGTH = 11
ID_EPOCH_S = 1_735_689_600  # 2025
# A random byte gives a character; the last 8 of 256 are left out, or some characters would be likelier.
ID_OF_BYTE = bytes(ord(ID_ALPHABET[byte % len(ID_ALPHABET)]) for byte in range(256))
UNEVEN_BYTES = bytes(range(256 - 256 % len(ID_ALPHABET), 256))

# A request that waits longer than this on the database is better told so (milliseconds).
STATEMENT_TIMEOUT_MS = 10_000
LOCK_TIMEOUT_MS = 5_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 30_000
CONNECT_TIMEOUT_S = 5

PG_OPTIONS = (
    f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS} "
    f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS}"
)
# A database that vanished without a word is noticed within about 15 s, not in hours.
TCP_OPTIONS = {
    "keepalives_idle": 10,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
ENGINE_OPTIONS: dict[str, Any] = {
    "connect_args": {"options": PG_OPTIONS, "connect_timeout": CONNECT_TIMEOUT_S, **TCP_OPTIONS},
    "hide_parameters": True,  # an error's text must not carry what was to be stored
    "executemany_mode": "values_plus_batch",
}


@event.listens_for(Pool, "checkout")
def _check_line(connection: Any, _record: Any, _proxy: Any) -> None:
    """A restarted Postgres costs nobody an error: what it said or closed meanwhile is noticed, unasked.

    The first look takes in its farewell, the second one finds the line closed. Neither is a round trip.
    """
    try:
        connection.poll()
        connection.poll()
    except psycopg2.Error as error:
        raise InvalidatePoolError from error


# No autoflush: a verb may pass through states that the CHECKs of schema.sql would rightly refuse.
db = SQLAlchemy(session_options={"expire_on_commit": False, "autoflush": False})


class Model(DeclarativeBase):
    """Base of all tables. `schema.sql` is the truth; a test holds the classes to it."""

    batched: ClassVar[bool] = False  # see models/batch.py

    type_annotation_map = {
        str: Text(),
        int: Integer(),
        datetime: DateTime(timezone=True),
    }

    @staticmethod
    def json_of(facts: Mapping[str, Any]) -> dict[str, Any]:
        """How a row with these columns is shown."""
        raise NotImplementedError

    def as_json(self) -> dict[str, Any]:
        return self.json_of(self.facts())

    def facts(self) -> dict[str, Any]:
        """All columns but `seq` as they are now, by name: reading many of them one by one takes long."""
        facts = vars(self)
        missing = _column_names(type(self)) - facts.keys()
        return facts | {name: getattr(self, name) for name in missing} if missing else facts


@cache
def _column_names(model: type[Model]) -> frozenset[str]:
    return frozenset(model.__table__.columns.keys()) - {"seq"}  # the database's, and told to nobody


Minor = BigInteger()  # money: integer minor units


def new_id(prefix: str) -> str:
    """A fresh public id such as `pay_01xQv...`, whose random part is from a cryptographic source."""
    drawn = ""
    while len(drawn) < ID_RANDOM_LENGTH:  # once, but for one time in 10^8
        drawn += secrets.token_bytes(24).translate(ID_OF_BYTE, UNEVEN_BYTES).decode()
    return f"{prefix}_{id_time(int(time.time()))}{drawn[:ID_RANDOM_LENGTH]}"


@lru_cache(maxsize=4)
def id_time(second: int) -> str:
    """With which ids begin that are made in this second of the epoch."""
    digits, rest = "", second - ID_EPOCH_S
    for _ in range(ID_TIME_LENGTH):
        rest, digit = divmod(rest, len(ID_ALPHABET))
        digits = ID_ALPHABET[digit] + digits
    return digits


def now() -> datetime:
    """The time of the current transaction by the database's clock (one query, then remembered)."""
    info = db.session().info
    if "now" not in info:
        info["now"] = db.session.scalar(select(func.now()))
    return info["now"]


def known_now() -> datetime | None:
    """now(), if it has been looked up already, or is another one."""
    return db.session().info.get("now") if db.session.registry.has() else None


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """Within it, now() is `moment`: for a past that is written down afterwards (see commands/seed.py)."""
    info = db.session().info
    before = info.get("now")
    info["now"] = moment
    try:
        yield
    finally:
        info.pop("now", None)
        if before is not None:
            info["now"] = before


def mark_due(queue: str) -> None:
    """Note that this transaction leaves work due at once on `queue`: whoever commits wakes it."""
    db.session().info.setdefault("due", set()).add(queue)


def take_due() -> set[str]:
    """The queues noted since the last call. For jobs/work.py, which commits and wakes."""
    return db.session().info.pop("due", set())


def memo() -> dict[str, Any]:
    """A place for what is looked up once per transaction."""
    return db.session().info.setdefault("memo", {})


@event.listens_for(Session, "after_transaction_end")
def _forget(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session.info.pop("now", None)
        session.info.pop("memo", None)


@event.listens_for(Session, "after_rollback")
def _nothing_is_due(session: Session) -> None:
    session.info.pop("due", None)


class Timestamp(fields.DateTime):
    """ISO 8601 in UTC with milliseconds, as the wire contract has it: `2026-01-15T16:40:00.123Z`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="iso", **kwargs)

    def _serialize(self, value: datetime | None, *_args: Any, **_kwargs: Any) -> str | None:
        return timestamp(value)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> datetime:
        parsed = super()._deserialize(value, *args, **kwargs)
        try:
            return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
        except (OverflowError, ValueError) as error:  # the year 0, or 10000
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from error


class RowSchema(Schema):
    """Describes what a row's `as_json` gives: that writes what is asked for most faster than marshmallow."""

    def dump(self, obj: Any, *, many: bool | None = None) -> Any:
        if many:
            return [self.dump(row) for row in obj]
        return obj if isinstance(obj, dict) else obj.as_json()


def isoformat(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def timestamp(value: datetime | None) -> str | None:
    return None if value is None else isoformat(value)
