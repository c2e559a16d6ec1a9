-- Each stock alert is made to fire by what it is about, is told, and resolves when that is over; what is just below its
-- threshold does not raise it. The thresholds of the owner's tables stand here once more, by hand.

local t = require "tidemill.test"

-- What holds for a while: metrics that are set, and counters that go up by so much each second.
local function live(seconds, state)
  for _ = 1, seconds do
    for _, m in ipairs(state) do
      local name, value, labels = m[1], m[2], m.labels
      if m.per_second then
        m.now = (m.now or 100) + m.per_second
        value = m.now
      end
      t.measure(name, value, labels)
    end
    t.advance "1s"
  end
end

local function gauges(...)
  local list = {}
  for i, pair in ipairs { ... } do list[i] = { pair[1], pair[2], labels = pair[3] } end
  return list
end

local function counter(name, per_second, labels)
  return { { name, per_second = per_second, labels = labels } }
end

local function of(...) -- the health of three gatherers
  local list = { { "dedup_standby", 0 } }
  for i, health in ipairs { ... } do
    list[#list + 1] = { "dedup_gatherer_health", health, labels = { gatherer = "g" .. i } }
  end
  return list
end

local function lag(seconds) return gauges({ "dedup_sync_lag_seconds", seconds }) end

local function overdue(seconds)
  return gauges({ "dedup_standby", 0 }, { "export_lag_seconds", seconds, { stream = "trades" } })
end

-- Rows a second of the deltas, as the gatherers brought them, and as production took them.
local function copies(polled, written)
  return {
    { "tidemill_polled_rows_total", per_second = polled, labels = { stream = "orderbook_deltas" } },
    { "tidemill_written_rows_total", per_second = written, labels = { stream = "orderbook_deltas" } },
  }
end

-- name, severity, seconds until it fires (hold and a second; or: not before, and by then), what is good still, what is bad,
-- what is good again
local GATHERER = {
  { "AllWebSocketsDisconnected", "critical", 31, gauges { "ws_client_connected", 1 }, gauges { "ws_client_connected", 0 } },
  { "WebSocketDown", "warning", 61,
    gauges { "ws_connection_up", 1, { connection = "trade/1" } },
    gauges { "ws_connection_up", 0, { connection = "trade/1" } } },
  { "FeedSilent", "warning", 1, gauges({ "ws_client_connected", 5 }, { "tidemill_last_message_age_seconds", 119 }),
    gauges({ "ws_client_connected", 5 }, { "tidemill_last_message_age_seconds", 121 }),
    gauges { "tidemill_last_message_age_seconds", 0 } },
  { "RestErrors", "warning", 62, counter("market_registry_rest_errors_total", 0, { endpoint = "/markets" }),
    counter("market_registry_rest_errors_total", 1, { endpoint = "/markets" }) },
  { "FeedGaps", "warning", 2, counter("tidemill_gaps_total", 0), counter("tidemill_gaps_total", 1) },
  -- five a minute are too many, one in ten minutes is not; the other sort is there too
  { "UnknownFrames", "warning", { 60, 90 },
    { { "tidemill_frames_unknown_total", per_second = 1 / 600 }, { "tidemill_frames_malformed_total", per_second = 0 } },
    { { "tidemill_frames_unknown_total", per_second = 5 / 60 }, { "tidemill_frames_malformed_total", per_second = 0 } } },
  { "EventsDropped", "warning", 2, counter("tidemill_events_dropped_total", 0), counter("tidemill_events_dropped_total", 1) },
  { "NotDurable", "critical", 3, gauges { "tidemill_last_durable_age_seconds", 4.9 },
    gauges { "tidemill_last_durable_age_seconds", 5.1 } },
  { "RowsDiscarded", "critical", 2, counter("tidemill_rows_discarded_total", 0, { stream = "trades" }),
    counter("tidemill_rows_discarded_total", 9, { stream = "trades" }) },
  { "JournalFilling", "warning", 11, gauges({ "tidemill_journal_bytes", 79 }, { "tidemill_journal_bytes_max", 100 }),
    gauges({ "tidemill_journal_bytes", 81 }, { "tidemill_journal_bytes_max", 100 }), gauges { "tidemill_journal_bytes", 69 } },
  { "DiskHoursLow", "warning", 301, gauges { "tidemill_disk_left_seconds", 25 * 3600 },
    gauges { "tidemill_disk_left_seconds", 23 * 3600 }, gauges { "tidemill_disk_left_seconds", math.huge } },
  { "DiskHoursCritical", "critical", 61, gauges { "tidemill_disk_left_seconds", 4.5 * 3600 },
    gauges { "tidemill_disk_left_seconds", 3 * 3600 }, gauges { "tidemill_disk_left_seconds", 7 * 3600 } },
  { "DiskNearlyFull", "critical", 11, gauges { "tidemill_disk_free_bytes", 2.1 * 2 ^ 30 },
    gauges { "tidemill_disk_free_bytes", 1.9 * 2 ^ 30 }, gauges { "tidemill_disk_free_bytes", 4 * 2 ^ 30 } },
  { "StoreDown", "warning", 31, gauges { "tidemill_store_connected", 1 }, gauges { "tidemill_store_connected", 0 } },
  { "StoreErrors", "warning", 122, counter("tidemill_store_errors_total", 0), counter("tidemill_store_errors_total", 1) },
  { "StoreRowsQuarantined", "warning", 1, gauges { "tidemill_store_quarantine_rows", 0 },
    gauges { "tidemill_store_quarantine_rows", 1 } },
  { "StoreNearlyFull", "warning", 11, gauges({ "tidemill_store_bytes", 79 }, { "tidemill_store_bytes_max", 100 }),
    gauges({ "tidemill_store_bytes", 81 }, { "tidemill_store_bytes_max", 100 }) },
  { "RowsExpired", "critical", 1, gauges { "tidemill_store_expired_rows_total", 0, { stream = "tickers" } },
    gauges { "tidemill_store_expired_rows_total", 5, { stream = "tickers" } } },
  { "ExportsFail", "critical", 2, counter("export_errors_total", 0, { type = "archive" }),
    counter("export_errors_total", 1, { type = "archive" }) },
  { "NobodyFetches", "warning", 11, gauges { "tidemill_acknowledged_age_seconds", 59 },
    gauges { "tidemill_acknowledged_age_seconds", 61 }, gauges { "tidemill_acknowledged_age_seconds", 2 } },
  { "RecoveryFailed", "warning", 2, counter("tidemill_recovery_runs_total", 0, { routine = "backfill", result = "failed" }),
    counter("tidemill_recovery_runs_total", 1, { routine = "backfill", result = "failed" }) },
}

local DEDUPLICATOR = {
  { "GathererDown", "warning", 6, of(1, 1, 1), of(1, 0, 1) },
  { "OneGathererLeft", "critical", 6, of(1, 0, 1), of(0, 0, 1) },
  { "NoGatherer", "critical", 6, of(0, 0, 1), of(0, 0, 0) },
  { "GathererLagging", "warning", 31, gauges { "dedup_gatherer_lag_seconds", 59, { gatherer = "g2" } },
    gauges { "dedup_gatherer_lag_seconds", 61, { gatherer = "g2" } }, gauges { "dedup_gatherer_lag_seconds", 1, { gatherer = "g2" } } },
  { "TooFewCopies", "warning", { 400, 500 }, copies(297, 100), copies(200, 100) },
  { "HistoryRefused", "critical", 2, counter("tidemill_poll_holes_total", 0), counter("tidemill_poll_holes_total", 1) },
  { "RowsLost", "critical", 2, counter("dedup_absent_rows_total", 9, { reason = "released" }),
    counter("dedup_absent_rows_total", 9, { reason = "lost" }), counter("dedup_absent_rows_total", 0, { reason = "lost" }) },
  { "AmbiguousCounts", "info", 2, counter("tidemill_ambiguous_keys_total", 0), counter("tidemill_ambiguous_keys_total", 1) },
  { "ExportLagging", "warning", 301, overdue(7200), overdue(7201), overdue(3599) },
  { "ExportsFail", "warning", 602, counter("export_errors_total", 0, { type = "archive" }),
    counter("export_errors_total", 1, { type = "archive" }) },
  { "ArchiveDamaged", "critical", 2, counter("export_errors_total", 0, { type = "damaged" }),
    counter("export_errors_total", 1, { type = "damaged" }) },
  { "SyncLagHigh", "warning", 11, lag(30), lag(31), lag(14) },
  { "SyncLagCritical", "critical", 11, lag(300), lag(301), lag(149) },
  { "RdsConnectionErrors", "warning", 62, counter("rds_connection_errors_total", 0), counter("rds_connection_errors_total", 1) },
  { "RdsDown", "critical", 121, gauges { "dedup_rds_connected", 1 }, gauges { "dedup_rds_connected", 0 } },
  { "NobodyWrites", "critical", 31,
    gauges({ "dedup_standby", 1 }, { "dedup_lease_held", 0 }, { "dedup_rds_connected", 1 }),
    gauges({ "dedup_standby", 0 }, { "dedup_lease_held", 0 }, { "dedup_rds_connected", 1 }) },
  { "ShardNotMerged", "critical", 31, gauges({ "dedup_shards_free", 0 }, { "dedup_rds_connected", 1 }),
    gauges({ "dedup_shards_free", 1 }, { "dedup_rds_connected", 1 }) },
  { "LeaseTakenOver", "warning", 2, counter("dedup_lease_takeovers_total", 0), counter("dedup_lease_takeovers_total", 1) },
  { "RowsQuarantined", "warning", 2, counter("tidemill_quarantined_rows_total", 0, { stream = "trades" }),
    counter("tidemill_quarantined_rows_total", 1, { stream = "trades" }) },
}

local EVERYWHERE = {
  { "PolicyStuck", "critical", 2, counter("tidemill_engine_alerts_total", 0, { alert = "PolicyStuck" }),
    counter("tidemill_engine_alerts_total", 1, { alert = "PolicyStuck" }) },
  { "ClockStepped", "warning", 2, counter("tidemill_clock_steps_total", 0), counter("tidemill_clock_steps_total", 1) },
  { "ScriptErrors", "warning", 2, counter("tidemill_script_errors_total", 0), counter("tidemill_script_errors_total", 1) },
  { "CallbacksDisabled", "warning", 1, gauges { "tidemill_callbacks_disabled", 0 }, gauges { "tidemill_callbacks_disabled", 1 } },
  { "ReloadFailed", "warning", 1, gauges { "tidemill_reload_last_result", 1 }, gauges { "tidemill_reload_last_result", 0 } },
  { "NotificationsLost", "warning", 2, counter("tidemill_notify_dropped_total", 0, { target = "pager" }),
    counter("tidemill_notify_dropped_total", 1, { target = "pager" }) },
  { "SeriesDropped", "warning", 2, counter("tidemill_metrics_dropped_series_total", 0),
    counter("tidemill_metrics_dropped_series_total", 1) },
  { "LogLost", "warning", 2, counter("tidemill_log_lost_total", 0), counter("tidemill_log_lost_total", 1) },
}

-- ---- one alert through its life ----

local function state_of(name)
  local alert = t.alert(name)
  return alert and alert.state or "not declared"
end

local function told(posts, name, state)
  for _, post in ipairs(posts) do
    if post.fields.alert == name and post.fields.state == state then return post end
  end
end

-- Counters of what is good again stand where they were.
local function again(good, bad)
  for i, m in ipairs(good) do
    if m.per_second and bad[i] and bad[i].now then m.now = bad[i].now end
  end
  return good
end

local function life(script, row)
  local name, severity, seconds, good, bad, over = row[1], row[2], row[3], row[4], row[5], row[6] or row[4]
  local posts = {}
  t.load(script)
  t.http(function(request)
    posts[#posts + 1] = t.json.decode(request.body)
    return { status = 204 }
  end)
  t.start()
  live(400, good)
  t.equal(state_of(name), "inactive", "what is good")
  again(bad, good)
  local early, late
  if type(seconds) == "table" then early, late = seconds[1], seconds[2] else early, late = seconds - 2, seconds + 1 end
  if early > 0 then
    live(early, bad)
    t.truthy(state_of(name) == "inactive" or state_of(name) == "pending", name .. " fires before its time")
  end
  live(late - math.max(early, 0), bad)
  t.equal(state_of(name), "firing", "what is bad")
  t.equal(t.alert(name).severity, severity)
  t.truthy(told(posts, name, "firing"), name .. " was not told")
  t.falsy(t.alert(name).summary:find("[{}]"), "a placeholder is left: " .. t.alert(name).summary)
  live(1200, again(over, bad))
  t.equal(state_of(name), "resolved", "what is over")
  t.truthy(told(posts, name, "resolved"), name .. ": its end was not told")
end

local function lives(script, list)
  for _, row in ipairs(list) do
    t.test(script .. ": " .. row[1], function() life(script, row) end)
  end
end

lives("gatherer.lua", GATHERER)
lives("gatherer.lua", EVERYWHERE)
lives("deduplicator.lua", DEDUPLICATOR)

t.test("each stock alert is tried here, and the stock scripts have them all", function()
  for script, list in pairs { ["gatherer"] = GATHERER, ["deduplicator"] = DEDUPLICATOR } do
    local tried = { Watchdog = true }
    for _, row in ipairs(list) do tried[row[1]] = true end
    for _, row in ipairs(EVERYWHERE) do tried[row[1]] = true end
    local env = { TIDEMILL_GATHERERS = "g1=dbname=a;g2=dbname=b;g3=dbname=c",
                  KALSHI_WS_URL = "ws://127.0.0.1/ws", KALSHI_REST_URL = "http://127.0.0.1" }
    for _, path in ipairs { script .. ".lua", "../../lua/kalshi/" .. script .. ".lua" } do
      local policy, known = t.load(path, { env = env }), {}
      t.equal(policy.problems, {})
      for name in pairs(policy.alerts) do known[name] = true end
      t.equal(known, tried, path)
    end
  end
end)

t.test("the watchdog fires at once and is told each minute", function()
  local posts = {}
  t.load "deduplicator.lua"
  t.http(function(request)
    posts[#posts + 1] = t.json.decode(request.body)
    return {}
  end)
  t.start()
  t.measure("dedup_standby", 0)
  t.advance "5m"
  t.equal(state_of "Watchdog", "firing")
  local at = {}
  for i, post in ipairs(posts) do at[i] = (post.at_us - posts[1].at_us) / 1e6 end
  t.equal(at, { 0, 60, 120, 180, 240, 300 })
end)

-- ---- who stands by does nothing, and that is no fault ----

t.test("a deduplicator that stands by is quiet", function()
  t.load "deduplicator.lua"
  t.http(function() return {} end)
  t.start()
  live(200, gauges({ "dedup_standby", 1 }, { "dedup_lease_held", 0 }, { "dedup_rds_connected", 1 },
    { "dedup_gatherer_health", 0, { gatherer = "g1" } }, { "dedup_gatherer_health", 0, { gatherer = "g2" } }))
  for _, name in ipairs { "GathererDown", "NoGatherer", "NobodyWrites" } do t.equal(state_of(name), "inactive", name) end
end)

-- ---- settings ----

t.test("thresholds can be others, and alerts be left out", function()
  local policy = t.load "different.lua"
  t.equal(policy.problems, {})
  t.equal(policy.alerts.LeaseTakenOver, nil)
  t.equal(policy.alerts.SyncLagCritical.hold_us, 60e6)
  t.matches(policy.alerts.GathererDown.when, "^sum%(dedup_gatherer_health%) < 5 ")
  t.equal(policy.alerts.SyncLagHigh.clear, nil) -- it went with the condition that it belonged to
end)

t.test("a name that no alert has is told", function()
  t.matches(t.load("misspelt_target.lua").problems[1], 'misspelt_target.lua:5: tm.notify ops: alerts: there is no alert "RdsDwon", '
    .. 'did you mean "RdsDown"')
  t.matches(t.load("misspelt.lua").problems[1], 'SyncLagHihg.*did you mean "SyncLagHigh"')
end)
