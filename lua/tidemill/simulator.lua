--- The simulated host: what `require "tidemill.host"` is for a script under test (core/script/test.h). The clock is
--- virtual, tasks and timers run in a fixed order, links, HTTP, metrics and logs are tables that a test looks at. The
--- decoder, JSON and registries are the real ones.
---
--- Every function of the real host is here, with the same checks and the same errors: tests/unit/script/test_test.c
--- compares the names. A new host function is added to one of the lists below, or gets its own in `make`; what the host
--- at hand does not have is left out.

local real = require "tidemill.host"
local runner = require "tidemill.runner"

local simulator = {}

local TASKS_MAX, TIMERS_MAX, LINKS_MAX, METRICS_MAX = 1000, 1000, 1000, 200
local START_US = 1767225600e6 -- 2026-01-01T00:00:00Z

--- Functions that neither look at the world nor change it: the real ones.
simulator.pure = { "where", "json_decode", "json_encode", "json_array", "json_get",
                   "secret_format", "is_secret", "conninfo", "metric_check", "metric_check_label", "freeze" }

--- Functions of C that work on what the world holds (registries, the compiled plan).
simulator.kept = { "decode", "registry_open", "registry_find", "registry_get", "registry_next", "registry_remove",
                   "registry_count", "registry_unseen",
                   "spread_open", "spread_close", "spread_names", "spread_add", "spread_remove", "spread_find",
                   "spread_next", "spread_clear", "spread_take", "spread_give_back", "spread_sent", "spread_slot",
                   "spread_take_slot", "spread_touch_slot", "spread_restart", "spread_retell", "spread_chunk",
                   "spread_stats", "spread_pending",
                   "routine_open", "routine_offer", "routine_pending", "routine_take", "routine_next", "routine_step",
                   "routine_save", "routine_saved", "routine_cancelled", "routine_cancel", "routine_end", "routine_list",
                   "alert_list", "alert_silences", "alert_silence" }

---@class tidemill.World
local World = {}
World.__index = World

-- ---- time, tasks ----

local function live(world) return world.last - world.first + 1 + world.waiting end

local function make_ready(world, task, ...)
  task.results = { n = select("#", ...), ... }
  world.last = world.last + 1
  world.ready[world.last] = task
end

function World:spawn(name, fn, ...)
  if live(self) >= TASKS_MAX then error(("%s: %d handlers are waiting already"):format(name, TASKS_MAX), 0) end
  self.last_task = self.last_task + 1
  local task = { id = self.last_task, name = name, co = coroutine.create(fn) }
  self.tasks[task.id] = task
  make_ready(self, task, ...)
  return task
end

