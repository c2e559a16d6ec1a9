--- The stock alerts: every row of the tables of what can fail, with the thresholds of a market that trades around the clock.
---
---     require "alerts" ()                                        -- all of the role's, as they are
---     require "alerts" { RestErrors = false,                     -- without this one
---                        SyncLagHigh = { when = "dedup_sync_lag_seconds > 60", clear = "dedup_sync_lag_seconds < 30" } }
---     require "alerts" { gatherers = 4 }                         -- how many there ought to be; default: those configured
---
--- They stand behind the role in the script. They are told as tm.alert says; tm.notify with `alerts` brings them further.

local tm = require "tidemill"
local declare = require "tidemill.declare"

local function override(value)
  if value == false or type(value) == "table" then return value end
  return nil, "expected a table with what is to be different, or false to do without"
end

local function stock_of(role, gatherers)
  local list = {}
  local function add(from)
    for _, item in ipairs(from) do list[#list + 1] = item end
  end
  if role.role == "gatherer" then
    add(require "alerts.gatherer")
  else
    add(require "alerts.deduplicator"(gatherers or #(role.gatherers or {}))) -- none: what was given has been refused
  end
  add(require "alerts.common")
  return list
end

local function fields_of(list)
  local fields = { gatherers = tm.check.field(tm.check.integer(1, 64)) }
  for _, item in ipairs(list) do fields[item[1]] = tm.check.field(override) end
  return fields
end

local function merged(stock, different)
  local definition = {}
  for key, value in pairs(stock) do definition[key] = value end
  for key, value in pairs(different or {}) do definition[key] = value end
  if different and different.when and not different.clear then definition.clear = nil end -- it went with the old one
  return definition
end

--- Declare the stock alerts of the role.
---@param options? table name of an alert = what is to be different, or false; gatherers = how many there ought to be
return function(options)
  local at, role = tm.caller(), declare.declared.role
  if not role then return tm.problem(at, "alerts", "expected tm.gatherer or tm.deduplicator before it") end
  local gatherers = type(options) == "table" and type(options.gatherers) == "number" and options.gatherers
  local list = stock_of(role, gatherers)
  local chosen, ok = tm.check.closed(at, "alerts", options or {}, fields_of(list))
  if not ok then return end
  for _, item in ipairs(list) do
    local name, definition = item[1], item[2]
    if chosen[name] ~= false then tm.alert(name)(merged(definition, chosen[name])) end
  end
end
