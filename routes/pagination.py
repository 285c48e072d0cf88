"""Lists: newest first, cut by a cursor that stays right while new rows arrive."""

from __future__ import annotations

from functools import cache
from typing import Any

from flask import g
from marshmallow import Schema, fields, validate
from sqlalchemy import Select, select, tuple_

from models.base import Timestamp, db
from models.errors import bad_request
from routes.fields import Body, Text, WholeNumber

LIMIT_DEFAULT = 20
LIMIT_MAX = 100
SEARCH_MAX_LENGTH = 256


class PageQuery(Body):
    """What every list takes. `from` is included, `to` is not."""

    limit = WholeNumber(
        load_default=LIMIT_DEFAULT,
        validate=validate.Range(min=1, max=LIMIT_MAX, error="Must be 1 to 100."),
        metadata={"description": "How many at most."},
    )
    starting_after = Text(metadata={"description": "The id that the previous page ended with."})
    from_ = Timestamp(data_key="from", metadata={"description": "What was made then or later."})
    to = Timestamp(metadata={"description": "What was made before that."})


@cache
def page_of(schema: type[Schema]) -> type[Schema]:
    """The schema of a page of these."""
    name = schema.__name__.removesuffix("Schema") + "PageSchema"
    return Schema.from_dict(
        {
            "data": fields.List(fields.Nested(schema), required=True),
            "has_more": fields.Boolean(required=True),
            "next_cursor": fields.String(required=True, allow_none=True),
        },
        name=name,
    )


def filtered(query: Select[Any], model: Any, args: dict[str, Any], *names: str) -> Select[Any]:
    """The query with a condition for each of these that was asked for."""
    return query.where(*(getattr(model, name) == args[name] for name in names if name in args))


def between(query: Select[Any], model: Any, args: dict[str, Any]) -> Select[Any]:
    """The query for rows made in the time that was asked for."""
    if "from_" in args:
        query = query.where(model.created_at >= args["from_"])
    return query.where(model.created_at < args["to"]) if "to" in args else query


def page(query: Select[Any], model: Any, args: dict[str, Any]) -> dict[str, Any]:
    """One page of `query`, which selects rows of `model` (with id, merchant_id, created_at and seq).

    Raises:
        Refused: `starting_after` is no id of this merchant's.
    """
    query = between(query, model, args)
    if "starting_after" in args:
        # Without the filters: a row that has changed since the last page is still the place to go on from.
        cursor = db.session.execute(
            select(model.created_at, model.seq).where(
                model.id == args["starting_after"], model.merchant_id == g.merchant_id
            )
        ).first()
        if cursor is None:
            raise bad_request("starting_after: No such id.", field="starting_after")
        query = query.where(tuple_(model.created_at, model.seq) < tuple_(*cursor))
    limit = args["limit"]
    newest = (model.created_at.desc(), model.seq.desc())
    # The ids first, which an index may hold with all that is filtered by; then the rows of this page alone.
    ids = query.with_only_columns(model.id).order_by(*newest).limit(limit + 1)
    rows = list(db.session.scalars(select(model).where(model.id.in_(ids)).order_by(*newest)))
    has_more = len(rows) > limit
    rows = rows[:limit]
    return {"data": rows, "has_more": has_more, "next_cursor": rows[-1].id if has_more else None}
