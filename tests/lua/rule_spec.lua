local fake = dofile "tests/lua/fake_host.lua"

describe("a choice of markets", function()
  local rule
  before_each(function()
    fake.load()
    rule = require "tidemill.rule"
  end)

  local function chosen(value, names)
    local choice = assert(rule.check(value))
    local list = {}
    for _, name in ipairs(names) do
      if rule.wants_name(choice, name) then list[#list + 1] = name end
    end
    return list
  end

  it("is all, a list, a pattern, or a function", function()
    assert.same({ "A", "B" }, chosen("all", { "A", "B" }))
    assert.same({ "A" }, chosen({ "A", "C" }, { "A", "B", "AA" }))
    assert.same({ "KXBTC-1", "KXBTC" }, chosen("KXBTC*", { "KXBTC-1", "KXBT", "KXBTC", "XKXBTC" }))
    assert.same({ "KXETH-1", "X" }, chosen({ "KXBTC*", "KXETH-*", "X" }, { "KXETH-1", "KXETH", "X", "XX" }))
    assert.is_nil(rule.wants_name(rule.check(function() end), "A"))
  end)

  it("follows the registry unless all is named", function()
    assert.is_false(rule.follows_registry(rule.check { "A" }))
    for _, value in ipairs { "all", "A*", { "A", "B*" }, function() end } do
      assert.is_true(rule.follows_registry(rule.check(value)))
    end
  end)

  -- Lua's own patterns are the second opinion.
  it("matches a * with any text, in every place", function()
    local pieces, names = { "", "A", "B", "AB", "*", "." }, {}
    for _, a in ipairs { "", "A", "B", ".", "AB" } do
      for _, b in ipairs { "", "A", "B", "AA" } do
        for _, c in ipairs { "", "B", "AB", ".A" } do names[#names + 1] = a .. b .. c end
      end
    end
    for _, a in ipairs(pieces) do
      for _, b in ipairs(pieces) do
        for _, c in ipairs(pieces) do
          local pattern = a .. b .. "*" .. c
          local parts = {}
          local lua = "^" .. pattern:gsub("%.", "%%."):gsub("%*", ".*") .. "$"
          for part in (pattern .. "*"):gmatch "([^*]*)%*" do parts[#parts + 1] = part end
          for _, name in ipairs(names) do
            assert.equal(name:find(lua) ~= nil, rule.matches(parts, name), pattern .. " on " .. name)
          end
        end
      end
    end
  end)

  it("takes linear time for any pattern", function()
    local parts = {}
    for i = 1, 100 do parts[i] = "A" end
    local name = ("A"):rep(250) .. "B"
    for _ = 1, 1000 do assert.is_false(rule.matches(parts, name)) end
  end)

  it("is refused with what was expected", function()
    for text, value in pairs {
      ['got "KXBTC"; for one ticker write { "KXBTC" }'] = "KXBTC",
      ['expected "all", a list of tickers or patterns'] = 3,
      ["got a boolean"] = true,
      ["got an empty list"] = {},
      ['[2]: expected a ticker or a pattern of letters, digits, \'.\', \'_\', \'-\' and \'*\', got "B C"'] = { "A", "B C" },
      ["[1]: expected a ticker or a pattern of letters, digits, '.', '_', '-' and '*', got a number"] = { 7 },
      ['got the key "series"'] = { series = "KXBTC" },
      ["got a list with holes"] = { "A", nil, "B", [9] = "C" },
      ['got "KX BTC*"'] = "KX BTC*",
    } do
      local normal, expected = rule.check(value)
      assert.is_nil(normal)
      assert.matches(text, expected, 1, true)
    end
  end)
end)

describe("the chooser", function()
  local host, chooser, rule, tm
  before_each(function()
    local declare
    tm, host, declare = fake.load()
    declare.running = true
    chooser, rule = require "tidemill.chooser", require "tidemill.rule"
  end)

  local function make(value, count)
    local markets = {
      get = function(_, name) local n = tonumber(name:sub(2)) return n and n <= count and { ticker = name } or nil end,
      following = function(_, n) n = (n or 0) + 1 if n <= count then return n, { ticker = "T" .. n } end end,
      is_complete = function() return true end,
      is_expected = function() return false end,
    }
    local spread = tm.spread("s", 1, 1000)
    return chooser.new { rule = rule.check(value), spread = spread, markets = markets, every_us = 60e6, what = "x",
                         failed = function() end, done = function() end }, spread
  end

  it("does its work in steps of a bounded number", function()
    local judged, most, steps = 0, 0, 0
    local c, spread = make(function() judged = judged + 1 return judged % 100 == 0 end, 2300)
    local before = 0
    while c:step() do
      most, before, steps = math.max(most, judged - before), judged, steps + 1
    end
    assert.equal(2300, judged)
    assert.equal(500, most)
    assert.is_true(steps >= 5)
    assert.equal(23, spread:stats().names)
    assert.is_false(c:step()) -- nothing more until it is due
    host.clock_us = 60e6
    assert.is_true(c:step())
  end)

  it("judges what has changed before it goes on with the rest, each once", function()
    local order = {}
    local c = make(function(market) order[#order + 1] = market.ticker return false end, 3)
    c:changed "T3"
    c:changed("FRESH", { ticker = "FRESH" })
    c:changed "T3"
    c:changed "GONE"
    c:gone "GONE"
    c:step()
    assert.same({ "T3", "FRESH" }, order)
    repeat local more = c:step() until not more
    assert.same({ "T3", "FRESH", "T1", "T2", "T3" }, order)
  end)

  it("judges what has changed soon, without waiting for the rest", function()
    local order, done = {}, 0
    local c = make(function(market) order[#order + 1] = market.ticker return true end, 2000)
    c.done = function() done = done + 1 end
    for i = 1, 700 do c:changed("T" .. i) end
    assert.equal(1, #host.timers)
    assert.equal(20e3, host.timers[1].after_us)
    fake.fire(host)
    assert.equal(700, #order)
    assert.equal(1, done)
  end)

  -- A rule that is stopped for taking too long ends the step: an error that pcall does not catch in the real VM.
  it("goes on behind a market whose choice was stopped", function()
    local order = {}
    local c = make(function(market) order[#order + 1] = market.ticker return true end, 3)
    local real = pcall
    _G.pcall = function(fn, market) -- luacheck: ignore
      if market.ticker == "T2" then order[#order + 1] = "stopped" error "killed" end
      return real(fn, market)
    end
    repeat
      local ok, more = real(c.step, c)
    until ok and not more
    _G.pcall = real -- luacheck: ignore
    assert.same({ "T1", "stopped", "T3" }, order)
  end)
end)