function World:failed(name, message)
  self.failures[#self.failures + 1] = { name = name, message = message }
end

local function finish_step(world, task, ok, message)
  world.running = nil
  if coroutine.status(task.co) == "dead" then
    task.over = true
    if not ok then
      local kind = type(message)
      local text = (kind == "string" or kind == "number") and tostring(message) or ("error(%s value)"):format(kind)
      world:failed(task.name, runner.traceback(task.co, text))
    end
  elseif task.waits then
    world.waiting = world.waiting + 1
  else
    task.over = true
    world:failed(task.name, "it yielded without waiting for anything")
  end
end

local function run_task(world, task)
  if task.over then return end -- it was ended meanwhile
  local results = task.results
  world.running, task.results, task.waits = task, nil, nil
  finish_step(world, task, coroutine.resume(task.co, unpack(results, 1, results.n)))
  if task.over then world.tasks[task.id] = nil end
end

--- The task that calls, or an error as the host gives it.
function World:self()
  local task = self.running
  if not task or coroutine.running() ~= task.co then
    error("only a handler (tm.on, tm.every, tm.after, tm.spawn) can wait, and not inside a coroutine of its own", 0)
  end
  return task
end

--- Wait; what the wake-up gives is returned. In the test itself the world goes on meanwhile.
function World:wait(wake)
  if self.test_co and coroutine.running() == self.test_co then
    local results
    wake(function(...) results = { n = select("#", ...), ... } end)
    return coroutine.yield { world = self, until_done = function() return results ~= nil end,
                             result = function() return unpack(results, 1, results.n) end }
  end
  local task = self:self()
  task.waits = true
  wake(function(...)
    if task.over then return end
    self.waiting = self.waiting - 1
    make_ready(self, task, ...)
  end)
  return coroutine.yield()
end

-- Timers in the order of their time, then of their making.
local function add_timer(world, after_us, timer)
  if #world.timers >= TIMERS_MAX then error(("timer: %d timers are waiting already"):format(#world.timers), 0) end
  world.last_timer = world.last_timer + 1
  timer.id, timer.due_us = world.last_timer, world.clock_us + after_us
  world:insert(timer)
  return timer.id
end

function World:insert(timer)
  local at = #self.timers + 1
  while at > 1 and (self.timers[at - 1].due_us > timer.due_us
                    or (self.timers[at - 1].due_us == timer.due_us and self.timers[at - 1].id > timer.id)) do
    at = at - 1
  end
  table.insert(self.timers, at, timer)
end

--- Call fn() after that time, as part of the world.
function World:later(after_us, fn) add_timer(self, after_us, { call = fn }) end

local function fire(world, timer)
  table.remove(world.timers, 1)
  world.clock_us = math.max(world.clock_us, timer.due_us)
  runner.use(world.handle, world:wall_us())
  if timer.call then return timer.call() end
  if timer.every_us > 0 then -- a run that is not over leaves ticks out
    timer.due_us = timer.due_us + timer.every_us
    world:insert(timer)
    if timer.last and not timer.last.over then return end
  end
  timer.last = world:spawn(timer.name, timer.fn)
end

--- Take one step of what is to be done up to that time. False: there is nothing.
function World:step(until_us)
  runner.use(self.handle, self:wall_us())
  if self.first <= self.last then
    local task = self.ready[self.first]
    self.ready[self.first] = nil
    self.first = self.first + 1
    run_task(self, task)
    return true
  end
  local timer = self.timers[1]
  if not timer or timer.due_us > until_us then return false end
  fire(self, timer)
  return true
end

function World:wall_us() return self.start_us + self.clock_us end

-- ---- arguments, as the host checks them ----

local function check_us(us)
  if type(us) ~= "number" or not (us >= 0 and us <= 1e16) then
    error("timer: expected a duration that is not negative", 0)
  end
  return math.floor(us)
end

local function check_type(what, position, value, expected)
  if type(value) ~= expected then
    error(("bad argument #%d to '%s' (%s expected, got %s)"):format(position, what, expected, type(value)), 0)
  end
  return value
end

local function check_text(what, position, value)
  if type(value) == "number" then return tostring(value) end
  return check_type(what, position, value, "string")
end

-- ---- the host ----

local make = {} -- name -> function(world) that makes the host function

function make.env(world)
  if not world.env then return real.env end -- a script's own tests: the environment that it would start in
  return function(name) return world.env[check_text("env", 1, name)] end
end

local levels = { debug = true, info = true, warn = true, error = true }

function make.log(world)
  return function(level, text, fields)
    if not levels[level] then error("log: expected a level debug, info, warn or error", 0) end
    check_text("log", 2, text)
    for name in pairs(fields or {}) do
      if type(name) ~= "string" or not name:find("^[a-z0-9_]+$") then
        error("log: expected fields named in lower case, like {market = ticker}", 0)
      end
    end
    world.logs[#world.logs + 1] = { level = level, text = text, fields = fields or {}, at_us = world.clock_us }
  end
end

function make.now_us(world) return function() return world:wall_us() end end
function make.monotonic_us(world) return function() return world.clock_us end end

local function need_running(world, what)
  if not world.started then
    error(what .. " is for run time: call it inside a handler (tm.on, tm.every, tm.after)", 3)
  end
end

function make.timer(world)
  return function(after_us, every_us, name, fn)
    need_running(world, "a timer")
    local timer = { every_us = check_us(every_us), name = check_text("timer", 3, name) }
    timer.fn = check_type("timer", 4, fn, "function")
    return add_timer(world, check_us(after_us), timer)
  end
end

function make.cancel(world)
  return function(id)
    check_type("cancel", 1, id, "number")
    for i, timer in ipairs(world.timers) do
      if timer.id == id and timer.fn then
        table.remove(world.timers, i)
        return true
      end
    end
    return false
  end
end

function make.sleep_us(world)
  return function(us)
    need_running(world, "tm.sleep")
    us = check_us(us)
    return world:wait(function(wake) world:later(us, wake) end)
  end
end

function make.spawn(world)
  return function(name, fn, ...)
    need_running(world, "tm.spawn")
    return world:spawn(check_text("spawn", 1, name), check_type("spawn", 2, fn, "function"), ...).id
  end
end

-- ---- tasks by number: waiting for each other ----

function make.task(world) return function() return world:self().id end end

function make.park(world)
  return function(us)
    us = check_us(us)
    local task = world:self()
    return world:wait(function(wake)
      local function once(...)
        if task.unpark == once then
          task.unpark = nil
          wake(...)
        end
      end
      task.unpark = once
      world:later(us, function() once() end)
    end)
  end
end

function make.wake(world)
  return function(id)
    local task = world.tasks[check_type("wake", 1, id, "number")]
    if not task or not task.unpark then return false end
    task.unpark(true)
    return true
  end
end

function make.kill(world)
  return function(id)
    local task = world.tasks[check_type("kill", 1, id, "number")]
    if not task or task == world.running then return false end
    if not task.results then world.waiting = world.waiting - 1 end
    task.over, task.unpark, world.tasks[id] = true, nil, nil
    return true
  end
end

function make.is_live(world)
  return function(id) return world.tasks[check_type("is_live", 1, id, "number")] ~= nil end
end

-- There is no reload in a test, nor a budget of one's own.
for _, name in ipairs { "keep", "callback", "limits" } do
  make[name] = function() return function() end end
end

-- What the test's function answers, in the form that the host gives it.
local function response_of(world, request)
  if not world.http then
    world:failed("http", ("the script asks %s %s, and the test answers no HTTP: t.http(function(request) ... end)")
      :format(request.method, request.url))
    return { status = 0, error = "no answer in this test" }
  end
  local answer = world.http(request)
  if answer == nil then return { status = 0, error = "no answer" } end
  check_type("t.http", 1, answer, "table")
  return answer
end

local function normal_response(world, answer, request)
  local body = answer.body
  if type(body) == "table" then body = real.json_encode(body) end
  local delay_us = answer.after and world.duration(answer.after) or 0
  if request.timeout_us and request.timeout_us > 0 and delay_us > request.timeout_us then
    return { status = 0, body = "", error = "time-out", elapsed_us = request.timeout_us }, request.timeout_us
  end
  return { status = answer.status or (answer.error and 0) or 200, body = body or "", content_type = answer.content_type,
           retry_after = answer.retry_after, error = answer.error, elapsed_us = delay_us }, delay_us
end

function make.http(world)
  return function(request)
    need_running(world, "an HTTP request")
    check_type("http", 1, request, "table")
    if type(request.method) ~= "string" or type(request.url) ~= "string" then
      error("http: expected a method and a url", 0)
    end
    for _, header in ipairs(request.headers or {}) do
      if check_text("http", 1, header):find("[\r\n]") then error("http: a header must not contain line breaks", 0) end
    end
    world.requests[#world.requests + 1] = request
    local response, delay_us = normal_response(world, response_of(world, request), request)
    return world:wait(function(wake) world:later(delay_us, function() wake(response) end) end)
  end
end

-- ---- SQL, secrets ----

-- What the test's function answers: rows | nil, why.
local function run_sql(world, text, params)
  check_text("sql", 3, text)
  if not world.sql then
    world:failed("sql", ("the script runs %s, and the test answers no SQL: t.sql(function(sql, params) ... end)")
      :format(text))
    return nil, { message = "no answer in this test" }
  end
  local rows, why = world.sql(text, params)
  if rows then return rows, #rows end
  return nil, type(why) == "table" and why or { message = why or "no answer" }
end

function make.sql(world)
  return function(_, _, text, ...)
    need_running(world, "SQL")
    local rows, extra = run_sql(world, text, { ... })
    return world:wait(function(wake) world:later(0, function() wake(rows, extra) end) end)
  end
end

function make.sql_begin(world)
  return function()
    need_running(world, "SQL")
    world.last_transaction = (world.last_transaction or 0) + 1
    return world.last_transaction
  end
end

function make.sql_end(world)
  return function(_, commit)
    need_running(world, "SQL")
    world.transactions[#world.transactions + 1] = commit and "commit" or "rollback"
    return true
  end
end

function make.secret(world)
  return function(source, name)
    if source ~= "env" or not world.env then return real.secret(source, name) end
    local value = world.env[name]
    if value == nil then return nil, ("%s is not set"):format(name) end
    return value
  end
end

-- ---- people at the control socket: there are none ----

for _, name in ipairs { "remote_answer", "alert_set", "stream_set", "note_change" } do
  make[name] = function(world)
    return function() need_running(world, name) end
  end
end

-- ---- links ----

local function check_link(world, id)
  need_running(world, "a link")
  local link = world.links[check_type("link", 1, id, "number")]
  if not link then error("link: it is closed", 0) end
  return link
end

local function check_gatherer(world)
  need_running(world, "a link")
  if world.role ~= "gatherer" then error("links are a gatherer's: this script declares a deduplicator", 0) end
end

function make.link_open(world)
  return function(feed, name, listed)
    check_gatherer(world)
    check_type("link_open", 1, feed, "number")
    if not world.declared.feeds[feed] then error("link_open: expected a feed declared with tm.feed", 0) end
    check_text("link_open", 2, name)
    if world.by_name[name] then
      world.by_name[name].listed = listed or false
      return world.by_name[name].id, false
    end
    if world.next_link >= LINKS_MAX then
      error(("link %s: at most %d connections; use fewer"):format(name, LINKS_MAX), 0)
    end
    local link = { id = world.next_link, name = name, feed = feed, state = "connecting", opening = {}, sent = {},
                   listed = listed or false, dropped = {}, ups = 0, messages = 0, rows = 0, gaps = 0 }
    world.next_link = world.next_link + 1
    world.links[link.id], world.by_name[name] = link, link
    return link.id, true
  end
end

function make.link_close(world)
  return function(id)
    local link = check_link(world, id)
    world.links[id], world.by_name[link.name] = nil, nil
  end
end

local function send(link, bytes)
  if link.state == "up" then link.sent[#link.sent + 1] = bytes end
end

function make.link_opening(world)
  return function(id, slot, bytes, now)
    local link = check_link(world, id)
    check_type("link_opening", 2, slot, "number")
    check_text("link_opening", 3, bytes)
    if slot < 0 or slot > 999999 then error("link: expected an opening slot from 0 to 999999", 0) end
    if world.full then return false, "full" end
    link.opening[slot] = bytes ~= "" and bytes or nil
    if now and bytes ~= "" then send(link, bytes) end
    return true
  end
end

function make.link_send(world)
  return function(id, bytes)
    local link = check_link(world, id)
    check_text("link_send", 2, bytes)
    if world.full then return false, "full" end
    send(link, bytes)
    return true
  end
end

function make.link_drop(world)
  return function(id, tickers)
    local link = check_link(world, id)
    check_text("link_drop", 2, tickers)
    if world.full then return false, "full" end
    for ticker in tickers:gmatch "[^\n]+" do link.dropped[#link.dropped + 1] = ticker end
    return true
  end
end

-- Each row of that kind raises the event "row"; a test raises them with t.emit.
function make.link_tell(world)
  return function(id, kind)
    local link = check_link(world, id)
    if kind ~= nil then check_text("link_tell", 2, kind) end
    link.tells = kind
    return true
  end
end

function make.link_reconnect(world)
  return function(id)
    local link = check_link(world, id)
    link.reconnects = (link.reconnects or 0) + 1
    if link.state == "up" then world:later(0, function() world:link_down(link, "local", 0) end) end
  end
end

function make.link_stats(world)
  return function(id)
    local link = check_link(world, id)
    return { state = link.state, ups = link.ups, messages = link.messages, rows = link.rows, gaps = link.gaps }
  end
end

function make.link_subscriptions(world)
  return function(id)
    local copy = {}
    for channel, sid in pairs(check_link(world, id).subscriptions or {}) do copy[channel] = sid end
    return copy
  end
end

--- An event as the engine hands it over (core/script/script.c, push_event).
function World:event(name, fields)
  local event = { type = name, number = 0, first = 0, last = 0, text = "" }
  for key, value in pairs(fields or {}) do event[key] = value end
  self.declared.dispatch(event)
end

function World:link_up(link)
  local slots = {}
  link.state, link.ups, link.subscriptions = "up", link.ups + 1, {}
  for slot in pairs(link.opening) do slots[#slots + 1] = slot end
  table.sort(slots)
  for _, slot in ipairs(slots) do send(link, link.opening[slot]) end
  self:event("link_up", { link_id = link.id })
end

function World:link_down(link, why, status)
  if link.state == "up" then link.state = "down" end
  self:event("link_down", { link_id = link.id, text = why, number = status })
end

-- ---- rows, metrics ----

function World:keep_rows(rows)
  for _, row in ipairs(rows) do
    local list = self.rows[row.stream] or {}
    self.rows[row.stream] = list
    list[#list + 1] = real.json_decode(row.json)
  end
end

function make.submit(world)
  return function(batch)
    need_running(world, "submitting rows")
    if world.role ~= "gatherer" then
      error("rows are submitted to a gatherer: this script declares a deduplicator", 0)
    end
    local rows = runner.rows(batch)
    if world.full then return false end
    world:keep_rows(rows)
    return true
  end
end

function make.metric(world)
  return function(kind, name, help, labels)
    need_running(world, "a metric")
    check_text("metric", 1, kind)
    check_text("metric", 2, name)
    check_text("metric", 3, help)
    world.metric_count = world.metric_count + 1
    if world.metric_count > METRICS_MAX then
      error(("metric: expected at most %d in a script"):format(METRICS_MAX), 0)
    end
    local key = labels and ("%s{%s}"):format(name, labels) or name
    world.metrics[key] = world.metrics[key] or { kind = kind, value = 0, name = name, labels = labels }
    return world.metrics[key]
  end
end

local function check_metric(metric)
  if type(metric) ~= "table" or not metric.kind then error("bad argument #1 to 'metric' (a metric expected)", 0) end
  return metric
end

function make.metric_add()
  return function(metric, n)
    n = n or 1
    if type(n) ~= "number" or not (n >= 0 and n < 1e15) then error("metric: a counter only goes up", 0) end
    check_metric(metric).value = metric.value + math.floor(n)
  end
end

function make.metric_labelled(world)
  local metric = make.metric(world)
  return function(kind, name, help, names, values)
    local labels = {}
    for i, label in ipairs(names) do labels[i] = ('%s="%s"'):format(label, tostring(values[i])) end
    return metric(kind, name, help, table.concat(labels, ",")), false
  end
end

-- A histogram's value is how much was observed; `count` is how often.
function make.metric_observe()
  return function(metric, seconds)
    check_metric(metric).value = metric.value + check_type("metric_observe", 2, seconds, "number")
    metric.count = (metric.count or 0) + 1
  end
end

function make.metric_set()
  return function(metric, value) check_metric(metric).value = check_type("metric_set", 2, value, "number") end
end

-- ---- alerts ----

local ALERTS_US = 1e6 -- as the host judges them

local function judge(world)
  for _, metric in pairs(world.metrics) do
    if metric.kind ~= "histogram" then runner.measure(world.handle, metric.name, metric.labels, metric.value) end
  end
  runner.measure(world.handle, "tidemill_uptime_seconds", nil, world.clock_us / 1e6)
  for _, alert in ipairs(runner.alerts(world.handle)) do
    if not alert.silenced then world.declared.dispatch(alert) end
  end
  world:later(ALERTS_US, function() judge(world) end)
end

--- From now on the script's alerts are judged every second: once it has started and is told of the engine's metrics.
function World:watch_alerts()
  if not self.started or not self.measured or self.judged then return end
  self.judged = true
  self:later(0, function() judge(self) end)
end

--- A metric of the engine has this value.
function World:measure(name, labels, value)
  runner.measure(self.handle, name, labels, value)
  self.measured = true
  self:watch_alerts()
end

-- ---- the world ----

local function unsimulated(name)
  return function() error(("host.%s is not simulated yet: add it to lua/tidemill/simulator.lua"):format(name), 0) end
end

--- The host of a world.
---@param world tidemill.World
---@return table
function simulator.host(world)
  local host = { null = real.null }
  for name in pairs(real) do
    if host[name] == nil then host[name] = unsimulated(name) end
  end
  for _, name in ipairs(simulator.pure) do host[name] = real[name] end
  for _, name in ipairs(simulator.kept) do
    local fn = real[name]
    host[name] = fn and function(...)
      need_running(world, "a registry, a document, a recovery run or an alert")
      runner.use(world.handle, world:wall_us())
      return fn(...)
    end
  end
  for name, maker in pairs(make) do
    if real[name] then host[name] = maker(world) end
  end
  return host
end

--- The names of all that is simulated, sorted.
---@return string[]
function simulator.names()
  local names = { "null" }
  for _, list in ipairs { simulator.pure, simulator.kept } do
    for _, name in ipairs(list) do
      if real[name] then names[#names + 1] = name end
    end
  end
  for name in pairs(make) do
    if real[name] then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

-- The part of os that scripts have, on the virtual clock.
local function os_of(world)
  return {
    time = function(t) if t then return os.time(t) end return math.floor(world:wall_us() / 1e6) end,
    clock = function() return world.clock_us / 1e6 end,
    date = function(format, time) return os.date(format, time or math.floor(world:wall_us() / 1e6)) end,
    difftime = os.difftime,
  }
end

--- A world with nothing in it yet.
---@param options table env, duration (function)
---@return tidemill.World
function simulator.new(options)
  local world = setmetatable({
    env = options.env, duration = options.duration, start_us = options.start_us or START_US, clock_us = 0,
    ready = {}, first = 1, last = 0, waiting = 0, timers = {}, last_timer = 0, running = nil, started = false,
    links = {}, by_name = {}, next_link = 0, logs = {}, requests = {}, rows = {}, metrics = {}, metric_count = 0,
    failures = {}, tasks = {}, last_task = 0, transactions = {},
  }, World)
  world.host, world.os = simulator.host(world), os_of(world)
  return world
end

return simulator
