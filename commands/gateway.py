"""The gateway that a command works on: its settings and its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import click
from sqlalchemy.exc import DBAPIError

from config import ConfigError, Settings, load
from models.context import core_app
from models.errors import Refused


@contextmanager
def gateway() -> Iterator[Settings]:
    """The settings and, as the app's context, the database of the gateway that runs.

    Raises:
        click.ClickException: a setting is wrong, no gateway runs, or it refuses; in one line.
    """
    try:
        settings = load()
        if not settings.database_url:
            from local import running_database_url  # noqa: PLC0415 (not in the image, which has a DATABASE_URL)

            settings = replace(settings, database_url=running_database_url(settings))
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    with database_of(settings):
        yield settings


@contextmanager
def database_of(settings: Settings) -> Iterator[None]:
    """As the app's context, the database of these settings.

    Raises:
        click.ClickException: it refuses, or shows a setting to be wrong; in one line.
    """
    with core_app(settings).app_context():
        try:
            yield
        except Refused as error:
            raise click.ClickException(error.description) from None
        except ConfigError as error:  # what the database shows to be wrong
            raise click.ClickException(str(error)) from None
        except DBAPIError as error:
            raise click.ClickException(f"DATABASE_URL: {in_a_line(error)}") from None


def in_a_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
