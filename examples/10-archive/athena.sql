-- Tables over the archive for Athena (engine 3), one statement each. Partition projection: partitions are worked out from the
-- query's conditions, so new hours are there at once; a query without a condition on year, month or day looks everywhere.
-- Columns are found by name. Columns of type uuid (trade_id, epoch) are left out: Athena's Hive tables have no type for them.

CREATE EXTERNAL TABLE trades (
  `exchange_ts` timestamp,
  `received_at` timestamp,
  `ticker` string,
  `price` decimal(10, 6),
  `count` decimal(18, 2),
  `taker_side` string,
  `is_block_trade` boolean
)
PARTITIONED BY (`year` int, `month` int, `day` int, `hour` int)
STORED AS PARQUET
LOCATION 's3://tide-archive/kalshi/raw/trades/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.year.type' = 'integer', 'projection.year.range' = '2026,2045',
  'projection.month.type' = 'integer', 'projection.month.range' = '1,12', 'projection.month.digits' = '2',
  'projection.day.type' = 'integer', 'projection.day.range' = '1,31', 'projection.day.digits' = '2',
  'projection.hour.type' = 'integer', 'projection.hour.range' = '0,23', 'projection.hour.digits' = '2',
  'storage.location.template' =
    's3://tide-archive/kalshi/raw/trades/year=${year}/month=${month}/day=${day}/hour=${hour}/'
);

CREATE EXTERNAL TABLE orderbook_deltas (
  `ticker` string,
  `exchange_ts` timestamp,
  `side` string,
  `price` decimal(10, 6),
  `delta` decimal(18, 2),
  `occurrence` smallint,
  `received_at` timestamp
)
PARTITIONED BY (`year` int, `month` int, `day` int, `hour` int)
STORED AS PARQUET
LOCATION 's3://tide-archive/kalshi/raw/orderbook_deltas/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.year.type' = 'integer', 'projection.year.range' = '2026,2045',
  'projection.month.type' = 'integer', 'projection.month.range' = '1,12', 'projection.month.digits' = '2',
  'projection.day.type' = 'integer', 'projection.day.range' = '1,31', 'projection.day.digits' = '2',
  'projection.hour.type' = 'integer', 'projection.hour.range' = '0,23', 'projection.hour.digits' = '2',
  'storage.location.template' =
    's3://tide-archive/kalshi/raw/orderbook_deltas/year=${year}/month=${month}/day=${day}/hour=${hour}/'
);

CREATE EXTERNAL TABLE tickers (
  `ticker` string,
  `exchange_ts` timestamp,
  `price` decimal(10, 6),
  `yes_bid` decimal(10, 6),
  `yes_ask` decimal(10, 6),
  `yes_bid_size` decimal(18, 2),
  `yes_ask_size` decimal(18, 2),
  `last_trade_size` decimal(18, 2),
  `volume` decimal(18, 2),
  `open_interest` decimal(18, 2),
  `dollar_volume` bigint,
  `dollar_open_interest` bigint,
  `received_at` timestamp
)
PARTITIONED BY (`year` int, `month` int, `day` int, `hour` int)
STORED AS PARQUET
LOCATION 's3://tide-archive/kalshi/raw/tickers/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.year.type' = 'integer', 'projection.year.range' = '2026,2045',
  'projection.month.type' = 'integer', 'projection.month.range' = '1,12', 'projection.month.digits' = '2',
  'projection.day.type' = 'integer', 'projection.day.range' = '1,31', 'projection.day.digits' = '2',
  'projection.hour.type' = 'integer', 'projection.hour.range' = '0,23', 'projection.hour.digits' = '2',
  'storage.location.template' =
    's3://tide-archive/kalshi/raw/tickers/year=${year}/month=${month}/day=${day}/hour=${hour}/'
);

CREATE EXTERNAL TABLE orderbook_snapshots (
  `ticker` string,
  `snapshot_ts` timestamp,
  `source` string,
  `yes_levels` string,
  `no_levels` string,
  `best_bid` decimal(10, 6),
  `best_ask` decimal(10, 6),
  `received_at` timestamp,
  `gatherer` string,
  `seq` bigint
)
PARTITIONED BY (`year` int, `month` int, `day` int)
STORED AS PARQUET
LOCATION 's3://tide-archive/kalshi/raw/orderbook_snapshots/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.year.type' = 'integer', 'projection.year.range' = '2026,2045',
  'projection.month.type' = 'integer', 'projection.month.range' = '1,12', 'projection.month.digits' = '2',
  'projection.day.type' = 'integer', 'projection.day.range' = '1,31', 'projection.day.digits' = '2',
  'storage.location.template' =
    's3://tide-archive/kalshi/raw/orderbook_snapshots/year=${year}/month=${month}/day=${day}/'
);

-- For example: dollars an hour of one day.
-- SELECT hour, sum(price * "count") AS dollars FROM trades WHERE year = 2026 AND month = 11 AND day = 26 GROUP BY hour;
