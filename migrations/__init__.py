"""What revisions are made of: statements that hold nobody up for longer than a moment.

Each is a transaction of its own, and can be run again: a revision that was interrupted begins anew. How to
write one is in docs/decisions/0012.
"""

from __future__ import annotations

import logging
import time

from alembic import op
from psycopg2.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

log = logging.getLogger(__name__)

# Who waits for a table's lock makes all others wait that come for the table later. So it waits for a moment,
# and lets them pass before it tries again.
LOCK_TIMEOUT_MS = 200
PAUSE_S = 1.0
TOLD_EACH = 10  # tries
OLDEST = """
    SELECT format('process %s (%s), since %s', pid, application_name, xact_start) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND datname = current_database() AND xact_start IS NOT NULL
    ORDER BY xact_start LIMIT 1
"""


def step(statements: str) -> None:
    """Run what changes a table in an instant, all of it or nothing, as soon as its lock is to be had."""
    tries = 0
    while True:
        try:
            at_leisure(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; {statements}")
            return
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable | DeadlockDetected):
                raise
            if tries % TOLD_EACH == 0:
                oldest = op.get_bind().scalar(text(OLDEST))
                log.warning("waiting for a lock: %s; the oldest transaction: %s", statements.strip(), oldest)
        tries += 1
        time.sleep(PAUSE_S)


def at_leisure(statement: str) -> None:
    """Run what may take long, for others read and write meanwhile: CONCURRENTLY, VALIDATE, a batch."""
    # As it is: SQLAlchemy, or the driver, would take each % for a parameter.
    op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def index(name: str, on: str) -> None:
    """Build an index, `on` as in CREATE INDEX, and put it in the place of the one of that name, if any."""
    at_leisure(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_new")  # what an interrupted build left is not valid
    at_leisure(f"CREATE INDEX CONCURRENTLY {name}_new ON {on}")
    step(f"DROP INDEX IF EXISTS {name}; ALTER INDEX {name}_new RENAME TO {name}")
