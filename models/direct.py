"""Statements past the ORM, for what is asked most: the driver's own cursor, and plain tuples.

Within a transaction that the session has begun, a statement is part of it. Outside of one it is a transaction
by itself, committed when it returns: one round trip, where BEGIN and COMMIT would make it three.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection

from models.base import Model, db

Values = Mapping[str, Any] | Sequence[Any]


def rows(statement: str, values: Values) -> list[tuple[Any, ...]]:
    """All rows that it gives.

    Raises:
        DBAPIError: as SQLAlchemy would, without the values in its text.
    """
    if db.session.registry.has() and db.session().in_transaction():
        return _rows(db.session().connection().connection, statement, values)
    with _translated(statement):
        line = db.engine.raw_connection()
    try:
        line.dbapi_connection.autocommit = True  # type: ignore[union-attr]
        found = _rows(line, statement, values)
        line.dbapi_connection.autocommit = False  # type: ignore[union-attr]
    except BaseException:
        line.invalidate()  # whatever state it is in
        raise
    line.close()
    return found


def row(statement: str, values: Values) -> tuple[Any, ...] | None:
    """The first row that it gives, if any."""
    found = rows(statement, values)
    return found[0] if found else None


def one(model: type[Model], condition: str, values: Values) -> dict[str, Any] | None:
    """The columns of the row of `model` for which this holds, by name."""
    names = tuple(model.__table__.columns.keys())
    found = row(f"SELECT {', '.join(names)} FROM {model.__tablename__} WHERE {condition}", values)  # noqa: S608
    return None if found is None else dict(zip(names, found, strict=True))


def _rows(line: PoolProxiedConnection, statement: str, values: Values) -> list[tuple[Any, ...]]:
    cursor = line.cursor()
    try:
        with _translated(statement):
            cursor.execute(statement, values)
            return [*cursor.fetchall()]
    finally:
        cursor.close()


@contextmanager
def _translated(statement: str) -> Iterator[None]:
    """What the driver raises becomes what SQLAlchemy would make of it, without the values in its text."""
    try:
        yield
    except psycopg2.Error as error:
        raise DBAPIError.instance(statement, None, error, psycopg2.Error, hide_parameters=True) from error
