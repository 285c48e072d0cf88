"""The `flask` commands: what is done by hand on the machine of the gateway. `.flaskenv` points here."""

from __future__ import annotations

from flask import Flask

from commands.backup import backup, restore
from commands.check_pages import approve_pages, check_pages
from commands.listen import listen
from commands.merchants import create_merchant, password_link
from commands.migrate import migrate
from commands.openapi import openapi
from commands.secrets import rotate_secrets
from commands.seed import seed
from commands.verify import verify

app = Flask(__name__, static_folder=None)  # carries the commands, and nothing else
for command in (
    approve_pages,
    backup,
    check_pages,
    create_merchant,
    listen,
    migrate,
    openapi,
    password_link,
    restore,
    rotate_secrets,
    seed,
    verify,
):
    app.cli.add_command(command)
