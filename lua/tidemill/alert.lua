--- Alerts: conditions over the process's metrics, evaluated in C every second (core/engine/alert.h has the language).

local check = require "tidemill.check"
local declare = require "tidemill.declare"
local host = require "tidemill.host"
local problems = require "tidemill.problems"

local alert = {}
local declared = declare.declared

local placeholders = { "id", "name", "severity", "value", "metric", "labels", "hold" }

local function summary(value)
  local text, expected = check.text(value)
  if not text then return nil, expected end
  for name in text:gmatch("{([%w_]*)}") do
    local known, why = check.one_of(placeholders)(name)
    if not known then return nil, (why:gsub("^unknown value", "unknown placeholder")) end
  end
  return text
end

local function labels(value)
  if type(value) ~= "table" then return nil, 'expected labels like { team = "data" }, got a ' .. type(value) end
  local list = {}
  for name, text in pairs(value) do
    if not host.metric_check_label(name) or not check.text(text) then
      return nil, "expected names of letters, digits and '_', with texts"
    end
    list[#list + 1] = { name = name, value = text }
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

local fields = {
  when = check.field(check.text),
  deadman = check.field(check.boolean),
  clear = check.field(check.text),
  hold = check.field(check.duration, { to = "hold_us", default = 0 }),
  every = check.field(check.duration, { to = "every_us" }),
  severity = check.field(check.one_of { "info", "warning", "critical" }),
  summary = check.field(summary),
  description = check.field(check.text),
  runbook = check.field(check.text),
  labels = check.field(labels),
}

local by_name = {}

local ALWAYS = "tidemill_uptime_seconds >= 0"

-- What always fires says by its silence that this process, its policy or the way out is dead.
local function complete(at, path, normal)
  if normal.deadman and (normal.when or normal.clear) then
    problems.add(at, path, "deadman: it always fires: expected neither when nor clear")
  elseif normal.deadman then
    normal.when, normal.every_us = ALWAYS, normal.every_us or 60e6
  elseif not normal.when then
    problems.add(at, path, "expected when, a condition over metrics, or deadman = true")
  end
  normal.severity = normal.severity or (normal.deadman and "info" or "warning")
  normal.deadman = nil
end

local function declare_alert(at, name, definition)
  local path = "tm.alert " .. tostring(name)
  if not host.metric_check_label(name) or #name > 63 then
    return problems.add(at, "tm.alert", "expected a name of letters, digits and '_'")
  end
  if by_name[name] then return problems.add(at, path, "is declared already at " .. by_name[name]) end
  by_name[name] = at
  local normal, ok = check.closed(at, path, definition, fields)
  if normal.every_us and normal.every_us < 1e6 then problems.add(at, path, "every: expected at least 1s") end
  if ok then complete(at, path, normal) end
  normal.name, normal.at = name, at
  if ok and normal.when then declared.alerts[#declared.alerts + 1] = normal end
end

--- Declare an alert. It is told by a log line, the metric tidemill_alert_state, `tidemill status`, and the event "alert"
--- when it fires, fires still (`every`), and is resolved.
---
---     tm.alert "AllWebSocketsDisconnected" {
---       when = "ws_client_connected == 0", hold = "30s", clear = "ws_client_connected > 5", severity = "critical",
---       summary = "gatherer {id} hears nothing",
---     }
---@param name string
---@return fun(definition: tidemill.AlertDefinition)
function alert.alert(name)
  declare.only "tm.alert"
  return function(definition) declare_alert(problems.caller(), name, definition) end
end

local function silence(what, pattern, us, reason)
  if not declare.running then error(what .. " is for run time: call it inside a handler", 3) end
  local done, why = host.alert_silence(pattern, us, reason)
  if not done then error(what .. ": " .. why, 3) end
end

--- Tell nobody of alerts of that name, in which * stands for any text, for so long: run time. They go on meanwhile; one that
--- fires still when the time is over is told then. Survives a reload, and a restart as states of alerts do.
---
---     tm.silence("SyncLag*", "2h", "production is moved")
---@param pattern string
---@param duration string
---@param reason? string
function alert.silence(pattern, duration, reason)
  local us, expected = check.duration(duration)
  if not us then error("tm.silence: " .. expected, 2) end
  silence("tm.silence", pattern, us, reason)
end

--- End a silence before its time.
---@param pattern string as it was given
function alert.unsilence(pattern) silence("tm.unsilence", pattern, 0) end

--- All alerts as they stand, and the silences: run time.
---@return tidemill.AlertEvent[] alerts, tidemill.Silence[] silences
function alert.alerts()
  if not declare.running then error("tm.alerts is for run time: call it inside a handler", 2) end
  return host.alert_list(), host.alert_silences()
end

local changeable = {}
for name, field in pairs(fields) do changeable[name] = { check = field.check, to = field.to } end

--- Other values for fields of a declared alert, until the next reload: run time, by a person's hand (tidemill/remote.lua).
--- Its definition from now on.
---@param name string
---@param changes table
---@return table
function alert.change(name, changes)
  local names = {}
  for i, definition in ipairs(declared.alerts) do
    names[i] = definition.name
    if definition.name == name then
      local why = check.explain(changes, changeable)
      if why then error(why, 0) end
      local changed = {}
      for key, value in pairs(definition) do changed[key] = value end
      for key, value in pairs(changes) do changed[fields[key].to or key] = fields[key].check(value) end
      host.alert_set(changed)
      declared.alerts[i] = changed
      return changed
    end
  end
  error(("there is no alert %q"):format(tostring(name)) .. problems.hint(tostring(name), names), 0)
end

return alert
