-- What POST /payments does: the order locked, no live payment of it, payment and event written, the order marked.
-- Of the orders under :tag each client takes its own. Nobody is to settle these payments: they are due tomorrow.
\set number :number + 1
\set mine :number * :clients + :client_id + 1
BEGIN;
SELECT now();
SELECT id AS order_id, merchant_id, amount, currency, capture, status, methods, expires_at FROM orders
WHERE id = 'order_' || :moment::text
    || left(translate(encode(decode(md5(:tag::text || :mine::int), 'hex'), 'base64'), '+/', 'xy'), 11)
    AND merchant_id = 'mer_TestMerchant0001'
FOR NO KEY UPDATE
\gset
SELECT status FROM payments WHERE order_id = :order_id AND status IN ('pending', 'requires_action', 'success');
UPDATE orders SET status = 'attempted', updated_at = now() WHERE id = :order_id;
INSERT INTO payments (id, merchant_id, order_id, amount, currency, capture, method, flow, vpa, status, captured,
    amount_captured, amount_refunded, fee, tries, operation, due_at, created_at, updated_at)
VALUES ('pay_' || substr(:order_id, 7, 5) || left(md5(:order_id), 11), :merchant_id, :order_id, :amount, :currency, :capture, 'upi', 'collect',
    'success@upi', 'pending', false, 0, 0, 0, 0, 'authorize', now() + interval '1 day', now(), now())
RETURNING seq;
SELECT id FROM webhook_endpoints WHERE merchant_id = :merchant_id AND enabled ORDER BY seq;
INSERT INTO events (id, merchant_id, type, order_id, payment_id, payload, deliveries, created_at)
VALUES ('evt_' || substr(:order_id, 7, 5) || left(md5('created' || :order_id), 11), :merchant_id, 'payment.created', :order_id,
    'pay_' || substr(:order_id, 7, 5) || left(md5(:order_id), 11),
    '{"id":"evt_","event":"payment.created","data":{"payment":"' || repeat('x', 700) || '"}}', 0, now())
RETURNING seq;
COMMIT;
