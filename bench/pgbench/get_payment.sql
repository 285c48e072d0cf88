-- What GET /payments/{id} reads, of the payments under :tag.
\set mine random(1, :count)
SELECT * FROM payments
WHERE id = 'pay_' || :moment::text
    || left(translate(encode(decode(md5(:tag::text || :mine::int), 'hex'), 'base64'), '+/', 'xy'), 11)
    AND merchant_id = 'mer_TestMerchant0001';
