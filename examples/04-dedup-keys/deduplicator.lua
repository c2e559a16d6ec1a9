-- Merges by the keys that its gatherers have: see keys.lua.

local tm = require "tidemill"
require "keys"

tm.deduplicator {
  id         = "dedup",
  gatherers  = tm.env("TIDEMILL_GATHERERS", "g1=dbname=kalshi_ts"),
  production = tm.env("TIDEMILL_PRODUCTION", "dbname=kalshi"),
  health     = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8081"),
  metrics    = tm.env("TIDEMILL_METRICS", "127.0.0.1:9091"),
  socket     = tm.env("TIDEMILL_SOCKET", "deduplicator.sock"),
}
