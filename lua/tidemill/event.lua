--- Events, timers, tasks: what runs when.

local host = require "tidemill.host"
local check = require "tidemill.check"
local declare = require "tidemill.declare"
local problems = require "tidemill.problems"
local units = require "tidemill.units"

local event = {}
local declared = declare.declared

-- ---- which events there are ----

--- All events and their fields. Those about a connection carry `link`; times are microseconds since 1970; `text` is
--- there always, "" when there is nothing to say. `from` is when all was last known to be well, `to` when it was again.
event.names = {
  start                = "",
  -- of a link, as they happen
  link_up              = "link",
  link_down            = "link, text (why), number (status)",
  subscribed           = "link, text (channel), sid",
  unsubscribed         = "link, sid",
  gap                  = "link, sid, first, last (missing sequence numbers)",
  error                = "link, number (code), text, sid",
  frame                = "link, kind, text (the frame): kinds with forward = true",
  unknown              = "link, text (why a frame is not understood)",
  row                  = "link, kind, text (the ticker): what link:tell asked for",
  -- of the watch: states that lasted (tm.watch)
  connection_down      = "link, name, from",
  connection_up        = "link, name, from, to",
  all_connections_down = "from",
  connections_back     = "from, to",
  outage_over          = "link, name, from, to, text (disconnected, gap, start): data flows again",
  store_down           = "from, text (why)",
  store_back           = "from, to",
  store_rebuilt        = "text (new: the journal is new too; lost: it is not)",
  production_down      = "from, text (why)",
  production_back      = "from, to",
  failover             = "identity (what production is now), text (what it was)",
  gatherer_down        = "gatherer, from, text (why)",
  gatherer_back        = "gatherer, from, to",
  lag                  = "level (warning, critical), value, limit (seconds), from",
  lag_over             = "value (seconds at the worst), limit, from, to",
  disk_low             = "place (disk, journal), value, limit (bytes free), from",
  disk_fine            = "place, value, limit, from, to",
  unknown_frames       = "value, limit (a minute)",
  alert                = "name, state, severity, value, summary, since, repeated, labels (tm.alert)",
  -- raised by adapters with tm.emit
  exchange_paused      = "text (why), resume (when it is expected back, may be nil)",
  exchange_back        = "from, to",
  market_closed        = "market, result",
}

local own = {} -- name -> where tm.event declared it

