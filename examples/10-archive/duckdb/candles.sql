-- Open, high, low, close and volume for each market and five minutes (UTC). A condition on year, month, day or hour spares
-- the reading of other partitions.
SELECT ticker, make_timestamp(epoch_us(exchange_ts) // 300000000 * 300000000) AS begins,
       first(price ORDER BY exchange_ts, trade_id) AS open, max(price) AS high, min(price) AS low,
       last(price ORDER BY exchange_ts, trade_id) AS close, sum(count) AS volume
FROM read_parquet(getvariable('archive') || '/raw/trades/*/*/*/*/*.parquet', hive_partitioning = true)
GROUP BY ticker, begins
ORDER BY ticker, begins;
