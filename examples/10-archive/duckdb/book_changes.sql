-- What was added to and taken off each price level of the books, an hour. Every delta is a row, equal ones too.
SELECT year, month, day, hour, ticker, side, price, sum(greatest(delta, 0)) AS added, sum(least(delta, 0)) AS taken,
       count(*) AS changes
FROM read_parquet(getvariable('archive') || '/raw/orderbook_deltas/*/*/*/*/*.parquet', hive_partitioning = true)
GROUP BY ALL
ORDER BY ALL;
