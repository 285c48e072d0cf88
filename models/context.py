"""The part of the app that web server, workers and commands share: settings and the database."""

from __future__ import annotations

import time
from pathlib import Path

from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from config import ROOT, ConfigError, Settings
from models.base import ENGINE_OPTIONS, db

SCHEMA_LOCK = 7_264_002  # advisory: web and worker start together, one of them applies the schema
WAIT_S = 30.0  # what a database may take to come up beside us


def core_app(settings: Settings) -> Flask:
    """A Flask app with settings and database, and no routes."""
    app = Flask("gateway", root_path=str(ROOT), static_folder=None)
    app.config.update(
        GATEWAY=settings,
        SECRET_KEY=settings.secret_key,
        SQLALCHEMY_DATABASE_URI=settings.sqlalchemy_url,
        SQLALCHEMY_ENGINE_OPTIONS=ENGINE_OPTIONS | {"pool_size": settings.web_threads, "max_overflow": 64},
    )
    db.init_app(app)
    return app


def prepare_database(wait_s: float = WAIT_S) -> None:
    """Wait for the database, and apply schema.sql if it is empty.

    Raises:
        ConfigError: it can't be reached in time; names the setting, never the password.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            with db.engine.begin() as connection:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": SCHEMA_LOCK})
                if connection.scalar(text("SELECT to_regclass('merchants') IS NULL")):
                    # The driver's own cursor: SQLAlchemy would take each % for a parameter.
                    connection.connection.cursor().execute(Path(ROOT / "schema.sql").read_text())
            return
        except OperationalError as error:
            if time.monotonic() > deadline:
                reason = str(error.orig).strip().splitlines()[-1]
                raise ConfigError(f"DATABASE_URL: The database cannot be reached: {reason}") from None
            time.sleep(0.5)
