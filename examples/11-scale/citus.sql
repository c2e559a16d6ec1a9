-- Distribute production's tables with Citus: after `tidemill migrate`, before the first row, once, on the coordinator.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RAISE EXCEPTION 'expected the extension citus in this database: CREATE EXTENSION citus';
    END IF;
    IF EXISTS (SELECT FROM orderbook_deltas) OR EXISTS (SELECT FROM tickers) OR EXISTS (SELECT FROM trades) THEN
        RAISE EXCEPTION 'expected empty tables: distribute them before the first row';
    END IF;
END
$$;

-- The days that are there and those that are made later are distributed with their parent; both tables' rows of a market
-- are on one node.
SELECT create_distributed_table('orderbook_deltas', 'ticker');
SELECT create_distributed_table('tickers', 'ticker', colocate_with => 'orderbook_deltas');

-- Its unique key is the id alone, so it cannot be by ticker.
SELECT create_distributed_table('trades', 'trade_id', colocate_with => 'none');
