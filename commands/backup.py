"""`flask backup`, `flask restore`: all that the gateway knows as one file, and the way back from it.

The file is pg_dump's own (its custom format), so that PostgreSQL's programs can do the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
from sqlalchemy import make_url

from commands.gateway import database_of, gateway
from commands.verify import prove
from config import ConfigError, Settings, load
from models import schema
from models.base import db
from models.verification import CHECKS, STUCK


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(file: Path) -> None:
    """Write all that is in the database, as it is at one moment, to FILE. The gateway goes on meanwhile.

    FILE is there when it is complete, or not at all. Who has it, and SECRET_KEY, has everything.
    """
    part = file.with_name(f"{file.name}.part")
    with gateway() as settings:
        try:
            postgres("pg_dump", settings, "--format=custom", f"--file={part}")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    click.echo(f"{file} is written ({file.stat().st_size / 1e6:.1f} MB).")
    click.echo("It is of no use without SECRET_KEY: keep that too, in another place.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def restore(file: Path) -> None:
    """Fill an empty database from FILE, bring it up to date, and prove that all is right.

    The gateway must not run. What was due when FILE was written is done when it starts.
    """
    try:
        settings = load()
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    with stopped(settings) as settings, database_of(settings):
        with db.engine.connect() as connection:
            if schema.revision(connection):
                raise click.ClickException(
                    "The database is not empty: FILE can only be restored into a new one."
                )
        options = ("--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
        postgres("pg_restore", settings, *options, str(file))
        click.echo(f"{file} is restored.")
        for name in schema.migrate():
            click.echo(f"applied  {name}")
        breaks = prove([check for check in CHECKS if check is not STUCK])  # nobody has worked since then
        click.echo("What was due is done when the gateway runs. Then prove that too: flask verify")
        sys.exit(1 if breaks else 0)


@contextmanager
def stopped(settings: Settings) -> Iterator[Settings]:
    """The settings of a gateway that does not run; an embedded database is started for this alone."""
    if settings.database_url:
        yield settings
        return
    import local  # noqa: PLC0415 (not in the image, which has a DATABASE_URL)

    own = local.Gateway(settings)
    try:
        with local.locked(own.data_dir):
            local.end_leftovers(own)
            try:
                yield replace(settings, database_url=local.start_postgres(own))
            finally:
                local.stop(own)
    except local.StartError as error:
        raise click.ClickException(str(error)) from None


def postgres(program: str, settings: Settings, *options: str) -> None:
    """Run one of PostgreSQL's programs on the database. Whatever it writes is its owner's alone."""
    url = make_url(settings.sqlalchemy_url).set(drivername="postgresql")
    password = {"PGPASSWORD": url.password} if url.password else {}  # in its arguments, all would see it
    address = url._replace(password=None).render_as_string()
    done = subprocess.run(  # noqa: S603
        [path_of(program), f"--dbname={address}", *options],
        env=os.environ | password,
        stderr=subprocess.PIPE,
        text=True,
        umask=0o077,
        check=False,
    )
    if done.returncode:
        raise click.ClickException((done.stderr.strip() or f"{program} failed").splitlines()[0])


def path_of(program: str) -> str:
    """The embedded PostgreSQL's, else the system's: that must not be older than the server."""
    try:
        from local import postgres_program  # noqa: PLC0415 (not in the image)

        return str(postgres_program(program))
    except ImportError:
        path = shutil.which(program)
    if path is None:
        raise click.ClickException(
            f"{program} is not installed; it is in Debian's package postgresql-client."
        )
    return path
