-- What POST /orders writes, in its one statement. (The id is made here, as pgbench can't.)
INSERT INTO orders (id, merchant_id, amount, currency, receipt, notes, capture, methods, callback_url, expires_at)
VALUES ('order_' || :moment::text || left(md5(random()::text || :client_id), 11), 'mer_TestMerchant0001', 10000, 'INR', 'receipt-1',
    '{"cart": "42"}', 'automatic', '{upi,card}', NULL, NULL)
RETURNING seq, amount_paid, status, created_at, updated_at;
