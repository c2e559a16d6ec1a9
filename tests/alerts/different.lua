-- Stock alerts that were set.
local tm = require "tidemill"

tm.deduplicator { id = "dedup", production = "dbname=kalshi", gatherers = "g1=dbname=a" }
require "alerts" {
  gatherers = 5, LeaseTakenOver = false,
  SyncLagHigh = { when = "dedup_sync_lag_seconds > 60" }, SyncLagCritical = { hold = "1m" },
}