local function known_names()
  local list = {}
  for name in pairs(event.names) do list[#list + 1] = name end
  for name in pairs(own) do list[#list + 1] = name end
  return list
end

local function is_known(name)
  return event.names[name] ~= nil or own[name] ~= nil or name:find(".", 1, true) ~= nil
end

--- What is wrong with an event's name, or nil.
---@param name any
---@return string?
function event.why_not(name)
  local text, expected = check.text(name)
  if not text then return "expected the name of an event" .. expected:gsub("^expected text", "") end
  if is_known(name) then return nil end
  return ('unknown event "%s"'):format(name) .. problems.hint(name, known_names())
end

--- Declare an event of one's own, so that its name can be checked. Names with a dot need no declaration.
---@param name string
function event.event(name)
  declare.only "tm.event"
  local at = problems.caller()
  local text, expected = check.id(name)
  if not text then return problems.add(at, "tm.event", expected) end
  if event.names[name] then return problems.add(at, "tm.event", ('"%s" is an event of the library'):format(name)) end
  own[name] = at
end

-- Names are checked at the end, when all events are declared.
local checks = {}

--- Note that `name` is used as an event at `at`, for the check at the end of declare time.
function event.expect(at, path, name) checks[#checks + 1] = { at = at, path = path, name = name } end

declare.adjust[#declare.adjust + 1] = function()
  for _, c in ipairs(checks) do
    local why = event.why_not(c.name)
    if why then problems.add(c.at, c.path, why) end
  end
  checks = {}
end

local callback_fields = { failures = check.field(check.integer(1, 1e6)) }

--- Call `fn(event)` as a coroutine, which may wait, whenever the event happens. After `failures` errors in a row it is not
--- called any more, until the next reload.
---@param name string
---@param fn fun(event: tidemill.Event)
---@param options? tidemill.Callback
function event.on(name, fn, options)
  local at = problems.caller()
  local settings = options == nil and {} or check.closed(at, "tm.on " .. tostring(name), options, callback_fields)
  local text, expected = check.text(name)
  local callable, fn_expected = check.func(fn)
  if not text then return problems.add(at, "tm.on", expected) end
  event.expect(at, "tm.on", name)
  if not callable then return problems.add(at, "tm.on " .. name, fn_expected) end
  declared.handlers[name] = declared.handlers[name] or {}
  table.insert(declared.handlers[name], { name = ("tm.on %s at %s"):format(name, at), fn = fn, failures = settings.failures })
end

--- Raise an event: run time. Its handlers and routines get a table of their own with these fields.
---@param name string
---@param fields? table
function event.emit(name, fields)
  local why = event.why_not(name)
  if why then error("tm.emit: " .. why, 2) end
  if fields ~= nil and type(fields) ~= "table" then
    error("tm.emit: expected fields as a table, got a " .. type(fields), 2)
  end
  local raised = {}
  for key, value in pairs(fields or {}) do raised[key] = value end
  raised.type, raised.text = name, raised.text or ""
  declare.dispatch(raised)
end

-- ---- waiting for events ----

local boxes = {} -- name -> set of mailboxes; weak, so that those of handlers that ended go with them

local BOX_MAX = 100000

---@class tidemill.Mailbox
local Mailbox = {}
Mailbox.__index = Mailbox

local function matches(match, raised)
  for key, value in pairs(match) do
    if raised[key] ~= value then return false end
  end
  return true
end

local function deliver(box, raised)
  if box.last - box.first + 1 >= BOX_MAX then box.dropped = box.dropped + 1 return end
  box.last = box.last + 1
  box.items[box.last] = raised
  if box.task then host.wake(box.task) end
end

declare.observers[#declare.observers + 1] = function(raised)
  for box in pairs(boxes[raised.type] or {}) do
    if matches(box.match, raised) then deliver(box, raised) end
  end
end

--- The next event, waiting for it at most that long: inside a handler. nil when none came.
---@param timeout string
---@return tidemill.Event?
function Mailbox:take(timeout)
  local us, expected = units.duration(timeout)
  if not us then error("take: " .. expected, 2) end
  if self.first > self.last then
    self.task = host.task()
    host.park(us)
    self.task = nil
  end
  if self.first > self.last then return nil end
  local raised = self.items[self.first]
  self.items[self.first] = nil
  self.first = self.first + 1
  return raised
end

--- Collect no more.
function Mailbox:close() boxes[self.name][self] = nil end

--- Collect events of a name, with these values in these fields, until it is closed: inside a handler. At most 100,000
--- wait; what is beyond is counted in `dropped`.
---@param name string
---@param match? table<string, any>
---@return tidemill.Mailbox
function event.listen(name, match)
  local why = event.why_not(name)
  if why then error("tm.listen: " .. why, 2) end
  local box = setmetatable({ name = name, match = match or {}, items = {}, first = 1, last = 0, dropped = 0 }, Mailbox)
  boxes[name] = boxes[name] or setmetatable({}, { __mode = "k" })
  boxes[name][box] = true
  return box
end

local wait_fields = {
  match = check.field(function(v) return type(v) == "table" and v or nil, "expected fields { name = value }" end),
  timeout = check.field(function(v)
    local us, expected = units.duration(v)
    return us and v, expected
  end, { required = true }),
}

--- Wait for an event, inside a handler: tm.wait_for("subscribed", { match = { link = link }, timeout = "10s" }).
--- nil when it did not come in time.
---@param name string
---@param options { match?: table<string, any>, timeout: tidemill.Duration }
---@return tidemill.Event?
function event.wait_for(name, options)
  local why = event.why_not(name) or check.explain(options, wait_fields)
  if why then error("tm.wait_for: " .. why, 2) end
  local box = event.listen(name, options.match)
  local raised = box:take(options.timeout)
  box:close()
  return raised
end

-- ---- thresholds ----

local watch_fields = {
  lag = check.field(check.duration, { to = "lag_us" }),
  lag_critical = check.field(check.duration, { to = "lag_critical_us" }),
  disk_free = check.field(check.size, { to = "disk_free_bytes" }),
  journal_fill = check.field(check.between(0.01, 1)),
  unknown_frames = check.field(check.between(1, 1e9)),
  down = check.field(check.duration, { to = "down_us" }),
  up = check.field(check.duration, { to = "up_us" }),
  settle = check.field(check.duration, { to = "settle_us" }),
  grace = check.field(check.duration, { to = "grace_us" }),
}

--- When the engine's own events are raised.
---@param definition tidemill.Watch
function event.watch(definition)
  declare.only "tm.watch"
  local at = problems.caller()
  if declared.watch then return problems.add(at, "tm.watch", "is declared already at " .. declared.watch.at) end
  declared.watch = check.closed(at, "tm.watch", definition, watch_fields)
  declared.watch.at = at
end

-- ---- timers and tasks ----

---@class tidemill.Timer
local Timer = {}
Timer.__index = Timer

--- Cancel a timer. Whether it was still to come.
---@return boolean
function Timer:cancel()
  return self.id ~= nil and host.cancel(self.id)
end

local function add_timer(what, at, duration, fn, repeats, failures)
  local us, expected = units.duration(duration)
  local callable, fn_expected = check.func(fn)
  if not us or not callable then
    if declare.running then error(what .. ": " .. (expected or fn_expected), 3) end
    problems.add(at, what, expected or fn_expected)
    return setmetatable({}, Timer)
  end
  local timer = { after_us = us, every_us = repeats and us or 0, name = what .. " at " .. at, fn = fn, failures = failures }
  if repeats and us < 1000 then problems.add(at, what, "expected at least 1ms") end
  if declare.running then
    if repeats then host.callback("timer", timer.name, failures) else host.callback("timer", timer.name, 0) end
    timer.id = host.timer(timer.after_us, timer.every_us, timer.name, fn)
  else
    declared.timers[#declared.timers + 1] = timer
  end
  return setmetatable(timer, Timer)
end

--- Call `fn` every so often; a run that takes longer than that leaves ticks out. After `failures` errors in a row it is not
--- called any more, until the next reload.
---@param duration string
---@param fn fun()
---@param options? tidemill.Callback
---@return tidemill.Timer
function event.every(duration, fn, options)
  local at = problems.caller()
  local settings, ok = {}, true
  if options ~= nil then settings, ok = check.closed(at, "tm.every", options, callback_fields) end
  if not ok and declare.running then error("tm.every: expected options like { failures = 10 }", 2) end
  local timer = add_timer("tm.every", at, duration, fn, true, settings.failures)
  return timer
end

--- Call `fn` once, after that time.
---@param duration string
---@param fn fun()
---@return tidemill.Timer
function event.after(duration, fn)
  local timer = add_timer("tm.after", problems.caller(), duration, fn, false)
  return timer
end

--- Run fn(...) as a task of its own: run time.
---@param fn fun(...)
function event.spawn(fn, ...)
  host.spawn("tm.spawn at " .. problems.caller(), fn, ...)
end

--- Wait, inside a handler.
---@param duration string
function event.sleep(duration)
  local us, expected = units.duration(duration)
  if not us then error("tm.sleep: " .. expected, 2) end
  host.sleep_us(us)
end

return event
