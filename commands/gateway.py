"""The gateway that a command works on: its settings and its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import click

from config import ConfigError, Settings, load
from models.context import core_app


@contextmanager
def gateway() -> Iterator[Settings]:
    """The settings and, as the app's context, the database of the gateway that runs.

    Raises:
        click.ClickException: a setting is wrong, or no gateway runs.
    """
    try:
        settings = load()
        if not settings.database_url:
            from local import running_database_url  # noqa: PLC0415 (not in the image, which has a DATABASE_URL)

            settings = replace(settings, database_url=running_database_url(settings))
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    with core_app(settings).app_context():
        yield settings
