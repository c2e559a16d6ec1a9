-- Again and again for each gatherer: what came since, and the cursor, in one transaction.
WITH cursor AS (
    UPDATE cursors SET seq = seq + {rows} WHERE gatherer = '{name}' RETURNING seq
)
INSERT INTO orderbook_deltas ({columns})
SELECT {columns} FROM {name}.orderbook_deltas
WHERE epoch_no = 1 AND seq > (SELECT seq - {rows} FROM cursor) AND seq <= (SELECT seq FROM cursor)
ON CONFLICT DO NOTHING;
