-- One of several: start this on as many machines as you like, each under another TIDEMILL_ID.

local tm = require "tidemill"
require "kalshi.streams"

tm.deduplicator {
  id         = tm.env("TIDEMILL_ID", "dedup"),
  shards     = 6, -- of production: the same on all machines; about two for each process
  gatherers  = tm.env("TIDEMILL_GATHERERS",
    "g1=host=gatherer-1 dbname=kalshi_ts;g2=host=gatherer-2 dbname=kalshi_ts;g3=host=gatherer-3 dbname=kalshi_ts"),
  production = tm.env("TIDEMILL_PRODUCTION", "host=prod-a,prod-b dbname=kalshi target_session_attrs=read-write"),
  retain     = { orderbook_deltas = "90d", tickers = "30d" },
  compress   = { orderbook_deltas = "8d", tickers = "8d" }, -- with TimescaleDB; longer than the longest outage to catch up from
  health     = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8081"),
  metrics    = tm.env("TIDEMILL_METRICS", "127.0.0.1:9091"),
}
