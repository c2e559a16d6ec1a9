--- Events, timers, tasks: what runs when.

local host = require "tidemill.host"
local check = require "tidemill.check"
local declare = require "tidemill.declare"
local problems = require "tidemill.problems"
local units = require "tidemill.units"

local event = {}
local declared = declare.declared

--- alert: see tm.alert; name, state, severity, value, summary, since, repeated, labels.
--- start: the engine runs. link_up, link_down (text, number), subscribed (text: channel, sid), unsubscribed (sid),
--- gap (sid, first, last), error (number: code, text, sid), frame (kind, text), unknown (text). All but start and alert
--- carry `link`.
local names = { "start", "link_up", "link_down", "subscribed", "unsubscribed", "gap", "error", "frame", "unknown", "alert" }

local callback_fields = { failures = check.field(check.integer(1, 1e6)) }

--- Call `fn(event)` as a coroutine, which may wait, whenever the event happens. After `failures` errors in a row it is not
--- called any more, until the next reload.
---@param name string
---@param fn fun(event: tidemill.Event)
---@param options? tidemill.Callback
function event.on(name, fn, options)
  local at = problems.caller()
  local settings = options == nil and {} or check.closed(at, "tm.on " .. tostring(name), options, callback_fields)
  local known, expected = check.one_of(names)(name)
  local callable, fn_expected = check.func(fn)
  if not known then return problems.add(at, "tm.on", expected) end
  if not callable then return problems.add(at, "tm.on " .. name, fn_expected) end
  declared.handlers[name] = declared.handlers[name] or {}
  table.insert(declared.handlers[name], { name = ("tm.on %s at %s"):format(name, at), fn = fn, failures = settings.failures })
end

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
