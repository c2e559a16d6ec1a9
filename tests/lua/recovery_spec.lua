--- The stock routines against an exchange made of tables.
local loop = dofile "tests/lua/fake_loop.lua"
local fake = loop.fake

local tm, host, declare, kalshi, exchange, declared

local function load(options, subscribe, clock_us)
  tm, host, declare = loop.load()
  host.clock_us = clock_us or 0
  kalshi = require "kalshi"
  tm.gatherer { id = "g", store = "s", data = "d" }
  exchange = kalshi.exchange { ws_url = "ws://127.0.0.1/ws", rest_url = "http://127.0.0.1/api", rest_per_second = 1000 }
  subscribe(exchange)
  require "recovery" (exchange, options)
  exchange.markets.run = function() end -- which makes its metrics
  exchange.markets.gauge = { set = function() end }
  host.null = fake.json.null
  declared = loop.begin(declare)
  loop.run(host, "200ms")
end

local function results()
  local list = {}
  for _, run in ipairs(host.runs.ended) do list[#list + 1] = ("%s/%s %s"):format(run.routine, run.subject, run.result) end
  return list
end

local function sent(link)
  local list = {}
  for _, call in ipairs(fake.named(host, "send")) do
    if call[2] == link then list[#list + 1] = fake.json.decode(call[3]) end
  end
  return list
end

local function urls(pattern)
  local list = {}
  for _, call in ipairs(fake.named(host, "http")) do
    if call[2]:find(pattern) then list[#list + 1] = call[2]:match "/api(.*)" end
  end
  return list
end

-- As the engine does: services know before Lua hears of it.
local function confirm(link, sid)
  host.kept.sids[link].orderbook_delta = sid
  declared.dispatch { type = "subscribed", link_id = link, text = "orderbook_delta", sid = sid }
end

local function lose(link)
  host.kept.sids[link] = {}
  declared.dispatch { type = "link_down", link_id = link }
end

local function books(ex) ex:subscribe("orderbook_delta", { connections = 2, chunk = 2, markets = { "A", "B", "C", "D", "E" } }) end

describe("resync", function()
  local function row(link, ticker) declared.dispatch { type = "row", link_id = link, kind = "orderbook_snapshot", text = ticker } end
  local function gap(first) declared.dispatch { type = "gap", link_id = 0, sid = 4, first = first, last = first } end

  before_each(function()
    load({}, books)
    confirm(0, 4)
    loop.run(host, "200ms")
    host.calls = {}
  end)

  it("asks once for a burst, in chunks, and is done when all books have come", function()
    gap(5)
    loop.run(host, "100ms")
    gap(9)
    loop.run(host, "1s")
    local asked = {}
    for _, frame in ipairs(sent(0)) do
      assert.equal("get_snapshot", frame.params.action)
      assert.same({ 4 }, frame.params.sids)
      assert.is_true(#frame.params.market_tickers <= 2)
      for _, ticker in ipairs(frame.params.market_tickers) do asked[#asked + 1] = ticker end
    end
    assert.same({ "A", "C", "E" }, asked)
    assert.same({}, sent(1))
    assert.same({ { 0, "orderbook_snapshot" } }, host.told)
    row(0, "A") row(0, "E") row(0, "X") row(1, "C")
    loop.run(host, "1s")
    assert.same({}, results())
    row(0, "C")
    loop.run(host, "1s")
    assert.same({ "resync/orderbook_delta/1 done" }, results())
    assert.is_nil(host.told[2][2])
    assert.same({}, host.failures)
  end)

  it("does not ask on a connection that came back meanwhile", function()
    gap(5)
    lose(0)
    loop.run(host, "5s")
    assert.same({}, sent(0))
    assert.same({ "resync/orderbook_delta/1 done" }, results())
  end)

  it("subscribes anew for books that do not come, and connects anew when that fails", function()
    gap(5)
    loop.run(host, "1s")
    row(0, "A")
    host.calls = {}
    loop.run(host, "12s")
    local frames = sent(0)
    assert.same({ "unsubscribe", { 4 } }, { frames[1].cmd, frames[1].params.sids })
    local again = {}
    for i = 2, #frames do
      assert.equal("subscribe", frames[i].cmd)
      for _, ticker in ipairs(frames[i].params.market_tickers) do again[#again + 1] = ticker end
    end
    assert.same({ "A", "C", "E" }, again)
    confirm(0, 5)
    row(0, "C")
    loop.run(host, "12s")
    assert.same({ { "reconnect", 0 } }, fake.named(host, "reconnect"))
    assert.same({ "resync/orderbook_delta/1 done" }, results())
  end)

  it("of another exchange's connection is not its business", function()
    declared.dispatch { type = "gap", sid = 4, first = 1, last = 1, text = "" }
    loop.run(host, "5s")
    assert.same({}, results())
  end)

  it("sends nothing in a dry run", function()
    tm.routine.run("resync", "orderbook_delta/1", { link = exchange.sessions[1].links[1], sid = 4 }, { dry = true })
    loop.run(host, "20s")
    assert.same({}, sent(0))
    assert.same({}, host.told)
    assert.same({ "resync/orderbook_delta/1 done" }, results())
  end)
end)

describe("backfill", function()
  local tape, cutoff -- trades { id, at (s) }, new to old, as the exchange has them

  local function stamp(s) return os.date("!%Y-%m-%dT%H:%M:%S.5Z", s) end

  -- A second implementation of the exchange's paging: newest first, min_ts and max_ts in whole seconds, inclusive.
  local function answer(request)
    local path, query = request.url:match "/api([^?]*)%??(.*)"
    local args = {}
    for name, value in query:gmatch "([^&=]+)=([^&]*)" do args[name] = value end
    if path == "/historical/cutoff" then
      return { status = 200, body = fake.json.encode { trades_created_ts = stamp(cutoff) } }
    end
    if path:find "trades" then
      local historical, page, start = path:find "historical" ~= nil, {}, tonumber(args.cursor or 1)
      for i = start, #tape do
        local t = tape[i]
        local here = historical == (t.at < cutoff) and t.at >= tonumber(args.min_ts) and t.at <= tonumber(args.max_ts)
          and (not args.ticker or args.ticker == t.ticker)
        if here and #page == 3 then return { status = 200, body = fake.json.encode { trades = page, cursor = tostring(i) } } end
        if here then page[#page + 1] = { trade_id = t.id, created_time = stamp(t.at), ticker = t.ticker } end
      end
      return { status = 200, body = fake.json.encode { trades = setmetatable(page, { __jsontype = "array" }), cursor = "" } }
    end
    return { status = 404, body = "not found" }
  end

  local function got()
    local ids = {}
    for _, batch in ipairs(host.submitted) do
      if batch.kind == "rest_trade" then
        for _, trade in ipairs(batch.rows) do ids[#ids + 1] = trade.trade_id end
      end
    end
    return table.concat(ids, " ")
  end

  local function outage(from, to, link)
    declared.dispatch { type = "outage_over", link_id = link or 0, name = "trade/1", text = "disconnected",
                        from = from * 1e6, to = to * 1e6 }
  end

  before_each(function()
    load({ snapshots = false, pause = false }, function(ex) ex:subscribe "trade" ex:subscribe "ticker" end, 1030e6)
    tape, cutoff = {}, 0
    for s = 1020, 1000, -1 do tape[#tape + 1] = { id = "t" .. s, at = s, ticker = s % 2 == 0 and "EVEN" or "ODD" } end
    host.answer = answer
  end)

  it("reads the outage with a second on each side, page by page", function()
    outage(1005.5, 1011.2)
    loop.run(host, "30s")
    assert.same({}, host.failures)
    assert.same({ "backfill/trades done" }, results())
    assert.equal("t1013 t1012 t1011 t1010 t1009 t1008 t1007 t1006 t1005 t1004", got())
    assert.equal(4, #urls "/markets/trades")
    assert.matches("min_ts=1004", urls("/markets/trades")[1])
    assert.matches("max_ts=1013", urls("/markets/trades")[1])
  end)

  it("waits until REST can show the end of the outage", function()
    outage(1025, 1032)
    loop.run(host, "3500ms")
    assert.same({}, urls "trades")
    loop.run(host, "30s")
    assert.is_true(#urls "trades" > 0)
  end)

  it("reads what is historical already from there", function()
    cutoff = 1008
    outage(1006, 1010)
    loop.run(host, "30s")
    assert.same({ "backfill/trades done" }, results())
    assert.equal("t1011 t1010 t1009 t1008 t1007 t1006 t1005", got())
    assert.matches("max_ts=1009", urls("/historical/trades")[1])
    host.calls, host.submitted = {}, {}
    outage(1012, 1014)
    loop.run(host, "30s")
    assert.same({}, urls "/historical/trades")
  end)

  it("makes one of several outages", function()
    outage(1003, 1004)
    loop.run(host, "500ms")
    outage(1009, 1010)
    loop.run(host, "30s")
    assert.same({ "backfill/trades done" }, results())
    assert.matches("min_ts=1002", urls("/markets/trades")[1])
    assert.matches("max_ts=1011", urls("/markets/trades")[1])
  end)

  it("is not concerned with other channels", function()
    outage(1003, 1004, 1)
    loop.run(host, "30s")
    assert.same({}, results())
  end)

  it("outlasts storms of 429 and 5xx", function()
    local failures = 0
    host.answer = function(request)
      failures = failures + 1
      if failures <= 6 then
        return { status = ({ 429, 503, 0 })[failures % 3 + 1], body = '{"error":"too many requests"}', error = "no" }
      end
      return answer(request)
    end
    outage(1005.5, 1011.2)
    loop.run(host, "10m")
    assert.same({ "backfill/trades done" }, results())
    assert.equal("t1013 t1012 t1011 t1010 t1009 t1008 t1007 t1006 t1005 t1004", got())
  end)

  it("goes on where a try was ended, not from the beginning", function()
    local asked = 0
    host.answer = function(request)
      if request.url:find "/markets/trades" then
        asked = asked + 1
        if asked == 3 then return { status = 400, body = "refused" } end
      end
      return answer(request)
    end
    outage(1005.5, 1011.2)
    loop.run(host, "60s")
    assert.same({ "backfill/trades failed", "backfill/trades done" }, results())
    assert.equal("t1013 t1012 t1011 t1010 t1009 t1008 t1007 t1006 t1005 t1004", got()) -- no page twice
  end)

  it("does not go round in circles when its cursor is not understood", function()
    host.answer = function(request)
      return answer { url = request.url:gsub("cursor=%w+&?", "") } -- always page one
    end
    outage(1005.5, 1011.2)
    loop.run(host, "20s")
    assert.equal("backfill/trades failed", results()[1])
    assert.matches("cursor was not understood", host.runs.ended[1].error)
  end)

  it("reads the tapes of the markets alone where those were chosen", function()
    load({ snapshots = false }, function(ex) ex:subscribe("trade", { markets = { "EVEN" } }) end, 1030e6)
    host.answer = answer
    outage(1006, 1010)
    loop.run(host, "30s")
    assert.same({ "backfill/trades done" }, results())
    assert.equal("t1010 t1008 t1006", got())
  end)
end)

describe("snapshots", function()
  it("cover all books within the budget", function()
    local tickers = {}
    for i = 1, 250 do tickers[i] = ("T%03d"):format(i) end
    load({ snapshots = { every = "1m", per_second = 0.5 } },
      function(ex) ex:subscribe("orderbook_delta", { connections = 3, markets = tickers }) end)
    local asked, times = {}, {}
    host.answer = function(request)
      if not request.url:find "/markets/orderbooks" then return { status = 200, body = "{}" } end
      local list = {}
      for ticker in request.url:gmatch "tickers=([^&]+)" do
        list[#list + 1] = { ticker = ticker }
        asked[#asked + 1] = ticker
      end
      assert.is_true(#list <= 100)
      times[#times + 1] = host.clock_us
      return { status = 200, body = fake.json.encode { orderbooks = list } }
    end
    loop.run(host, "80s")
    assert.same({}, host.failures)
    assert.same({ "snapshots/books done" }, results())
    table.sort(asked)
    assert.same(tickers, asked)
    for i = 2, #times do assert.is_true(times[i] - times[i - 1] >= 2e6) end
  end)
end)

describe("reconcile", function()
  before_each(function()
    load({}, function(ex) ex:subscribe "market_lifecycle_v2" ex:subscribe "trade" end)
    host.answer = function(request)
      return { status = 200, body = request.url:find "/markets" and '{"markets":[{"ticker":"A"}],"cursor":""}' or "{}" }
    end
    host.calls = {}
  end)

  local function stored_without_registry(kind)
    local n = 0
    for _, call in ipairs(fake.named(host, "decode")) do
      if call[2] == (kind or "market") and call[5] == nil then n = n + 1 end
    end
    return n
  end

  it("follows an outage of lifecycle messages", function()
    declared.dispatch { type = "outage_over", link_id = 1, text = "disconnected", from = 1, to = 2 } -- of trades
    loop.run(host, "5s")
    assert.same({}, urls "/markets%?")
    declared.dispatch { type = "outage_over", link_id = 0, text = "gap", from = 1, to = 2 }
    loop.run(host, "5s")
    assert.equal(3, #urls "/markets%?")
    assert.equal(0, stored_without_registry())
  end)

  it("stores everything again where the store was lost, and not where it is new", function()
    declared.dispatch { type = "store_rebuilt", text = "new" }
    loop.run(host, "5s")
    assert.same({}, results())
    declared.dispatch { type = "store_rebuilt", text = "lost" }
    loop.run(host, "5s")
    assert.same({ "reconcile/markets done" }, results())
    assert.equal(3, stored_without_registry())
    assert.equal(1, stored_without_registry "event")
  end)
end)

describe("pauses", function()
  it("are asked for, raised once each, and followed by fresh books", function()
    local active, events = true, {}
    load({ snapshots = false }, books)
    host.answer = function(request)
      if request.url:find "/exchange/status" then
        return { status = active and 200 or 503, body = fake.json.encode { exchange_active = active, trading_active = active } }
      end
      return { status = 200, body = "{}" }
    end
    declare.listeners[#declare.listeners + 1] = function(event)
      if event.type:find "^exchange" then events[#events + 1] = event.type end
    end
    confirm(0, 4)
    loop.run(host, "40s")
    assert.same({}, events)
    active = false
    loop.run(host, "60s")
    assert.same({ "exchange_paused" }, events)
    active = true
    host.calls = {}
    loop.run(host, "20s")
    assert.same({ "exchange_paused", "exchange_back" }, events)
    assert.equal("get_snapshot", sent(0)[1].params.action)
    assert.same({}, sent(1)) -- it has no subscription yet, which will bring books
    assert.same({}, host.failures)
  end)
end)

describe("rebuild", function()
  -- Databases that note what they are asked. Production has a row a second from 90 s to 100 s.
  local function production(log)
    return { query = function(_, sql, low, high)
      log[#log + 1] = { sql, low, high }
      if sql:find "information_schema" then return { { list = "a, b, received_at" } } end
      local n = 0
      for s = 90, 100 do
        if s * 1e6 >= tonumber(low) and s * 1e6 < tonumber(high) then n = n + 1 end
      end
      return { { count = tostring(n), rows = ("[%d rows]"):format(n) } }
    end }
  end
  local function store(log)
    return { query = function(_, sql, rows) log[#log + 1] = { sql, rows } return {} end }
  end

  it("fills a schema that no poller reads, and marks every row", function()
    local read, written = {}, {}
    load({ rebuild = { production = production(read), store = store(written), past = "20s", slice = "5s" } }, books, 101e6)
    declared.dispatch { type = "store_rebuilt", text = "new" }
    loop.run(host, "2s")
    assert.same({}, host.failures)
    assert.same({ "rebuild/store done" }, results())
    local rows = 0
    for _, call in ipairs(written) do
      if call[1]:find "^INSERT" then
        assert.matches("^INSERT INTO restored%.[%w_]+ %(a, b, received_at, origin%) SELECT a, b, received_at, 'backfill'", call[1])
        assert.matches("ON CONFLICT DO NOTHING$", call[1])
        rows = rows + tonumber(call[2]:match "%d+")
      else
        assert.is_nil(call[1]:find("INSERT", 1, true))
        assert.matches("restored", call[1], 1, true)
      end
    end
    assert.equal(22, rows) -- 11 of each of two streams
    assert.is_true(tonumber(read[2][3]) > tonumber(read[3][3])) -- newest first
  end)

  it("goes on after a failure with the slice that failed", function()
    local read, written, failed = {}, {}, false
    local db = production(read)
    local whole = db.query
    db.query = function(self, sql, low, high)
      if #read == 3 and not failed then failed = true return nil, { message = "connection lost" } end
      return whole(self, sql, low, high)
    end
    load({ reconcile = false, rebuild = { production = db, store = store(written), past = "20s", slice = "5s" } }, books, 101e6)
    declared.dispatch { type = "store_rebuilt", text = "lost" }
    loop.run(host, "2m")
    assert.same({ "rebuild/store failed", "rebuild/store done" }, results())
    assert.equal("connection lost", host.runs.ended[1].error)
    local rows = 0
    for _, call in ipairs(written) do rows = rows + (call[1]:find "^INSERT" and tonumber(call[2]:match "%d+") or 0) end
    assert.equal(22, rows)
  end)

  it("needs two databases", function()
    tm, host, declare = loop.load()
    kalshi = require "kalshi"
    tm.gatherer { id = "g", store = "s", data = "d" }
    exchange = kalshi.exchange { ws_url = "ws://127.0.0.1/ws", rest_url = "http://127.0.0.1/api" }
    require "recovery" (exchange, { rebuild = { production = "dbname=x" }, resink = {}, pause = 5 })
    require "recovery" (exchange, { rebuild = { production = "dbname=x" } })
    local text = table.concat(fake.problems(declare), "\n")
    assert.matches('unknown key "resink", did you mean "resync"?', text, 1, true)
    assert.matches("pause: expected a table of settings, or false to do without", text, 1, true)
    assert.matches("production: expected a database with :query", text, 1, true)
    assert.matches('missing key "store"', text, 1, true)
  end)
end)
