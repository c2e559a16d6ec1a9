--- The stock recovery routines: what FAILURES and the table of recovery priorities ask of a gatherer.
---
---     local exchange = kalshi.exchange { ... }
---     require "recovery" (exchange)                                        -- all of them, as they are
---     require "recovery" (exchange, { snapshots = { every = "1h" }, pause = false })
---
---   routine    priority  on                       does
---   backfill   1         outage_over              reads the trades of the outage from REST
---   rebuild    2         store_rebuilt            fills the schema `restored` of a new store: see there
---   resync     3         gap                      asks for fresh books of the connection
---   resume     3         exchange_back            likewise, of all connections
---   reconcile  4         outage_over, ...         reads the registry of markets again
---   snapshots  8         every 15 minutes         stores the books that REST shows, within a budget of requests
---
--- A smaller number goes first, as in the table of priorities: what every gatherer missed before what one has less of.

local tm = require "tidemill"

local parts = {
  backfill = require "recovery.backfill",
  pause = require "recovery.pause",
  rebuild = require "recovery.rebuild",
  reconcile = require "recovery.reconcile",
  resync = require "recovery.resync",
  snapshots = require "recovery.snapshots",
}

local order = { "backfill", "rebuild", "resync", "pause", "reconcile", "snapshots" }

local function settings(value)
  if value == false or type(value) == "table" then return value end
  return nil, "expected a table of settings, or false to do without"
end

local fields = {}
for name in pairs(parts) do fields[name] = tm.check.field(settings) end

--- Declare the stock routines for an exchange.
---@param exchange kalshi.Exchange
---@param options? table name of a routine = its settings, or false
return function(exchange, options)
  local at = tm.caller()
  local chosen, ok = tm.check.closed(at, "recovery", options or {}, fields)
  if not ok then return end
  for _, name in ipairs(order) do
    if chosen[name] ~= false then parts[name](exchange, chosen[name] or {}, at) end
  end
end
