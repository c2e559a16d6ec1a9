local fake = dofile "tests/lua/fake_host.lua"

describe("kalshi frames", function()
  local frames
  before_each(function()
    fake.load()
    frames = require "kalshi.frames"
  end)

  local function decoded(text) return fake.json.decode(text) end

  it("subscribe to all markets of a channel", function()
    assert.same({ id = 1, cmd = "subscribe", params = { channels = { "trade" }, skip_ticker_ack = true } },
      decoded(frames.subscribe(1, "trade")))
  end)

  it("subscribe to named markets, with the price convention said explicitly", function()
    assert.same({ id = 3, cmd = "subscribe", params = { channels = { "orderbook_delta" }, market_tickers = { "A", "B.5" },
      use_yes_price = false, skip_ticker_ack = true } }, decoded(frames.subscribe(3, "orderbook_delta", { "A", "B.5" })))
  end)

  it("update subscriptions", function()
    assert.same({ id = 4, cmd = "update_subscription", params = { sids = { 7 }, action = "get_snapshot", market_tickers = { "A" } } },
      decoded(frames.get_snapshot(4, 7, { "A" })))
    assert.same({ id = 5, cmd = "update_subscription", params = { sids = { 7 }, action = "delete_markets", market_tickers = { "A" } } },
      decoded(frames.delete_markets(5, 7, { "A" })))
  end)

  it("cut lists into chunks", function()
    assert.same({ { 1, 2 }, { 3, 4 }, { 5 } }, frames.chunks({ 1, 2, 3, 4, 5 }, 2))
    assert.same({}, frames.chunks({}, 2))
  end)
end)

