"""`flask migrate`: bring the database's schema up to date, as the first step of a deployment."""

from __future__ import annotations

import sys

import click

import logs
from commands.gateway import gateway
from models import schema
from models.base import db


@click.command()
@click.option("--check", is_flag=True, help="Change nothing, and exit with 1 if a revision is missing.")
def migrate(check: bool) -> None:
    """Apply the revisions that the database lacks, while the gateway runs.

    The web server does the same when it starts. It can be ended at any moment, and goes on the next time.
    """
    with gateway() as settings:
        logs.set_up(settings.log_level, "text")
        if check:
            with db.engine.connect() as connection:
                revisions = schema.missing(connection)
        else:
            revisions = schema.migrate()
        for name in revisions:
            click.echo(f"{'missing' if check else 'applied'}  {name}")
        with db.engine.connect() as connection:
            click.echo(f"The database is at revision {schema.revision(connection) or 'none: it is empty'}.")
    sys.exit(1 if check and revisions else 0)
