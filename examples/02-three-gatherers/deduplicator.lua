-- Reads the three gatherers by cursor and writes each record once to production.

local tm = require "tidemill"
require "kalshi.streams"

tm.deduplicator {
  id         = "dedup",
  gatherers  = tm.env("TIDEMILL_GATHERERS",
    "g1=host=gatherer-1 dbname=kalshi_ts;g2=host=gatherer-2 dbname=kalshi_ts;g3=host=gatherer-3 dbname=kalshi_ts"),
  production = tm.env("TIDEMILL_PRODUCTION", "host=prod-a,prod-b dbname=kalshi target_session_attrs=read-write"),
  health     = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8081"),
  metrics    = tm.env("TIDEMILL_METRICS", "127.0.0.1:9091"),
}
