--- Tests of policy: local t = require "tidemill.test". Only `tidemill test FILE` has this module.
---
---     t.test("a gap asks for fresh books", function()
---       local policy = t.load("gatherer.lua", { env = { TIDEMILL_ID = "g1" } })
---       t.equal(policy.problems, {})
---       t.http(function(request) return { body = { markets = {} } } end)
---       t.start()
---       t.link_up()
---       t.subscribed("orderbook_delta/1", "orderbook_delta", 7)
---       t.emit("gap", { link = "orderbook_delta/1", sid = 7, first = 5, last = 6 })
---       t.advance("1s")
---       t.matches(t.sent("orderbook_delta/1")[2], "get_snapshot")
---     end)
---
--- A test is a coroutine in a world with a virtual clock. What starts or moves the world (t.start, t.advance, t.emit,
--- t.link_up, ...) returns when all that can run at that time has run. A handler that fails fails the test, unless the
--- test asks for t.failures(). Paths are relative to the test file.

local runner = require "tidemill.test.runner"
local expect = require "tidemill.test.expect"
local host = require "tidemill.host"
local units = require "tidemill.units"

---@class tidemill.Test
local t = {
  equal = expect.equal, same = expect.same, truthy = expect.truthy, falsy = expect.falsy, matches = expect.matches,
  contains = expect.contains, error = expect.error, show = expect.show,
  null = host.null, json = { decode = host.json_decode, encode = host.json_encode, array = host.json_array },
}

-- ---- declaring tests ----

--- Declare a test.
---@param name string
---@param fn fun(t: tidemill.Test)
function t.test(name, fn)
  local at = host.where(2)
  runner.add(name, fn, at)
end

--- Tests declared inside have this name in front.
---@param name string
---@param fn fun()
function t.describe(name, fn) runner.describe(name, fn) end

--- Call fn before each test of this describe (or of the file), in the test's own coroutine.
---@param fn fun()
function t.before_each(fn) runner.before(fn) end

-- ---- a script in a world ----

local function world(what)
  local w = runner.world()
  if not w then error(what .. ": no script is loaded: expected t.load(\"script.lua\") first", 3) end
  return w
end

local function microseconds(what, duration)
  local us, expected = units.duration(duration)
  if not us then error(what .. ": " .. expected, 3) end
  return us
end

