"""All that is sealed in the database, and how it comes under a new SECRET_KEY."""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect, select, tuple_, update

from models import vault
from models.api_keys import ApiKey
from models.base import Model, db
from models.idempotency import IdempotencyKey
from models.webhook_endpoints import WebhookEndpoint

SEALED: tuple[tuple[type[Model], tuple[str, ...]], ...] = (
    (ApiKey, ("secret_encrypted",)),
    (WebhookEndpoint, ("secret_encrypted", "previous_secret_encrypted")),
    (IdempotencyKey, ("response_body",)),
)
BATCH = 500  # rows locked at a time, for some milliseconds


def check_readable() -> None:
    """That this process has the key of this database: tried on the first and the last API key.

    Raises:
        ConfigError: SECRET_KEY, and its fallbacks, are of another one.
    """
    for order in (ApiKey.seq, ApiKey.seq.desc()):
        sealed = db.session.scalar(select(ApiKey.secret_encrypted).order_by(order).limit(1))
        if sealed is not None:
            vault.unseal(sealed)
    db.session.rollback()


def reseal_all() -> dict[str, int]:
    """Seal everything under SECRET_KEY. Returns how many rows of each table were under another key.

    Commits on the way, and may be interrupted, repeated, and run beside a gateway that works.

    Raises:
        ConfigError: a row can't be read under SECRET_KEY or any fallback; those before it are done.
    """
    return {model.__tablename__: _reseal(model, columns) for model, columns in SEALED}


def _reseal(model: type[Model], columns: tuple[str, ...]) -> int:
    key = inspect(model).primary_key
    query = select(*key, *(getattr(model, name) for name in columns)).order_by(*key).limit(BATCH)
    last: tuple[Any, ...] | None = None
    count = 0
    while True:
        after = query if last is None else query.where(tuple_(*key) > tuple_(*last))
        rows = db.session.execute(after.with_for_update()).all()
        for row in rows:
            values = row._mapping
            sealed = {name: vault.reseal(values[name]) for name in columns if values[name] is not None}
            if changed := {name: value for name, value in sealed.items() if value is not None}:
                this = [column == values[column.name] for column in key]
                db.session.execute(update(model).where(*this).values(changed))
                count += 1
        db.session.commit()
        if len(rows) < BATCH:
            return count
        last = tuple(rows[-1][: len(key)])
