-- The stock deduplicator: gatherers' stores into production, settings from the environment.

local tm = require "tidemill"
require "kalshi.streams"
require "tidemill.runs" -- what the gatherers' recovery routines do

local production = tm.env("TIDEMILL_PRODUCTION", "dbname=kalshi")
local every = tm.env("TIDEMILL_ARCHIVE_EVERY", "hour") -- or "day"; observations such as snapshots go by the day
local archive = tm.env "TIDEMILL_ARCHIVE" -- "s3://bucket/prefix" or "file:///directory"; none: no archive

tm.deduplicator {
  id           = tm.env("TIDEMILL_ID", "dedup"),
  production   = production,
  gatherers    = tm.env("TIDEMILL_GATHERERS", "g1=dbname=kalshi_ts"),
  health       = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8080"),
  metrics      = tm.env("TIDEMILL_METRICS", "127.0.0.1:9090"),
  socket       = tm.env "TIDEMILL_SOCKET",
  log_level    = tm.env("TIDEMILL_LOG_LEVEL", "info"),
  log_format   = tm.env("TIDEMILL_LOG_FORMAT", "logfmt"),
  retain       = { -- the rest for ever
    orderbook_deltas = tm.env("TIDEMILL_RETAIN_DELTAS", "90d"),
    tickers          = tm.env("TIDEMILL_RETAIN_TICKERS", "30d"),
  },
  shards       = tm.env("TIDEMILL_SHARDS", "1"), -- deduplicators of one production share the work; the same for all of them
  archive      = archive and {
    to = archive, credentials = tm.env "TIDEMILL_ARCHIVE_CREDENTIALS",
    lag = tm.env("TIDEMILL_ARCHIVE_LAG", "1h"), wait = tm.env("TIDEMILL_ARCHIVE_WAIT", "6h"),
    schedule = { trades = every, orderbook_deltas = every, tickers = every, lifecycle = every },
    approve = tm.env("TIDEMILL_ARCHIVE_APPROVE", "yes") ~= "no",
  } or nil,
  standby_wait = tm.env("TIDEMILL_STANDBY_WAIT", "10s"),
  alert_state  = tm.env "TIDEMILL_ALERT_STATE",             -- a file, so that a restart does not tell everything anew
  accept_past  = tm.env("TIDEMILL_ACCEPT_PAST", "7d"), -- longer, to replay old recordings
}

if archive then require "recovery.archive" { production = tm.sql { conninfo = production } } end

require "alerts" ()

-- who is told of them, beside the log
local alertmanager, webhook = tm.env "TIDEMILL_ALERTMANAGER", tm.env "TIDEMILL_ALERT_WEBHOOK"
if alertmanager then tm.notify "alertmanager" { format = "alertmanager", url = alertmanager } end
if webhook then tm.notify "webhook" { url = webhook, alerts = "warning" } end
