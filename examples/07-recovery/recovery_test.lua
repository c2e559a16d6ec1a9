-- tidemill test 07-recovery: no exchange, no PostgreSQL, a virtual clock.

local t = require "tidemill.test"

local LINK = "orderbook_delta/1"
local NO_KEY = { KALSHI_WS_URL = "ws://127.0.0.1/ws", KALSHI_REST_URL = "http://127.0.0.1" } -- nothing connects in a test

local function books(tickers)
  local list = {}
  for i, ticker in ipairs(tickers) do
    list[i] = { ticker = ticker, orderbook_fp = { yes_dollars = t.json.array { { "0.4000", "10.00" } } } }
  end
  return { orderbooks = t.json.array(list) }
end

-- The gatherer at work with two markets; `answer` is what REST says when asked for books.
local function start(answer)
  local policy = t.load("gatherer.lua", { env = NO_KEY })
  t.equal(policy.problems, {})
  t.registry("markets", { { ticker = "A", status = "active" }, { ticker = "B", status = "active" } })
  t.http(function(request)
    if request.url:find("/markets/orderbooks", 1, true) then return answer() end
    return { body = {} }
  end)
  t.start()
  t.link_up()
  t.subscribed(LINK, "orderbook_delta", 7)
  t.advance "1s"
end

local function asked()
  local count = 0
  for _, request in ipairs(t.requests()) do
    if request.url:find("/markets/orderbooks", 1, true) then count = count + 1 end
  end
  return count
end

t.test("an outage of the depth stores the books of REST", function()
  start(function() return { body = books { "A", "B" } } end)
  t.emit("outage_over", { link = LINK, text = "disconnected", from = 1, to = 2 })
  t.advance "5s"
  t.equal(asked(), 1)
  t.equal(#t.rows "orderbook_snapshots", 2)
  t.truthy(t.logged("info", "the books are stored"))
end)

t.test("two outages in a second are one run", function()
  start(function() return { body = books { "A", "B" } } end)
  t.emit("outage_over", { link = LINK, text = "disconnected", from = 1, to = 2 })
  t.emit("outage_over", { link = LINK, text = "gap", from = 3, to = 4 })
  t.advance "10s"
  t.equal(asked(), 1)
end)

t.test("the first connection and other channels are no reason", function()
  start(function() return { body = books { "A", "B" } } end)
  t.emit("outage_over", { link = LINK, text = "start", from = 1, to = 2 })
  t.emit("outage_over", { link = "market_lifecycle_v2/1", text = "disconnected", from = 1, to = 2 })
  t.advance "5s"
  t.equal(asked(), 0)
end)

t.test("a REST that fails is asked again", function()
  local tries = 0
  start(function()
    tries = tries + 1
    return tries == 1 and { status = 503, body = "" } or { body = books { "A", "B" } }
  end)
  t.emit("outage_over", { link = LINK, text = "disconnected", from = 1, to = 2 })
  t.advance "2m"
  t.truthy(tries >= 2)
  t.equal(#t.rows "orderbook_snapshots", 2)
end)
