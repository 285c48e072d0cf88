-- What GET /payments?limit=25 reads: the ids of the first page and one more, then its rows.
SELECT * FROM payments WHERE id IN (
    SELECT id FROM payments WHERE merchant_id = 'mer_TestMerchant0001'
    ORDER BY created_at DESC, seq DESC LIMIT 26)
ORDER BY created_at DESC, seq DESC;
