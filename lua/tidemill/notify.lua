--- Telling people: messages to a URL, queued, bounded, repeated until they are taken; nothing waits for them.

local host = require "tidemill.host"
local check = require "tidemill.check"
require "tidemill.secret"
local declare = require "tidemill.declare"
local http = require "tidemill.http"
local metric = require "tidemill.metric"
local problems = require "tidemill.problems"
local shape = require "tidemill.shape"
local state = require "tidemill.state"

local notify = {}

local queue_max = 100    -- messages of a target; the oldest goes when it is full
local tries_max = 10     -- about 8 minutes
local text_max = 4096    -- bytes
local fields_max = 32
local targets_max = 20
local refresh_us = 60e6  -- Alertmanager is told so often what fires

local targets = {}       -- name -> definition
local target_count = 0
local queues = state.internal "tidemill.notify" -- name -> list of { text, fields, at_us }: survives a reload
local working = {}       -- name -> true: its task runs

local sent = metric.counter { name = "tidemill_notify_sent_total", help = "Notifications that were taken.",
                              labels = { "target" }, max = targets_max }
local dropped = metric.counter { name = "tidemill_notify_dropped_total", help = "Notifications that were given up.",
                                 labels = { "target" }, max = targets_max }

local severities = { info = 1, warning = 2, critical = 3 }

-- Which alerts a target is told of: a severity and all above it, or names.
local function chosen(value)
  if severities[value] then return { severity = severities[value] } end
  local list, expected = check.list(check.id, "names of alerts")(value)
  if not list then return nil, 'expected "info", "warning", "critical" or a list of names: ' .. expected end
  local names = {}
  for _, name in ipairs(list) do names[name] = true end
  return { names = names }
end

local target_fields = {
  url = check.field(check.secret_or_text),
  key = check.field(check.secret_or_text),
  alerts = check.field(chosen),
  headers = check.field(function(v) return type(v) == "table" and v or nil, "expected a table of headers, got a " .. type(v) end),
  format = check.field(check.one_of { "json", "text", "slack", "pagerduty", "alertmanager" }, { default = "json" }),
  min_interval = check.field(check.duration, { to = "min_interval_us", default = 1e6 }),
  timeout = check.field(check.duration, { to = "timeout_us", default = 10e6 }),
}

local function complete(at, path, normal)
  local is_pagerduty = normal.format == "pagerduty"
  if is_pagerduty then normal.url = normal.url or shape.pagerduty_url end
  if not normal.url then problems.add(at, path, 'missing key "url"') end
  if is_pagerduty and not normal.key then problems.add(at, path, "pagerduty: expected key, the routing key of the service") end
  if normal.key and not is_pagerduty then problems.add(at, path, "key: only pagerduty takes one") end
  if normal.format == "alertmanager" then normal.alerts = normal.alerts or { severity = severities.info } end
end

local function declare_target(at, name, definition)
  local path = "tm.notify " .. tostring(name)
  local valid, expected = check.id(name)
  if not valid then return problems.add(at, "tm.notify", expected) end
  if targets[name] then return problems.add(at, path, "is declared already at " .. targets[name].at) end
  local normal = check.closed(at, path, definition, target_fields)
  normal.at, normal.name = at, name
  complete(at, path, normal)
  targets[name] = normal
  target_count = target_count + 1
  if target_count > targets_max then problems.add(at, path, ("expected at most %d targets"):format(targets_max)) end
end

