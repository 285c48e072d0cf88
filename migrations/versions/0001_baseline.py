"""The database of before there were revisions: what the first releases made, by the .sql beside this."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Nothing to do: whatever has tables is at least that."""
