"""A refund's key to its payment covers its merchant: no key of its own to that."""

from migrations import step

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    step("ALTER TABLE refunds DROP CONSTRAINT IF EXISTS refunds_merchant_id_fkey")
