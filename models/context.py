"""The part of the app that web server, workers and commands share: settings and the database."""

from __future__ import annotations

import logging
import pkgutil
import time
from importlib import import_module
from pathlib import Path
from threading import Event

from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import models
from config import ROOT, ConfigError, Settings, settings
from models.base import ENGINE_OPTIONS, db

log = logging.getLogger(__name__)

SCHEMA_LOCK = 7_264_002  # advisory: web and worker start together, one of them applies the schema
RETRY_S = 0.5
BUSY_CONNECTIONS = 8  # beyond those that are kept; whoever finds none waits for one


def core_app(its_settings: Settings) -> Flask:
    """A Flask app with settings and database, and no routes."""
    load_models()
    app = Flask("gateway", root_path=str(ROOT), static_folder=None)
    app.config.update(
        GATEWAY=its_settings,
        SECRET_KEY=its_settings.secret_key,
        SQLALCHEMY_DATABASE_URI=its_settings.sqlalchemy_url,
        SQLALCHEMY_ENGINE_OPTIONS=ENGINE_OPTIONS
        | {"pool_size": its_settings.web_connections, "max_overflow": BUSY_CONNECTIONS},
    )
    db.init_app(app)
    return app


def load_models() -> None:
    """Every model, in every process: a foreign key to an unknown table would break its flush."""
    for module in pkgutil.iter_modules(models.__path__, "models."):
        import_module(module.name)


def wait_for_schema(stopping: Event) -> None:
    """Wait, for a worker that was started before the web server has made the tables."""
    told = ""
    while not stopping.is_set():
        try:
            if db.session.scalar(text("SELECT to_regclass('merchants') IS NOT NULL")):
                return
            why = "it has no tables yet"
        except OperationalError as error:
            why = str(error.orig).strip().splitlines()[0]
        finally:
            db.session.remove()
        if why != told:
            log.warning("waiting for the database (DATABASE_URL): %s", why)
            told = why
        stopping.wait(RETRY_S)


def prepare_database() -> None:
    """Wait for the database (SERVICE_WAIT_S), and apply schema.sql if it is empty.

    Raises:
        ConfigError: it can't be reached in time; names the setting, never the password.
    """
    deadline = time.monotonic() + settings.service_wait_s
    told = False
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
                reason = "; ".join(line.strip() for line in str(error.orig).strip().splitlines())
                raise ConfigError(f"DATABASE_URL: The database cannot be reached: {reason}") from None
            if not told:
                print("waiting for the database (DATABASE_URL) ...", flush=True)
                told = True
            time.sleep(RETRY_S)
