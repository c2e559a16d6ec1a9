--- Which name (a market's ticker) is on which connection, and what the other side was told: kept by C under a name, so
--- that a reloaded script finds it as it was (core/engine/spread.h). It sends nothing. Connections count from 1.
---
---     connection 1: [slot 0: up to 500 tickers] [slot 1: ...] ...       a slot is an opening frame of the link
---
--- Lists of names come as the text of a JSON array, ready to be put into a frame.

local host = require "tidemill.host"

local spread = {}

---@class tidemill.Spread
---@field id integer
---@field name string
---@field connections integer
local Spread = {}
Spread.__index = Spread

--- Find or make the spread of that name: run time. One that is there takes the size given, with as few moves as needed.
---@param name string
---@param connections integer 1 to 1000
---@param chunk integer names in a slot at most, 1 to 10000
---@return tidemill.Spread, boolean made
function spread.open(name, connections, chunk)
  local id, made = host.spread_open(name, connections, chunk)
  return setmetatable({ id = id, name = name, connections = connections }, Spread), made
end

--- The names of all spreads, also those that this script did not open.
---@return string[]
function spread.names() return host.spread_names() end

--- Forget a spread and what it holds. Whether there was one.
---@param name string
---@return boolean
function spread.close(name) return host.spread_close(name) end

--- Place a name on the connection with the fewest. False: it has a place already.
---@param name string
---@return boolean
function Spread:add(name) return host.spread_add(self.id, name) end

--- Take a name out. False: it has no place.
---@param name string
---@return boolean
function Spread:remove(name) return host.spread_remove(self.id, name) end

--- The connection and the slot of a name, or nil.
---@param name string
---@return integer? connection, integer? slot
function Spread:find(name) return host.spread_find(self.id, name) end

--- Whether a name has a place.
---@param name string
---@return boolean
function Spread:has(name) return host.spread_find(self.id, name) ~= nil end

--- Names, from a cursor on (start with 0), and the cursor for the next ones; nil: these were the last.
---@param cursor integer
---@param limit integer
---@return string[] names, integer? cursor
function Spread:next(cursor, limit) return host.spread_next(self.id, cursor, limit) end

--- Forget all names.
function Spread:clear() host.spread_clear(self.id) end

--- Take up to `limit` changes of a connection, "added" or "removed": their names and how many, or nil.
---@param connection integer
---@param what "added"|"removed"
---@param limit integer
---@return string? names, integer? count
function Spread:take(connection, what, limit) return host.spread_take(self.id, connection, what, limit) end

--- The last ones taken could not be sent: note them again.
---@param connection integer
---@param what "added"|"removed"
function Spread:give_back(connection, what) host.spread_give_back(self.id, connection, what) end

--- The last ones taken are on their way.
---@param connection integer
---@param what "added"|"removed"
function Spread:sent(connection, what) host.spread_sent(self.id, connection, what) end

--- The names of a slot, and how many.
---@param connection integer
---@param slot integer
---@return string names, integer count
function Spread:slot(connection, slot) return host.spread_slot(self.id, connection, slot) end

--- A slot whose names have changed: its names, how many, its number; or nil.
---@param connection integer
---@return string? names, integer? count, integer? slot
function Spread:take_slot(connection) return host.spread_take_slot(self.id, connection) end

--- It could not be set: it has changed still.
---@param connection integer
---@param slot integer
function Spread:touch_slot(connection, slot) host.spread_touch_slot(self.id, connection, slot) end

--- The connection is a new one: all its names are to be told, all its slots to be set.
---@param connection integer
function Spread:restart(connection) host.spread_restart(self.id, connection) end

--- What was told is in doubt: tell all names of the connection again.
---@param connection integer
function Spread:retell(connection) host.spread_retell(self.id, connection) end

--- Names in a slot of this connection at most; those beyond it move to other slots.
---@param connection integer
---@param chunk integer
function Spread:set_chunk(connection, chunk) host.spread_chunk(self.id, connection, chunk) end

--- { names, slots, dirty, added, removed, chunk } of a connection; { names, connections, chunk, pending, memory } of all.
---@param connection? integer
---@return table
function Spread:stats(connection) return host.spread_stats(self.id, connection) end

--- How much there is to tell and to set, over all connections.
---@return integer
function Spread:pending() return host.spread_pending(self.id) end

return spread
