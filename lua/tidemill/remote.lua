--- What people at the control socket can call in the running script (core/script/remote.h, lua/tidemill/repl/): a table of
--- functions by name, each for a role. Arguments and results are JSON. Scripts do not use this module; adapters tell it
--- what their subscriptions are.
---
--- A change by hand lives as long as this generation of the script: a reload brings what the files say. Each one is noted,
--- so that changes() can print it (core/script/changes.h).

local alert = require "tidemill.alert"
local check = require "tidemill.check"
local declare = require "tidemill.declare"
local host = require "tidemill.host"
local problems = require "tidemill.problems"
local routine = require "tidemill.routine"
local units = require "tidemill.units"

local remote = {}

local READ, OPERATE, ADMIN = 0, 1, 2
local DEPTH_MAX, ITEMS_MAX = 10, 10000
local TASKS_US = 500e3 -- how often tasks of commands are looked after

local functions = {}     -- name -> { role, fn, waits }
local subscriptions = {} -- name -> { add, remove, forget, describe, find }

-- ---- plain data ----

local plain

local function plain_table(value, depth, seen)
  if seen[value] or depth > DEPTH_MAX then return "..." end
  seen[value] = true
  local copy, count = #value > 0 and host.json_array {} or {}, 0
  for key, item in pairs(value) do
    count = count + 1
    if count > ITEMS_MAX then error(("the result has more than %d items: ask for less"):format(ITEMS_MAX), 0) end
    if #value == 0 then key = tostring(key) end
    if #value == 0 or type(key) == "number" then copy[key] = plain(item, depth + 1, seen) end
  end
  seen[value] = nil
  return copy
end

-- What JSON can say of a value; the rest by its name.
function plain(value, depth, seen)
  local kind = type(value)
  if kind == "table" then return plain_table(value, depth or 1, seen or {}) end
  if kind == "number" and (value ~= value or math.abs(value) == math.huge) then return tostring(value) end
  if kind == "string" or kind == "number" or kind == "boolean" or value == host.null then return value end
  if value == nil then return host.null end
  return tostring(value)
end

-- ---- calling ----

