-- What a worker does to up to :batch payments, the claim in a transaction of its own, and each table in one
-- statement: the rows are those that settling writes. It takes what create_payment.sql left for tomorrow.
WITH due AS MATERIALIZED (
    SELECT id FROM payments WHERE due_at BETWEEN now() + interval '12 hours' AND now() + interval '36 hours'
        AND claim_id IS NULL
    ORDER BY due_at LIMIT :batch FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE payments SET claim_id = gen_random_uuid(), tries = tries + 1, due_at = now() + interval '30 days'
    WHERE id IN (SELECT id FROM due) RETURNING id
)
SELECT coalesce(array_agg(id)::text, '{}') AS ids FROM claimed
\gset
BEGIN;
SELECT * FROM payments WHERE id = ANY (:ids::text[]) ORDER BY id FOR NO KEY UPDATE;
SELECT o.* FROM orders o JOIN payments p ON p.order_id = o.id
WHERE p.id = ANY (:ids::text[]) ORDER BY o.id FOR NO KEY UPDATE OF o;
UPDATE payments SET status = 'success', captured = true, amount_captured = amount, operation = NULL, due_at = NULL,
    claim_id = NULL, acquirer_reference = 'sim_' || left(md5(id), 16), updated_at = now()
WHERE id = ANY (:ids::text[]);
UPDATE orders o SET status = 'paid', amount_paid = o.amount, updated_at = now()
FROM payments p WHERE p.order_id = o.id AND p.id = ANY (:ids::text[]);
INSERT INTO acquirer_answers (payment_id, operation, looked_up, answer, reference)
SELECT id, 'authorize', false, 'approved', acquirer_reference FROM payments WHERE id = ANY (:ids::text[]);
INSERT INTO ledger_entries (id, posting_id, merchant_id, kind, account, amount, currency, payment_id)
SELECT 'led_' || substr(id, 5, 5) || left(md5(account || id), 11), 'post_' || substr(id, 5, 5) || left(md5(id), 11), merchant_id, 'capture', account,
    sign * amount, currency, id
FROM payments CROSS JOIN (VALUES ('acquirer', 1), ('merchant', -1)) AS sides (account, sign)
WHERE id = ANY (:ids::text[]);
INSERT INTO events (id, merchant_id, type, order_id, payment_id, payload, deliveries)
SELECT 'evt_' || substr(id, 5, 5) || left(md5(kind || id), 11), merchant_id, kind, order_id,
    CASE WHEN kind <> 'order.paid' THEN id END,
    '{"id":"evt_","event":"' || kind || '","data":{"payment":"' || repeat('x', 700) || '"}}', 0
FROM payments CROSS JOIN (VALUES ('payment.success'), ('payment.captured'), ('order.paid')) AS kinds (kind)
WHERE id = ANY (:ids::text[]);
COMMIT;
