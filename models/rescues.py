"""What the clock had to do itself, because no worker came for it: jobs/clock.py counts it here."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Minor, Model, db


class Rescue(Model):
    """The rescued rows of one queue, ever since."""

    __tablename__ = "rescues"

    queue: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(Minor)
    last_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @classmethod
    def add(cls, queue: str, rescued: int) -> None:
        row = insert(cls).values(queue=queue, count=rescued)
        more = {"count": cls.count + rescued, "last_at": func.now()}
        db.session.execute(row.on_conflict_do_update(index_elements=[cls.queue], set_=more))

    @classmethod
    def counts(cls) -> dict[str, int]:
        """How many rows there were, by queue; nothing of a queue that never had any."""
        return {rescue.queue: rescue.count for rescue in db.session.scalars(select(cls))}
