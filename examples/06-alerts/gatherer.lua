-- Metrics, alerts and messages of one's own.

local tm     = require "tidemill"
local kalshi = require "kalshi"

tm.gatherer {
  id      = tm.env("TIDEMILL_ID", "g1"),
  store   = tm.env("TIDEMILL_STORE", "dbname=kalshi_ts"),
  data    = tm.env("TIDEMILL_DATA", "tidemill-data/alerts"),
  health  = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8080"),
  metrics = tm.env("TIDEMILL_METRICS", "127.0.0.1:9090"),
  socket  = tm.env("TIDEMILL_SOCKET", "tidemill.sock"),
}

local exchange = kalshi.exchange {
  ws_url   = tm.env "KALSHI_WS_URL",
  rest_url = tm.env "KALSHI_REST_URL",
  key_id   = tm.env "KALSHI_KEY_ID",
  key_file = tm.env "KALSHI_KEY_FILE",
}

exchange:subscribe "trade"
exchange:subscribe "ticker"

-- ---- a metric ----

local gaps = tm.counter { name = "feed_gaps_total", help = "Holes in the sequence numbers", labels = { "connection" } }

tm.on("gap", function(event) gaps:add(1, { connection = event.link.name }) end)

-- ---- alerts: conditions over this process's metrics, looked at every second ----

tm.alert "Disconnected" {
  when = "ws_client_connected == 0", hold = tm.env("DISCONNECTED_FOR", "30s"), every = "10m", severity = "critical",
  summary = "gatherer {id} has heard nothing for {hold}", runbook = "https://wiki.example/tidemill#disconnected",
}

tm.alert "FeedGaps" {
  when = "age(feed_gaps_total) < 60", -- one in the last minute
  summary = "gatherer {id}: messages are missing on {labels}",
}

tm.alert "StoreErrors" {
  when = 'rate(tidemill_store_errors_total, "5m") > 0.1', hold = "1m", clear = 'rate(tidemill_store_errors_total, "5m") == 0',
  summary = "gatherer {id}: {value} errors a second of its PostgreSQL",
}

-- ---- thresholds of the engine's own events ----

tm.watch { lag = "10s", lag_critical = "2m", disk_free = "5GiB" }

-- ---- who is told ----

tm.notify "ops" { url = tm.env("OPS_URL", "http://127.0.0.1:9099/messages"), min_interval = "1s" }

tm.on("alert", function(alert)
  tm.notify.send("ops", alert.summary, { alert = alert.name, state = alert.state, severity = alert.severity })
end)

tm.on("lag", function(event)
  tm.notify.send("ops", ("the store is %d s behind"):format(event.value), { level = event.level })
end)
