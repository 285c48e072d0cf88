"""The `flask` commands: what is done by hand on the machine of the gateway. `.flaskenv` points here."""

from __future__ import annotations

from flask import Flask

from commands.listen import listen

app = Flask(__name__, static_folder=None)  # carries the commands, and nothing else
app.cli.add_command(listen)
