--- The words of a session. Each is a value that can be called; alone on a line it is called without arguments. What they
--- return is plain data, which also says how people see it (tidemill/repl/pretty.lua).

local host = require "tidemill.host"
local pretty = require "tidemill.repl.pretty"
local process = require "tidemill.repl.process"
local tap = require "tidemill.repl.tap"

local verbs = { all = {}, order = {} }

local Verb = { __call = function(self, ...) return self.fn(...) end, __tostring = function(self) return self.usage end }

-- `kind` is the kind of name that its first argument is (process.names), for completion.
local function verb(group, name, usage, help, fn, kind)
  verbs.all[name] = setmetatable({ name = name, group = group, usage = usage, help = help, fn = fn, kind = kind }, Verb)
  verbs.order[#verbs.order + 1] = name
end

function verbs.is_verb(value) return getmetatable(value) == Verb end

local function records(rows, columns) return setmetatable(rows, { columns = columns }) end

local function shown_as(value, display) return setmetatable(value, { display = display }) end

local function expect(value, kind, what)
  if type(value) ~= kind then error(("expected %s, got %s"):format(what, value == nil and "nothing" or "a " .. type(value)), 0) end
  return value
end

local function named(value, of) return expect(value, "string", "the name of " .. of) end

local function optional(value, kind, what) return value ~= nil and expect(value, kind, what) or nil end

local function age(ms) return type(ms) == "number" and (ms < 0 and "never" or pretty.duration(ms / 1000)) or "" end

-- ---- look ----

-- What is wrong, from the status and the connections: { what, state, why }.
local function problems_of(status, links)
  local found = {}
  local function add(what, state, why) found[#found + 1] = { what = what, state = state, why = why or "" } end
  if status.health.status ~= "healthy" then add("health", status.health.status, status.health.reason) end
  for _, link in ipairs(links) do
    if link.state ~= "up" then add("connection " .. link.name, link.state, ("last message %s ago"):format(age(link.last_message_ms))) end
  end
  for _, part in ipairs { "store", "production" } do
    local p = status[part]
    if p and not p.connected then add(part, "disconnected", p.last_error) end
  end
  for _, gatherer in ipairs(status.gatherers or {}) do
    if gatherer.state ~= "connected" then add("gatherer " .. gatherer.id, gatherer.state, gatherer.last_error) end
  end
  if status.journal and status.journal.stalled then add("journal", "stalled", "the disk takes no more: see the log") end
  for _, alert in ipairs(status.alerts or {}) do
    if alert.state == "firing" and alert.severity ~= "info" then add("alert " .. alert.name, alert.severity, alert.summary) end
  end
  for _, callback in ipairs(status.callbacks or {}) do
    if callback.disabled then add("handler " .. callback.name, "disabled", callback.last_error) end
  end
  for _, run in ipairs(status.recovery and status.recovery.recent or {}) do
    if run.state == "failed" or run.state == "timeout" then
      add(("routine %s %s"):format(run.routine, run.subject), run.state, run.error)
    end
  end
  if status.policy.last_result == "failure" then add("reload", "failed", status.policy.last_error) end
  return found
end

local function summary(status, style)
  local lines = {}
  local function line(name, text) lines[#lines + 1] = pretty.paint(style, "name", ("%-11s"):format(name)) .. text end
  local health = status.health.status
  line(status.id, ("%s, %s, generation %d of %s, up %s"):format(status.role, pretty.painted(style, health),
    status.policy.generation, pretty.safe(status.script), pretty.duration(status.process.uptime_s)))
  local feed, journal, store = status.feed, status.journal, status.store
  if feed then
    line("feed", ("%d of %d connections up, %d messages, %d rows, %d gaps, last message %s ago"):format(feed.links_up,
      feed.links, feed.frames, feed.rows, feed.gaps, age(feed.last_message_age_ms)))
    line("journal", ("%s of %s, last durable %s ago"):format(pretty.bytes(journal.disk_bytes),
      pretty.bytes(journal.disk_bytes_max), age(journal.last_durable_age_ms)))
    line("store", ("%s, %s behind"):format(store.connected and "connected" or pretty.painted(style, "disconnected"),
      pretty.bytes(store.journal_lag_bytes)))
  else
    local production = status.production
    line("production", ("%s, lag %s, lease %s"):format(
      production.connected and "connected" or pretty.painted(style, "disconnected"), age(production.lag_ms), status.lease.state))
    for _, g in ipairs(status.gatherers) do
      line("  " .. pretty.safe(g.id), ("%s, lag %s, %d polled, %d written"):format(pretty.painted(style, g.state), age(g.lag_ms),
        g.polled, g.written))
    end
  end
  local recovery = status.recovery
  if recovery then line("recovery", ("%d running, %d waiting"):format(#recovery.running, #recovery.waiting)) end
  line("memory", ("%s, script %s"):format(pretty.bytes(status.process.resident_bytes), pretty.bytes(status.script_bytes)))
  local wrong = problems_of(status, process.ask "links")
  line("wrong", #wrong == 0 and "nothing" or #wrong .. (#wrong == 1 and " thing" or " things") .. ": problems() lists them")
  return table.concat(lines, "\n")
end

verb("look", "status", "status()", "What the process is and does, on one page; all figures as a table.", function()
  return shown_as(process.ask "status", summary)
end)

verb("look", "problems", "problems()", "What is wrong at the moment, and why. Begin here.", function()
  return records(problems_of(process.ask "status", process.ask "links"), { "what", "state", "why" })
end)

verb("look", "links", 'links("orderbook_delta*")', "Connections of a gatherer: state, counters, how long silent.", function(pattern)
  local rows = {}
  local wanted = optional(pattern, "string", "a name or its beginning and *")
  for _, link in ipairs(process.ask "links") do
    local is_wanted = not wanted or link.name == wanted
      or wanted:sub(-1) == "*" and link.name:sub(1, #wanted - 1) == wanted:sub(1, -2)
    if is_wanted then
      link.silent = age(link.last_message_ms)
      rows[#rows + 1] = link
    end
  end
  return records(rows, { "id", "name", "state", "ups", "messages", "rows", "gaps", "silent" })
end, "link")

verb("look", "streams", "streams()",
  "Streams of the plan: their keys, and how long and in how much memory keys are remembered.",
  function()
    local rows = process.ask "streams"
    for _, stream in ipairs(rows) do
      local key = {}
      for _, column in ipairs(stream.columns) do
        if column.in_key then key[#key + 1] = column.name end
      end
      stream.key = table.concat(key, ", ")
      stream.window = stream.remembers and pretty.duration(stream.window_us / 1e6) or ""
      stream.memory = stream.remembers and pretty.bytes(stream.memory_bytes) or ""
    end
    return records(rows, { "name", "mode", "window", "memory", "key" })
  end)

verb("look", "fields", 'fields("trades")', "The columns of a stream.", function(name)
  local _, stream = process.fields(named(name, "a stream"))
  if not stream then error(("there is no stream %q"):format(name), 0) end
  return records(stream.columns, { "name", "type", "scale", "in_key" })
end, "stream")

verb("look", "metrics", 'metrics("seen")', "Series whose name contains the text, as name = value.", function(text)
  local values = {}
  for _, series in ipairs(process.ask("metrics " .. (optional(text, "string", "a part of a name") or ""))) do
    values[series[1]] = series[2]
  end
  return values
end, "metric")

verb("look", "metric", 'metric("ws_client_connected")', "The value of one series; the sum of those that have the name.", function(name)
  local sum
  named(name, "a metric")
  for _, series in ipairs(process.ask("metrics " .. name:match "^[^{]*")) do
    if series[1] == name or series[1]:match "^[^{]+" == name then sum = (sum or 0) + (tonumber(series[2]) or 0) end
  end
  return sum
end, "metric")

-- { labels of `stream` = value } of a metric.
local function by_stream(name)
  local values = {}
  for _, series in ipairs(process.ask("metrics " .. name)) do
    local stream = series[1]:match 'stream="([^"]*)"'
    if stream and series[1]:match "^[^{]+" == name then values[stream] = (values[stream] or 0) + (tonumber(series[2]) or 0) end
  end
  return values
end

verb("look", "seen", "seen()",
  "Seen-sets: windows, bounds and what they hold; per stream what came, and what was a duplicate.",
  function()
    local status, rows = process.ask "status", {}
    local names = status.feed and { "tidemill_rows_received_total", "tidemill_rows_duplicate_total" }
      or { "tidemill_polled_rows_total", "tidemill_duplicate_rows_total" }
    local came, duplicate = by_stream(names[1]), by_stream(names[2])
    for _, stream in ipairs(process.ask "streams") do
      if stream.remembers then
        rows[#rows + 1] = { stream = stream.name, window = pretty.duration(stream.window_us / 1e6),
                            memory = pretty.bytes(stream.memory_bytes), came = came[stream.name] or 0,
                            duplicate = duplicate[stream.name] or 0 }
      end
    end
    local keys, bytes = verbs.all.metric.fn "tidemill_seen_keys", verbs.all.metric.fn "tidemill_seen_bytes"
    rows[#rows + 1] = { stream = "all", used = pretty.bytes(bytes or 0), keys = keys }
    return records(rows, { "stream", "window", "memory", "used", "keys", "came", "duplicate" })
  end)

verb("look", "stores", "stores()", "The journal and the databases.", function()
  local status = process.ask "status"
  return { journal = status.journal, store = status.store, production = status.production, catch_up = status.catch_up,
           lease = status.lease }
end)

verb("look", "gatherers", "gatherers()", "A deduplicator's gatherers.", function()
  local rows = process.ask "status".gatherers or error("this is a gatherer itself: links() shows its connections", 0)
  return records(rows, { "id", "state", "lag_ms", "polled", "written", "duplicate", "quarantined", "last_error" })
end)

verb("look", "alerts", "alerts()", "Alerts and their states.", function()
  local rows = process.ask "status".alerts
  for _, alert in ipairs(rows) do alert.since = pretty.time(alert.since_ms * 1000) end
  return records(rows, { "name", "state", "severity", "value", "since", "summary" })
end)

verb("look", "routines", "routines()", "Recovery routines that are declared.", function()
  return records(process.call "routines", { "name", "on", "every_s", "priority", "timeout_s", "retries" })
end)

local function run_rows()
  local rows, recovery = {}, process.ask "status".recovery or { running = {}, waiting = {}, recent = {} }
  for _, list in ipairs { "recent", "waiting", "running" } do
    for _, run in ipairs(recovery[list]) do
      run.began = pretty.time(run.started)
      run.last_step = run.steps[#run.steps] and run.steps[#run.steps].text or ""
      rows[#rows + 1] = run
    end
  end
  return rows
end

verb("look", "runs", "runs()", "Runs of recovery routines: under way, waiting, and the last ones, with their last step.", function()
  return records(run_rows(), { "id", "routine", "subject", "state", "dry", "began", "last_step", "error" })
end)

verb("look", "steps", "steps(17)", "The steps of a run.", function(id)
  for _, run in ipairs(run_rows()) do
    if run.id == id or run.run_id == id then
      for _, step in ipairs(run.steps) do step.at = pretty.time(step.at) end
      return records(run.steps, { "at", "text" })
    end
  end
  error("there is no such run: runs() lists them with their ids", 0)
end)

verb("look", "markets", 'markets("KXBTC*", 20)', "Markets of the registry, by the beginning of their ticker.", function(pattern, n)
  pattern = optional(pattern, "string", 'a ticker, or its beginning and "*"') or "*"
  local rows = process.ask(("entries markets %s %d"):format(pattern, optional(n, "number", "how many") or 20))
  return records(rows, { "ticker", "status", "event_ticker", "open_time", "close_time", "volume", "open_interest" })
end, "market")

verb("look", "market", 'market("KX-1")', "One market: what the registry has of it, and which connection carries it.", function(ticker)
  expect(ticker, "string", "a ticker")
  local found = process.ask("entries markets " .. ticker)[1] or {}
  found.connections = {}
  for _, place in ipairs(process.call("find", { ticker = ticker })) do
    found.connections[place.subscription] = place.connection ~= host.null and place.connection or "none"
  end
  return found
end, "market")

verb("look", "registries", "registries()", "What is kept in memory of streams that replace rows.", function()
  return process.ask "registries"
end)

verb("look", "subscriptions", "subscriptions()", "Subscriptions: connections, markets, what the exchange has yet to be told.", function()
  return records(process.call "subscriptions", { "name", "connections", "confirmed", "markets", "to_be_told", "chunk" })
end)

verb("look", "gaps", 'gaps { ticker = "KX-1", n = 20 }',
  "The newest rows of the gap ledger, from the process's own database.",
  function(options)
    local rows = process.wait("gaps", optional(options, "table", "a table of options"))
    for _, row in ipairs(rows) do row.from, row.to = pretty.time(row.from_ts), pretty.time(row.to_ts) end
    return records(rows, { "gatherer", "stream", "ticker", "from", "to", "reason", "connection", "closed_by", "detail" })
  end)

verb("look", "cursors", "cursors()", "How far production is with each stream (deduplicator), or has acknowledged (gatherer).", function()
  local rows = process.wait "cursors"
  for _, row in ipairs(rows) do row.updated, row.at = pretty.time(row.updated_at), pretty.time(row.at) end
  return records(rows, rows[1] and rows[1].gatherer and { "gatherer", "epoch", "stream", "seq", "updated" }
    or { "stream", "stored", "production", "acknowledged", "at" })
end)

verb("look", "callbacks", "callbacks()", "Handlers and timers of the script, and how they fare.", function()
  return records(process.ask "status".callbacks, { "name", "kind", "runs", "failures", "disabled", "last_error" })
end)

verb("look", "sessions", "sessions()", "Who is connected to the control socket, and what they run.", function()
  local rows = process.ask "sessions"
  for _, session in ipairs(rows) do session.idle = age(session.idle_ms) end
  return records(rows, { "session", "uid", "pid", "role", "idle", "commands", "running" })
end)

-- ---- live ----

local SAMPLE, SAMPLE_MAX = 10, 1000

verb("live", "tap", 'tap "trades" { ticker = "KX*", n = 10, seconds = 60, fields = { "ticker", "price" } }',
  "Show records of a stream as they are taken. n = 0 goes on until it is cancelled; default 10.", function(name, options)
    local made = tap.of(name)
    return options and made(options) or made
  end, "stream")

verb("live", "sample", 'sample("trades", { n = 5, seconds = 10 })',
  "Wait for some records of a stream, as a list of tables.",
  function(name, options)
    local rows, given = {}, { seconds = 10 }
    for key, value in pairs(optional(options, "table", "a table of options") or {}) do given[key] = value end
    given.n = math.max(1, math.min(given.n or SAMPLE, SAMPLE_MAX))
    tap.of(name)(given):each(function(text)
      rows[#rows + 1] = host.json_decode(text)
    end)
    return rows
  end, "stream")

verb("live", "sleep", "sleep(1.5)", "Wait so many seconds.", function(seconds)
  host.sleep_us(expect(seconds, "number", "seconds") * 1e6)
end)

verb("live", "rate", 'rate("tidemill_frames_total", 2)',
  "How fast a counter goes up, per second, over so many seconds (1).",
  function(name, seconds)
    local before, at = verbs.all.metric.fn(name), host.monotonic_us()
    if not before then error(("there is no metric %q"):format(tostring(name)), 0) end
    host.sleep_us((optional(seconds, "number", "seconds") or 1) * 1e6)
    return (verbs.all.metric.fn(name) - before) / ((host.monotonic_us() - at) / 1e6)
  end, "metric")

-- ---- operate ----

local over = { done = true, failed = true, timeout = true, cancelled = true }

-- The run with this id; without one, the newest of the pair that is new, or waits.
local function find_run(id, routine, subject, after)
  local found
  for _, run in ipairs(run_rows()) do
    local is_new = run.routine == routine and run.subject == subject and (run.id > after or run.state == "waiting")
    if run.id == id then return run end
    if not id and is_new and (not found or run.id > found.id) then found = run end
  end
  return found
end

-- Print the steps of a run as they come, until it is over.
local function follow(routine, subject, after)
  local shown_us, last = 0, nil
  while true do
    local run = find_run(last and last.id, routine, subject, after)
    if last and not run then -- the one under way has taken it in, or others have pushed it out of the list
      run = find_run(nil, routine, subject, 0)
      if not run or run.id == last.id then return last end
    end
    last = run or last
    for _, step in ipairs(run and run.steps or {}) do
      if step.at > shown_us then
        shown_us = step.at
        host.print(pretty.time(step.at) .. "  " .. pretty.safe(step.text) .. "\n")
      end
    end
    if last and over[last.state] then
      return { id = last.id, routine = routine, subject = subject, state = last.state, dry = last.dry, error = last.error }
    end
    host.sleep_us(100e3)
  end
end

local function last_id()
  local last = 0
  for _, run in ipairs(run_rows()) do last = math.max(last, run.id) end
  return last
end

local function start(name, routine, subject, fields)
  named(routine, "a routine")
  expect(subject, "string", "its subject, such as the name of a connection")
  local given = { routine = routine, subject = subject, fields = optional(fields, "table", "fields of its event") }
  local after = last_id()
  local offered = process.call(name, given)
  if offered == "dropped" then error("too many runs wait already: this one was dropped", 0) end
  if offered == "coalesced" then host.print("one runs or waits already: this is the next\n") end
  return follow(routine, subject, after)
end

verb("operate", "dry", 'dry("resync", "orderbook_delta/1")',
  "What a recovery routine would do: its steps, changing nothing. Works like run.",
  function(...)
    return start("dry", ...)
  end, "routine")

verb("operate", "run", 'run("resync", "orderbook_delta/1", { from = ... })',
  "Start a recovery routine for a subject and show its steps to its end. Ctrl-C ends the showing; cancel() ends the run.", function(...)
    return start("run", ...)
  end, "routine")

verb("operate", "cancel", 'cancel("resync", "orderbook_delta/1")',
  "Ask runs of a routine to end, of one subject or all. How many there were.",
  function(routine, subject)
    return process.call("cancel", { routine = named(routine, "a routine"), subject = subject })
  end, "routine")

verb("operate", "reconnect", 'reconnect("trade/1")', "Drop a connection and let it come back.", function(name)
  return process.call("reconnect", { link = named(name, "a connection") })
end, "link")

verb("operate", "log_level", 'log_level("debug")', "Log debug, info, warn or error, until the next reload.", function(level)
  return process.ask("log-level " .. expect(level, "string", "a level"))
end, "level")

verb("operate", "reload", "reload()",
  "Read the script anew; what changed, or what is wrong with it.",
  function() return process.ask "reload" end)

verb("operate", "kill", "kill(3)",
  "End the command that another session runs. kill(3, true) ends the session.",
  function(session, close)
    return process.ask(("kill %d%s"):format(expect(session, "number", "the number of a session"), close and " close" or ""))
  end, "session")

-- ---- change ----

verb("change", "alert", 'alert("StoreNearlyFull", { when = "...", hold = "1m" })',
  "Other values for fields of an alert, until the next reload.",
  function(name, fields)
    return process.call("alert", { name = named(name, "an alert"), fields = expect(fields, "table", "fields of it") })
  end, "alert")

verb("change", "window", 'window("trades", "1h")',
  "How long keys of a stream are remembered, until the next reload.",
  function(stream, window)
    return process.call("window", { stream = named(stream, "a stream"), window = expect(window, "string", "a duration") })
  end, "stream")

verb("change", "memory", 'memory("trades", "64MiB")',
  "In how much memory keys of a stream are remembered, until the next reload.",
  function(stream, size)
    return process.call("memory", { stream = named(stream, "a stream"), memory = expect(size, "string", "a size") })
  end, "stream")

local function subscribe(name)
  return function(subscription, ticker)
    return process.call(name, { subscription = named(subscription, "a subscription"),
                                ticker = expect(ticker, "string", "a ticker") })
  end
end

verb("change", "subscribe", 'subscribe("orderbook_delta", "KX-1")',
  "Listen to a market, whatever the script's rule says, until the next reload.",
  subscribe "subscribe", "subscription")
verb("change", "unsubscribe", 'unsubscribe("orderbook_delta", "KX-1")',
  "Do not listen to a market, whatever the script's rule says, until the next reload.",
  subscribe "unsubscribe", "subscription")

local function changes_text(value, style)
  local lines = {}
  for _, change in ipairs(value) do
    local what = pretty.safe(change.what)
    local note = ("-- %s, %s"):format(pretty.time(change.at), pretty.safe(change.who))
    if change.lapsed then
      local text = ("-- %s  %s; holds no longer: the script was reloaded"):format(what, note)
      lines[#lines + 1] = pretty.paint(style, "dim", text)
    else
      lines[#lines + 1] = what .. "  " .. pretty.paint(style, "dim", note)
      if change.keep ~= "" then lines[#lines + 1] = pretty.paint(style, "dim", "--   to keep it: " .. pretty.safe(change.keep)) end
    end
  end
  return #lines > 0 and table.concat(lines, "\n") or "-- nothing was changed by hand"
end

verb("change", "changes", "changes()",
  "What was changed by hand, as a script that does it again: tidemill eval - < FILE. Comments say how to keep it.",
  function()
    local answer = process.ask "changes"
    for _, change in ipairs(answer.changes) do change.lapsed = change.generation < answer.generation end
    return shown_as(answer.changes, changes_text)
  end)

verb("change", "policy", 'policy [[ return tm.spreads() ]]',
  "Run Lua inside of the script's own VM, as one of its handlers: all that a script can do. The result comes as JSON.",
  function(text)
    return process.wait("policy", expect(text, "string", "Lua as text"))
  end)

verb("change", "sql", 'sql("SELECT count(*) FROM trades WHERE ticker = $1", "KX-1")',
  "One statement, read only, in the process's own database.",
  function(text, ...)
    return process.wait("sql", { text = expect(text, "string", "a statement"), values = host.json_array { ... } })
  end)

return verbs
