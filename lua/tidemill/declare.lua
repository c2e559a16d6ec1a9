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
    registries = {},   -- { stream, columns, quiet }
    timers = {},       -- { after_us, every_us, name, fn }
    handlers = {},     -- event name -> list of { name, fn }
  },
  adjust = {},         -- functions that run at the end of declare time
  started = {},        -- functions that run when run time begins
  links = {},          -- run time: link number -> link object
}

local declared = declare.declared

function declare.dispatch(event)
  event.link = declare.links[event.link_id]
  for _, handler in ipairs(declared.handlers[event.type] or {}) do
    host.spawn(handler.name, handler.fn, event)
  end
end

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

--- The end of declare time: everything that was declared, with what is wrong with it.
---@param file string
---@param ran boolean whether the file ran to its end
function declare.finish(file, ran)
  for _, adjust in ipairs(declare.adjust) do adjust() end
  if ran and not declared.role then
    problems.add(file, "", "the script declares no role: expected tm.gatherer { ... } or tm.deduplicator { ... }")
  end
  declared.begin = begin
  declared.dispatch = declare.dispatch
  declared.summary = summary.of(declared)
  return declared
end

--- Raise unless it is declare time.
---@param what string
function declare.only(what)
  if declare.running then error(what .. " is for declare time: call it outside of handlers", 3) end
end

return declare
