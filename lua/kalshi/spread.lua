--- Which market is on which connection: evenly, and once placed a market stays where it is.
---
---     connection 1: [slot 0: up to 500 tickers] [slot 1: ...] ...
---
--- A slot is an opening frame of the engine. The spread notes what changed since it was last asked; it sends nothing.

local spread = {}

local Spread = {}
Spread.__index = Spread

local SLOTS = 1000000 -- opening slots of a connection; a place is connection * SLOTS + slot

---@param connections integer
---@param chunk integer tickers in a slot
function spread.new(connections, chunk)
  local self = setmetatable({ chunk = chunk, places = {}, connections = {}, count = 0 }, Spread)
  for i = 1, connections do
    self.connections[i] = { count = 0, slots = {}, added = {}, removed = {}, dirty = {} }
  end
  return self
end

local function least_loaded(connections)
  local best = 1
  for i = 2, #connections do
    if connections[i].count < connections[best].count then best = i end
  end
  return best
end

local function slot_with_room(connection, chunk)
  local slots = connection.slots
  for slot = 0, #slots do
    local tickers = slots[slot + 1]
    if not tickers then slots[slot + 1] = {} return slot end
    if #tickers < chunk then return slot end
  end
end

--- Place a market. The number of its connection, or nil when it is placed already.
---@param ticker string
---@return integer?
function Spread:add(ticker)
  if self.places[ticker] then return nil end
  local number = least_loaded(self.connections)
  local connection = self.connections[number]
  local slot = slot_with_room(connection, self.chunk)
  table.insert(connection.slots[slot + 1], ticker)
  connection.count, self.count = connection.count + 1, self.count + 1
  connection.dirty[slot] = true
  if connection.removed[ticker] then
    connection.removed[ticker] = nil -- it was never taken out
  else
    connection.added[ticker] = true
  end
  self.places[ticker] = number * SLOTS + slot
  return number
end

--- Take a market out. The number of its connection, or nil when it has no place.
---@param ticker string
---@return integer?
function Spread:remove(ticker)
  local place = self.places[ticker]
  if not place then return nil end
  local number, slot = math.floor(place / SLOTS), place % SLOTS
  local connection = self.connections[number]
  local tickers = connection.slots[slot + 1]
  for i = 1, #tickers do
    if tickers[i] == ticker then
      tickers[i] = tickers[#tickers]
      tickers[#tickers] = nil
      break
    end
  end
  connection.count, self.count = connection.count - 1, self.count - 1
  connection.dirty[slot] = true
  if connection.added[ticker] then
    connection.added[ticker] = nil
  else
    connection.removed[ticker] = true
  end
  self.places[ticker] = nil
  return number
end

--- Whether a market has a place.
---@param ticker string
---@return boolean
function Spread:has(ticker) return self.places[ticker] ~= nil end

--- All markets of a connection.
---@param number integer
---@return string[]
function Spread:tickers(number)
  local list = {}
  for _, slot in ipairs(self.connections[number].slots) do
    for _, ticker in ipairs(slot) do list[#list + 1] = ticker end
  end
  return list
end

local function sorted_keys(set)
  local list = {}
  for key in pairs(set) do list[#list + 1] = key end
  table.sort(list)
  return list
end

--- What changed on a connection since the last time: slots to set anew, tickers to subscribe and to take out.
---@param number integer
---@return { slots: table<integer, string[]>, added: string[], removed: string[] }
function Spread:take(number)
  local connection = self.connections[number]
  local changes = { slots = {}, added = sorted_keys(connection.added), removed = sorted_keys(connection.removed) }
  for slot in pairs(connection.dirty) do changes.slots[slot] = connection.slots[slot + 1] end
  connection.added, connection.removed, connection.dirty = {}, {}, {}
  return changes
end

--- Note again what could not be sent.
---@param number integer
---@param changes table
function Spread:give_back(number, changes)
  local connection = self.connections[number]
  for slot in pairs(changes.slots) do connection.dirty[slot] = true end
  for _, ticker in ipairs(changes.added) do
    if self.places[ticker] then connection.added[ticker] = true end
  end
  for _, ticker in ipairs(changes.removed) do
    if not self.places[ticker] then connection.removed[ticker] = true end
  end
end

return spread
