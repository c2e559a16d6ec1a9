--- Recovery routines: coroutines bound to events, of which at most one runs for each subject (DESIGN.md 7).
---
---     event -> subject -> offered -> waits for its turn -> runs (run:step, run:save, run:get, ...) -> done | failed
---
--- The table of runs lives in the host (core/script/routines.h), because it outlives this script: after a reload the
--- old generation's runs go on, and the new one respects them. What waits is kept there too, as JSON, so events of routines
--- must be plain data; a link goes by its name.

local host = require "tidemill.host"
local check = require "tidemill.check"
local declare = require "tidemill.declare"
local event = require "tidemill.event"
local feed = require "tidemill.feed"
local problems = require "tidemill.problems"
local units = require "tidemill.units"

local routine = {}

local TICK_US = 1e6
local GRACE_US = 5e6      -- from cancel to the end by force
local STEPS_MAX = 100     -- in the row of a run
local BACKOFF_US_MAX = 300e6
local SUBJECT_MAX = 120

local definitions = {}    -- name -> definition
local by_event = {}       -- event -> list of definitions
local active = {}         -- id -> run, of this generation
local cancelled = {}      -- the error value of a run that was asked to end
local settings = { running = 0, waiting = 0 }
local configured_at

-- ---- events as plain data ----

local function is_plain(value)
  local kind = type(value)
  if kind ~= "table" then return kind == "string" or kind == "number" or kind == "boolean" or value == host.null end
  if getmetatable(value) ~= nil and value ~= host.null then return false end
  for key, v in pairs(value) do
    if type(key) ~= "string" and type(key) ~= "number" or not is_plain(v) then return false end
  end
  return true
end

local function pack(raised)
  local plain = {}
  for key, value in pairs(raised) do
    if key ~= "link" and key ~= "link_id" and type(key) == "string" and is_plain(value) then plain[key] = value end
  end
  local link = raised.link
  plain.link_name = type(link) == "table" and link.name or type(link) == "string" and link or raised.link_name
  return plain
end

local function link_of(name)
  for _, link in pairs(declare.links) do
    if link.name == name then return link end
  end
end

local function unpack_fields(text)
  local fields = host.json_decode(text)
  if fields.link_name then fields.link = link_of(fields.link_name) end
  return fields
end

local function merged(definition, waiting, new)
  if not waiting then return new end
  if definition.merge then return pack(definition.merge(unpack_fields(waiting), new)) end
  return new
end

-- ---- the row of a run ----

-- In a task, as it may have to wait for room.
local function record(run, state, error_text)
  local role = declare.declared.role
  if not role or role.role ~= "gatherer" then return end
  local row = {
    run_id = run.run_id, routine = run.routine, subject = run.subject, event = run.event.type or "manual",
    state = state, started_at = run.started, ended_at = state ~= "running" and host.now_us() or nil, dry = run.is_dry,
    attempt = run.attempt, error = error_text, steps = host.json_array(run.steps),
  }
  local accepted, why = feed.submit("recovery_run", "runs", host.json_encode { runs = host.json_array { row } })
  if not accepted then host.log("warn", "a recovery run has no row", { routine = run.routine, why = why }) end
end

-- ---- a run, as its routine sees it ----

---@class tidemill.Run
---@field routine string
---@field subject string
---@field event tidemill.Event
---@field saved? table what an earlier try of this run saved
---@field attempt integer 0: the first try
---@field cancelled boolean somebody asked it to end; run:step and the other methods then end it
local Run = {}
Run.__index = Run

--- End here when somebody asked for it.
function Run:check()
  if host.routine_cancelled(self.id) then self.cancelled = true end
  if self.cancelled then error(cancelled, 0) end
end

