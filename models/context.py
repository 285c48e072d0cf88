"""The part of the app that web server, workers and commands share: settings and the database."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from flask import Flask

import models
from config import ROOT, Settings
from models.base import ENGINE_OPTIONS, db

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