local function find(role, name)
  local found = functions[name]
  if found and found.role <= role then return found end
  local names = {}
  for known, entry in pairs(functions) do
    if entry.role <= role then names[#names + 1] = known end
  end
  if found then error(("%s needs more rights than this peer has"):format(name), 0) end
  error(("there is no %s"):format(tostring(name)) .. problems.hint(tostring(name), names), 0)
end

local function message_of(why) return type(why) == "table" and why.message or tostring(why) end

local tasks, timer = {}, nil -- token -> task

-- A task that was stopped for its budget gives no answer itself.
local function look_after_tasks()
  for token, task in pairs(tasks) do
    if not host.is_live(task) then
      tasks[token] = nil
      host.remote_answer(token, false, "it was stopped: the log says why")
    end
  end
  if next(tasks) then return end
  host.cancel(timer)
  timer = nil
end

local function in_task(name, fn, given, token)
  tasks[token] = host.spawn("command " .. name, function()
    local ok, result = pcall(function() return host.json_encode(plain(fn(given))) end)
    tasks[token] = nil
    host.remote_answer(token, ok, ok and result or message_of(result))
  end)
  timer = timer or host.timer(TASKS_US, TASKS_US, "commands of sessions", look_after_tasks)
end

--- For the host alone: the result as JSON, or nil when it comes later. `given` is JSON, or a function.
---@param role integer
---@param name string
---@param given any
---@param token number
---@return string?
function remote.call(role, name, given, token)
  local found = find(role, name)
  if type(given) == "string" then given = host.json_decode(given) end
  if not found.waits then return host.json_encode(plain(found.fn(given))) end
  if token == 0 then error(name .. " takes its time and can only be waited for", 0) end
  in_task(name, found.fn, given, token)
  return nil
end

local function define(role, name, fn, waits) functions[name] = { role = role, fn = fn, waits = waits } end

-- ---- links and subscriptions ----

local function link_of(name)
  local names = {}
  for _, link in pairs(declare.links) do
    if link.name == name then return link end
    names[#names + 1] = link.name
  end
  error(("there is no connection %q"):format(tostring(name)) .. problems.hint(tostring(name), names), 0)
end

--- For adapters, run time: people can look at this subscription and change it. `object` has describe(), a table of plain
--- facts; find(ticker), the name of a connection or nil; by_hand(ticker, wanted), nil: the rule decides again.
---@param name string
---@param object table
function remote.subscription(name, object) subscriptions[name] = object end

local function subscription_of(name)
  local names = {}
  for known in pairs(subscriptions) do names[#names + 1] = known end
  if subscriptions[name] then return subscriptions[name] end
  if #names == 0 then error("this script has no subscriptions", 0) end
  error(("there is no subscription %q"):format(tostring(name)) .. problems.hint(tostring(name), names), 0)
end

define(READ, "subscriptions", function()
  local list = host.json_array {}
  for name, object in pairs(subscriptions) do
    local facts = object:describe()
    facts.name = name
    list[#list + 1] = facts
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end)

define(READ, "find", function(given)
  local found = host.json_array {}
  for name, object in pairs(subscriptions) do
    found[#found + 1] = { subscription = name, connection = object:find(given.ticker) or host.null }
  end
  table.sort(found, function(a, b) return a.subscription < b.subscription end)
  return found
end)

-- The subscription's answer and the note of the change.
local function by_hand(given, wanted, verb)
  local object = subscription_of(given.subscription)
  if not check.text(given.ticker) or #given.ticker > 255 then error("expected the ticker of a market", 0) end
  local ok, why = object:by_hand(given.ticker, wanted)
  if not ok then error(why, 0) end
  host.note_change(("%s(%q, %q)"):format(verb, given.subscription, given.ticker))
  return { subscription = given.subscription, ticker = given.ticker }
end

define(ADMIN, "subscribe", function(given) return by_hand(given, true, "subscribe") end)
define(ADMIN, "unsubscribe", function(given) return by_hand(given, false, "unsubscribe") end)

define(OPERATE, "reconnect", function(given)
  link_of(given.link):reconnect()
  return { link = given.link }
end)

-- ---- routines ----

define(READ, "routines", function() return host.json_array(routine.definitions()) end)

local function offer(given, dry)
  local fields, found = {}, nil
  for key, value in pairs(given.fields or {}) do fields[key] = value end
  for _, link in pairs(declare.links) do
    if link.name == given.subject then found = link end
  end
  fields.link = fields.link or found
  return routine.routine.run(given.routine, given.subject, fields, { dry = dry })
end

define(OPERATE, "run", function(given) return offer(given, false) end)
define(OPERATE, "dry", function(given) return offer(given, true) end)
define(OPERATE, "cancel", function(given) return routine.routine.cancel(given.routine, given.subject) end)

-- ---- thresholds and windows ----

local function lua_value(value)
  if type(value) == "string" then return ("%q"):format(value) end
  return tostring(value)
end

local function lua_table(value)
  local parts, names = {}, {}
  for name in pairs(value) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do parts[#parts + 1] = ("%s = %s"):format(name, lua_value(value[name])) end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

define(ADMIN, "alert", function(given)
  local definition = alert.change(given.name, given.fields or {})
  host.note_change(("alert(%q, %s)"):format(given.name, lua_table(given.fields)),
    ("in tm.alert %q: %s"):format(given.name, lua_table(given.fields)))
  return definition
end)

define(ADMIN, "window", function(given)
  local window, why = units.duration(given.window)
  if not window then error(why, 0) end
  host.stream_set(given.stream, window, 0)
  host.note_change(("window(%q, %q)"):format(given.stream, given.window),
    ("tm.dedup(%q, { window = %q })"):format(given.stream, given.window))
  return { stream = given.stream, window = given.window }
end)

define(ADMIN, "memory", function(given)
  local bytes, why = units.size(given.memory)
  if not bytes then error(why, 0) end
  host.stream_set(given.stream, 0, bytes)
  host.note_change(("memory(%q, %q)"):format(given.stream, given.memory),
    ("tm.dedup(%q, { memory = %q })"):format(given.stream, given.memory))
  return { stream = given.stream, memory = given.memory }
end)

-- ---- the role's own database, read only ----

local OWN = 0 -- the store of a gatherer, production of a deduplicator

local function query(text, ...)
  local id, why = host.sql_begin(OWN)
  if not id then error(why.message, 0) end
  local ok, failed = host.sql(OWN, id, "SET TRANSACTION READ ONLY")
  local rows
  if ok then rows, failed = host.sql(OWN, id, text, ...) end
  host.sql_end(id, false)
  if not rows then error(failed.message, 0) end
  return host.json_array(rows)
end

define(ADMIN, "sql", function(given) return query(given.text, unpack(given.values or {})) end, true)

local function is_gatherer() return declare.declared.role.role == "gatherer" end

local GAPS = "SELECT %s stream, ticker, from_ts, to_ts, reason, connection, closed_by, detail FROM gaps"
  .. " WHERE reason <> 'whole' AND ($1::text IS NULL OR ticker = $1 OR ticker IS NULL)"
  .. " ORDER BY from_ts DESC LIMIT $2::int"

define(READ, "gaps", function(given)
  local limit = math.min(tonumber(given.n) or 20, 1000)
  return query(GAPS:format(is_gatherer() and "" or "gatherer,"), given.ticker, ("%d"):format(limit))
end, true)

define(READ, "cursors", function()
  if is_gatherer() then
    return query [[SELECT s.stream, s.seq AS stored, a.production, a.seq AS acknowledged, a.at
      FROM tidemill.streams s JOIN tidemill.epochs e USING (epoch_no)
      LEFT JOIN tidemill.acknowledged a ON a.epoch = e.epoch AND a.stream = s.stream
      WHERE s.epoch_no = (SELECT max(epoch_no) FROM tidemill.epochs) ORDER BY 1, 3]]
  end
  return query "SELECT gatherer, epoch, stream, seq, updated_at FROM tidemill.cursors ORDER BY 1, 2, 3 LIMIT 1000"
end, true)

-- ---- a chunk of the person's own ----

define(ADMIN, "policy", function(chunk) return chunk() end, true)

return remote
