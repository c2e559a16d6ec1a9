--- The declarations of a script, in the form that the host reads (core/script/config.h), and the way from declare time
--- to run time. Scripts do not use this module; they use require "tidemill".

local host = require "tidemill.host"
local problems = require "tidemill.problems"
local summary = require "tidemill.summary"

local declare = {
  running = false,
  declared = {
    errors = problems.list,
    role = nil,        -- { role, at, id, ... }
    protocol = nil,    -- { tag, subscription, sequence, reconnect_codes }
    streams = {},      -- { name, columns, key, ..., at }
    kinds = {},        -- { tag, stream, sources, ..., at }
    signers = {}, feeds = {}, rests = {},
    sqls = {},         -- { conninfo, timeout_us, connections, rows_max, bytes_max, at }
    alerts = {},       -- { name, when, clear, severity, hold_us, every_us, labels, ..., at }
    registries = {},   -- { stream, columns, quiet, at }
    connections = {},  -- { name, count, markets, feed }: what is going to be opened, in words
    tests = {},        -- { name, fn, at }
    timers = {},       -- { after_us, every_us, name, fn }
    handlers = {},     -- event name -> list of { name, fn }
    watch = nil,         -- { lag_us, disk_free_bytes, ... }: engine/watch.h
  },
  adjust = {},         -- functions that run at the end of declare time
  started = {},        -- functions that run when run time begins, before the event "start"
  links = {},          -- run time: link number -> link object
  observers = {},      -- functions that are given every event: run time, also while the script is being replaced
  listeners = {},      -- likewise, but not then
}

local declared = declare.declared

--- Give an event to the tasks that wait for it. The host calls this alone once a newer script has taken over.
---@param event tidemill.Event
function declare.observe(event)
  event.link = event.link or declare.links[event.link_id]
  for _, observe in ipairs(declare.observers) do observe(event) end
end

--- Give an event to whoever waits for it, to its routines and to its handlers.
---@param event tidemill.Event
function declare.dispatch(event)
  declare.observe(event)
  for _, listen in ipairs(declare.listeners) do listen(event) end
  for _, handler in ipairs(declared.handlers[event.type] or {}) do
    host.spawn(handler.name, handler.fn, event)
  end
end

local START_MAX = 1000 -- tasks there can be at once (core/script/task.h)

local function begin()
  declare.running = true
  for _, registry in ipairs(declared.registries) do
    registry.id = host.registry_open(registry.stream, registry.columns, registry.quiet)
  end
  for _, handlers in pairs(declared.handlers) do
    for _, handler in ipairs(handlers) do host.callback("event", handler.name, handler.failures) end
  end
  for _, timer in ipairs(declared.timers) do
    local once = timer.every_us == 0 -- what runs once is counted and not disabled
    host.callback("timer", timer.name, once and 0 or timer.failures)
    timer.id = host.timer(timer.after_us, timer.every_us, timer.name, timer.fn)
  end
  for _, started in ipairs(declare.started) do started() end
  declare.dispatch { type = "start" }
end

-- What is missing may stand behind the line that failed: of what was found at the end only misspellings are kept.
local function forget_guesses(before)
  for i = #problems.list, before + 1, -1 do
    if not problems.list[i].message:find("did you mean", 1, true) then table.remove(problems.list, i) end
  end
end

--- The end of declare time: everything that was declared, with what is wrong with it.
---@param file string
---@param ran boolean whether the file ran to its end
function declare.finish(file, ran)
  local before = #problems.list
  for _, adjust in ipairs(declare.adjust) do adjust() end
  if not ran then forget_guesses(before) end
  if ran and not declared.role then
    problems.add(file, "", "the script declares no role: expected tm.gatherer { ... } or tm.deduplicator { ... }")
  end
  if #(declared.handlers.start or {}) > START_MAX then
    problems.add(file, "", ("expected at most %d handlers of the event start"):format(START_MAX))
  end
  if #declared.timers > START_MAX then
    problems.add(file, "", ("expected at most %d timers"):format(START_MAX))
  end
  declared.begin = begin
  declared.dispatch = declare.dispatch
  declared.summary = summary.of(declared)
  declared.observe = declare.observe
  return declared
end

--- Raise unless it is declare time.
---@param what string
function declare.only(what)
  if declare.running then error(what .. " is for declare time: call it outside of handlers", 3) end
end

return declare
