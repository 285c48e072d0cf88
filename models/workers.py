"""Which worker processes are alive, by their own word in the database (Redis may forget them)."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ARRAY, ColumnElement, Text, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Model, db

BEAT_S = 2  # how often a worker process says that it lives
ALIVE_S = 10  # silent for longer than this is gone: several beats may be late on a busy machine
FORGET_S = 3600


class Worker(Model):
    """One worker process."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    pid: Mapped[int]
    queues: Mapped[list[str]] = mapped_column(ARRAY(Text))
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    beat_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @classmethod
    def beat(cls, worker_id: str, hostname: str, pid: int, queues: list[str]) -> None:
        """Say that this process lives."""
        row = insert(cls).values(id=worker_id, hostname=hostname, pid=pid, queues=queues)
        db.session.execute(
            row.on_conflict_do_update(index_elements=[cls.id], set_={"beat_at": func.clock_timestamp()})
        )

    @classmethod
    def leave(cls, worker_id: str) -> None:
        db.session.execute(delete(cls).where(cls.id == worker_id))

    @classmethod
    def alive(cls) -> int:
        """How many processes have been heard of lately."""
        return db.session.scalar(select(func.count()).select_from(cls).where(cls.lives())) or 0

    @classmethod
    def lives(cls) -> ColumnElement[bool]:
        return cls.beat_at > func.now() - timedelta(seconds=ALIVE_S)

    @classmethod
    def forget_dead(cls) -> None:
        db.session.execute(delete(cls).where(cls.beat_at < func.now() - timedelta(seconds=FORGET_S)))