-- Alerts are all declared at the end: names that none has are misspelt.
declare.adjust[#declare.adjust + 1] = function()
  local known, is_known = {}, {}
  for i, alert in ipairs(declare.declared.alerts) do known[i], is_known[alert.name] = alert.name, true end
  for name, target in pairs(targets) do
    for alert in pairs(target.alerts and target.alerts.names or {}) do
      if not is_known[alert] then
        problems.add(target.at, "tm.notify " .. name, ('alerts: there is no alert "%s"'):format(alert) .. problems.hint(alert, known))
      end
    end
  end
end

-- ---- sending ----

local function post(target, message)
  local options = shape[target.format](target, message)
  options.method, options.url, options.retries = "POST", target.url, 0
  options.timeout, options.max_body = ("%dus"):format(target.timeout_us), "64KiB"
  local headers = options.headers or {}
  for name, value in pairs(target.headers or {}) do headers[name] = value end
  options.headers = headers
  return http.request(options)
end

local function drop(name, why)
  dropped:add(1, { target = name })
  host.log("warn", "notification dropped", { target = name, reason = why })
end

-- One message until it is taken or given up. It stays in the queue meanwhile, so that a reload carries it over; what is
-- under way at that moment may arrive twice.
local function deliver(target, message)
  for tries = 0, tries_max - 1 do
    local response = post(target, message)
    if response:ok() then return sent:add(1, { target = target.name }) end
    local why = response.error or ("status %d"):format(response.status)
    if not http.is_transient(response.status) then return drop(target.name, why) end
    if tries == tries_max - 1 then return drop(target.name, why) end
    host.sleep_us(http.pause_us(tries + 1, response.retry_after))
  end
end

local function remove(queue, message)
  for i, m in ipairs(queue) do
    if m == message then return table.remove(queue, i) end
  end
end

local function work(name)
  local target, queue = targets[name], queues[name]
  while queue[1] do
    local message = queue[1]
    local ok, why = pcall(deliver, target, message)
    if not ok then drop(name, tostring(why)) end
    remove(queue, message)
    if queue[1] then host.sleep_us(target.min_interval_us) end
  end
  working[name] = nil
end

local function start(name)
  if working[name] then return end
  working[name] = true
  host.spawn("tm.notify " .. name, work, name)
end

local function check_message(name, text, fields)
  if not targets[name] then
    local names = {}
    for known in pairs(targets) do names[#names + 1] = known end
    error(('tm.notify.send: unknown target "%s"'):format(tostring(name)) .. problems.hint(tostring(name), names), 3)
  end
  if type(text) ~= "string" then error("tm.notify.send: expected text, got a " .. type(text), 3) end
  if fields ~= nil and type(fields) ~= "table" then error("tm.notify.send: fields: expected a table", 3) end
  local copy, count = {}, 0
  for key, value in pairs(fields or {}) do
    local kind = host.is_secret(value) and "secret" or type(value)
    count = count + 1
    if type(key) ~= "string" or count > fields_max then
      error(("tm.notify.send: expected at most %d fields, with names"):format(fields_max), 3)
    end
    if kind == "secret" then
      copy[key] = "***"
    elseif kind == "string" then
      copy[key] = value:sub(1, text_max)
    elseif kind == "boolean" or (kind == "number" and value == value and math.abs(value) < math.huge) then
      copy[key] = value
    else
      error(("tm.notify.send: field %s: expected text, a number or a boolean, got a %s"):format(key, kind), 3)
    end
  end
  return copy
end

local function enqueue(name, message)
  queues[name] = queues[name] or {}
  local queue = queues[name]
  if #queue >= queue_max then
    table.remove(queue, 1)
    drop(name, "the queue is full")
  end
  message.at_us = host.now_us()
  queue[#queue + 1] = message
  start(name)
end

--- Send a message to a target: run time. It is queued (100 of a target at most; then the oldest is dropped and counted)
--- and this returns at once.
---@param name string
---@param text string at most 4096 bytes, the rest is cut
---@param fields? table<string, string|number|boolean>
function notify.send(name, text, fields)
  if not declare.running then error("tm.notify.send is for run time: call it inside a handler", 2) end
  local copy = check_message(name, text, fields)
  if targets[name].format == "alertmanager" then
    error(("tm.notify.send: %s is an Alertmanager, which takes alerts and no messages"):format(name), 2)
  end
  enqueue(name, { text = text:sub(1, text_max), fields = copy })
end

-- ---- alerts ----

local function wants(target, alert)
  local choice = target.alerts
  if not choice then return false end
  if choice.names then return choice.names[alert.name] == true end
  return severities[alert.severity] >= choice.severity
end

local kept = { "name", "state", "severity", "summary", "since", "labels", "description", "runbook", "value" }

-- JSON has no word for what is infinite.
local function finite(value) return value and math.abs(value) < math.huge and value or nil end

local function copy_of(alert)
  local copy = {}
  for _, field in ipairs(kept) do copy[field] = alert[field] end
  copy.value = finite(alert.value)
  return copy
end

local function tell(target, alert)
  local fields = { alert = alert.name, state = alert.state, severity = alert.severity, value = finite(alert.value) }
  for name, value in pairs(alert.labels) do fields[name] = value end
  local text = alert.summary ~= "" and alert.summary or alert.name
  enqueue(target.name, { text = text:sub(1, text_max), fields = fields, alert = copy_of(alert) })
end

declare.listeners[#declare.listeners + 1] = function(event)
  if event.type ~= "alert" then return end
  for _, target in pairs(targets) do
    if wants(target, event) then tell(target, event) end
  end
end

-- What fires, all at once: Alertmanager takes for over what it does not hear of.
local function refresh(target)
  local firing = {}
  for _, message in ipairs(queues[target.name] or {}) do
    if message.alerts then return end -- the last one is still on its way
  end
  for _, alert in ipairs(host.alert_list()) do
    if alert.state == "firing" and not alert.silenced and wants(target, alert) then firing[#firing + 1] = copy_of(alert) end
  end
  if #firing > 0 then enqueue(target.name, { text = "", fields = {}, alerts = firing }) end
end

-- What the generation before has left.
declare.started[#declare.started + 1] = function()
  for name, queue in pairs(queues) do
    if targets[name] then
      if queue[1] then start(name) end
    else
      for _ = 1, #queue do drop(name, "the target is no longer declared") end
      queues[name] = nil
    end
  end
  for name, target in pairs(targets) do
    if target.format == "alertmanager" then
      host.timer(0, refresh_us, "tm.notify " .. name, function() refresh(target) end)
    end
  end
end

--- Declare a target for notifications. `json` posts {"text", "fields", "id", "at_us"}, `text` plain lines; slack is an
--- incoming webhook, pagerduty its Events API v2, alertmanager the path /api/v2/alerts of one. With `alerts` the target is
--- told of alerts by itself; all else is sent by handlers.
---
---     tm.notify "team"  { format = "slack", url = tm.secret { credential = "slack-hook" }, alerts = "warning" }
---     tm.notify "pager" { format = "pagerduty", key = tm.secret { credential = "pagerduty" }, alerts = "critical" }
---     tm.notify "alertmanager" { format = "alertmanager", url = "http://127.0.0.1:9093/api/v2/alerts" }
---     tm.notify "ops"   { url = tm.secret { credential = "ops-hook" } }
---     tm.on("gap", function(gap) tm.notify.send("ops", "messages are missing", { link = gap.link.name }) end)
---@param name string
---@return fun(definition: tidemill.NotifyTarget)
local function declare_notify(_, name)
  declare.only "tm.notify"
  return function(definition) declare_target(problems.caller(), name, definition) end
end

return setmetatable(notify, { __call = declare_notify })
