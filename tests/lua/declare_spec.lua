local fake = dofile "tests/lua/fake_host.lua"

describe("declarations", function()
  local tm, host, declare
  before_each(function() tm, host, declare = fake.load { TIDEMILL_ID = "g7", N = "12", EMPTY = "", BAD = "x" } end)

  local function finish() return declare.finish("file.lua", true) end
  local function problem_with(text)
    for _, p in ipairs(fake.problems(declare)) do
      if p:find(text, 1, true) then return p end
    end
    error(text .. " is not among\n" .. table.concat(fake.problems(declare), "\n"))
  end
  local function gatherer() tm.gatherer { id = "g", store = "s", data = "d" } end

  it("have no effect at declare time", function()
    gatherer()
    tm.feed { url = "ws://127.0.0.1/x" }
    tm.every("1s", function() error "never" end)
    tm.on("start", function() error "never" end)
    finish()
    assert.same({}, host.calls)
    assert.same({}, host.timers)
  end)

  it("read the environment", function()
    assert.equal("g7", tm.env("TIDEMILL_ID", "g1"))
    assert.equal("g1", tm.env("NOT_THERE", "g1"))
    assert.equal("g1", tm.env("EMPTY", "g1"))
    assert.is_nil(tm.env "NOT_THERE")
    assert.equal(12, tm.env("N", 3))
    assert.equal(3, tm.env("BAD", 3))
    problem_with 'tm.env BAD: expected a number, got "x"'
  end)

  it("say where they stand", function()
    tm.gatherer { idd = "g", store = "s", data = "d" } local line = debug.getinfo(1, "l").currentline
    local text = problem_with 'unknown key "idd", did you mean "id"?'
    assert.matches("declare_spec.lua:" .. line, text, 1, true)
  end)

  it("need exactly one role", function()
    problem_with "declares no role"
    gatherer()
    tm.deduplicator { id = "d", production = "p", gatherers = "g=x" }
    problem_with "a process has one"
  end)

  it("name gatherers by text or table, in order", function()
    tm.deduplicator { id = "d", production = "p", gatherers = " g2=host=b; g1=host=a password=x=y ;" }
    assert.same({ { id = "g1", conninfo = "host=a password=x=y" }, { id = "g2", conninfo = "host=b" } }, finish().role.gatherers)
  end)

  it("refuse gatherers that are no list of them", function()
    for i, bad in ipairs { "", "g1", "=x", "g1=", "g1=a;g1=b", {}, { "x" }, { ["g 1"] = "x" }, 5 } do
      tm, host, declare = fake.load()
      tm.deduplicator { id = "d", production = "p", gatherers = bad }
      assert.is_true(#fake.problems(declare) > 0, "accepted number " .. i)
    end
  end)

  describe("of streams", function()
    local function stream(changes)
      local definition = { columns = { { "id", "uuid", not_null = true }, { "price", "int4", scale = 6 } }, key = { "id" } }
      for key, value in pairs(changes or {}) do definition[key] = value end
      tm.stream "s" (definition)
    end

    it("become plain tables", function()
      gatherer()
      tm.protocol { tag = "type" }
      stream { window = "2s", memory = "1KiB" }
      tm.kind "k" { stream = "s", from = { id = "a.id", price = { tm.decimal "a.p", tm.decimal("a.q", { one_minus = true }) } } }
      local declared = finish()
      assert.same({}, declared.errors)
      local s, k = declared.streams[1], declared.kinds[1]
      assert.equal(2000000, s.window_us)
      assert.equal(1024, s.memory_bytes)
      assert.same({ column = "id", from = "paths", paths = { { path = "a.id", unit = "plain", scale = 0, one_minus = false } } },
                  k.sources[1])
      assert.same({ { path = "a.p", unit = "decimal", scale = 6, one_minus = false },
                    { path = "a.q", unit = "decimal", scale = 6, one_minus = true } }, k.sources[2].paths)
    end)

    it("give columns without a source NULL", function()
      gatherer()
      stream()
      tm.kind "k" { stream = "s", from = { id = "a" } }
      assert.equal("null", finish().kinds[1].sources[2].from)
    end)

    it("refuse unknown columns, types and streams with the nearest name", function()
      stream { key = { "idd" }, time = "price" }
      tm.kind "k" { stream = "s", from = { prce = "a", id = "b" } }
      tm.kind "l" { stream = "tradez" }
      tm.kind "l" { stream = "s" }
      tm.stream "trades" { columns = { { "a", "text" } }, key = { "a" } }
      tm.stream "u" { columns = { { "a", "int5" }, { "a-b", "text" }, { "c", "text", nul = true }, "d" } }
      problem_with 'key: unknown column "idd", did you mean "id"?'
      problem_with 'stream: unknown stream "tradez", did you mean "trades"?'
      problem_with "tm.kind l: is declared already"
      problem_with 'columns[1]: type: unknown value "int5", did you mean "int2"?'
      problem_with "columns[2]: name: expected a name"
      problem_with 'columns[3]: unknown key "nul"'
      problem_with "columns[4]: expected a column like"
    end)

    it("refuse sources that are none", function()
      stream()
      tm.kind "k" { stream = "s", from = { id = 5 } }
      tm.kind "l" { stream = "s", from = { id = { "a", tm.tag } } }
      tm.kind "m" { stream = "s", from = {} }
      problem_with "tm.kind k: from: id: expected a path"
      problem_with "tm.kind l: from: id: expected only paths"
      problem_with 'tm.kind m: from: column "id" of stream s must have a source'
    end)

    it("take another key from tm.dedup", function()
      gatherer()
      stream()
      tm.dedup("s", { key = { "price" }, window = "1h" })
      local s = finish().streams[1]
      assert.same({ "price" }, s.key)
      assert.equal(3600e6, s.window_us)
    end)

    describe("with a key from a moment on", function()
      local function daily(changes)
        local definition = {
          columns = { { "id", "text", not_null = true }, { "at", "timestamptz", not_null = true }, { "n", "int2", not_null = true } },
          key = { "at", "id" }, time = "at", partition = "day", partition_column = "at",
        }
        for key, value in pairs(changes or {}) do definition[key] = value or nil end
        tm.stream "d" (definition)
      end

      it("keep their first key and gain others", function()
        gatherer()
        daily()
        tm.dedup("d", { key = { "at", "id", "n" }, from = "2026-11-26T00:00:00Z" })
        tm.dedup("d", { occurrence = true, key = { "at" }, from = "2026-11-27T00:00:00Z" })
        tm.dedup("d", { window = "1h", key = { "id", "at" } })
        tm.dedup("d", { occurrence = false, from = "2026-11-28T00:00:00Z" })
        local declared = finish()
        assert.same({}, declared.errors)
        local s, keys = declared.streams[1], {}
        for i, k in ipairs(s.later_keys) do keys[i] = { k.from_us, k.key, k.occurrence } end
        assert.same({ "id", "at" }, s.key)
        assert.same({
          { 1795651200e6, { "at", "id", "n" }, false }, { 1795737600e6, { "at" }, true }, { 1795824000e6, { "at" }, false },
        }, keys)
      end)

      it("say what is wrong with it", function()
        daily()
        tm.dedup("d", { key = { "at" }, from = "soon" })
        tm.dedup("d", { from = "2026-11-25T00:00:00Z" })
        tm.dedup("d", { key = { "at", "idd" }, from = "2026-11-25T00:00:00Z" })
        tm.dedup("d", { key = { "at" }, window = "1h", from = "2026-11-25T00:00:00Z" })
        tm.dedup("d", { key = { "at" }, from = "2026-11-26T00:00:00Z" })
        tm.dedup("d", { key = { "at" }, from = "2026-11-26T00:00:00Z" }) local line = debug.getinfo(1, "l").currentline
        problem_with 'tm.dedup d: from: expected a moment like "2026-11-26T00:00:00Z", got "soon"'
        problem_with "tm.dedup d: from: expected the key, or the occurrence, that begins then"
        problem_with 'tm.dedup d: key: unknown column "idd", did you mean "id"?'
        problem_with "tm.dedup d: window: cannot begin at a moment"
        local text = problem_with "expected a moment later than 2026-11-26T00:00:00Z, of the key before it at "
        assert.matches("declare_spec.lua:" .. line, text, 1, true)
        assert.same({ "at", "id" }, declare.declared.streams[1].key) -- "soon" did not become the first key
      end)

      it("have four of them at most", function()
        daily()
        for day = 1, 4 do tm.dedup("d", { key = { "at" }, from = ("2026-11-0%dT00:00:00Z"):format(day) }) end
        problem_with "a stream has at most 4 keys"
        assert.equal(3, #declare.declared.streams[1].later_keys)
      end)

      it("must be streams whose records can be told by time", function()
        for changes, reason in pairs {
          [{ time = false }] = "names no time column", [{ within = "5m" }] = "a within stream", [{ mode = "upsert" }] = "an upsert stream",
          [{ observer = true, key = false }] = "an observer stream", [{ partition = "hash", partition_column = false }] = "by hash",
          [{ partition = "none", partition_column = false }] = "it is one table", [{ time = "at2" }] = "another column",
        } do
          tm, host, declare = fake.load()
          daily(changes)
          tm.dedup("d", { key = { "at" }, from = "2026-11-26T00:00:00Z" })
          problem_with("from: the key of this stream cannot change at a moment of exchange time: it")
          problem_with(reason)
        end
      end)
    end)

    it("know the streams that tm.dedup names", function()
      stream()
      tm.dedup("tt", { window = "1h" })
      tm.dedup("s", { key = { "prize" } })
      problem_with 'tm.dedup tt: unknown stream, expected one of s'
      problem_with 'tm.dedup s: key: unknown column "prize", did you mean "price"?'
    end)
  end)

  it("become handlers and timers at run time", function()
    gatherer()
    local seen = {}
    tm.on("start", function(e) seen[#seen + 1] = e.type end)
    tm.on("gap", function(e) seen[#seen + 1] = e.first end)
    tm.every("2s", function() end)
    local once = tm.after("1s", function() end)
    local declared = finish()
    declared.begin()
    declared.dispatch { type = "gap", first = 7, link_id = 3 }
    assert.same({ "start", 7 }, seen)
    assert.equal(2, #host.timers)
    assert.same({ 2e6, 2e6 }, { host.timers[1].after_us, host.timers[1].every_us })
    assert.same({ 1e6, 0 }, { host.timers[2].after_us, host.timers[2].every_us })
    assert.is_true(once:cancel())
    assert.has_error(function() tm.stream "late" end, nil)
    assert.has_error(function() tm.after("soon", function() end) end, nil)
  end)

  it("say how many failures disable a handler or timer", function()
    gatherer()
    tm.on("start", function() end, { failures = 3 })
    tm.every("1s", function() end, { failures = 4 })
    tm.every("2s", function() end)
    tm.after("1s", function() end)
    finish().begin()
    local calls = {}
    for _, call in ipairs(fake.named(host, "callback")) do calls[#calls + 1] = { call[2], call[4] } end
    assert.same({ { "event", 3 }, { "timer", 4 }, { "timer" }, { "timer", 0 } }, calls)
    tm.every("1s", function() end, { failures = 5 })
    assert.equal(5, fake.named(host, "callback")[5][4])
    assert.has_error(function() tm.every("1s", function() end, { failures = 0 }) end)
  end)

  it("refuse options of handlers that are none", function()
    tm.on("start", function() end, { failure = 3 })
    problem_with 'tm.on start: unknown key "failure", did you mean "failures"?'
    tm.every("1s", function() end, { failures = "many" })
    problem_with "tm.every: failures: expected an integer from 1 to 1000000"
  end)

  it("limit what the script may use, at once", function()
    tm.gatherer { id = "g", store = "s", data = "d", limits = { load = "5s", step = "250ms", memory = "512MiB" },
                  callback_failures = 3, policy_stuck = "2s" }
    local role = finish().role
    assert.same({ load_us = 5e6, step_us = 250e3, memory_bytes = 512 * 2 ^ 20 }, role.limits)
    assert.same({ 3, 2e6 }, { role.callback_failures, role.policy_stuck_us })
    assert.same({ { "limits", 5e6, 512 * 2 ^ 20 } }, fake.named(host, "limits"))
  end)

  it("name the part of the gatherers that is wrong, and nothing that may be secret", function()
    local function fault(gatherers)
      tm, host, declare = fake.load()
      tm.deduplicator { id = "d", production = "p", gatherers = gatherers }
      local text = problem_with "tm.deduplicator: gatherers: "
      assert.is_nil(text:find("hunter", 1, true))
      return text:match "kalshi_ts\" }: (.*)$"
    end
    assert.equal('part 1 "foo" has no "="', fault "foo")
    assert.equal('part 2 "g2" has no "="', fault "g1=dbname=a; g2 ;g3=dbname=b")
    assert.equal('part 1 "g1" has no conninfo behind "="', fault "g1= ")
    assert.equal('part 1: expected an id before the first "="', fault "g 1=dbname=a")
    assert.equal('part 1 has no "="', fault "postgresql://kalshi:hunter2@host/db")
    assert.equal('part 2 has no "="', fault "g1=host=a password=x;hunter2")
    assert.equal('part 2 has no conninfo behind "="', fault "g1=host=a password=x;hunter2=;g2=host=b")
    assert.equal('part 2 has no "="', fault "g1=postgresql://a:b;hunter2@host/db")
    assert.equal('gatherer "g1": expected an id and its conninfo', fault { g1 = "" })
    assert.equal('gatherer "g 1": expected an id and its conninfo', fault { ["g 1"] = "password=hunter2" })
    assert.equal("a conninfo has no id", fault { "password=hunter2" })
  end)

  it("refuse limits that are none", function()
    tm.gatherer { id = "g", store = "s", data = "d", limits = { steps = "1s", load = "2h", memory = "1KiB" } }
    problem_with 'tm.gatherer: limits: unknown key "steps", did you mean "step"?'
    problem_with 'tm.gatherer: limits: load: expected 1ms to 60s'
    problem_with 'tm.gatherer: limits: memory: expected 16MiB to 64GiB'
  end)

  it("refuse events and handlers that are none", function()
    tm.on("gapp", function() end)
    tm.on("gap", 5)
    problem_with 'tm.on: unknown event "gapp", did you mean "gap"?'
    problem_with "tm.on gap: expected a function"
  end)
end)

describe("REST", function()
  local tm, host, rest
  before_each(function()
    tm, host = fake.load()
    rest = tm.rest { url = "http://127.0.0.1/api/", per_second = 10 }
  end)

  it("writes queries in order, escaped, lists repeated", function()
    rest:get("/x", { b = "a b&c/ü", a = { 1, 2 } })
    assert.equal("http://127.0.0.1/api/x?a=1&a=2&b=a%20b%26c%2F%C3%BC", fake.named(host, "http")[1][2])
  end)

  it("spreads requests in time", function()
    for _ = 1, 5 do rest:get "/x" end
    assert.equal(400000, host.clock_us)
  end)

  it("repeats what may change, with growing pauses and retry_after", function()
    local answers = { { status = 0, body = "" }, { status = 429, body = "", retry_after = "3" }, { status = 503, body = "" },
                      { status = 200, body = "ok" } }
    host.answer = function() return table.remove(answers, 1) end
    local failures = {}
    local response = rest:get_patiently("/x", nil, function(r) failures[#failures + 1] = r.status end)
    assert.equal("ok", response.body)
    assert.same({ 0, 429, 503 }, failures)
    local waited = {}
    for _, call in ipairs(fake.named(host, "sleep")) do waited[call[2]] = true end
    assert.is_true(waited[3e6])
  end)

  it("does not repeat what will not change", function()
    host.answer = function() return { status = 404, body = "" } end
    assert.equal(404, rest:get_patiently("/x").status)
    assert.equal(1, #fake.named(host, "http"))
  end)
end)
