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


class PageQuery(Body):
    """What every list takes. `from` is included, `to` is not."""

    limit = WholeNumber(
        load_default=LIMIT_DEFAULT,
        validate=validate.Range(min=1, max=LIMIT_MAX, error="Must be 1 to 100."),
    )
    starting_after = Text(metadata={"description": "The id that the previous page ended with."})
    from_ = Timestamp(data_key="from")
    to = Timestamp()


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


def page(query: Select[Any], model: Any, args: dict[str, Any]) -> dict[str, Any]:
    """One page of `query`, which selects rows of `model` (with id, merchant_id, created_at and seq).

    Raises:
        Refused: `starting_after` is no id of this merchant's.
    """
    if "from_" in args:
        query = query.where(model.created_at >= args["from_"])
    if "to" in args:
        query = query.where(model.created_at < args["to"])
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
    newest = query.order_by(model.created_at.desc(), model.seq.desc()).limit(limit + 1)
    rows = list(db.session.scalars(newest))
    has_more = len(rows) > limit
    rows = rows[:limit]
    return {"data": rows, "has_more": has_more, "next_cursor": rows[-1].id if has_more else None}
