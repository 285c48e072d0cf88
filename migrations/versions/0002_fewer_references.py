"""Fewer references to merchants, postings checked by statement, quick endpoints, two better indexes."""

from migrations import at_leisure, index, step

revision = "0002"
down_revision = "0001"

REPEAT_THEIR_MERCHANT = ("payments", "ledger_entries", "events", "webhook_deliveries")


def upgrade() -> None:
    index(
        "orders_to_expire",
        "orders (expires_at) WHERE expires_at IS NOT NULL AND status IN ('created', 'attempted')",
    )
    index(
        "webhook_deliveries_due_by_endpoint",
        "webhook_deliveries (endpoint_id, due_at, seq) WHERE due_at IS NOT NULL",
    )
    at_leisure("DROP INDEX CONCURRENTLY IF EXISTS ledger_entries_posting")
    for table in REPEAT_THEIR_MERCHANT:
        step(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_merchant_id_fkey")
    step("ALTER TABLE webhook_endpoints ADD COLUMN IF NOT EXISTS quick boolean NOT NULL DEFAULT false")
    step("""
CREATE OR REPLACE FUNCTION check_postings_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unbalanced text;
BEGIN
    SELECT posting_id INTO unbalanced FROM posted
    GROUP BY posting_id, currency HAVING sum(amount) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'ledger posting % does not sum to zero', unbalanced
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS ledger_entries_balanced ON ledger_entries;
CREATE TRIGGER ledger_entries_balanced AFTER INSERT ON ledger_entries
    REFERENCING NEW TABLE AS posted FOR EACH STATEMENT EXECUTE FUNCTION check_postings_balance();
DROP FUNCTION IF EXISTS check_posting_balances();
    """)
