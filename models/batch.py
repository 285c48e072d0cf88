"""Rows written many at a time: whatever one flush has to write, in one statement.

The ORM's own statements are parsed and planned row by row, and sent one after the other. Here PostgreSQL
reads each table's rows from one JSON parameter (`json_populate_recordset`, by the table's own types), and one
`WITH` writes all tables: one round trip, however many rows. Foreign keys are checked when it ends.

Classes say so with `batched = True`: their new and changed rows are written like this. Changed rows must have
been locked before, in one fixed order: a batch takes its locks in any. History that nobody reads back in its
own transaction need not be an object at all: `append()`.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache, lru_cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import event, inspect
from sqlalchemy.orm import InstanceState, Session, make_transient_to_detached
from sqlalchemy.orm.exc import StaleDataError

from models import direct
from models.base import Model, db

PLAIN = (str, int, list, dict, type(None), datetime, UUID)  # what JSON carries exactly

STATEMENTS_KEPT = 256  # of all that may be written together, what is

Key = tuple[str, tuple[str, ...]]  # a table, and columns of it
Groups = dict[Key, list[dict[str, Any]]]  # the rows to write there


def append(model: type[Model], **row: Any) -> None:
    """Add a row, written with the next flush. Columns that are left out take their default."""
    groups: Groups = db.session().info.setdefault("appended", {})
    groups.setdefault((model.__tablename__, tuple(row)), []).append(row)


@event.listens_for(Session, "before_flush")
def _write_batched(session: Session, _context: Any, _instances: Any) -> None:
    new = [row for row in session.new if row.batched]
    changed = [row for row in session.dirty if row.batched]
    inserts: Groups = session.info.pop("appended", {})
    for row in new:
        session.expunge(row)
        values = _plain(row, inspect(row).dict)
        vars(row).update(dict.fromkeys(_null_by_default(row.__class__) - values.keys()))
        inserts.setdefault((row.__tablename__, tuple(values)), []).append(values)
    updates: Groups = {}
    for row in changed:
        state: InstanceState[Any] = inspect(row)
        now, was = state.dict, state.committed_state
        values = _plain(row, {name: now[name] for name in was if now[name] != was[name]})
        if values:
            updates.setdefault((row.__tablename__, tuple(values)), []).append({"id": now["id"], **values})
    _write(session, inserts, updates)
    for row in changed:
        inspect(row)._commit_all(inspect(row).dict, session.identity_map)
    for row in new:
        make_transient_to_detached(row)
        session.add(row)


@event.listens_for(Session, "before_commit")
def _write_the_rest(session: Session) -> None:
    session.flush()
    _write(session, session.info.pop("appended", {}), {})  # a session without objects flushes nothing


@event.listens_for(Session, "after_rollback")
def _forget_appended(session: Session) -> None:
    session.info.pop("appended", None)


def _plain(row: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Those of the values that are columns."""
    columns = row.__table__.columns
    found = {name: value for name, value in values.items() if name in columns}
    for name, value in found.items():
        if not isinstance(value, PLAIN):
            raise TypeError(f"{row.__tablename__}.{name}: JSON would not carry a {type(value).__name__}")
    return found


@cache
def _null_by_default(model: type[Model]) -> frozenset[str]:
    """The columns that are null if nothing is written to them: nobody need look what became of them."""
    columns = model.__table__.columns
    return frozenset(c.name for c in columns if c.server_default is None and c.identity is None)


def _write(session: Session, inserts: Groups, updates: Groups) -> None:
    if not inserts and not updates:
        return
    # One row has a plan of its own: the planner takes a JSON for 100 rows, and would scan a table for that.
    added, changed = sorted(inserts), sorted(updates)  # whatever came first: equal work is an equal statement
    statement = _statement(tuple(added), tuple((key, len(updates[key]) == 1) for key in changed))
    written = [*(inserts[key] for key in added), *(updates[key] for key in changed)]
    values = [orjson.dumps(rows).decode() for rows in written]
    session.connection()  # it begins a transaction, if none is
    ((updated,),) = direct.rows(statement, values)
    if updated != sum(map(len, updates.values())):
        raise StaleDataError(f"{updated} rows were updated, of {sum(map(len, updates.values()))}")


@lru_cache(STATEMENTS_KEPT)
def _statement(inserts: tuple[Key, ...], updates: tuple[tuple[Key, bool], ...]) -> str:
    """What writes these columns of these tables (of one row, or of several), and counts what it updated."""
    steps, counts = [], ["0"]
    for number, (table, names) in enumerate(inserts):
        columns = ", ".join(names)
        steps.append(
            f"inserted_{number} AS (INSERT INTO {table} ({columns}) "  # noqa: S608 (our own names)
            f"SELECT {columns} FROM json_populate_recordset(NULL::{table}, %s))"
        )
    for number, ((table, names), single) in enumerate(updates):
        limit = " LIMIT 1" if single else ""
        changes = ", ".join(f"{name} = new.{name}" for name in names)
        steps.append(
            f"updated_{number} AS (UPDATE {table} SET {changes} "  # noqa: S608
            f"FROM (SELECT * FROM json_populate_recordset(NULL::{table}, %s){limit}) AS new "
            f"WHERE {table}.id = new.id RETURNING 1)"
        )
        counts.append(f"(SELECT count(*) FROM updated_{number})")  # noqa: S608
    return f"WITH {', '.join(steps)} SELECT {' + '.join(counts)}"
