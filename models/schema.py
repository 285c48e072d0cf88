"""The schema of the database: schema.sql if there is none yet, else the revisions that it lacks.

schema.sql is the truth, and the revisions of migrations/ come to the same. Alembic runs them; it is loaded
only if there is something to run.
"""

from __future__ import annotations

import logging
import time
from threading import Event

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError

from config import ROOT, ConfigError, settings
from models.base import db

log = logging.getLogger(__name__)

MIGRATIONS = ROOT / "migrations"
REVISIONS = sorted(path.stem for path in (MIGRATIONS / "versions").glob("*.py"))  # "0002_what_it_does"
NUMBER = slice(4)  # of a revision's name: its place in the order, and what the database says of itself
HEAD = REVISIONS[-1][NUMBER]

SCHEMA_LOCK = 7_264_002  # advisory: of all that start at once, one changes the schema
RETRY_S = 0.5
TOLD_EACH_S = 30.0


def prepare_database() -> None:
    """Wait for the database (SERVICE_WAIT_S), and bring its schema up to date.

    Raises:
        ConfigError: it can't be reached in time, or refuses; names the setting, never the password.
    """
    deadline = time.monotonic() + settings.service_wait_s
    told = False
    while True:
        try:
            migrate()
            return
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"DATABASE_URL: The database cannot be reached: {in_a_line(error)}"
                ) from None
            if not told:
                print("waiting for the database (DATABASE_URL) ...", flush=True)
                told = True
            time.sleep(RETRY_S)
        except DBAPIError as error:
            raise ConfigError(f"DATABASE_URL: The schema cannot be changed: {in_a_line(error)}") from None


def migrate() -> list[str]:
    """Make the tables, or apply the revisions that the database lacks. Gives these.

    One process at a time; the others wait for as long as it takes, and find nothing left to do.
    """
    with db.engine.connect() as connection:
        if not missing(connection):
            return []
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # from the pool: it is closed at the end, and its lock with it
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SET lock_timeout = 0"))
        _wait_for_turn(connection)
        lacking = missing(connection)
        if lacking:
            _apply(connection, to_empty=lacking == REVISIONS)
        return lacking


def missing(connection: Connection) -> list[str]:
    """The revisions that the database lacks: all of them, if it is empty.

    A newer database than this code has all: during a rolling upgrade the old code works on the new schema.
    """
    at = revision(connection)
    if at > HEAD:
        log.warning("the database is at revision %s, newer than this code, which knows %s", at, HEAD)
    return [name for name in REVISIONS if name[NUMBER] > at]


def revision(connection: Connection) -> str:
    """At which the database is: "" if it is empty, the first if it has tables and does not say."""
    versioned, filled = connection.execute(
        text("SELECT to_regclass('alembic_version') IS NOT NULL, to_regclass('merchants') IS NOT NULL")
    ).one()
    at = connection.scalar(text("SELECT max(version_num) FROM alembic_version")) if versioned else None
    return at or (REVISIONS[0][NUMBER] if filled else "")


def wait_for_schema(stopping: Event) -> None:
    """Wait, for a worker that was started before the schema was made, or brought up to date."""
    told = ""
    while not stopping.is_set():
        try:
            at = revision(db.session.connection())
            if at >= HEAD:
                return
            why = f"it is at revision {at}, not yet at {HEAD}" if at else "it has no tables yet"
        except OperationalError as error:
            why = in_a_line(error)
        finally:
            db.session.remove()
        if why != told:
            log.warning("waiting for the database (DATABASE_URL): %s", why)
            told = why
        stopping.wait(RETRY_S)


def in_a_line(error: DBAPIError) -> str:
    return "; ".join(line.strip() for line in str(error.orig).strip().splitlines())


def _wait_for_turn(connection: Connection) -> None:
    """Take the lock, by asking again and again: an index that is built waits for whoever waits in SQL."""
    told = -TOLD_EACH_S
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": SCHEMA_LOCK}):
        if time.monotonic() - told > TOLD_EACH_S:
            log.warning("waiting for another process, which changes the schema")
            told = time.monotonic()
        time.sleep(RETRY_S)


def _apply(connection: Connection, *, to_empty: bool) -> None:
    logging.getLogger("alembic.runtime.plugins").setLevel(
        logging.WARNING
    )  # it would tell of each of its parts
    from alembic import command  # noqa: PLC0415 (takes its time, and a usual start has nothing to do)
    from alembic.config import Config  # noqa: PLC0415

    alembic = Config()
    alembic.set_main_option("script_location", str(MIGRATIONS))
    alembic.attributes["connection"] = connection
    if to_empty:
        # One message is one transaction. As it is: the driver would take each % for a parameter.
        schema = (ROOT / "schema.sql").read_text()
        connection.exec_driver_sql(schema, execution_options={"no_parameters": True})
        command.stamp(alembic, "head")
    else:
        command.upgrade(alembic, "head")
