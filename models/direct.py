"""Statements past the ORM, for what is asked most: the driver's own cursor, and plain tuples.

Within a transaction that the session has begun, a statement is part of it. Outside of one it is a transaction
by itself, committed when it returns: one round trip, where BEGIN and COMMIT would make it three. Each is
prepared, once a connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import psycopg2
from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import make_transient_to_detached
from sqlalchemy.pool import PoolProxiedConnection

from models.base import Model, db

PREPARED_MAX = 64  # statements of one connection: PostgreSQL keeps each, with its plan, as long as that lives

Values = Sequence[Any]
Row = TypeVar("Row", bound=Model)


def rows(statement: str, values: Values) -> list[tuple[Any, ...]]:
    """All rows that it gives.

    Raises:
        DBAPIError: as SQLAlchemy would, without the values in its text.
    """
    if db.session.registry.has() and db.session().in_transaction():
        connection = db.session().connection()
        try:
            return _rows(connection.connection, statement, values)
        except DBAPIError as error:
            if connection.connection.dbapi_connection.closed:  # type: ignore[union-attr]
                connection.invalidate(error.orig)  # SQLAlchemy did not see it: a rollback would ask the dead
            raise
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
    names = column_names(model)
    found = row(f"SELECT {', '.join(names)} FROM {model.__tablename__} WHERE {condition}", values)  # noqa: S608
    return None if found is None else dict(zip(names, found, strict=True))


def locked(model: type[Row], condition: str, values: Values, *, wait: bool = True) -> list[Row]:
    """The rows for which this holds, locked until commit, as objects of the session. Looks up now() too.

    `wait` False: without those that somebody else has locked.
    """
    session = db.session()
    session.connection()  # it begins a transaction
    names = column_names(model)
    found = rows(
        f"SELECT now(), {', '.join(names)} FROM {model.__tablename__} "  # noqa: S608 (our own names)
        f"WHERE {condition} FOR NO KEY UPDATE{'' if wait else ' SKIP LOCKED'}",
        values,
    )
    loaded = []
    for session.info["now"], *values_found in found:
        facts = dict(zip(names, values_found, strict=True))
        known = session.identity_map.get(session.identity_key(model, facts["id"]))
        if known is None:
            session.add(each := detached(model, facts))
        else:
            vars(each := known).update(facts)
            inspect(each)._commit_all(vars(each), session.identity_map)
        loaded.append(each)
    return loaded


def detached(model: type[Row], facts: dict[str, Any]) -> Row:
    """The object of a row that has these columns: as if it had been read, by a session that is over."""
    made = model()
    vars(made).update(facts)
    make_transient_to_detached(made)
    return made


@cache
def column_names(model: type[Model]) -> tuple[str, ...]:
    return tuple(model.__table__.columns.keys())


def _rows(line: PoolProxiedConnection, statement: str, values: Values) -> list[tuple[Any, ...]]:
    cursor = line.cursor()
    try:
        with _translated(statement):
            cursor.execute(_prepared(line, cursor, statement, len(values)), values)
            return [*cursor.fetchall()]
    finally:
        cursor.close()


def _prepared(line: PoolProxiedConnection, cursor: Any, statement: str, count: int) -> str:
    """What runs it: parsed and planned once a connection, unless that has PREPARED_MAX of them."""
    names: dict[str, str] = line.info.setdefault("prepared", {})
    if statement not in names:
        if len(names) >= PREPARED_MAX:
            return statement
        name = f"direct_{len(names)}"
        cursor.execute(f"PREPARE {name} AS {statement}" % tuple(f"${n}" for n in range(1, count + 1)))
        names[statement] = f"EXECUTE {name} ({', '.join(['%s'] * count)})"
    return names[statement]


@contextmanager
def _translated(statement: str) -> Iterator[None]:
    """What the driver raises becomes what SQLAlchemy would make of it, without the values in its text."""
    try:
        yield
    except psycopg2.Error as error:
        raise DBAPIError.instance(statement, None, error, psycopg2.Error, hide_parameters=True) from error
