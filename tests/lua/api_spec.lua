local fake = dofile "tests/lua/fake_host.lua"

local tm, host, declare

local function load(env) tm, host, declare = fake.load(env) end

local function problem_with(text)
  for _, p in ipairs(fake.problems(declare)) do
    if p:find(text, 1, true) then return p end
  end
  error(text .. " is not among\n" .. table.concat(fake.problems(declare), "\n"))
end

local function gatherer() tm.gatherer { id = "g", store = "s", data = "d" } end

local function run() -- to run time
  gatherer()
  local declared = declare.finish("file.lua", true)
  assert.same({}, declared.errors)
  declared.begin()
  return declared
end

local function message_of(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  return tostring(err)
end

describe("secrets", function()
  before_each(function()
    load()
    host.secrets = { ["file:/p"] = "hunter2", ["credential:c"] = "c'an\\ary" }
  end)

  it("come from one source", function()
    assert.equal("***", tostring(tm.secret { file = "/p" }))
    tm.secret {}
    tm.secret { file = "/p", env = "X" }
    tm.secret { file = "/absent" }
    tm.secret { fil = "/p" }
    tm.secret { credential = 5 }
    problem_with "tm.secret: expected one of file, credential, env"
    problem_with "tm.secret: no file /absent"
    problem_with 'unknown key "fil", did you mean "file"?'
    problem_with "credential: expected text, got 5"
  end)

  it("make conninfos that are secrets", function()
    assert.equal("host='a,b' port='5433' dbname='x'", tm.conninfo { dbname = "x", host = { "a", "b" }, port = 5433 })
    local whole = tm.conninfo { host = "a", password = tm.secret { file = "/p" } }
    assert.equal("***", tostring(whole))
    assert.equal("host='a' password='hunter2'", whole.text)
    assert.equal("***", tostring(tm.conninfo { password = "in the script" }))
    tm.conninfo { hots = "a" }
    tm.conninfo { host = true }
    tm.conninfo { host = { "a", tm.secret { file = "/p" } } }
    problem_with 'tm.conninfo: unknown key "hots", did you mean "host"?'
    problem_with "host: expected text or tm.secret { ... }, got a boolean"
    problem_with "host: [2]: expected text, got a secret"
  end)

  it("stand for conninfos, keys and headers", function()
    local p = tm.secret { file = "/p" }
    tm.deduplicator { id = "d", production = p, gatherers = { g2 = "host=b", g1 = p } }
    tm.signer { key_id = p, key = p, message = "{path}", headers = { ["X-Key"] = p, ["X-Id"] = "{key_id}" } }
    local declared = declare.finish("file.lua", true)
    assert.same({}, declared.errors)
    assert.equal(p, declared.role.production)
    assert.same({ { id = "g1", conninfo = p }, { id = "g2", conninfo = "host=b" } }, declared.role.gatherers)
    assert.same({ { name = "X-Key", value = p } }, declared.signers[1].secrets)
    assert.same({ { name = "X-Id", value = "{key_id}" } }, declared.signers[1].headers)
  end)

  it("are asked for where text would be in the script", function()
    tm.signer { key = "-----BEGIN", message = "x", headers = { a = "b" } }
    problem_with "key: expected tm.secret { ... }, got a string"
    for _, p in ipairs(fake.problems(declare)) do assert.is_nil(p:find("BEGIN", 1, true)) end
  end)
end)

describe("state", function()
  before_each(function() load() end)

  -- Save in this generation, read in a fresh one that declares the same names.
  local function reload(names)
    local text = declare.declared.save_state()
    load()
    local tables = {}
    for name, defaults in pairs(names) do tables[name] = tm.state(name, defaults) end
    declare.declared.restore_state(text)
    return tables
  end

  it("comes back as it was, in the same table", function()
    local s = tm.state("s", { v = 1, list = { 1 }, old = true })
    assert.same({ v = 1, list = { 1 }, old = true }, s)
    local values = {
      text = 'a"\\\0\n\1ü', big = 2 ^ 53, bigger = -2 ^ 63, inf = math.huge, less = -math.huge,
      empty = {}, list = { 1, { 2, "x" }, false }, holes = { [1] = "a", [3] = "b" }, mixed = { 1, 2, x = 3 },
      keys = { [true] = 1, [0.5] = 2, [-1] = 3, [2 ^ 60] = 4 }, ["#number"] = "inf", ["#"] = { ["#pairs"] = { 1 } },
      deep = { a = { b = { c = { d = { e = 1 } } } } }, ["null"] = tm.null, no = false,
    }
    values.shifted = { nil, 2, 3, x = 1 } -- its length may be 3
    for k in pairs(s) do s[k] = nil end
    for k, v in pairs(values) do s[k] = v end
    s.nan = 0 / 0
    local again = reload { s = { v = 9, extra = { 5 } } }.s
    assert.is_true(again.nan ~= again.nan)
    again.nan = nil
    assert.equal(tm.null, again["null"])
    again["null"], values["null"] = nil, nil -- each fake host has one of its own
    values.v, values.extra = 9, { 5 } -- defaults fill what is not there
    assert.same(values, again)
    again.extra[1] = 6
  end)

  it("keeps marked arrays marked and others plain", function()
    local s = tm.state("s", { a = tm.json.array {}, b = {}, c = tm.json.array { 1 }, d = { 1 } })
    s.x = 1
    local again = reload { s = {} }.s
    local mark = getmetatable(tm.json.array {})
    assert.same({ mark, nil, mark, nil },
                { getmetatable(again.a), getmetatable(again.b), getmetatable(again.c), getmetatable(again.d) })
    assert.same({ 1 }, again.c)
  end)

  it("says where what cannot be kept is", function()
    local s = tm.state "s"
    local function refused(value, text)
      s.a = { value }
      assert.equal(text, message_of(declare.declared.save_state))
    end
    refused(print, "state s.a[1]: a function cannot be kept, only texts, numbers, booleans and plain tables")
    refused({ ["x y"] = coroutine.create(print) },
            'state s.a[1]["x y"]: a thread cannot be kept, only texts, numbers, booleans and plain tables')
    refused({ [{}] = 1 }, "state s.a[1]: a key that is a table cannot be kept")
    refused(setmetatable({}, {}), "state s.a[1]: a table with a metatable (an object) cannot be kept, only plain tables")
    host.secrets["file:/p"] = "x"
    refused(tm.secret { file = "/p" }, "state s.a[1]: a secret cannot be kept, only texts, numbers, booleans and plain tables")
    local cycle = { x = {} }
    cycle.x.y = cycle
    refused(cycle, "state s.a[1].x.y: the table contains itself")
    local deep = {}
    local inner = deep
    for _ = 1, 25 do inner[1] = {} inner = inner[1] end
    s.a = deep
    assert.matches("nested deeper than 20 tables", message_of(declare.declared.save_state), 1, true)
    local shared = {}
    s.a = { shared, shared } -- twice is no cycle
    declare.declared.save_state()
  end)

  it("is bounded", function()
    local s = tm.state "s"
    s.a = ("x"):rep(2 ^ 20)
    assert.matches("state s: 10486%d%d bytes, more than 1 MiB", message_of(declare.declared.save_state))
    s.a = nil
    for i = 1, 17 do tm.state("t" .. i).a = ("x"):rep(2 ^ 20 - 100) end
    assert.matches("bytes in all, more than 16 MiB", message_of(declare.declared.save_state), 1, true)
  end)

  it("waits one generation for a script that does not ask for it", function()
    tm.state("a", { v = 1 })
    tm.state("b", { v = 2 })
    reload { b = {} }
    assert.equal(1, reload({ a = {}, b = {} }).a.v)
    reload { b = {} }
    local tables = reload { b = {} }
    assert.equal(2, tables.b.v)
    local dropped = fake.named(host, "log")
    assert.equal("a", dropped[#dropped][4].state)
    assert.is_nil(reload({ a = {}, b = {} }).a.v)
  end)

  it("is declared once, with a name and plain defaults", function()
    tm.state "a"
    tm.state "a"
    tm.state "a b"
    tm.state("c", { print })
    tm.state("d", 5)
    problem_with "tm.state a: is declared already at"
    problem_with "tm.state: expected an id"
    problem_with "tm.state c: defaults: state c[1]: a function cannot be kept"
    problem_with "tm.state d: defaults: expected a table, got a number"
    load()
    run()
    assert.matches("declare time", message_of(tm.state, "late"), 1, true)
  end)
end)

describe("SQL", function()
  local db
  before_each(function()
    load()
    db = tm.sql { conninfo = "dbname=x" }
  end)

  it("is declared", function()
    assert.same({ conninfo = "dbname=x", timeout_us = 10e6, connections = 2, rows_max = 10000, bytes_max = 16 * 2 ^ 20 },
                (function() local d = {} for k, v in pairs(declare.declared.sqls[1]) do if k ~= "at" then d[k] = v end end
                            return d end)())
    tm.sql { conninfo = 5, connections = 17, timout = "1s" }
    tm.sql { conninfo = "x", timeout = "1us", max_bytes = "1GiB" }
    problem_with "conninfo: expected text or tm.secret"
    problem_with "connections: expected an integer from 1 to 16, got 17"
    problem_with 'unknown key "timout", did you mean "timeout"?'
    problem_with "timeout: expected at least 1ms"
    problem_with "max_bytes: expected at most 256MiB"
  end)

  it("gives rows, counts and errors", function()
    host.rows = function(index, transaction, text, ...)
      assert.same({ 1, nil, 2 }, { index, transaction, select("#", ...) })
      if text == "bad" then return nil, { message = "m", sqlstate = "42601" } end
      return { { a = 1 } }, 3
    end
    assert.same({ { a = 1 } }, db:query("good", 1, nil))
    assert.equal(3, db:exec("good", 1, nil))
    assert.same({ nil, { message = "m", sqlstate = "42601" } }, { db:query("bad", 1, nil) })
    assert.same({ nil, { message = "m", sqlstate = "42601" } }, { db:exec("bad", 1, nil) })
  end)

  local function ends() return fake.named(host, "end") end

  it("commits what returns", function()
    assert.same({ 5, 6 }, { db:transaction(function(tx)
      tx:query "q"
      return 5, 6
    end) })
    assert.same({ "sql", 1, 7, "q" }, fake.named(host, "sql")[1])
    assert.same({ { "end", 7, true } }, ends())
    assert.is_true(db:transaction(function() end))
    assert.is_false(db:transaction(function() return false end))
  end)

  it("rolls back what raises or returns an error", function()
    local kept
    assert.equal("boom", message_of(db.transaction, db, function(tx) kept = tx error("boom", 0) end))
    assert.same({ { "end", 7, false } }, ends())
    local ok, err = db:transaction(function() return nil, { message = "m" } end)
    assert.same({ nil, { message = "m" } }, { ok, err })
    assert.same({ "end", 7, false }, ends()[2])
    kept:query "after"
    assert.equal(0, fake.named(host, "sql")[1][3]) -- no transaction has the number 0
  end)

  it("tells what cannot begin or commit", function()
    host.ended = false
    assert.same({ nil, { message = "not ended" } }, { db:transaction(function() return 5 end) })
    host.begun = false
    assert.same({ nil, { message = "no" } }, { db:transaction(function() error "never" end) })
    assert.matches("expected a function", message_of(db.transaction, db, 5), 1, true)
  end)
end)

describe("HTTP requests", function()
  before_each(function()
    load()
    host.secrets["file:/p"] = "hunter2"
  end)

  it("send any method with headers and JSON", function()
    local token = tm.secret { file = "/p" }
    run()
    local r = tm.http.post("https://x/", { json = { a = 1 }, headers = { Authorization = token:format "Bearer {}" } })
    local sent = fake.named(host, "http")[1][3]
    assert.same({ "POST", "https://x/", '{"a":1}' }, { sent.method, sent.url, sent.body })
    assert.equal("Authorization: Bearer hunter2", sent.headers[1].text)
    assert.same({ "Content-Type: application/json", "Accept: application/json" }, { sent.headers[2], sent.headers[3] })
    assert.is_true(r:ok())
    assert.same({}, r:json())
    tm.http.get("https://x/", { headers = { Accept = "text/html" }, timeout = "2s", max_body = "1KiB" })
    sent = fake.named(host, "http")[2][3]
    assert.same({ "GET", 2e6, 1024, "Accept: text/html" }, { sent.method, sent.timeout_us, sent.bytes_max, sent.headers[1] })
  end)

  it("refuse what they do not understand", function()
    run()
    local function refused(options, text) assert.matches(text, message_of(tm.http.request, options), 1, true) end
    refused({}, 'missing key "url"')
    refused({ url = "x", methd = "GET" }, 'unknown key "methd", did you mean "method"?')
    refused({ url = "x", method = "FETCH" }, 'unknown value "FETCH"')
    refused({ url = "x", headers = { ["a b"] = "c" } }, "expected names of headers")
    refused({ url = "x", headers = { a = "b\r\nc: d" } }, "without line breaks")
    refused({ url = "x", body = "a", json = {} }, "one of body and json")
    refused(5, "expected a table")
    assert.same({}, declare.declared.errors)
    assert.matches("api_spec.lua", message_of(function() local r = tm.http.request { urll = 1 } return r end), 1, true)
  end)

  it("are repeated when that is safe", function()
    run()
    local function tries(options, status)
      host.calls = {}
      host.answer = function() return { status = status, body = "" } end
      options.url = "https://x/"
      tm.http.request(options)
      return #fake.named(host, "http")
    end
    assert.equal(2, tries({}, 503))
    assert.equal(1, tries({}, 404))
    assert.equal(1, tries({ method = "POST" }, 503))
    assert.equal(4, tries({ method = "POST", retries = 3 }, 0))
    assert.equal(3, tries({ retries = 2 }, 429))
    assert.equal(1, tries({ retries = 0 }, 500))
  end)
end)

describe("metrics", function()
  before_each(function() load() end)

  it("take values of labels at use, bounded", function()
    local calls = tm.counter { name = "calls_total", help = "Calls", labels = { "endpoint", "ok" }, max = 2 }
    local took = tm.histogram { name = "took", help = "Time" }
    local plain = tm.gauge("plain", "Plain", 'a="b"')
    run()
    for i = 1, 4 do
      calls:add(1, { endpoint = "/" .. i, ok = true })
      calls:add(2, { endpoint = "/1", ok = true })
    end
    took:observe(0.5)
    plain:set(3)
    assert.same({ { "add", "calls_total", "/1,true", 1 }, { "add", "calls_total", "/1,true", 2 },
                  { "add", "calls_total", "/2,true", 1 }, { "add", "calls_total", "/1,true", 2 },
                  { "add", "calls_total", "other", 1 }, { "add", "calls_total", "/1,true", 2 },
                  { "add", "calls_total", "other", 1 }, { "add", "calls_total", "/1,true", 2 } }, fake.named(host, "add"))
    assert.equal(4, #fake.named(host, "labelled")) -- a known set is not asked for again
    assert.same({ "observe", "took", "", 0.5 }, fake.named(host, "observe")[1])
    assert.same({ "set", "plain", 'a="b"', 3 }, fake.named(host, "set")[1])
  end)

  it("refuse values that do not fit", function()
    local calls = tm.counter { name = "calls_total", help = "Calls", labels = { "endpoint" } }
    local plain = tm.counter("plain_total", "Plain")
    run()
    assert.matches('unknown label "endpont", did you mean "endpoint"?', message_of(calls.add, calls, 1, { endpont = "x" }), 1, true)
    assert.matches("label endpoint: expected text", message_of(calls.add, calls, 1, {}), 1, true)
    assert.matches("expected values for its labels", message_of(calls.add, calls), 1, true)
    assert.matches("declared without labels", message_of(plain.add, plain, 1, { a = 1 }), 1, true)
    assert.matches("api_spec.lua", message_of(function() calls:add(1, {}) end), 1, true)
    assert.matches("api_spec.lua", message_of(function() plain:add(1, {}) end), 1, true)
  end)

  it("can be made in a handler", function()
    run()
    tm.counter("now_total", "Now"):add()
    tm.gauge { name = "later", help = "Later", labels = { "x" } }:set(1, { x = 5 })
    assert.same({ "add", "now_total", "", 1 }, fake.named(host, "add")[1])
    assert.same({ "set", "later", "5", 1 }, fake.named(host, "set")[1])
    assert.matches('unknown key "nam"', message_of(tm.counter, { nam = "x" }), 1, true)
    assert.matches("api_spec.lua", message_of(function() local c = tm.counter { nam = "x" } return c end), 1, true)
  end)

  it("have names that Prometheus takes, one kind each", function()
    tm.counter("a-b", "x")
    tm.counter { name = "9a", help = "x" }
    tm.gauge { name = "a", help = "x", labels = { "a-b" } }
    tm.histogram { name = "h", help = "x", labels = { "le" } }
    tm.gauge { name = "b", help = "x", max = 101 }
    tm.gauge { name = "c", labels = "x" }
    tm.gauge("twice", "x")
    tm.counter("twice", "x")
    problem_with 'tm.counter: expected a name of letters, digits, \'_\' and \':\', got "a-b"'
    problem_with 'name: expected a name of letters, digits, \'_\' and \':\', got "9a"'
    problem_with "labels: [1]: expected a name of letters"
    problem_with "le is the histogram's own"
    problem_with "max: expected an integer from 1 to 100, got 101"
    problem_with 'missing key "help"'
    problem_with "tm.counter twice: is a gauge already at"
  end)
end)

describe("alerts", function()
  before_each(function() load() end)

  it("become plain tables", function()
    tm.alert "Deaf" { when = "x == 0", hold = "30s", every = "4h", severity = "critical", clear = "x > 5",
                      summary = "{id} {value}", labels = { b = "2", a = "1" }, runbook = "https://x" }
    local a = declare.declared.alerts[1]
    a.at = nil
    assert.same({ name = "Deaf", when = "x == 0", hold_us = 30e6, every_us = 4 * 3600e6, severity = "critical", clear = "x > 5",
                  summary = "{id} {value}", labels = { { name = "a", value = "1" }, { name = "b", value = "2" } },
                  runbook = "https://x" }, a)
    tm.alert "Other" { when = "y > 1" }
    assert.same({ "warning", 0 }, { declare.declared.alerts[2].severity, declare.declared.alerts[2].hold_us })
  end)

  it("say what is wrong with them", function()
    tm.alert "a b" { when = "x == 0" }
    tm.alert "A" { whn = "x == 0", severity = "criticl", summary = "{valu}", labels = { ["a-b"] = "x" } }
    tm.alert "A" { when = "x == 0" }
    tm.alert "B" { when = "x == 0", every = "1ms", hold = 30 }
    problem_with "tm.alert: expected a name"
    problem_with 'unknown key "whn", did you mean "when"?'
    problem_with 'severity: unknown value "criticl", did you mean "critical"?'
    problem_with 'summary: unknown placeholder "valu", did you mean "value"?'
    problem_with "labels: expected names"
    problem_with "tm.alert A: is declared already"
    problem_with "every: expected at least 1s"
    problem_with "hold: expected a duration"
  end)

  it("reach handlers", function()
    local seen = {}
    tm.on("alert", function(a) seen[#seen + 1] = a.name .. ":" .. a.state end)
    run().dispatch { type = "alert", name = "A", state = "firing" }
    assert.same({ "A:firing" }, seen)
  end)
end)

describe("notifications", function()
  local posts
  before_each(function()
    load()
    host.secrets["file:/hook"] = "https://x/hunter2"
    posts = {}
  end)

  local function answer(...)
    local statuses = { ... }
    host.answer = function(request)
      posts[#posts + 1] = request
      return { status = table.remove(statuses, 1) or 200, body = "" }
    end
  end

  local function declare_targets()
    tm.notify "ops" { url = tm.secret { file = "/hook" }, headers = { ["X-A"] = "b" } }
    tm.notify "plain" { url = "https://y/", format = "text", min_interval = "5s" }
  end

  it("are posted as JSON or text", function()
    declare_targets()
    answer()
    run()
    tm.notify.send("ops", "hello", { n = 5, s = "x" })
    tm.notify.send("plain", "hello", { n = 5, s = "x" })
    assert.equal("https://x/hunter2", posts[1].url.text)
    assert.same({ text = "hello", fields = { n = 5, s = "x" }, id = "g", at_us = 0 }, fake.json.decode(posts[1].body))
    assert.equal("X-A: b", posts[1].headers[1])
    assert.equal("hello\nn: 5\ns: x", posts[2].body)
    assert.equal(2, #fake.named(host, "add"))
  end)

  it("are repeated, and given up when that is of no use", function()
    declare_targets()
    run()
    answer(0, 503, 429, 200)
    tm.notify.send("ops", "a")
    assert.equal(4, #posts)
    answer(404)
    tm.notify.send("ops", "b")
    assert.equal(5, #posts)
    answer(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200)
    tm.notify.send("ops", "c")
    assert.equal(15, #posts)
    local names = {}
    for _, call in ipairs(fake.named(host, "add")) do names[#names + 1] = call[2] end
    assert.same({ "tidemill_notify_sent_total", "tidemill_notify_dropped_total", "tidemill_notify_dropped_total" }, names)
  end)

  it("wait in a bounded queue, in order and at a pace", function()
    declare_targets()
    run()
    local tasks = {}
    host.spawn = function(_, fn, ...) local args = { ... } tasks[#tasks + 1] = function() fn(unpack(args)) end end
    answer()
    for i = 1, 103 do tm.notify.send("plain", "m" .. i) end
    assert.equal(1, #tasks)
    assert.equal(3, #fake.named(host, "log")) -- dropped
    tasks[1]()
    assert.equal(100, #posts)
    assert.same({ "m4", "m103" }, { posts[1].body, posts[100].body })
    assert.equal(99 * 5e6, host.clock_us)
    tm.notify.send("plain", "again")
    assert.equal(2, #tasks)
  end)

  it("survive a reload", function()
    declare_targets()
    local declared = run()
    host.spawn = function() end
    tm.notify.send("ops", "kept", { a = 1 })
    tm.notify.send("plain", "lost")
    local text = declared.save_state()
    load()
    host.secrets["file:/hook"] = "https://x/hunter2"
    tm.notify "ops" { url = "https://new/" }
    declare.declared.restore_state(text)
    posts = {}
    answer()
    run()
    assert.equal(1, #posts)
    assert.equal("https://new/", posts[1].url)
    assert.equal("kept", fake.json.decode(posts[1].body).text)
    assert.equal("plain", fake.named(host, "log")[1][4].target)
  end)

  it("refuse what is none", function()
    declare_targets()
    tm.notify "ops" { url = "x" }
    tm.notify "bad" { format = "xml" }
    problem_with "tm.notify ops: is declared already"
    problem_with 'format: unknown value "xml"'
    problem_with 'missing key "url"'
    assert.matches("run time", message_of(tm.notify.send, "ops", "x"), 1, true)
    load()
    host.secrets["file:/hook"] = "https://x/hunter2"
    declare_targets()
    run()
    local function refused(text, ...) assert.matches(text, message_of(tm.notify.send, ...), 1, true) end
    refused('unknown target "opps", did you mean "ops"?', "opps", "x")
    refused("expected text, got a table", "ops", {})
    refused("field a: expected text, a number or a boolean, got a table", "ops", "x", { a = {} })
    refused("field a: expected text, a number or a boolean, got a number", "ops", "x", { a = 0 / 0 })
    refused("with names", "ops", "x", { "a" })
  end)
end)