local function describe(fields)
  local names, parts = {}, {}
  for name in pairs(fields or {}) do names[#names + 1] = tostring(name) end
  table.sort(names)
  for _, name in ipairs(names) do parts[#parts + 1] = name .. "=" .. tostring(fields[name]) end
  return #parts > 0 and " " .. table.concat(parts, " ") or ""
end

--- Note what is done: in the log, in the status and in the run's row.
---@param text string
---@param fields? table
function Run:step(text, fields)
  self:check()
  local line = (text .. describe(fields)):sub(1, 230)
  if #self.steps < STEPS_MAX then self.steps[#self.steps + 1] = { at = host.now_us(), text = line } end
  host.routine_step(self.id, line)
  host.log("info", text, { routine = self.routine, subject = self.subject, detail = describe(fields):sub(2, 400),
                           dry = self.is_dry or nil })
end

--- Keep plain data for the next try, in case this one is interrupted or fails: run.saved then.
---@param state table
function Run:save(state) host.routine_save(self.id, host.json_encode(state)) end

--- Whether nothing may be changed: steps only.
---@return boolean
function Run:dry() return self.is_dry end

--- Wait.
---@param duration string
function Run:sleep(duration)
  local us, expected = units.duration(duration)
  if not us then error("run:sleep: " .. expected, 2) end
  self:check()
  host.sleep_us(us)
  self:check()
end

--- Send a frame by a link; in a dry run only say so.
---@param link tidemill.Link
---@param bytes string
---@return boolean accepted, string? why
function Run:send(link, bytes)
  self:check()
  if not self.is_dry then return link:send(bytes) end
  self:step("would send", { link = link.name, frame = bytes:sub(1, 120) })
  return true
end

--- tm.submit; in a dry run only say so.
function Run:submit(kind, path, body, registry, round)
  self:check()
  if not self.is_dry then return feed.submit(kind, path, body, registry, round) end
  self:step("would submit", { kind = kind, bytes = #body })
  return {}, 0
end

--- Drop a connection; in a dry run only say so.
---@param link tidemill.Link
function Run:reconnect(link)
  self:step(self.is_dry and "would reconnect" or "reconnecting", { link = link.name })
  if not self.is_dry then link:reconnect() end
end

--- GET until there is an answer that counts, as rest:get_patiently, noting each failure; raises what is refused for
--- good.
---@param rest tidemill.Rest
---@param path string
---@param query? table
---@return table response with status 200
function Run:get(rest, path, query)
  self:check()
  local response = rest:get_patiently(path, query, function(failure)
    self:step("the request failed and is tried again", { path = path, status = failure.status, reason = failure.error })
  end)
  if response.status == 200 then return response end
  error(("GET %s was refused: status %d, %s"):format(path, response.status, response.body:sub(1, 200)), 0)
end

--- Take what was offered for this subject meanwhile into this run: run.event, merged. Whether there was something.
---@return boolean
function Run:absorb()
  local waiting = host.routine_take(self.routine, self.subject)
  if not waiting then return false end
  local definition = definitions[self.routine]
  local fields = unpack_fields(waiting)
  if definition.merge then fields = definition.merge(self.event, fields) end
  self.event = fields
  return true
end

-- ---- starting and ending ----

local pump

local function retry(run, definition, saved)
  local delay_us = math.min(definition.backoff_us * 2 ^ run.attempt, BACKOFF_US_MAX) * (0.5 + math.random() / 2)
  local fields = merged(definition, host.routine_pending(run.routine, run.subject), pack(run.event))
  host.routine_offer {
    routine = run.routine, subject = run.subject, event = run.event.type or "manual", priority = definition.priority,
    fields = host.json_encode(fields), dry = run.is_dry, attempt = run.attempt + 1, delay_us = delay_us,
    saved = saved,
  }
end

local function finish(run, result, error_text)
  if not active[run.id] then return end
  active[run.id] = nil
  if run.timer then host.cancel(run.timer) end
  local definition = definitions[run.routine]
  local again = (result == "failed" or result == "timeout") and run.attempt < definition.retries
  local saved = again and host.routine_saved(run.id) or nil
  host.routine_end(run.id, result, error_text and error_text:sub(1, 1000))
  if again then retry(run, definition, saved) end
  local level = result == "done" and "info" or (again or result == "cancelled") and "warn" or "error"
  host.log(level, "recovery run " .. result, { routine = run.routine, subject = run.subject, error = error_text,
                                               attempt = run.attempt, again = again or nil })
  pump()
  record(run, result, error_text)
end

local function perform(run, definition)
  host.keep()
  record(run, "running")
  local ok, why = pcall(function()
    if definition.settle_us > 0 then
      host.sleep_us(definition.settle_us)
      run:absorb()
    end
    run:check()
    definition.run(run, run.event)
  end)
  if ok then return finish(run, "done") end
  if why == cancelled then return finish(run, "cancelled") end
  finish(run, "failed", tostring(why))
end

local function end_by_force(run, result, why)
  host.kill(run.task)
  finish(run, result, why)
end

local function start(started)
  local definition = definitions[started.routine]
  if not definition then
    return host.routine_end(started.id, "failed", "the script declares no routine of this name any more")
  end
  local run = setmetatable({
    id = started.id, run_id = started.run_id, routine = started.routine, subject = started.subject,
    event = unpack_fields(started.fields), saved = started.saved and host.json_decode(started.saved) or nil,
    is_dry = started.dry, attempt = started.attempt, started = started.started, steps = {}, cancelled = false,
  }, Run)
  active[run.id] = run
  run.task = host.spawn("routine " .. run.routine, perform, run, definition)
  run.timer = host.timer(definition.timeout_us, 0, "timeout of routine " .. run.routine, function()
    end_by_force(run, "timeout", ("it took longer than %g s"):format(definition.timeout_us / 1e6))
  end)
end

function pump()
  while true do
    local started = host.routine_next()
    if not started then return end
    start(started)
  end
end

-- Once a second: runs whose task was stopped by its budget, runs that do not hear that they are cancelled, and those
-- that wait for another generation's.
local function tick()
  local now = host.monotonic_us()
  for _, run in pairs(active) do
    if not host.is_live(run.task) then
      finish(run, "failed", "its handler was stopped: see the log")
    elseif host.routine_cancelled(run.id) then
      run.cancelled = true
      run.cancel_us = run.cancel_us or now
      if now - run.cancel_us >= GRACE_US then end_by_force(run, "cancelled") end
    end
  end
  pump()
end

-- ---- offering ----

local function subject_of(definition, raised)
  if definition.subject then return definition.subject(raised) end
  return raised.link and raised.link.name or raised.name or "all"
end

local function offer(definition, raised, options)
  local subject = subject_of(definition, raised)
  if subject == nil or subject == false then return nil end
  subject = tostring(subject):sub(1, SUBJECT_MAX)
  local fields = merged(definition, host.routine_pending(definition.name, subject), pack(raised))
  return host.routine_offer {
    routine = definition.name, subject = subject, event = raised.type, priority = definition.priority,
    fields = host.json_encode(fields), dry = options and options.dry or definition.dry_run or false,
  }
end

local function consider(definition, raised)
  if definition.when and not definition.when(raised) then return end
  offer(definition, raised)
end

local function on_event(raised)
  local list = by_event[raised.type]
  if not list then return end
  for _, definition in ipairs(list) do
    local ok, why = pcall(consider, definition, raised)
    if not ok then
      host.log("error", "a routine cannot take an event",
        { routine = definition.name, event = raised.type, error = tostring(why) })
    end
  end
  pump()
end

-- ---- declaring ----

local fields = {
  on = check.field(check.list(check.text, "events"), { default = {} }),
  subject = check.field(check.func),
  when = check.field(check.func),
  merge = check.field(check.func),
  every = check.field(check.duration, { to = "every_us" }),
  settle = check.field(check.duration, { to = "settle_us", default = 0 }),
  priority = check.field(check.integer(0, 1000), { default = 5 }),
  timeout = check.field(check.duration, { to = "timeout_us", default = 600e6 }),
  retries = check.field(check.integer(0, 1000), { default = 0 }),
  backoff = check.field(check.duration, { to = "backoff_us", default = 2e6 }),
  dry_run = check.field(check.boolean, { default = false }),
  run = check.field(check.func, { required = true }),
}

local function begin()
  host.routine_open(settings.running, settings.waiting)
  for name, definition in pairs(definitions) do
    if definition.every_us then
      host.timer(definition.every_us, definition.every_us, "routine " .. name, function()
        offer(definition, { type = "timer", text = "" })
        pump()
      end)
    end
  end
  host.timer(TICK_US, TICK_US, "recovery runs", tick)
  pump() -- what an earlier generation left
end

local function first_routine()
  if next(definitions) then return end
  require "tidemill.runs"
  declare.listeners[#declare.listeners + 1] = on_event
  declare.started[#declare.started + 1] = begin
end

local function declare_routine(at, name, definition)
  local path = "tm.routine " .. tostring(name)
  local valid, expected = check.id(name)
  if not valid then return problems.add(at, "tm.routine", expected) end
  if definitions[name] then return problems.add(at, path, "is declared already at " .. definitions[name].at) end
  local normal, ok = check.closed(at, path, definition, fields)
  first_routine()
  normal.name, normal.at = name, at
  definitions[name] = normal
  for _, event_name in ipairs(normal.on or {}) do event.expect(at, path .. ": on", event_name) end
  if not ok then return end
  for _, event_name in ipairs(normal.on) do
    by_event[event_name] = by_event[event_name] or {}
    table.insert(by_event[event_name], normal)
  end
  if normal.every_us and normal.every_us < 1e6 then problems.add(at, path, "every: expected at least 1s") end
end

local settings_fields = {
  running = check.field(check.integer(1, 100)),
  waiting = check.field(check.integer(1, 1000)),
}

--- How many recovery runs go on at once (4), and how many may wait (200).
---@param definition { running?: integer, waiting?: integer }
function routine.recovery(definition)
  declare.only "tm.recovery"
  local at = problems.caller()
  if configured_at then return problems.add(at, "tm.recovery", "is declared already at " .. configured_at) end
  configured_at = at
  local normal = check.closed(at, "tm.recovery", definition, settings_fields)
  settings.running, settings.waiting = normal.running or 0, normal.waiting or 0
end

local run_fields = { dry = check.field(check.boolean) }

local function names()
  local list = {}
  for name in pairs(definitions) do list[#list + 1] = name end
  return list
end

local function find(what, name)
  local definition = type(name) == "string" and definitions[name]
  if definition then return definition end
  error(("%s: unknown routine %q"):format(what, tostring(name)) .. problems.hint(tostring(name), names()), 3)
end

--- What is declared, as plain data, in the order of the names.
---@return table[]
function routine.definitions()
  local list = {}
  for name, definition in pairs(definitions) do
    list[#list + 1] = {
      name = name, on = definition.on, every_s = definition.every_us and definition.every_us / 1e6,
      priority = definition.priority, timeout_s = definition.timeout_us / 1e6, retries = definition.retries,
      dry_run = definition.dry_run, at = definition.at,
    }
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

local Routine = {}

--- Start a run by hand: run time. "queued", "coalesced" (one runs or waits already) or "dropped".
---@param name string
---@param subject string
---@param fields? table of the event that it is given
---@param options? { dry?: boolean }
---@return string
function Routine.run(name, subject, given, options)
  local definition = find("tm.routine.run", name)
  local why = not check.text(subject) and "subject: expected text" or options and check.explain(options, run_fields)
  if why then error("tm.routine.run: " .. why, 2) end
  local raised = { type = "manual", text = "" }
  for key, value in pairs(given or {}) do raised[key] = value end
  local by_hand = setmetatable({ subject = function() return subject end }, { __index = definition })
  local offered = offer(by_hand, raised, options)
  pump()
  return offered
end

--- Ask runs of a routine to end, and take away those that wait; all subjects, or one. How many there were.
---@param name string
---@param subject? string
---@return integer
function Routine.cancel(name, subject)
  find("tm.routine.cancel", name)
  local count = host.routine_cancel(name, subject)
  for _, run in pairs(active) do
    if host.routine_cancelled(run.id) then run.cancelled = true run.cancel_us = run.cancel_us or host.monotonic_us() end
  end
  return count
end

--- { running, waiting, recent, coalesced, dropped }: what there is, with steps.
---@return table
function Routine.list() return host.json_decode(host.routine_list()) end

--- Declare a recovery routine.
---
---     tm.routine "resync" {
---       on = { "gap" }, settle = "200ms", priority = 2, timeout = "2m",
---       run = function(run, event) run:step("asking for fresh books", { link = event.link.name }) end,
---     }
routine.routine = setmetatable(Routine, {
  __call = function(_, name)
    declare.only "tm.routine"
    return function(definition) declare_routine(problems.caller(), name, definition) end
  end,
})

return routine