local function link_of(w, what, name)
  local link = w.by_name[name]
  if link then return link end
  local names = {}
  for known in pairs(w.by_name) do names[#names + 1] = known end
  table.sort(names)
  local known = #names > 0 and table.concat(names, ", ") or "none at all"
  error(("%s: there is no link %s, but %s"):format(what, expect.show(name), known), 3)
end

---@class tidemill.Policy what a script declared
---@field problems string[] "file:line: text", as `tidemill check` prints them
---@field role? table
---@field streams table<string, table> by name, in the form of lua/tidemill/declare.lua
---@field kinds table<string, table> by tag
---@field alerts table<string, table> by name
---@field connections table[] what the feeds expect: { name, count, markets }
---@field declared table everything
---@field exports any what the script's file returned
---@field require fun(name: string): any a module as the script has it

--- Load a script into a new world: its declare time. Its environment is `env` and nothing else.
---@param path string
---@param options? { env?: table<string, string> }
---@return tidemill.Policy
function t.load(path, options)
  if type(path) ~= "string" then error("t.load: expected a path, got a " .. type(path), 2) end
  for key in pairs(options or {}) do
    if key ~= "env" then error(('t.load: unknown key "%s", expected env'):format(tostring(key)), 2) end
  end
  return runner.load(path, options or {})
end

--- Run time begins: registries open, timers are set, the handlers of "start" run.
function t.start()
  local w = world "t.start"
  if w.started then error("t.start: the script has started already", 2) end
  if #w.problems > 0 then error("t.start: the script has problems:\n  " .. table.concat(w.problems, "\n  "), 2) end
  w.started = true
  w.declared.begin()
  w:watch_alerts()
  runner.settle(w)
end

--- Time goes on by that much; timers, sleeps and answers that fall due run in their order.
---@param duration string
function t.advance(duration)
  local w = world "t.advance"
  local us = microseconds("t.advance", duration)
  runner.settle(w, w.clock_us + us)
end

--- Microseconds since the script was loaded.
---@return number
function t.now() return world("t.now").clock_us end

-- ---- what happens to it ----

--- Raise an event with these fields; `link` may be a link's name.
---@param name string
---@param fields? table
function t.emit(name, fields)
  local w = world "t.emit"
  local event = {}
  for key, value in pairs(fields or {}) do event[key] = value end
  if type(event.link) == "string" then event.link, event.link_id = nil, link_of(w, "t.emit", event.link).id end
  w:event(name, event)
  runner.settle(w)
end

--- The link comes up: its opening frames are sent. Without a name all links that are not up do, in the order they were
--- opened in.
---@param name? string
function t.link_up(name)
  local w = world "t.link_up"
  if name then
    w:link_up(link_of(w, "t.link_up", name))
  else
    for id = 0, w.next_link - 1 do
      local link = w.links[id]
      if link and link.state ~= "up" then w:link_up(link) end
    end
  end
  runner.settle(w)
end

--- The link is lost. `why` is what the engine says: remote, silent, refused, handshake, ...
---@param name string
---@param why? string default "remote"
---@param status? integer
function t.link_down(name, why, status)
  local w = world "t.link_down"
  w:link_down(link_of(w, "t.link_down", name), why or "remote", status or 0)
  runner.settle(w)
end

--- The exchange confirms a subscription.
---@param name string of the link
---@param channel string
---@param sid integer
function t.subscribed(name, channel, sid)
  local w = world "t.subscribed"
  local link = link_of(w, "t.subscribed", name)
  link.subscriptions = link.subscriptions or {}
  link.subscriptions[channel] = sid
  w:event("subscribed", { link_id = link.id, text = channel, sid = sid })
  runner.settle(w)
end

-- What io raises for a frame that was decoded (core/engine/gatherer_io.c).
local function raise_frame(w, frame, text, link)
  local event = { link_id = link and link.id, sid = frame.sid }
  if frame.role == "subscribed" or frame.role == "unsubscribed" then
    event.text = frame.channel
    w:event(frame.role, event)
  elseif frame.role == "error" then
    event.text, event.number = frame.text, frame.code
    w:event("error", event)
  end
  if frame.forward and frame.verdict == "rows" then
    event.kind, event.text = frame.kind, text
    w:event("frame", event)
  end
end

--- A frame arrives and goes through the script's own kinds: its rows are in t.rows, its event is raised. It must be of
--- that kind; "unknown" is one that the script does not understand. Returns what was decoded.
---@param kind string
---@param json string|table
---@param link? string the link it comes by
---@return table { verdict, kind, sid, reason, ... }
function t.frame(kind, json, link)
  local w = world "t.frame"
  local text = type(json) == "table" and host.json_encode(json) or json
  local frame = runner.frame(w, text)
  local is = frame.verdict == "unknown" and "unknown" or frame.verdict == "malformed" and "malformed" or frame.kind
  if is ~= kind then
    error(("t.frame: expected a frame of kind %s, the script takes it for %s%s"):format(kind, tostring(is),
      frame.reason ~= "" and ": " .. frame.reason or ""), 2)
  end
  w:keep_rows(frame.rows)
  if is == "unknown" then
    w:event("unknown", { link_id = link and link_of(w, "t.frame", link).id, text = frame.reason })
  else
    raise_frame(w, frame, text, link and link_of(w, "t.frame", link))
  end
  runner.settle(w)
  return frame
end

--- Answer the script's HTTP requests: fn(request) returns { status, body, content_type, retry_after, error, after }. A
--- table as body becomes JSON; `after` is how long it takes ("2s"); nil is no answer at all.
---@param fn fun(request: tidemill.TestRequest): tidemill.TestResponse?
function t.http(fn)
  if type(fn) ~= "function" then error("t.http: expected a function(request), got a " .. type(fn), 2) end
  world("t.http").http = fn
end

--- All requests so far, or none is left after t.expect_request took them.
---@return table[]
function t.requests() return world("t.requests").requests end

--- The oldest request not yet expected must match: a Lua pattern over "METHOD url". Returns it.
---@param pattern string
---@return table request
function t.expect_request(pattern)
  local w = world "t.expect_request"
  local request = table.remove(w.requests, 1)
  if not request then error(("expected a request that matches %q, there was none"):format(pattern), 2) end
  local line = request.method .. " " .. request.url
  if not line:find(pattern) then error(("expected a request that matches %q, got %s"):format(pattern, line), 2) end
  return request
end

--- Answer the script's SQL: fn(sql, params) returns rows, or nil and why (text, or { message, sqlstate }).
---@param fn fun(sql: string, params: table): table?, string?
function t.sql(fn)
  if type(fn) ~= "function" then error("t.sql: expected a function(sql, params), got a " .. type(fn), 2) end
  world("t.sql").sql = fn
end

--- Put rows { column = value } into a registry that the script keeps: the world as it is before the script hears of it.
--- Times are microseconds since 1970, amounts as stored.
---@param stream string
---@param rows table[]
function t.registry(stream, rows)
  local w = world "t.registry"
  runner.fill(w, stream, rows)
end

--- The queue to the engine is full from now on (true), or has room again.
---@param full boolean
function t.queue_full(full) world("t.queue_full").full = full end

-- ---- what it did ----

--- The frames that were sent on a link, opening frames too.
---@param name string
---@return string[]
function t.sent(name)
  local w = world "t.sent"
  return link_of(w, "t.sent", name).sent
end

--- The link: { name, state, opening, sent, reconnects }; nil when it is not open.
---@param name string
---@return table?
function t.link(name) return world("t.link").by_name[name] end

--- The names of all links that are open, in the order of opening.
---@return string[]
function t.links()
  local w, names = world "t.links", {}
  for id = 0, w.next_link - 1 do
    if w.links[id] then names[#names + 1] = w.links[id].name end
  end
  return names
end

--- The rows that a stream got, by frames and documents, as `tidemill replay --rows` prints them.
---@param stream string
---@return table[]
function t.rows(stream) return world("t.rows").rows[stream] or {} end

--- The value of a metric of the script; nil when there is none.
---@param name string
---@param labels? string
---@return number?
function t.metric(name, labels)
  local metric = world("t.metric").metrics[labels and ("%s{%s}"):format(name, labels) or name]
  return metric and metric.value
end

--- The engine's metric has this value from now on: t.measure("dedup_sync_lag_seconds", 45), or with labels,
--- t.measure("dedup_gatherer_health", 0, { gatherer = "g1" }). From the first one on the script's alerts are judged every
--- second; metrics that are not told are not there.
---@param name string
---@param value number
---@param labels? table<string, string>
function t.measure(name, value, labels)
  local w = world "t.measure"
  local texts = {}
  for label, text in pairs(labels or {}) do texts[#texts + 1] = ('%s="%s"'):format(label, text) end
  table.sort(texts)
  w:measure(name, #texts > 0 and table.concat(texts, ",") or nil, value)
end

--- An alert as it stands: { state, severity, value, summary, silenced, ... }; nil when the script has none of that name.
---@param name string
---@return tidemill.AlertEvent?
function t.alert(name)
  local w = world "t.alert"
  for _, alert in ipairs(w.host.alert_list()) do
    if alert.name == name then return alert end
  end
end

--- What the script logged: { level, text, fields }.
---@return table[]
function t.logs() return world("t.logs").logs end

--- Whether a line of that level whose text matches the pattern was logged.
---@param level string
---@param pattern string
---@return boolean
function t.logged(level, pattern)
  for _, line in ipairs(world("t.logged").logs) do
    if line.level == level and line.text:find(pattern) then return true end
  end
  return false
end

--- Handlers that failed so far: { name, message }. Taken: they do not fail the test any more.
---@return table[]
function t.failures()
  local w = world "t.failures"
  local failures = w.failures
  w.failures = {}
  return failures
end

return t
