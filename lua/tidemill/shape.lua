--- The shapes in which messages and alerts are told: what tm.notify posts. Each is a function (target, message) that
--- returns { json = ... } or { body = ..., headers = ... } of a request.
---
--- A message is { text, fields, at_us } from tm.notify.send, has `alert` when it is about one, and `alerts`, a list, when it
--- tells Alertmanager of all that fire.

local host = require "tidemill.host"
local declare = require "tidemill.declare"

local shape = {}

local function process_id() return declare.declared.role and declare.declared.role.id or "" end

local function names_of(fields)
  local names = {}
  for name in pairs(fields) do names[#names + 1] = name end
  table.sort(names)
  return names
end

function shape.json(_, message)
  return { json = { text = message.text, fields = message.fields, id = process_id(), at_us = message.at_us } }
end

function shape.text(_, message)
  local lines = { message.text }
  for _, name in ipairs(names_of(message.fields)) do lines[#lines + 1] = name .. ": " .. tostring(message.fields[name]) end
  return { body = table.concat(lines, "\n"), headers = { ["Content-Type"] = "text/plain; charset=utf-8" } }
end

-- ---- Slack: an incoming webhook ----

local colours = { critical = "#d72631", warning = "#e8a33d", info = "#4a90d9", resolved = "#2e8b57" }

local function escape(text) return (text:gsub("&", "&amp;"):gsub("<", "&lt;"):gsub(">", "&gt;")) end

function shape.slack(_, message)
  local alert, fields = message.alert, host.json_array {}
  for _, name in ipairs(names_of(message.fields)) do
    fields[#fields + 1] = { title = name, value = escape(tostring(message.fields[name])), short = true }
  end
  local colour = alert and colours[alert.state == "resolved" and "resolved" or alert.severity]
  local title = alert and ("[%s] %s"):format(alert.state == "resolved" and "resolved" or alert.severity, alert.name)
  return { json = {
    text = escape(alert and title .. ": " .. message.text or message.text),
    attachments = host.json_array {
      { color = colour or colours.info, title = title, title_link = alert and alert.runbook, text = escape(message.text),
        fallback = escape(message.text), fields = fields, footer = process_id(), ts = math.floor(message.at_us / 1e6) },
    },
  } }
end

-- ---- PagerDuty: Events API v2 ----

shape.pagerduty_url = "https://events.pagerduty.com/v2/enqueue"

-- The routing key is put in behind the encoding, as a secret is never part of a table that becomes text.
local function with_key(target, event)
  local json = { ["Content-Type"] = "application/json" }
  if not host.is_secret(target.key) then
    event.routing_key = target.key
    return { body = host.json_encode(event), headers = json }
  end
  local rest = host.json_encode(event):gsub("{}", "{ }") -- an empty table is no place for the key
  return { body = host.secret_format(target.key, '{"routing_key":"{}",' .. rest:sub(2)), headers = json }
end

function shape.pagerduty(target, message)
  local alert = message.alert
  local details = {}
  for name, value in pairs(message.fields) do details[name] = value end
  local event = {
    event_action = alert and alert.state == "resolved" and "resolve" or "trigger",
    dedup_key = alert and process_id() .. "/" .. alert.name, -- one incident, however often it is told
    client = "tidemill",
    payload = {
      summary = message.text:sub(1, 1024), source = process_id(), severity = alert and alert.severity or "info",
      timestamp = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(message.at_us / 1e6)), component = "tidemill",
      class = alert and alert.name, custom_details = next(details) and details or nil,
    },
  }
  if alert and alert.runbook then event.links = host.json_array { { href = alert.runbook, text = "runbook" } } end
  return with_key(target, event)
end

-- ---- Alertmanager: POST /api/v2/alerts ----

local KEEP_US = 240e6 -- it takes an alert for resolved that it has not been told of for so long

local function moment(us) return os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(us / 1e6)) end

local function for_alertmanager(alert, at_us)
  local labels = { alertname = alert.name, severity = alert.severity, instance = process_id(), job = "tidemill" }
  for name, value in pairs(alert.labels or {}) do labels[name] = value end
  return {
    labels = labels,
    annotations = { summary = alert.summary, description = alert.description, runbook_url = alert.runbook },
    startsAt = moment(alert.since), endsAt = moment(alert.state == "firing" and at_us + KEEP_US or at_us),
  }
end

function shape.alertmanager(_, message)
  local list = host.json_array {}
  for i, alert in ipairs(message.alerts or { message.alert }) do list[i] = for_alertmanager(alert, message.at_us) end
  -- of one that is resolved `since` is when it was: it began before that, which Alertmanager knows
  if message.alert and message.alert.state == "resolved" then list[1].startsAt = nil end
  return { json = list }
end

return shape
