"""What the clock works off itself is counted."""

from migrations import step

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    step("""
        CREATE TABLE IF NOT EXISTS rescues (
            queue   text PRIMARY KEY,
            count   bigint NOT NULL CHECK (count > 0),
            last_at timestamptz NOT NULL DEFAULT now()
        )
    """)
