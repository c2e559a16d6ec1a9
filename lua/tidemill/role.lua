--- What the process is: a gatherer or a deduplicator.

local host = require "tidemill.host"
local check = require "tidemill.check"
require "tidemill.secret"
local declare = require "tidemill.declare"
local problems = require "tidemill.problems"

local role = {}
local declared = declare.declared

local function address(value)
  if type(value) == "string" and (value:find("^%[[%x:.]+%]:%d+$") or value:find("^[^:%[%]%s]+:%d+$")) then return value end
  return nil, 'expected "address:port" like "127.0.0.1:8080", got ' .. (type(value) == "string" and ('"%s"'):format(value) or type(value))
end

local function host_name(value)
  if type(value) == "string" and #value < 254 and value:find("^[%w.-]+$") then return value:lower() end
  return nil, "expected a host name without a port"
end

-- As one text, with a space between two.
local function host_names(value)
  local list, expected = check.list(host_name, 'host names like "g1.example.com"')(value)
  return list and table.concat(list, " "), expected
end

-- A check whose values lie from `low` to `high`, which are written as `text`.
local function between(inner, low, high, text)
  return function(value)
    local normal, expected = inner(value)
    if normal == nil then return nil, expected end
    if normal >= low and normal <= high then return normal end
    return nil, ("expected %s, got %q"):format(text, tostring(value))
  end
end

local cpu = between(check.duration, 1e3, 60e6, "1ms to 60s")

local limit_fields = {
  load = check.field(cpu, { to = "load_us" }),
  step = check.field(cpu, { to = "step_us" }),
  routine = check.field(cpu, { to = "routine_us" }),
  event = check.field(cpu, { to = "event_us" }),
  memory = check.field(between(check.size, 16 * 2 ^ 20, 64 * 2 ^ 30, "16MiB to 64GiB"), { to = "memory_bytes" }),
}

-- "alice" or "@ops", one or a list of them.
local function who(value)
  if type(value) == "string" then value = { value } end
  return check.list(function(name)
    if type(name) == "string" and name:find "^@?[%w_][%w_.-]*$" and #name < 64 then return name end
    return nil, 'expected a user like "alice" or a group like "@ops"'
  end, 'users and groups like "alice" and "@ops"')(value)
end

local control_fields = {
  read = check.field(who), operate = check.field(who), admin = check.field(who),
  group = check.field(check.id),
  sessions = check.field(check.integer(1, 1000)),
  memory = check.field(between(check.size, 8 * 2 ^ 20, 2 ^ 30, "8MiB to 1GiB"), { to = "memory_bytes" }),
  cpu = check.field(between(check.duration, 10e3, 60e6, "10ms to 60s"), { to = "cpu_us" }),
}