describe("the spread of markets", function()
  local spread
  before_each(function()
    fake.load()
    spread = require "kalshi.spread"
  end)

  local function counts(s)
    local list = {}
    for i in ipairs(s.connections) do list[i] = #s:tickers(i) end
    return list
  end

  it("is even", function()
    local s = spread.new(7, 10)
    for i = 1, 1000 do s:add("T" .. i) end
    for _, n in ipairs(counts(s)) do assert.is_true(n == 142 or n == 143) end
    assert.equal(1000, s.count)
  end)

  it("is stable: others stay where they are when some come and go", function()
    local s = spread.new(5, 10)
    for i = 1, 200 do s:add("T" .. i) end
    local before = {}
    for ticker, place in pairs(s.places) do before[ticker] = place end
    for i = 1, 200, 7 do s:remove("T" .. i) end
    for i = 201, 240 do s:add("T" .. i) end
    for ticker, place in pairs(s.places) do
      if before[ticker] then assert.equal(before[ticker], place) end
    end
    assert.is_nil(s:add "T2")
    assert.is_nil(s:remove "T1")
  end)

  it("fills the gaps that removed markets leave", function()
    local s = spread.new(2, 10)
    for i = 1, 100 do s:add("T" .. i) end
    for i = 1, 40 do s:remove("T" .. i) end
    for i = 101, 140 do s:add("T" .. i) end
    assert.same({ 50, 50 }, counts(s))
    for _, connection in ipairs(s.connections) do assert.equal(5, #connection.slots) end
  end)

  it("keeps slots within the chunk", function()
    local s = spread.new(1, 3)
    for i = 1, 8 do s:add("T" .. i) end
    local sizes = {}
    for i, slot in ipairs(s.connections[1].slots) do sizes[i] = #slot end
    assert.same({ 3, 3, 2 }, sizes)
  end)

  it("tells each change once", function()
    local s = spread.new(1, 2)
    s:add "A" s:add "B" s:add "C"
    local changes = s:take(1)
    assert.same({ "A", "B", "C" }, changes.added)
    assert.same({ [0] = { "A", "B" }, [1] = { "C" } }, changes.slots)
    assert.same({ slots = {}, added = {}, removed = {} }, s:take(1))
    s:remove "A" s:add "D" s:remove "D"
    changes = s:take(1)
    assert.same({ {}, { "A" } }, { changes.added, changes.removed })
    s:remove "B" s:add "B" -- gone and back before anybody was told
    changes = s:take(1)
    assert.same({ {}, {} }, { changes.added, changes.removed })
  end)

  it("takes back what could not be sent, unless it was overtaken", function()
    local s = spread.new(1, 2)
    s:add "A" s:add "B"
    local changes = s:take(1)
    s:remove "A"
    s:give_back(1, changes)
    assert.same({ "B" }, s:take(1).added)
  end)
end)

describe("kalshi.exchange", function()
  local tm, host, declare, kalshi
  before_each(function()
    tm, host, declare = fake.load()
    kalshi = require "kalshi"
    tm.gatherer { id = "g", store = "s", data = "d" }
  end)

  local function exchange() return kalshi.exchange { ws_url = "ws://127.0.0.1/ws", rest_url = "http://127.0.0.1/api" } end

  -- The registry's endless loop is not run: handlers of "start" other than it are.
  local function begin(ex)
    ex.markets.run = function() end
    local declared = declare.finish("file.lua", true)
    assert.same({}, declared.errors)
    declared.begin()
    return declared
  end

  local function sent(link)
    local list = {}
    for _, call in ipairs(fake.named(host, "send")) do
      if call[2] == link then list[#list + 1] = fake.json.decode(call[3]) end
    end
    return list
  end

  it("connects channels without a choice of markets at once", function()
    local ex = exchange()
    ex:subscribe("trade", { connections = 2 })
    ex:subscribe "market_lifecycle_v2"
    begin(ex)
    assert.same({ "trade/1", "trade/2", "market_lifecycle_v2/1" }, host.opened)
    local openings = fake.named(host, "opening")
    assert.equal(3, #openings)
    for _, call in ipairs(openings) do
      assert.is_true(call[5]) -- sent now
      assert.is_nil(fake.json.decode(call[4]).params.market_tickers)
    end
  end)

  it("spreads markets that the registry brings over its connections", function()
    local ex = exchange()
    ex:subscribe("orderbook_delta", { connections = 2, chunk = 2, markets = kalshi.open_markets })
    begin(ex)
    for i = 1, 8 do ex.sessions[1]:consider { ticker = "T" .. i, status = "active" } end
    ex.sessions[1]:consider { ticker = "X", status = "finalized" }
    fake.fire(host)
    local subscribed = {}
    for link = 0, 1 do
      local n = 0
      for _, frame in ipairs(sent(link)) do
        assert.is_true(#frame.params.market_tickers <= 2)
        for _, ticker in ipairs(frame.params.market_tickers) do subscribed[ticker] = link n = n + 1 end
      end
      assert.equal(4, n)
    end
    assert.is_nil(subscribed.X)
    local ids = {}
    for _, call in ipairs(fake.named(host, "opening")) do
      local id = fake.json.decode(call[4]).id
      assert.is_nil(ids[call[2] .. ":" .. id])
      ids[call[2] .. ":" .. id] = true
    end
  end)

  it("takes markets out that are over, by the sid it was told", function()
    local ex = exchange()
    ex:subscribe("orderbook_delta", { markets = "all" })
    local declared = begin(ex)
    ex.sessions[1]:add "A"
    ex.sessions[1]:add "B"
    fake.fire(host)
    declared.dispatch { type = "subscribed", link_id = 0, text = "orderbook_delta", sid = 4 }
    ex.markets.options.on_gone "A"
    fake.fire(host)
    local frames = sent(0)
    assert.same({ sids = { 4 }, action = "delete_markets", market_tickers = { "A" } }, frames[#frames].params)
    local openings = fake.named(host, "opening")
    assert.same({ "B" }, fake.json.decode(openings[#openings][4]).params.market_tickers)
  end)

  it("sends later what the engine has no room for now", function()
    local ex = exchange()
    ex:subscribe("orderbook_delta", { markets = "all" })
    begin(ex)
    ex.sessions[1]:add "A"
    host.accept = false
    fake.fire(host)
    host.accept, host.calls = true, {}
    fake.fire(host)
    assert.same({ "A" }, sent(0)[1].params.market_tickers)
  end)

  it("subscribes to created markets at once and refreshes them in batches", function()
    local ex = exchange()
    ex:subscribe("orderbook_delta", { markets = kalshi.open_markets })
    local declared = begin(ex)
    for i = 1, 3 do
      declared.dispatch { type = "frame", kind = "market_lifecycle_v2", link_id = 9, text = fake.json.encode {
        type = "market_lifecycle_v2", msg = { event_type = "created", market_ticker = "N" .. i, open_ts = 1, close_ts = 2 } } }
    end
    assert.is_true(ex.sessions[1].spread:has "N2")
    ex.markets.errors = {}
    host.answer = function() return { status = 200, body = '{"markets":[]}' } end
    local registry = { N1 = { status = "active" }, N2 = { status = "finalized" }, N3 = { status = "active" } }
    ex.markets.registry = { get = function(_, t) return registry[t] end, remove = function(_, t) registry[t] = nil end,
                            entry = { id = 1 } }
    fake.fire(host)
    assert.equal("http://127.0.0.1/api/markets?limit=1000&tickers=N1%2CN2%2CN3", fake.named(host, "http")[1][2])
    assert.is_false(ex.sessions[1].spread:has "N2")
    assert.is_true(ex.sessions[1].spread:has "N3")
    assert.is_nil(registry.N2)
  end)

  it("reads pages until the cursor is empty, and sweeps what can trade", function()
    local ex = exchange()
    ex:subscribe("orderbook_delta", { markets = "all" })
    local pages = { '{"markets":[],"cursor":"c1"}', '{"markets":[],"cursor":""}', '{"markets":[],"cursor":null}', '{"markets":[]}' }
    host.answer = function() return { status = 200, body = table.remove(pages, 1) } end
    declare.finish("file.lua", true)
    ex.markets.registry.entry.id, ex.markets.errors, ex.markets.gauge = 1, {}, { set = function() end }
    assert.is_true(ex.markets:sweep())
    local urls = {}
    for i, call in ipairs(fake.named(host, "http")) do urls[i] = call[2]:match("%?(.*)$") end
    assert.same({ "limit=1000&status=open", "cursor=c1&limit=1000&status=open", "limit=1000&status=unopened",
                  "limit=1000&status=paused" }, urls)
  end)

  it("refuses what the exchange does not have", function()
    local ex = kalshi.exchange { environment = "produ", key_id = "k" }
    ex:subscribe "trades"
    ex:subscribe("orderbook_delta", {})
    ex:subscribe("market_lifecycle_v2", { markets = "all" })
    ex:subscribe("trade", { conections = 2 })
    ex:subscribe "trade"
    ex:subscribe("ticker", { connections = 0, markets = 3 })
    local text = table.concat(fake.problems(declare), "\n")
    for _, expected in ipairs {
      'kalshi.exchange: environment: unknown value "produ", did you mean "prod"?',
      "key_id and key_file go together",
      'channel: unknown value "trades", did you mean "trade"?',
      'subscribe orderbook_delta: missing key "markets"',
      "this channel always carries all markets",
      'unknown key "conections", did you mean "connections"?',
      "is subscribed to already at",
      "connections: expected an integer from 1 to 1000",
      'markets: expected "all", a list of tickers',
    } do assert.matches(expected, text, 1, true) end
    assert.is_nil(text:find("kalshi/init.lua", 1, true))
  end)
end)
