# Where the `flask` command finds its commands.
FLASK_APP=commands
