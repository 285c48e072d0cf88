"""`flask openapi`: write the API's description to docs/openapi.json."""

from __future__ import annotations

import json

import click

from config import ROOT
from routes.openapi import document

FILE = ROOT / "docs/openapi.json"


@click.command()
def openapi() -> None:
    """Write docs/openapi.json anew, as the code has it."""
    FILE.write_text(published())
    click.echo(f"{FILE.relative_to(ROOT)} is written")


def published() -> str:
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"
