local loop = dofile "tests/lua/fake_loop.lua"
local fake = loop.fake

local tm, host, declare

local function gatherer() tm.gatherer { id = "g", store = "s", data = "d" } end

local function results()
  local list = {}
  for _, run in ipairs(host.runs.ended) do list[#list + 1] = ("%s/%s %s"):format(run.routine, run.subject, run.result) end
  return list
end

local function no_failures() assert.same({}, host.failures) end

local function problem_with(text)
  for _, p in ipairs(fake.problems(declare)) do
    if p:find(text, 1, true) then return p end
  end
  error(text .. " is not among\n" .. table.concat(fake.problems(declare), "\n"))
end

before_each(function()
  tm, host, declare = loop.load()
  gatherer()
end)

describe("events of one's own", function()
  it("need a declaration or a dot, in whatever order", function()
    tm.on("flood", function() end)
    tm.event "flood"
    tm.on("my.thing", function() end)
    assert.same({}, declare.finish("file.lua", true).errors)
  end)

  it("are refused with the nearest name", function()
    tm.event "flooding"
    tm.on("floodin", function() end)
    tm.routine "r" { on = { "gapp" }, run = function() end }
    tm.event "gap"
    problem_with 'tm.on: unknown event "floodin", did you mean "flooding"?'
    problem_with 'tm.routine r: on: unknown event "gapp", did you mean "gap"?'
    problem_with 'tm.event: "gap" is an event of the library'
  end)

  it("reach handlers and those who wait, with their fields", function()
    local seen = {}
    tm.event "flood"
    tm.on("flood", function(event) seen[#seen + 1] = event.level end)
    tm.on("start", function()
      tm.spawn(function()
        local event = tm.wait_for("flood", { match = { level = 2 }, timeout = "5s" })
        seen[#seen + 1] = event.level * 100
      end)
      tm.sleep "1s"
      tm.emit("flood", { level = 1 })
      tm.sleep "1s"
      tm.emit("flood", { level = 2 })
    end)
    loop.begin(declare)
    loop.run(host, "10s")
    no_failures()
    table.sort(seen)
    assert.same({ 1, 2, 200 }, seen)
  end)

  it("that nobody declared cannot be raised or waited for", function()
    local errors = {}
    tm.on("start", function()
      errors[1] = select(2, pcall(tm.emit, "exchange_pause"))
      errors[2] = select(2, pcall(tm.wait_for, "gapp", { timeout = "1s" }))
      errors[3] = select(2, pcall(tm.wait_for, "gap", { timeout = 5 }))
      errors[4] = select(2, pcall(tm.wait_for, "gap", { timeout = "1s", mach = {} }))
    end)
    loop.begin(declare)
    loop.run(host, "1s")
    assert.matches('unknown event "exchange_pause", did you mean "exchange_paused"?', errors[1], 1, true)
    assert.matches('did you mean "gap"?', errors[2], 1, true)
    assert.matches("timeout: expected a duration", errors[3], 1, true)
    assert.matches('unknown key "mach", did you mean "match"?', errors[4], 1, true)
  end)

  it("that do not come in time are nil, at that time", function()
    local got, at = "nothing yet", nil
    tm.on("start", function()
      got = tm.wait_for("gap", { timeout = "3s" })
      at = tm.monotonic()
    end)
    loop.begin(declare)
    loop.run(host, "10s")
    assert.is_nil(got)
    assert.equal(3e6, at)
  end)

  it("are collected by a mailbox while its owner is busy", function()
    local seen = {}
    tm.on("start", function()
      local box = tm.listen("row", { kind = "book" })
      tm.sleep "2s"
      for _ = 1, 3 do
        local row = box:take "1s"
        seen[#seen + 1] = row and row.text or "none"
      end
      box:close()
    end)
    local declared = loop.begin(declare)
    loop.run(host, "1s")
    declared.dispatch { type = "row", kind = "book", text = "A" }
    declared.dispatch { type = "row", kind = "other", text = "X" }
    declared.dispatch { type = "row", kind = "book", text = "B" }
    loop.run(host, "10s")
    assert.same({ "A", "B", "none" }, seen)
  end)

  it("of a replaced script reach those who wait, not its handlers", function()
    local got, handled
    tm.on("gap", function() handled = true end)
    tm.on("start", function() got = tm.wait_for("gap", { timeout = "10s" }) end)
    local declared = loop.begin(declare)
    loop.run(host, "1s")
    declared.observe { type = "gap", first = 7 }
    loop.run(host, "1s")
    assert.equal(7, got.first)
    assert.is_nil(handled)
  end)
end)

describe("tm.watch", function()
  it("keeps thresholds in their normal form", function()
    tm.watch { lag = "20s", disk_free = "5GiB", unknown_frames = 10, journal_fill = 0.5 }
    local watch = declare.finish("file.lua", true).watch
    assert.same({ 20e6, 5 * 2 ^ 30, 10, 0.5 }, { watch.lag_us, watch.disk_free_bytes, watch.unknown_frames, watch.journal_fill })
  end)

  it("is a closed table", function()
    tm.watch { lagg = "20s", disk_free = 5, journal_fill = 80 }
    problem_with 'tm.watch: unknown key "lagg", did you mean "lag"?'
    problem_with "disk_free: expected a size"
    problem_with "journal_fill: expected a number from 0.01 to 1"
  end)
end)

describe("a routine", function()
  local seen, declared
  before_each(function() seen = {} end)

  local function note(...) seen[#seen + 1] = table.concat({ ... }, " ") end

  local function begin() declared = loop.begin(declare) end

  local function gap(name, first) declared.dispatch { type = "gap", name = name, first = first or 1, text = "" } end

  it("is declared with checks", function()
    tm.routine "a" { on = { "gap" }, run = 5, timeot = "1s" }
    tm.routine "b b" { run = function() end }
    tm.routine "c" { run = function() end, priority = -1 }
    tm.routine "d" { run = function() end }
    tm.routine "d" { run = function() end }
    tm.recovery { running = 0 }
    problem_with 'tm.routine a: unknown key "timeot", did you mean "timeout"?'
    problem_with "tm.routine a: run: expected a function"
    problem_with "tm.routine: expected an id"
    problem_with "tm.routine c: priority: expected an integer from 0 to 1000"
    problem_with "tm.routine d: is declared already at"
    problem_with "tm.recovery: running: expected an integer from 1 to 100"
  end)

  it("runs once for each subject, and once more for what came meanwhile", function()
    tm.routine "r" { on = { "gap" }, run = function(run, event)
      note("begin", run.subject, event.first)
      run:sleep "1s"
      note("end", run.subject)
    end }
    begin()
    gap("x", 1) gap("y", 2)
    loop.run(host, "500ms")
    gap("x", 3) gap("x", 4)
    loop.run(host, "10s")
    no_failures()
    assert.same({ "begin x 1", "begin y 2", "end x", "begin x 4", "end y", "end x" }, seen)
    assert.same({ "r/x done", "r/y done", "r/x done" }, results())
  end)

  it("merges what came meanwhile, where it says how", function()
    tm.routine "r" { on = { "gap" }, subject = function() return "all" end,
      merge = function(a, b) return { type = "gap", first = math.min(a.first, b.first), last = math.max(a.last, b.last) } end,
      run = function(run, event) note(event.first, event.last) run:sleep "1s" end }
    begin()
    declared.dispatch { type = "gap", first = 5, last = 6 }
    loop.run(host, "10ms")
    for _, range in ipairs { { 8, 9 }, { 2, 3 }, { 20, 30 } } do
      declared.dispatch { type = "gap", first = range[1], last = range[2] }
    end
    loop.run(host, "5s")
    assert.same({ "5 6", "2 30" }, seen)
  end)

  it("waits for a burst to settle and takes all of it", function()
    tm.routine "r" { on = { "gap" }, settle = "1s", subject = function() return "all" end,
      merge = function(a, b) return { type = "gap", first = a.first + b.first } end,
      run = function(_, event) note(event.first) end }
    begin()
    gap("x", 1)
    loop.run(host, "100ms")
    gap("x", 10) gap("x", 100)
    loop.run(host, "5s")
    assert.same({ "111" }, seen)
  end)

  it("lets the urgent go first, few at a time", function()
    tm.recovery { running = 1 }
    for name, priority in pairs { late = 8, soon = 1, middle = 4 } do
      tm.routine(name) { on = { "gap" }, priority = priority, run = function(run) note(run.routine) run:sleep "1s" end }
    end
    tm.routine "first" { on = { "start" }, run = function(run) note(run.routine) run:sleep "1s" end }
    begin()
    gap "x"
    loop.run(host, "10s")
    assert.same({ "first", "soon", "middle", "late" }, seen)
  end)

  it("is ended by its timeout and tried again with what it saved", function()
    tm.routine "r" { on = { "gap" }, timeout = "5s", retries = 2, backoff = "1s", run = function(run)
      note(run.attempt, run.saved and run.saved.page or "-")
      run:save { page = (run.saved and run.saved.page or 0) + 1 }
      run:sleep "1h"
    end }
    begin()
    gap "x"
    loop.run(host, "60s")
    no_failures()
    assert.same({ "0 -", "1 1", "2 2" }, seen)
    assert.same({ "r/x timeout", "r/x timeout", "r/x timeout" }, results())
    assert.matches("longer than 5 s", host.runs.ended[1].error)
    assert.same({}, host.runs.running)
  end)

  it("that fails says why, and costs others nothing", function()
    tm.routine "bad" { on = { "gap" }, run = function() error("no such thing", 0) end }
    tm.routine "worse" { on = { "gap" }, subject = function() error "subject" end, run = function() end }
    tm.routine "good" { on = { "gap" }, run = function() note "good" end }
    begin()
    gap "x"
    loop.run(host, "5s")
    assert.same({ "good" }, seen)
    assert.same({ "bad/x failed", "good/x done" }, results())
    assert.equal("no such thing", host.runs.ended[1].error)
  end)

  it("whose handler was stopped is noticed", function()
    tm.routine "r" { on = { "gap" }, run = function(run) run:sleep "1h" end }
    begin()
    gap "x"
    loop.run(host, "2s")
    for id, task in pairs(host.tasks) do
      if task.name == "routine r" then host.kill(id) end -- as a budget does
    end
    loop.run(host, "3s")
    assert.same({ "r/x failed" }, results())
  end)

  it("can be cancelled: at its next step, or by force", function()
    tm.routine "polite" { on = { "gap" }, run = function(run) while true do run:sleep "1s" end end }
    tm.routine "deaf" { on = { "gap" }, run = function() tm.sleep "1h" end }
    begin()
    gap "x"
    loop.run(host, "2s")
    assert.equal(1, tm.routine.cancel("polite", "x"))
    assert.equal(1, tm.routine.cancel "deaf")
    assert.equal(0, tm.routine.cancel("deaf", "y"))
    loop.run(host, "2s")
    assert.same({ "polite/x cancelled" }, results())
    loop.run(host, "10s")
    assert.same({ "polite/x cancelled", "deaf/x cancelled" }, results())
    assert.has_error(function() tm.routine.cancel "polit" end)
  end)

  it("run dry does nothing but say what it would do", function()
    local link = tm.feed { url = "ws://127.0.0.1/x" }
    tm.routine "r" { on = { "gap" }, run = function(run, event)
      note(tostring(run:dry()), event.why)
      run:send(event.link, "frame")
      run:submit("recovery_run", "runs", "{}")
      run:reconnect(event.link)
    end }
    begin()
    local open = link:open "l"
    host.calls, host.submitted = {}, {}
    assert.equal("queued", tm.routine.run("r", "x", { link = open, why = "test" }, { dry = true }))
    loop.run(host, "1s")
    no_failures()
    assert.same({ "true test" }, seen)
    assert.same({ {}, {} }, { fake.named(host, "send"), fake.named(host, "reconnect") })
    for _, batch in ipairs(host.submitted) do assert.is_true(batch.rows[1].dry) end -- its own rows alone
    local steps = host.runs.ended[1].steps
    assert.same({ "would send frame=frame link=l", "would submit bytes=2 kind=recovery_run", "would reconnect link=l" }, steps)
    tm.routine.run("r", "x", { link = open })
    loop.run(host, "1s")
    assert.same({ { "send", 0, "frame" } }, fake.named(host, "send"))
  end)

  it("is started by hand with checks", function()
    tm.routine "r" { on = { "gap" }, run = function() end }
    begin()
    local function refused(text, ...)
      local ok, why = pcall(tm.routine.run, ...)
      assert.is_false(ok)
      assert.matches(text, why, 1, true)
    end
    refused('unknown routine "rr", did you mean "r"?', "rr", "x")
    refused("subject: expected text", "r", 5)
    refused('unknown key "dri", did you mean "dry"?', "r", "x", {}, { dri = true })
  end)

  it("comes by itself every so often, never twice at once", function()
    tm.routine "r" { every = "10s", subject = function() return "all" end, run = function(run) note(run.routine) run:sleep "15s" end }
    begin()
    loop.run(host, "61s")
    no_failures()
    assert.equal(4, #seen) -- at 10, 25 (of 20), 40 (of 30), 55 (of 40 and 50)
  end)

  it("keeps its task when the script is replaced", function()
    tm.routine "r" { on = { "gap" }, run = function(run) run:sleep "1h" end }
    begin()
    gap "x"
    loop.run(host, "1s")
    local kept = 0
    for _, task in pairs(host.tasks) do kept = kept + (task.kept and 1 or 0) end
    assert.equal(1, kept)
  end)

  it("finds its link again by name", function()
    local feed = tm.feed { url = "ws://127.0.0.1/x" }
    tm.routine "r" { on = { "gap" }, run = function(_, event) note(event.link.name, event.link.id) end }
    begin()
    feed:open "other"
    feed:open "mine"
    declared.dispatch { type = "gap", link_id = 1, first = 1 }
    loop.run(host, "1s")
    assert.same({ "mine 1" }, seen)
    assert.equal("mine", host.runs.ended[1].subject)
  end)

  it("leaves two rows with its steps", function()
    tm.routine "r" { on = { "gap" }, run = function(run) run:step("half way", { n = 3 }) end }
    begin()
    gap "x"
    loop.run(host, "1s")
    local states = {}
    for _, batch in ipairs(host.submitted) do
      assert.equal("recovery_run", batch.kind)
      states[#states + 1] = batch.rows[1].state
    end
    assert.same({ "running", "done" }, states)
    local row = host.submitted[2].rows[1]
    assert.same({ "r", "x", "gap", "half way n=3" }, { row.routine, row.subject, row.event, row.steps[1].text })
    assert.equal(host.submitted[1].rows[1].run_id, row.run_id)
  end)
end)