local function control_of(at, what, value)
  local normal = check.closed(at, what, value, control_fields)
  normal.rules = {}
  for _, name in ipairs { "read", "operate", "admin" } do
    for _, peer in ipairs(normal[name] or {}) do normal.rules[#normal.rules + 1] = { role = name, name = peer } end
    normal[name] = nil
  end
  return normal
end

-- ---- the archive ----

local function target(value)
  if type(value) == "string" and value:find "^file:///" or type(value) == "string" and value:find "^s3://%w" then return value end
  return nil, 'expected a target like "file:///var/lib/tidemill/archive" or "s3://bucket/prefix"'
    .. (type(value) == "string" and (', got "%s"'):format(value:sub(1, 60)) or ", got a " .. type(value))
end

local HOUR, DAY = 3600e6, 86400e6
local lengths = { hour = HOUR, day = DAY, [false] = 0 }

-- { tickers = "day", gaps = false }, in the order of the names.
local function schedule(value)
  local expected = 'expected streams and their periods, like { tickers = "day", gaps = false }'
  if type(value) ~= "table" then return nil, expected end
  local list = {}
  for stream, length in pairs(value) do
    if not check.name(stream) then return nil, expected end
    if not lengths[length] then return nil, stream .. ': expected "hour", "day" or false' end
    list[#list + 1] = { stream = stream, length_us = lengths[length] }
  end
  table.sort(list, function(a, b) return a.stream < b.stream end)
  return list
end

local function a_table(expected)
  return function(value)
    if type(value) == "table" then return value end
    return nil, expected
  end
end

local function archive_fields(more)
  more.to = check.field(target, { required = true })
  more.credentials = check.field(check.text)
  return more
end

local archive_of_gatherer = archive_fields {}
local archive_of_deduplicator = archive_fields {
  lag = check.field(between(check.duration, 0, 30 * DAY, "0s to 30d"), { to = "lag_us", default = HOUR }),
  wait = check.field(between(check.duration, 0, 365 * DAY, "0s to 365d"), { to = "wait_us", default = 6 * HOUR }),
  schedule = check.field(schedule),
  approve = check.field(check.boolean, { default = true }),
}

local function common(fields)
  fields.limits = check.field(function(v) return type(v) == "table" and v or nil, "expected limits like { step = \"1s\" }" end)
  fields.callback_failures = check.field(check.integer(1, 1e6))
  fields.policy_stuck = check.field(between(check.duration, 100e3, 3600e6, "100ms to 1h"), { to = "policy_stuck_us" })
  fields.id = check.field(check.id, { required = true })
  fields.health = check.field(address, { default = "127.0.0.1:8080" })
  fields.metrics = check.field(address, { default = "127.0.0.1:9090" })
  fields.console_names = check.field(host_names)
  fields.socket = check.field(check.text)
  fields.alert_state = check.field(check.text)
  fields.control = check.field(function(v)
    return type(v) == "table" and v or nil, 'expected rules like { operate = "@ops", read = { "alice" } }'
  end)
  fields.log_level = check.field(check.one_of { "debug", "info", "warn", "error" }, { default = "info" })
  fields.log_format = check.field(check.one_of { "logfmt", "json" }, { default = "logfmt" })
  fields.migrate = check.field(check.boolean, { default = true })
  fields.key_margin = check.field(check.duration, { to = "key_margin_us" })
  return fields
end

local gatherer_fields = common {
  store = check.field(check.secret_or_text, { required = true }),
  data = check.field(check.text, { required = true }),
  journal = check.field(check.size, { to = "journal_bytes" }),
  segment = check.field(check.size, { to = "segment_bytes" }),
  buffer = check.field(check.size, { to = "buffer_bytes" }),
  keep = check.field(between(check.duration, 1, 3650 * 86400e6, "up to 3650d"), { to = "keep_us" }),
  store_limit = check.field(between(check.size, 16 * 2 ^ 20, 2 ^ 50, "16MiB or more"), { to = "store_bytes" }),
  expire = check.field(check.list(check.name, "names of streams")),
  partition_rows = check.field(check.integer(1000, 1e9)),
  archive = check.field(a_table 'expected an archive like { to = "file:///var/lib/tidemill/archive" }'),
  connects_per_second = check.field(check.number),
}

-- nil and what is wrong. `name(text)` is what a part of which this text is known may be called.
local function one_pair(item, name)
  local id, conninfo = item:match "^%s*([^=]-)%s*=%s*(.-)%s*$"
  if not id then return nil, name(item:match "^%s*(.-)%s*$") .. ' has no "="' end
  if not check.id(id) then return nil, name(id) .. ': expected an id before the first "="' end
  if conninfo == "" then return nil, name(id) .. ' has no conninfo behind "="' end
  return { id = id, conninfo = conninfo }
end

-- The text of a part is shown where it can be an id, but not where it could be what follows a ";" in a password.
local function namer(number, before)
  local harmless = not before:find("pass", 1, true) and not before:find("://", 1, true)
  return function(text)
    return ("part %d"):format(number) .. (harmless and check.id(text) and (' "%s"'):format(text) or "")
  end
end

local function pairs_of_text(value)
  local list, before, number = {}, "", 0
  for item in value:gmatch "[^;]+" do
    number = number + 1
    if item:find "%S" then
      local pair, fault = one_pair(item, namer(number, before:lower()))
      if not pair then return nil, fault end
      list[#list + 1] = pair
    end
    before = before .. item .. ";"
  end
  return list
end

local function pairs_of_table(value)
  local list = {}
  for id, conninfo in pairs(value) do
    if type(id) ~= "string" then return nil, "a conninfo has no id" end
    if check.id(id) and check.secret(conninfo) then
      list[#list + 1] = { id = id, conninfo = conninfo }
    elseif not check.id(id) or type(conninfo) ~= "string" or not conninfo:find "%S" then
      return nil, ('gatherer "%s": expected an id and its conninfo'):format(id:sub(1, 63))
    else
      list[#list + 1] = { id = id, conninfo = conninfo:match "^%s*(.-)%s*$" }
    end
  end
  return list
end

-- "g1=conninfo;g2=conninfo" or { g1 = "conninfo" }, in the order of the ids.
local function gatherers(value)
  local expected = 'expected gatherers like "g1=host=a dbname=kalshi_ts;g2=..." or { g1 = "host=a dbname=kalshi_ts" }'
  local list, fault
  if type(value) == "string" then
    list, fault = pairs_of_text(value)
  elseif type(value) == "table" then
    list, fault = pairs_of_table(value)
  end
  if fault then return nil, expected .. ": " .. fault end
  if not list or #list == 0 then return nil, expected end
  local seen = {}
  for _, g in ipairs(list) do
    if seen[g.id] then return nil, ('gatherer "%s" is named twice'):format(g.id) end
    seen[g.id] = true
  end
  table.sort(list, function(a, b) return a.id < b.id end)
  return list
end

-- { orderbook_deltas = "90d" }, in the order of the names.
local retain_duration = between(check.duration, 86400e6, 36500 * 86400e6, "1d to 36500d")

local function retain(value)
  local expected = 'expected streams and how long they are kept, like { tickers = "30d" }'
  if type(value) ~= "table" then return nil, expected end
  local list = {}
  for stream, text in pairs(value) do
    if not check.name(stream) then return nil, expected end
    local keep, why = retain_duration(text)
    if keep == nil then return nil, stream .. ": " .. why end
    list[#list + 1] = { stream = stream, keep_us = keep }
  end
  table.sort(list, function(a, b) return a.stream < b.stream end)
  return list
end

--- From the environment it comes as text.
local function shards(value)
  return check.integer(1, 32)(type(value) == "string" and value:find("^%d+$") and tonumber(value) or value)
end

local deduplicator_fields = common {
  production = check.field(check.secret_or_text, { required = true }),
  gatherers = check.field(gatherers, { required = true }),
  poll = check.field(check.duration, { to = "poll_us" }),
  poll_rows = check.field(check.integer(1, 1e6)),
  batch_rows = check.field(check.integer(1, 1e7)),
  queue = check.field(check.size, { to = "queue_bytes" }),
  accept_past = check.field(check.duration, { to = "accept_past_us" }),
  accept_future = check.field(check.duration, { to = "accept_future_us" }),
  lease = check.field(between(check.duration, 500e3, 600e6, "500ms to 10min"), { to = "lease_us" }),
  shards = check.field(shards),
  retain = check.field(retain),
  compress = check.field(retain),
  archive = check.field(a_table 'expected an archive like { to = "s3://bucket/prefix", lag = "1h" }'),
  standby_wait = check.field(between(check.duration, 100e3, 50e6, "100ms to 50s"), { to = "standby_wait_us" }),
}

local function declare_role(name, at, definition, fields)
  local normal = check.closed(at, "tm." .. name, definition, fields)
  if declared.role then
    return problems.add(at, "tm." .. name, ("the role is declared already at %s: a process has one"):format(declared.role.at))
  end
  normal.role, normal.at = name, at
  if name == "gatherer" and type(normal.data) == "string" then
    normal.alert_state = normal.alert_state or normal.data .. "/alerts.state"
  end
  if normal.limits then
    normal.limits = check.closed(at, "tm." .. name .. ": limits", normal.limits, limit_fields)
    host.limits(normal.limits.load_us, normal.limits.memory_bytes)
  end
  if normal.archive then
    normal.archive = check.closed(at, "tm." .. name .. ": archive", normal.archive,
      name == "gatherer" and archive_of_gatherer or archive_of_deduplicator)
  end
  if normal.control then normal.control = control_of(at, "tm." .. name .. ": control", normal.control) end
  declared.role = normal
end

--- This process gathers: it captures the feed into its journal and its local store.
---@param definition tidemill.Gatherer
function role.gatherer(definition)
  declare.only "tm.gatherer"
  declare_role("gatherer", problems.caller(), definition, gatherer_fields)
end

--- This process merges the stores of gatherers into production.
---@param definition tidemill.Deduplicator
function role.deduplicator(definition)
  declare.only "tm.deduplicator"
  declare_role("deduplicator", problems.caller(), definition, deduplicator_fields)
end

return role
