"""`flask rotate-secrets`: brings all that is sealed under a new SECRET_KEY, while the gateway runs."""

from __future__ import annotations

import click

from commands.gateway import gateway
from models.sealed import reseal_all


@click.command("rotate-secrets")
def rotate_secrets() -> None:
    """Seal every secret in the database under SECRET_KEY, with SECRET_KEY_FALLBACKS to read the old ones.

    A day later nothing needs the fallbacks any more. See "A new SECRET_KEY" in docs/operations.md.
    """
    with gateway():
        for table, count in reseal_all().items():
            click.echo(f"{table}: {count} sealed anew")
