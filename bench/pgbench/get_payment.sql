-- What GET /payments/{id} reads, of the payments under :tag.
\set mine random(1, :count)
SELECT * FROM payments
WHERE id = 'pay_' || left(md5(:tag::text || :mine::int), 16) AND merchant_id = 'mer_TestMerchant0001';
