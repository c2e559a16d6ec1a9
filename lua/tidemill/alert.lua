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
  when = check.field(check.text, { required = true }),
  clear = check.field(check.text),
  hold = check.field(check.duration, { to = "hold_us", default = 0 }),
  every = check.field(check.duration, { to = "every_us" }),
  severity = check.field(check.one_of { "info", "warning", "critical" }, { default = "warning" }),
  summary = check.field(summary),
  description = check.field(check.text),
  runbook = check.field(check.text),
  labels = check.field(labels),
}

local by_name = {}

local function declare_alert(at, name, definition)
  local path = "tm.alert " .. tostring(name)
  if not host.metric_check_label(name) or #name > 63 then
    return problems.add(at, "tm.alert", "expected a name of letters, digits and '_'")
  end
  if by_name[name] then return problems.add(at, path, "is declared already at " .. by_name[name]) end
  by_name[name] = at
  local normal, ok = check.closed(at, path, definition, fields)
  if normal.every_us and normal.every_us < 1e6 then problems.add(at, path, "every: expected at least 1s") end
  normal.name, normal.at = name, at
  if ok then declared.alerts[#declared.alerts + 1] = normal end
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
