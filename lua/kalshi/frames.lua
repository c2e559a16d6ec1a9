--- The commands of Kalshi's WebSocket, as the text of their frames.

local tm = require "tidemill"

local frames = {}

local function tickers_json(tickers)
  return tm.json.encode(tm.json.array(tickers))
end

--- Subscribe to a channel: to all markets (tickers nil), or to those named. Repeated subscribes to an open channel add
--- to it. Flags whose defaults may change are sent explicitly.
---@param id integer unique in the connection, from 1
---@param channel string
---@param tickers? string[]
---@return string
function frames.subscribe(id, channel, tickers)
  local params = { '"channels":["' .. channel .. '"]' }
  if tickers then params[#params + 1] = '"market_tickers":' .. tickers_json(tickers) end
  if channel == "orderbook_delta" then params[#params + 1] = '"use_yes_price":false' end
  params[#params + 1] = '"skip_ticker_ack":true'
  return ('{"id":%d,"cmd":"subscribe","params":{%s}}'):format(id, table.concat(params, ","))
end

local function update(id, sid, action, tickers)
  return ('{"id":%d,"cmd":"update_subscription","params":{"sids":[%d],"action":"%s","market_tickers":%s}}'):format(
    id, sid, action, tickers_json(tickers))
end

--- Take markets out of a subscription.
---@param id integer
---@param sid integer
---@param tickers string[]
---@return string
function frames.delete_markets(id, sid, tickers) return update(id, sid, "delete_markets", tickers) end

--- End a subscription.
---@param id integer
---@param sid integer
---@return string
function frames.unsubscribe(id, sid) return ('{"id":%d,"cmd":"unsubscribe","params":{"sids":[%d]}}'):format(id, sid) end

--- Ask for fresh snapshots of markets of a subscription; it goes on unchanged.
---@param id integer
---@param sid integer
---@param tickers string[]
---@return string
function frames.get_snapshot(id, sid, tickers) return update(id, sid, "get_snapshot", tickers) end

--- Cut a list into pieces of at most `size`.
---@param list string[]
---@param size integer
---@return string[][]
function frames.chunks(list, size)
  local chunks = {}
  for i = 1, #list, size do
    local chunk = {}
    for j = i, math.min(i + size - 1, #list) do chunk[#chunk + 1] = list[j] end
    chunks[#chunks + 1] = chunk
  end
  return chunks
end

return frames
