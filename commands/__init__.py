"""The `flask` commands: what is done by hand on the machine of the gateway. `.flaskenv` points here."""

from __future__ import annotations

from flask import Flask

from commands.backup import backup, restore
from commands.listen import listen
from commands.merchants import create_merchant, password_link
from commands.migrate import migrate
from commands.secrets import rotate_secrets
from commands.seed import seed
from commands.verify import verify

app = Flask(__name__, static_folder=None)  # carries the commands, and nothing else
app.cli.add_command(backup)
app.cli.add_command(listen)
app.cli.add_command(create_merchant)
app.cli.add_command(password_link)
app.cli.add_command(migrate)
app.cli.add_command(restore)
app.cli.add_command(rotate_secrets)
app.cli.add_command(seed)
app.cli.add_command(verify)
