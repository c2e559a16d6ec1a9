-- The deduplicator declares what its gatherers declare, by requiring the same module.

local tm = require "tidemill"
require "own_streams"

tm.deduplicator {
  id         = "dedup",
  gatherers  = tm.env("TIDEMILL_GATHERERS", "g1=dbname=kalshi_ts"),
  production = tm.env("TIDEMILL_PRODUCTION", "dbname=kalshi"),
  health     = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8081"),
  metrics    = tm.env("TIDEMILL_METRICS", "127.0.0.1:9091"),
}
