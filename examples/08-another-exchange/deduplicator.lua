-- A deduplicator for Coinbase Exchange's gatherers: it knows the streams by requiring the same adapter.

local tm = require "tidemill"
require "coinbase"

tm.deduplicator {
  id         = tm.env("TIDEMILL_ID", "dedup"),
  production = tm.env("TIDEMILL_PRODUCTION", "dbname=coinbase"),
  gatherers  = tm.env("TIDEMILL_GATHERERS", "g1=dbname=coinbase_ts"),
  health     = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8081"),
  metrics    = tm.env("TIDEMILL_METRICS", "127.0.0.1:9091"),
}
