-- Trades, contracts and dollars an hour.
SELECT year, month, day, hour, count(*) AS trades, sum(count) AS contracts, sum(price * count) AS dollars
FROM read_parquet(getvariable('archive') || '/raw/trades/*/*/*/*/*.parquet', hive_partitioning = true)
GROUP BY ALL
ORDER BY ALL;
