"""`flask verify`: prove that money, history and work are right, now."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from commands.gateway import gateway
from models.sealed import check_readable
from models.verification import CHECKS, SHOWN_MAX, Check, Verification


@click.command()
def verify() -> None:
    """Prove that money, history and work are right. Prints each break, and exits with 1 if there is one.

    It reads everything once and holds nobody up. The clock does the same every night.
    """
    with gateway():
        sys.exit(1 if prove() else 0)


def prove(checks: Sequence[Check] = CHECKS) -> int:
    """Print what is proven and what is broken. Gives the number of breaks.

    Raises:
        ConfigError: SECRET_KEY is another database's.
    """
    check_readable()
    findings = Verification.run(checks)
    if findings is None:
        raise click.ClickException("Another verification is running.")
    for finding in findings:
        click.echo(f"{click.style('broken', fg='red') if finding.count else 'proven'}  {finding.check.says}")
        for each in finding.breaks:
            click.echo(f"        {each.subject}: {each.words}")
        if finding.count > SHOWN_MAX:
            click.echo(f"        ... and {finding.count - SHOWN_MAX} more")
    count = sum(finding.count for finding in findings)
    click.echo(f"{count or 'no'} break{'' if count == 1 else 's'}")
    return count
