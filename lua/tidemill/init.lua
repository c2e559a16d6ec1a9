--- Tidemill's scripting library: require "tidemill".
---
--- A script runs twice over. At *declare time* the file runs: tm.gatherer, tm.stream, tm.on and the like note what is
--- wanted and have no other effect. At *run time* handlers and timers run as coroutines that may wait.
--- Types of all tables stand in tidemill/meta.lua.

local alert = require "tidemill.alert"
local host = require "tidemill.host"
local declare = require "tidemill.declare"
local http = require "tidemill.http"
local metric = require "tidemill.metric"
local notify = require "tidemill.notify"
local problems = require "tidemill.problems"
local event = require "tidemill.event"
local feed = require "tidemill.feed"
local role = require "tidemill.role"
local routine = require "tidemill.routine"
local secret = require "tidemill.secret"
local spread = require "tidemill.spread"
local sql = require "tidemill.sql"
local state = require "tidemill.state"
require "tidemill.remote"
local stream = require "tidemill.stream"
local units = require "tidemill.units"

---@class tidemill
local tm = {
  gatherer = role.gatherer, deduplicator = role.deduplicator,
  stream = stream.stream, kind = stream.kind, protocol = stream.protocol, dedup = stream.dedup,
  add_column = stream.add_column,
  path = stream.path, decimal = stream.decimal, rfc3339 = stream.rfc3339, seconds = stream.seconds,
  millis = stream.millis, micros = stream.micros, const = stream.const, tag = stream.tag, raw = stream.raw,
  received_at = stream.received_at, occurrence = stream.occurrence,
  spread = spread.open, spreads = spread.names, close_spread = spread.close,
  signer = feed.signer, feed = feed.feed, rest = feed.rest, registry = feed.registry, submit = feed.submit,
  event = event.event, emit = event.emit, wait_for = event.wait_for, listen = event.listen, watch = event.watch,
  routine = routine.routine, recovery = routine.recovery,
  on = event.on, every = event.every, after = event.after, spawn = event.spawn, sleep = event.sleep,
  secret = secret.secret, conninfo = secret.conninfo, state = state.state, sql = sql.sql, http = http,
  counter = metric.counter, gauge = metric.gauge, histogram = metric.histogram, alert = alert.alert, notify = notify,
  silence = alert.silence, unsilence = alert.unsilence, alerts = alert.alerts,
  null = host.null,
}

--- JSON in which null survives (as tm.null) and integers of 2^53 and more come as strings of their digits.
tm.json = { decode = host.json_decode, encode = host.json_encode, array = host.json_array, get = host.json_get }

--- A setting from the environment; `default` when it is absent or empty. With a number as default the text must be one.
---@param name string
---@param default? any
---@return any
function tm.env(name, default)
  local value = host.env(name)
  if value == nil or value == "" then return default end
  if type(default) ~= "number" then return value end
  local number = tonumber(value)
  if not number then
    problems.add(host.where(2), "tm.env " .. name, ('expected a number, got "%s"'):format(value))
  end
  return number or default
end

--- Log one line: tm.log.info("text", { market = ticker }). Fields are texts, numbers and booleans; secrets show as ***.
tm.log = {}
for _, level in ipairs { "debug", "info", "warn", "error" } do
  tm.log[level] = function(text, fields) host.log(level, text, fields) end
end

--- Microseconds since 1970.
---@return number
function tm.now() return host.now_us() end

--- Microseconds of a clock that never jumps.
---@return number
function tm.monotonic() return host.monotonic_us() end

--- Microseconds of a duration like "48h", bytes of a size like "64MiB".
tm.duration, tm.size = units.duration, units.size

--- Declare a test of this script, run by `tidemill test FILE`, `tidemill check --tests` and before a reload. Each runs
--- in a world of its own with the script freshly loaded; `t` is what require "tidemill.test" gives to test files.
---
---     tm.test("rounds up", function(t) t.equal(lots(0.1), 1) end)
---@param name string
---@param fn fun(t: tidemill.Test)
function tm.test(name, fn)
  declare.only "tm.test"
  local at = problems.caller()
  local text, expected = tm.check.text(name)
  local callable, fn_expected = tm.check.func(fn)
  if not text then return problems.add(at, "tm.test", expected) end
  if not callable then return problems.add(at, "tm.test " .. name, fn_expected) end
  local tests = declare.declared.tests
  tests[#tests + 1] = { name = name, fn = fn, at = at }
end

--- Note a fault of a declaration: for libraries such as adapters. `at` is tm.caller() of their public function.
tm.problem = problems.add
tm.caller = problems.caller
tm.place = problems.place
tm.check = require "tidemill.check"
tm.hint, tm.seal = problems.hint, problems.seal

tm.log, tm.json = host.freeze(tm.log, "tm.log"), host.freeze(tm.json, "tm.json")

return host.freeze(problems.seal("tm", tm), "tm")
