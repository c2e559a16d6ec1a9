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

  it("take the text of a JSON array in place of a list", function()
    assert.same({ "A", "B" }, decoded(frames.subscribe(3, "trade", '["A","B"]')).params.market_tickers)
    assert.same({ "A" }, decoded(frames.delete_markets(3, 1, '["A"]')).params.market_tickers)
  end)

  it("end subscriptions", function()
    assert.same({ id = 6, cmd = "unsubscribe", params = { sids = { 7 } } }, decoded(frames.unsubscribe(6, 7)))
  end)

  it("cut lists into chunks", function()
    assert.same({ { 1, 2 }, { 3, 4 }, { 5 } }, frames.chunks({ 1, 2, 3, 4, 5 }, 2))
    assert.same({}, frames.chunks({}, 2))
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

  -- A new generation of the script, on what survives.
  local function reload(subscribe)
    local clock_us = host.clock_us + 1e6
    tm, host, declare = fake.load(nil, host.kept)
    host.clock_us = clock_us
    kalshi = require "kalshi"
    tm.gatherer { id = "g", store = "s", data = "d" }
    local ex = exchange()
    subscribe(ex)
    return ex, begin(ex)
  end

  local function sent(link)
    local list = {}
    for _, call in ipairs(fake.named(host, "send")) do
      if call[2] == link then list[#list + 1] = fake.json.decode(call[3]) end
    end
    return list
  end

  -- The markets that frames with this command (subscribe, delete_markets, ...) name, by link.
  local function told(what)
    local by_link = {}
    for _, call in ipairs(fake.named(host, "send")) do
      local frame = fake.json.decode(call[3])
      if (frame.params.action or frame.cmd) == what then
        local list = by_link[call[2]] or {}
        for _, ticker in ipairs(frame.params.market_tickers or { "*" }) do list[#list + 1] = ticker end
        by_link[call[2]] = list
      end
    end
    for _, list in pairs(by_link) do table.sort(list) end
    return by_link
  end

  -- What the engine would send when the link came up.
  local function openings(calls)
    local frames = {}
    for _, call in ipairs(calls or fake.named(host, "opening")) do
      frames[call[2]] = frames[call[2]] or {}
      frames[call[2]][call[3]] = call[4] ~= "" and fake.json.decode(call[4]).params.market_tickers or nil
    end
    return frames
  end

  -- As the services do, and then the script.
  local function confirm(declared, link, channel, sid)
    host.kept.sids[link][channel] = sid
    declared.dispatch { type = "subscribed", link_id = link, text = channel, sid = sid }
  end

  local function put(ticker, fields)
    local row = { ticker = ticker, status = "active" }
    for name, value in pairs(fields or {}) do row[name] = value end
    return host.put("markets", row, 1)
  end

  local function run() for _ = 1, 3 do host.clock_us = host.clock_us + 1e6 fake.fire(host) end end

  it("connects channels without a choice of markets at once", function()
    local ex = exchange()
    ex:subscribe("trade", { connections = 2 })
    ex:subscribe "market_lifecycle_v2"
    begin(ex)
    assert.same({ "trade/1", "trade/2", "market_lifecycle_v2/1" }, host.opened)
    local set = fake.named(host, "opening")
    assert.equal(3, #set)
    for _, call in ipairs(set) do
      assert.is_true(call[5]) -- sent now
      assert.is_nil(fake.json.decode(call[4]).params.market_tickers)
    end
  end)

  it("spreads markets that the registry brings over its connections", function()
    local ex = exchange()
    ex:subscribe("orderbook_delta", { connections = 2, chunk = 2, markets = kalshi.open_markets })
    begin(ex)
    for i = 1, 8 do ex.markets.options.on_market((put("T" .. i) and "T" .. i)) end
    put("X", { status = "finalized" })
    run()
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
    assert.is_not_nil(subscribed.T8)
    local ids = {}
    for _, call in ipairs(fake.named(host, "opening")) do
      local id = fake.json.decode(call[4]).id
      assert.is_nil(ids[call[2] .. ":" .. id .. call[4]])
      ids[call[2] .. ":" .. id .. call[4]] = true
    end
  end)

  it("takes markets out that are over, by the sid it was told, and not before it knows that", function()
    local ex = exchange()
    ex:subscribe("orderbook_delta", { markets = "all" })
    local declared = begin(ex)
    put "A" put "B"
    run()
    ex.markets.options.on_gone "A"
    run()
    assert.same({}, told "delete_markets")
    confirm(declared, 0, "orderbook_delta", 4)
    run()
    local frames = sent(0)
    assert.same({ sids = { 4 }, action = "delete_markets", market_tickers = { "A" } }, frames[#frames].params)
    assert.same({ [0] = { [0] = { "B" } } }, openings())
  end)

  it("sends later what the engine has no room for now", function()
    local ex = exchange()
    ex:subscribe("orderbook_delta", { markets = { "A" } })
    begin(ex)
    host.accept = false
    run()
    host.accept, host.calls = true, {}
    run()
    assert.same({ [0] = { "A" } }, told "subscribe")
    assert.same({ [0] = { [0] = { "A" } } }, openings())
  end)

  it("sends no more commands a second than allowed, additions before removals", function()
    local ex = exchange()
    ex:subscribe("orderbook_delta", { chunk = 1, commands_per_second = 10, markets = "all" })
    local declared = begin(ex)
    confirm(declared, 0, "orderbook_delta", 4)
    for i = 1, 60 do put("T" .. i) end
    fake.fire(host)
    local start_us, before = host.clock_us, 0
    while #sent(0) < 60 do
      host.clock_us = host.clock_us + 100e3
      fake.fire(host)
      local now = #sent(0)
      assert.is_true(now - before <= 2)
      before = now
      if now == 30 then ex.sessions[1].spread:remove "T1" end
      if now < 60 then assert.same({}, told "delete_markets") end
    end
    assert.is_true(host.clock_us - start_us >= 5.5e6)
    host.clock_us = host.clock_us + 1e6
    fake.fire(host)
    assert.same({ [0] = { "T1" } }, told "delete_markets")
  end)

  it("takes nothing off one connection while there is something to add on another", function()
    local ex = exchange()
    ex:subscribe("trade", { connections = 2, markets = { "A", "B", "C", "D" } })
    local declared = begin(ex)
    confirm(declared, 0, "trade", 4)
    confirm(declared, 1, "trade", 4)
    run()
    declared.dispatch { type = "error", link_id = 0, number = 27, text = "Too many requests" } -- it has to wait now
    host.calls = {}
    ex.sessions[1].spread:remove "B"
    fake.fire(host)
    assert.same({}, told "delete_markets")
    run()
    assert.same({ [0] = { "A", "C" } }, told "subscribe")
    assert.same({ [1] = { "B" } }, told "delete_markets")
  end)

  it("subscribes to created markets at once and refreshes them in batches", function()
    local ex = exchange()
    ex:subscribe("orderbook_delta", { markets = kalshi.open_markets })
    local declared = begin(ex)
    for i = 1, 3 do
      declared.dispatch { type = "frame", kind = "market_lifecycle_v2", link_id = 9, text = fake.json.encode {
        type = "market_lifecycle_v2", msg = { event_type = "created", market_ticker = "N" .. i, open_ts = 1, close_ts = 2 } } }
    end
    ex.markets.errors = {}
    local urls, bodies = {}, 0
    host.answer = function(request)
      urls[#urls + 1] = request.url
      bodies = bodies + 1
      if bodies == 1 then put "N1" put("N2", { status = "finalized" }) end -- N3 is not known to REST yet
      return { status = 200, body = '{"markets":[]}' }
    end
    local spread = ex.sessions[1].spread
    ex.sessions[1].chooser:step()
    assert.is_true(spread:has "N2")
    fake.fire(host)
    assert.equal("http://127.0.0.1/api/markets?limit=1000&tickers=N1%2CN2%2CN3", urls[1])
    assert.is_false(spread:has "N2")
    assert.is_true(spread:has "N1" and spread:has "N3")
    assert.is_nil(ex.markets.registry:get "N2")
    fake.fire(host)
    assert.equal("http://127.0.0.1/api/markets?limit=1000&tickers=N3", urls[2])
    for _ = 1, 40 do fake.fire(host) end
    assert.is_false(spread:has "N3") -- it never came
    assert.is_true(#urls <= 31)
  end)

  it("knows a market's series from its event, else from the event's name", function()
    local ex = exchange()
    local seen = {}
    ex:subscribe("trade", { markets = function(market) seen[market.ticker] = market.series_ticker return true end })
    begin(ex)
    host.put("events", { event_ticker = "KXA-26NOV", series_ticker = "KXSPECIAL" })
    put("KXA-26NOV-T1", { event_ticker = "KXA-26NOV" })
    put("KXB-26NOV-T1", { event_ticker = "KXB-26NOV" })
    put "KXC"
    run()
    assert.same({ ["KXA-26NOV-T1"] = "KXSPECIAL", ["KXB-26NOV-T1"] = "KXB" }, seen)
  end)

  it("leaves a market as it is when the choice fails, counts it, and names a misspelt field", function()
    local ex = exchange()
    local strict
    ex:subscribe("trade", { every = "60s", markets = function(market)
      if market.ticker == "B" and strict then return market.closetime > 0 end
      return market.ticker ~= "C"
    end })
    begin(ex)
    put "A" put "B" put "C"
    run()
    strict = true
    host.clock_us = host.clock_us + 60e6
    run()
    assert.same({ [0] = { "A", "B" } }, told "subscribe")
    assert.equal(1, host.metrics['subscription_rule_errors_total{channel="trade"}'])
    local lines = fake.named(host, "log")
    assert.equal("B", lines[#lines][4].ticker)
    assert.matches('no field "closetime", did you mean "close_time"?', lines[#lines][4].reason, 1, true)
  end)

  it("looks at all markets again every so often, as a choice may look at the clock", function()
    local ex = exchange()
    local function soon(market) return market.close_time - tm.now() < 7200e6 end
    ex:subscribe("trade", { every = "10s", markets = soon })
    local declared = begin(ex)
    confirm(declared, 0, "trade", 1)
    put("EARLY", { close_time = 3600e6 })
    put("LATE", { close_time = 7300e6 })
    run()
    assert.same({ [0] = { "EARLY" } }, told "subscribe")
    host.clock_us = 101e6
    run()
    assert.same({ [0] = { "EARLY", "LATE" } }, told "subscribe")
    assert.same({}, told "delete_markets")
  end)

  it("takes what is no market any more out once a whole sweep was read, but not what is named", function()
    local ex = exchange()
    ex:subscribe("trade", { every = "10s", markets = { "NAMED", "KX*" } })
    local declared = begin(ex)
    confirm(declared, 0, "trade", 1)
    put "KXA" put "KXB" put "OTHER"
    run()
    assert.same({ [0] = { "KXA", "KXB", "NAMED" } }, told "subscribe")
    ex.markets.registry:remove "KXB"
    host.clock_us = host.clock_us + 10e6
    run()
    assert.same({}, told "delete_markets")
    ex.markets.whole = true
    host.clock_us = host.clock_us + 10e6
    run()
    assert.same({ [0] = { "KXB" } }, told "delete_markets")
  end)

  -- ---- reload ----

  local function first_generation(options)
    local ex = exchange()
    ex:subscribe("trade", options)
    local declared = begin(ex)
    for link = 0, (options.connections or 1) - 1 do confirm(declared, link, "trade", 10 + link) end
    for i = 1, 6 do put("T" .. i, { event_ticker = i <= 3 and "EA" or "EB" }) end
    run()
    return ex
  end

  it("sends nothing after a reload with the same rule", function()
    local options = { connections = 2, chunk = 2, markets = "all" }
    first_generation(options)
    reload(function(ex) ex:subscribe("trade", options) end)
    run()
    assert.same({}, fake.named(host, "send"))
    assert.same({}, fake.named(host, "opening"))
    assert.same({}, fake.named(host, "reconnect"))
  end)

  it("sends only the difference after a reload with another rule", function()
    first_generation { connections = 2, chunk = 2, markets = { "T1", "T2", "T3", "T4" } }
    local ex = reload(function(ex)
      ex:subscribe("trade", { connections = 2, chunk = 2, markets = { "T3", "T4", "T5" } })
    end)
    run()
    local added, removed = told "subscribe", told "delete_markets"
    local all = {}
    for _, list in pairs(added) do for _, ticker in ipairs(list) do all[#all + 1] = ticker end end
    assert.same({ "T5" }, all)
    all = {}
    for _, list in pairs(removed) do for _, ticker in ipairs(list) do all[#all + 1] = ticker end end
    table.sort(all)
    assert.same({ "T1", "T2" }, all)
    for _, call in ipairs(fake.named(host, "send")) do
      local sids = fake.json.decode(call[3]).params.sids
      if sids then assert.equal(10 + call[2], sids[1]) end -- known without asking
    end
    assert.equal(3, ex.sessions[1].spread:stats().names)
    for _, call in ipairs(fake.named(host, "opening")) do assert.is_falsy(call[5]) end
  end)

  it("goes from a list to a function and takes out what that does not want", function()
    first_generation { markets = { "T1", "T2", "T6" } }
    reload(function(ex)
      ex:subscribe("trade", { markets = function(market) return market.event_ticker == "EA" end })
    end)
    run()
    assert.same({ [0] = { "T3" } }, told "subscribe")
    assert.same({ [0] = { "T6" } }, told "delete_markets")
  end)

  it("moves only what must move when connections come", function()
    first_generation { connections = 1, markets = "all" }
    local _, declared = reload(function(ex) ex:subscribe("trade", { connections = 2, markets = "all" }) end)
    confirm(declared, 1, "trade", 11)
    run()
    local added, removed = told "subscribe", told "delete_markets"
    assert.equal(3, #added[1])
    assert.is_nil(added[0])
    assert.same(added[1], removed[0])
  end)

  it("changes from some markets to all and back", function()
    first_generation { chunk = 2, markets = "all" }
    local ex, declared = reload(function(ex) ex:subscribe "trade" end)
    assert.same({ cmd = "unsubscribe", id = ex.sessions[1].next_id, params = { sids = { 10 } } }, sent(0)[1])
    local set = openings()
    assert.same({ [0] = {} }, set) -- slots 1 and 2 are empty now, and slot 0 has no list
    assert.same({}, host.spread_names())
    host.kept.sids[0] = {} -- "unsubscribed" was heard
    confirm(declared, 0, "trade", 12)
    reload(function(again) again:subscribe "trade" end)
    assert.same({ 1, 0, 0 }, { #fake.named(host, "open"), #fake.named(host, "send"), #fake.named(host, "opening") })
    reload(function(again) again:subscribe("trade", { markets = { "T1" } }) end)
    assert.same({ { cmd = "unsubscribe", id = sent(0)[1].id, params = { sids = { 12 } } } }, sent(0))
    assert.same({ [0] = {} }, openings())
    run()
    assert.same({ [0] = { "T1" } }, told "subscribe")
    assert.same({ "T1" }, openings()[0][0])
  end)

  it("forgets the spread of a subscription that is no more", function()
    first_generation { markets = "all" }
    assert.same({ "kalshi/trade" }, host.spread_names())
    reload(function(ex) ex:subscribe "ticker" end)
    assert.same({}, host.spread_names())
  end)

  it("tells everything anew to a link that was opened anew", function()
    first_generation { chunk = 3, markets = "all" }
    host.kept.links = {}
    reload(function(ex) ex:subscribe("trade", { chunk = 3, markets = "all" }) end)
    run()
    assert.same({ "T1", "T2", "T3", "T4", "T5", "T6" }, told("subscribe")[1])
    assert.same({ "T1", "T2", "T3" }, openings()[1][0])
  end)

  -- ---- refusals ----

  it("halves the lists of a connection that the exchange finds too long", function()
    local ex = exchange()
    ex:subscribe("trade", { chunk = 4, connections = 2, markets = { "A", "B", "C", "D", "E", "F", "G", "H" } })
    local declared = begin(ex)
    run()
    host.calls = {}
    declared.dispatch { type = "error", link_id = 0, number = 26, text = "Subscription market limit exceeded" }
    run()
    for _, frame in ipairs(sent(0)) do assert.is_true(#frame.params.market_tickers <= 2) end
    assert.same({ "A", "C", "E", "G" }, told("subscribe")[0])
    assert.same({}, sent(1))
    for _ = 1, 3 do
      declared.dispatch { type = "error", link_id = 0, number = 26, text = "Subscription market limit exceeded" }
      run()
    end
    assert.equal(1, ex.sessions[1].spread:stats(1).chunk)
    assert.equal(4, ex.sessions[1].spread:stats(2).chunk)
    assert.equal(2, host.metrics['subscription_limits_total{channel="trade"}'])
  end)

  it("waits longer each time the exchange says that there were too many requests", function()
    local ex = exchange()
    ex:subscribe("trade", { markets = { "A" } })
    local declared = begin(ex)
    run()
    local pauses = {}
    for i = 1, 4 do
      host.calls = {}
      local began_us = host.clock_us
      declared.dispatch { type = "error", link_id = 0, number = 27, text = "Too many requests" }
      declared.dispatch { type = "error", link_id = 0, number = 27, text = "Too many requests" }
      while #sent(0) == 0 do
        host.clock_us = host.clock_us + 100e3
        fake.fire(host)
      end
      assert.same({ [0] = { "A" } }, told "subscribe")
      pauses[i] = math.floor((host.clock_us - began_us) / 1e6 + 0.01)
    end
    assert.same({ 1, 2, 4, 8 }, pauses)
  end)

  it("reads pages until the cursor is empty, and sweeps what can trade", function()
    local ex = exchange()
    ex:subscribe("orderbook_delta", { markets = "all" })
    local pages = { '{"markets":[],"cursor":"c1"}', '{"markets":[],"cursor":""}', '{"markets":[],"cursor":null}', '{"markets":[]}' }
    host.answer = function() return { status = 200, body = table.remove(pages, 1) } end
    declare.finish("file.lua", true)
    ex.markets.registry.entry.id, ex.markets.errors, ex.markets.gauge = host.registry_open "markets", {}, { set = function() end }
    assert.is_true(ex.markets:sweep())
    local urls = {}
    for i, call in ipairs(fake.named(host, "http")) do urls[i] = call[2]:match("%?(.*)$") end
    assert.same({ "limit=1000&status=open", "cursor=c1&limit=1000&status=open", "limit=1000&status=unopened",
                  "limit=1000&status=paused" }, urls)
  end)

  it("is unsigned on loopback only", function()
    local function refused(ws_url, rest_url, more)
      tm, host, declare = fake.load()
      kalshi = require "kalshi"
      tm.gatherer { id = "g", store = "s", data = "d" }
      local definition = { ws_url = ws_url, rest_url = rest_url }
      for key, value in pairs(more or {}) do definition[key] = value end
      kalshi.exchange(definition)
      local text = table.concat(fake.problems(declare), "\n")
      return text:match "unsigned is for loopback only: .* for (%S+), got neither"
    end
    local ws, rest = "wss://external-api-ws.kalshi.com/trade-api/ws/v2", "https://external-api.kalshi.com/trade-api/v2"
    assert.equal(ws, refused(nil, nil))
    assert.equal(rest, refused("ws://127.0.0.1:7000/ws", nil))
    assert.equal("WSS://Example.com:443/x", refused("WSS://Example.com:443/x", "http://[::1]:1"))
    for _, url in ipairs { "wss://127.0.0.1.example.com/", "wss://localhost.example.com/", "wss://[2001:db8::1]/", "wss://10.77.1.2/",
                           "wss://127.example.com/", "wss://[::10]/" } do
      assert.equal(url, refused(url, "http://localhost"))
    end
    for _, url in ipairs { "wss://127.0.0.1:7000/ws", "wss://127.1.2.3/", "wss://LOCALHOST/ws?a=b", "wss://[::1]:7000/ws" } do
      assert.is_nil(refused(url, "https://localhost:8000/api"))
    end
    assert.is_nil(refused(nil, nil, { key_id = "k", key_file = "/etc/tidemill/kalshi.pem" }))
    assert.is_nil(refused(nil, nil, { key_id = "k" })) -- another mistake, told once
  end)

  it("refuses what the exchange does not have", function()
    local ex = kalshi.exchange { environment = "produ", key_id = "k" }
    ex:subscribe "trades"
    ex:subscribe("orderbook_delta", {})
    ex:subscribe("market_lifecycle_v2", { markets = "all" })
    ex:subscribe("trade", { conections = 2 })
    ex:subscribe "trade"
    ex:subscribe("ticker", { connections = 0, markets = 3 })
    ex:subscribe("multivariate_market_lifecycle", { every = "1m" })
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
      'subscribe multivariate_market_lifecycle: every: goes with "markets"',
    } do assert.matches(expected, text, 1, true) end
    assert.is_nil(text:find("kalshi/init.lua", 1, true))
  end)
end)
