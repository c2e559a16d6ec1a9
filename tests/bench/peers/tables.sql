-- What the peers store into: the columns of the project's own streams, with the key that they look rows up by.
CREATE TABLE orderbook_deltas (
    ticker text COLLATE "C" NOT NULL, exchange_ts timestamptz NOT NULL, side text COLLATE "C" NOT NULL, price int4 NOT NULL,
    delta int8 NOT NULL, occurrence int2 NOT NULL, received_at timestamptz NOT NULL, seq int8 PRIMARY KEY);
CREATE TABLE trades (
    trade_id uuid NOT NULL, exchange_ts timestamptz NOT NULL, received_at timestamptz NOT NULL, ticker text COLLATE "C" NOT NULL,
    price int4 NOT NULL, count int8 NOT NULL, taker_side text COLLATE "C", is_block_trade bool, seq int8 PRIMARY KEY);
CREATE TABLE tickers (
    ticker text COLLATE "C" NOT NULL, exchange_ts timestamptz NOT NULL, price int4, yes_bid int4, yes_ask int4, yes_bid_size int8,
    yes_ask_size int8, last_trade_size int8, volume int8, open_interest int8, dollar_volume int8, dollar_open_interest int8,
    received_at timestamptz NOT NULL, seq int8 PRIMARY KEY);
