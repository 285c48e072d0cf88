"""Workers of before there were quick endpoints write `slow` alone: a quick one must not stop them."""

from migrations import step

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    step("ALTER TABLE webhook_endpoints DROP CONSTRAINT IF EXISTS webhook_endpoints_check3")
