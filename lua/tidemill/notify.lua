--- Telling people: messages to a URL, queued, bounded, repeated until they are taken; nothing waits for them.

local host = require "tidemill.host"
local check = require "tidemill.check"
require "tidemill.secret"
local declare = require "tidemill.declare"
local http = require "tidemill.http"
local metric = require "tidemill.metric"
local problems = require "tidemill.problems"
local state = require "tidemill.state"

local notify = {}
local declared = declare.declared

local queue_max = 100    -- messages of a target; the oldest goes when it is full
local tries_max = 10     -- about 8 minutes
local text_max = 4096    -- bytes
local fields_max = 32
local targets_max = 20

local targets = {}       -- name -> definition
local target_count = 0
local queues = state.internal "tidemill.notify" -- name -> list of { text, fields, at_us }: survives a reload
local working = {}       -- name -> true: its task runs

local sent = metric.counter { name = "tidemill_notify_sent_total", help = "Notifications that were taken.",
                              labels = { "target" }, max = targets_max }
local dropped = metric.counter { name = "tidemill_notify_dropped_total", help = "Notifications that were given up.",
                                 labels = { "target" }, max = targets_max }

local target_fields = {
  url = check.field(check.secret_or_text, { required = true }),
  headers = check.field(function(v) return type(v) == "table" and v or nil, "expected a table of headers, got a " .. type(v) end),
  format = check.field(check.one_of { "json", "text" }, { default = "json" }),
  min_interval = check.field(check.duration, { to = "min_interval_us", default = 1e6 }),
  timeout = check.field(check.duration, { to = "timeout_us", default = 10e6 }),
}

local function declare_target(at, name, definition)
  local path = "tm.notify " .. tostring(name)
  local valid, expected = check.id(name)
  if not valid then return problems.add(at, "tm.notify", expected) end
  if targets[name] then return problems.add(at, path, "is declared already at " .. targets[name].at) end
  local normal = check.closed(at, path, definition, target_fields)
  normal.at, normal.name = at, name
  targets[name] = normal
  target_count = target_count + 1
  if target_count > targets_max then problems.add(at, path, ("expected at most %d targets"):format(targets_max)) end
end

-- ---- sending ----

local function body_of(target, message)
  if target.format == "json" then
    return {
      json = { text = message.text, fields = message.fields, id = declared.role and declared.role.id, at_us = message.at_us },
    }
  end
  local lines, names = { message.text }, {}
  for name in pairs(message.fields) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do lines[#lines + 1] = name .. ": " .. tostring(message.fields[name]) end
  return { body = table.concat(lines, "\n"), headers = { ["Content-Type"] = "text/plain; charset=utf-8" } }
end

local function post(target, message)
  local options = body_of(target, message)
  options.method, options.url, options.retries = "POST", target.url, 0
  options.timeout, options.max_body = ("%dus"):format(target.timeout_us), "64KiB"
  local headers = options.headers or {}
  for name, value in pairs(target.headers or {}) do headers[name] = value end
  options.headers = headers
  return http.request(options)
end

local function drop(name, why)
  dropped:add(1, { target = name })
  host.log("warn", "notification dropped", { target = name, reason = why })
end

-- One message until it is taken or given up. It stays in the queue meanwhile, so that a reload carries it over; what is
-- under way at that moment may arrive twice.
local function deliver(target, message)
  for tries = 0, tries_max - 1 do
    local response = post(target, message)
    if response:ok() then return sent:add(1, { target = target.name }) end
    local why = response.error or ("status %d"):format(response.status)
    if not http.is_transient(response.status) then return drop(target.name, why) end
    if tries == tries_max - 1 then return drop(target.name, why) end
    host.sleep_us(http.pause_us(tries + 1, response.retry_after))
  end
end

local function remove(queue, message)
  for i, m in ipairs(queue) do
    if m == message then return table.remove(queue, i) end
  end
end

local function work(name)
  local target, queue = targets[name], queues[name]
  while queue[1] do
    local message = queue[1]
    local ok, why = pcall(deliver, target, message)
    if not ok then drop(name, tostring(why)) end
    remove(queue, message)
    if queue[1] then host.sleep_us(target.min_interval_us) end
  end
  working[name] = nil
end

local function start(name)
  if working[name] then return end
  working[name] = true
  host.spawn("tm.notify " .. name, work, name)
end

local function check_message(name, text, fields)
  if not targets[name] then
    local names = {}
    for known in pairs(targets) do names[#names + 1] = known end
    error(('tm.notify.send: unknown target "%s"'):format(tostring(name)) .. problems.hint(tostring(name), names), 3)
  end
  if type(text) ~= "string" then error("tm.notify.send: expected text, got a " .. type(text), 3) end
  if fields ~= nil and type(fields) ~= "table" then error("tm.notify.send: fields: expected a table", 3) end
  local copy, count = {}, 0
  for key, value in pairs(fields or {}) do
    local kind = host.is_secret(value) and "secret" or type(value)
    count = count + 1
    if type(key) ~= "string" or count > fields_max then
      error(("tm.notify.send: expected at most %d fields, with names"):format(fields_max), 3)
    end
    if kind == "secret" then
      copy[key] = "***"
    elseif kind == "string" then
      copy[key] = value:sub(1, text_max)
    elseif kind == "boolean" or (kind == "number" and value == value and math.abs(value) < math.huge) then
      copy[key] = value
    else
      error(("tm.notify.send: field %s: expected text, a number or a boolean, got a %s"):format(key, kind), 3)
    end
  end
  return copy
end

--- Send a message to a target: run time. It is queued (100 of a target at most; then the oldest is dropped and counted)
--- and this returns at once.
---@param name string
---@param text string at most 4096 bytes, the rest is cut
---@param fields? table<string, string|number|boolean>
function notify.send(name, text, fields)
  if not declare.running then error("tm.notify.send is for run time: call it inside a handler", 2) end
  local copy = check_message(name, text, fields)
  queues[name] = queues[name] or {}
  local queue = queues[name]
  if #queue >= queue_max then
    table.remove(queue, 1)
    drop(name, "the queue is full")
  end
  queue[#queue + 1] = { text = text:sub(1, text_max), fields = copy, at_us = host.now_us() }
  start(name)
end

-- What the generation before has left.
declare.started[#declare.started + 1] = function()
  for name, queue in pairs(queues) do
    if targets[name] then
      if queue[1] then start(name) end
    else
      for _ = 1, #queue do drop(name, "the target is no longer declared") end
      queues[name] = nil
    end
  end
end

--- Declare a target for notifications. `json` posts {"text", "fields", "id", "at_us"}, `text` plain lines.
---
---     tm.notify "ops" { url = tm.secret { credential = "ops-hook" } }
---     tm.on("alert", function(a) tm.notify.send("ops", a.summary, { alert = a.name, state = a.state }) end)
---@param name string
---@return fun(definition: tidemill.NotifyTarget)
local function declare_notify(_, name)
  declare.only "tm.notify"
  return function(definition) declare_target(problems.caller(), name, definition) end
end

return setmetatable(notify, { __call = declare_notify })
