--- Streams, kinds, protocol and keys: the part of the language that becomes the engine's stream plan (DESIGN.md 3, 4).

local check = require "tidemill.check"
local declare = require "tidemill.declare"
local problems = require "tidemill.problems"

local stream = {}
local declared = declare.declared

local types = { "bool", "int2", "int4", "int8", "float8", "text", "uuid", "timestamptz", "jsonb", "bytea" }

-- ---- streams ----

local column_fields = {
  not_null = check.field(check.boolean),
  scale = check.field(check.integer(0, 18)),
  one_of = check.field(check.list(check.text, "texts")),
  min = check.field(check.integer(-2 ^ 53, 2 ^ 53)),
  max = check.field(check.integer(-2 ^ 53, 2 ^ 53)),
}

local bounded = { int2 = true, int4 = true, int8 = true }

-- What is wrong with the bounds of a column, or nil.
local function range_fault(type_name, min, max)
  if not bounded[type_name] and (min or max) then return (min and "min" or "max") .. ": is for integers only" end
  if min and max and min > max then return ("min: expected at most max (%d), got %d"):format(max, min) end
end

local function read_column(at, path, value)
  if type(value) ~= "table" then
    problems.add(at, path, 'expected a column like { "price", "int4", scale = 6 }, got a ' .. type(value))
    return nil
  end
  local rest = {}
  for key, v in pairs(value) do
    if key ~= 1 and key ~= 2 then rest[key] = v end
  end
  local normal, ok = check.closed(at, path, rest, column_fields)
  local name, name_expected = check.name(value[1])
  local type_name, type_expected = check.one_of(types)(value[2])
  if not name then problems.add(at, path, "name: " .. name_expected) end
  if not type_name then problems.add(at, path, "type: " .. type_expected) end
  local fault = type_name and range_fault(type_name, normal.min, normal.max)
  if fault then
    problems.add(at, path, fault)
    ok = false
  end
  normal.name, normal.type = name, type_name
  return ok and name and type_name and normal or nil
end

local function window(value)
  local us, expected = check.duration(value)
  if us == 0 then return nil, 'expected more than 0, got "' .. value .. '"' end
  return us, expected
end

local stream_fields = {
  columns = check.field(function(v) return type(v) == "table" and v or nil, "expected a list of columns" end, { required = true }),
  mode = check.field(check.one_of { "append", "upsert" }),
  key = check.field(check.list(check.name, "column names")),
  occurrence = check.field(check.boolean),
  observer = check.field(check.boolean),
  within = check.field(check.duration, { to = "within_us" }),
  partition = check.field(check.one_of { "none", "day", "hash" }),
  partition_column = check.field(check.name),
  ticker = check.field(check.name),
  time = check.field(check.name),
  window = check.field(window, { to = "window_us" }),
  memory = check.field(check.size, { to = "memory_bytes" }),
}

local function read_columns(at, path, columns)
  local list, by_name, ok = {}, {}, true
  for key in pairs(columns) do
    if type(key) ~= "number" or key < 1 or key > #columns or key ~= math.floor(key) then
      problems.add(at, path, "columns: expected a list without names or holes, got " .. tostring(key))
      ok = false
    end
  end
  for i, value in ipairs(columns) do
    local column = read_column(at, ("%s: columns[%d]"):format(path, i), value)
    ok = ok and column ~= nil
    if column then
      if by_name[column.name] then
        problems.add(at, path, ('column "%s" is declared twice'):format(column.name))
        ok = false
      end
      list[#list + 1], by_name[column.name] = column, column
    end
  end
  return list, by_name, ok
end

local function names_of(set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = name end
  return names
end

local function column_names(s) return names_of(s.by_name) end

local function check_column_names(s, field, names)
  local ok = true
  for _, name in ipairs(names) do
    if not s.by_name[name] then
      problems.add(s.at, s.path, ('%s: unknown column "%s"'):format(field, name) .. problems.hint(name, column_names(s)))
      ok = false
    end
  end
  return ok
end

local function check_references(s)
  local ok = check_column_names(s, "key", s.key or {})
  for _, field in ipairs { "ticker", "time", "partition_column" } do
    ok = check_column_names(s, field, { s[field] }) and ok
  end
  return ok
end

local streams_by_name = {}

local function declare_stream(at, name, definition)
  local path = "tm.stream " .. tostring(name)
  local valid, expected = check.name(name)
  if not valid then return problems.add(at, "tm.stream", expected) end
  if streams_by_name[name] then
    return problems.add(at, path, "is declared already at " .. streams_by_name[name].at)
  end
  local normal, ok = check.closed(at, path, definition, stream_fields)
  normal.name, normal.at, normal.path = name, at, path
  local columns_ok
  normal.columns, normal.by_name, columns_ok = read_columns(at, path, normal.columns or {})
  streams_by_name[name] = normal
  if columns_ok and #normal.columns > 0 then ok = check_references(normal) and ok end
  normal.ok = ok and columns_ok
  declared.streams[#declared.streams + 1] = normal
end

--- Declare a stream: a table and what makes two of its records the same.
---
---     tm.stream "trades" {
---       columns = { { "trade_id", "uuid", not_null = true }, { "price", "int4", scale = 6 } },
---       key = { "trade_id" }, partition = "hash", window = "48h",
---     }
---@param name string the table's name
---@return fun(definition: tidemill.Stream)
function stream.stream(name)
  declare.only "tm.stream"
  return function(definition) declare_stream(problems.caller(), name, definition) end
end

-- ---- sources: where a column's value comes from ----

local Source = {}

local function source(fields) return setmetatable(fields, Source) end

local function path_source(unit)
  return function(path, options)
    if options ~= nil and type(options) ~= "table" then
      problems.add(problems.caller(), "source", "expected options like { scale = 4 }, got a " .. type(options))
    end
    options = type(options) == "table" and options or {}
    return source {
      from = "paths",
      paths = { { path = path, unit = unit, scale = options.scale, one_minus = options.one_minus } },
    }
  end
end

--- The value at a path as the column's type says: "msg.side", "msg.levels[-1][0]".
stream.path = path_source "plain"
--- Exact decimal, times 10^scale (the column's unless given); `one_minus` takes it from 1.
stream.decimal = path_source "decimal"
stream.rfc3339 = path_source "rfc3339"
stream.seconds = path_source "seconds"
stream.millis = path_source "millis"
stream.micros = path_source "micros"
--- The same text in every row.
function stream.const(text) return source { from = "const", text = text } end
--- The tag of the kind.
stream.tag = source { from = "tag" }
--- The whole frame, or element, as it was sent.
stream.raw = source { from = "raw" }
--- The time of arrival.
stream.received_at = source { from = "received_at" }
--- The number of the repeat, for streams with occurrence = true.
stream.occurrence = source { from = "occurrence" }

local function is_source(value) return type(value) == "table" and getmetatable(value) == Source end

local function to_source(value)
  if is_source(value) then return value end
  if type(value) == "string" then return stream.path(value) end
  return nil
end

-- What is wrong with a path as tm.path and its like were given it, or nil.
local function path_fault(p)
  local text, expected = check.text(p.path)
  if not text then return "path: " .. expected end
  if p.scale ~= nil and not check.integer(0, 18)(p.scale) then return "scale: expected an integer from 0 to 18" end
  if p.one_minus ~= nil and type(p.one_minus) ~= "boolean" then return "one_minus: expected true or false" end
  return nil
end

local function copy_path(p, column)
  local scale = p.unit == "decimal" and (p.scale or column.scale or 0) or 0
  return { path = p.path, unit = p.unit, scale = scale, one_minus = p.one_minus or false }
end

--- A column's source in normal form: a source, a path, or a list of alternatives (the first that is there counts).
local function read_source(at, path, column, value)
  local single = to_source(value)
  local alternatives = single and { single } or value
  if type(alternatives) ~= "table" or #alternatives == 0 then
    problems.add(at, path, column.name .. ': expected a path like "msg.price", a source like tm.decimal "msg.price", or a list of them')
    return nil
  end
  local normal = { column = column.name, from = "paths", paths = {} }
  for _, alternative in ipairs(alternatives) do
    local s = to_source(alternative)
    if not s or (#alternatives > 1 and s.from ~= "paths") then
      problems.add(at, path, column.name .. ": expected only paths in a list of alternatives")
      return nil
    end
    if s.from == "const" and not check.text(s.text) then
      problems.add(at, path, column.name .. ": tm.const: expected text, got a " .. type(s.text))
      return nil
    end
    normal.from, normal.text = s.from, s.text
    for _, p in ipairs(s.paths or {}) do
      local expected = path_fault(p)
      if expected then
        problems.add(at, path, column.name .. ": " .. expected)
        return nil
      end
      normal.paths[#normal.paths + 1] = copy_path(p, column)
    end
  end
  return normal
end

-- ---- kinds ----

local kind_fields = {
  stream = check.field(check.name),
  role = check.field(check.one_of { "data", "ack", "subscribed", "unsubscribed", "error" }, { default = "data" }),
  document = check.field(check.boolean),
  each = check.field(check.text),
  from = check.field(function(v) return type(v) == "table" and v or nil, "expected a table column = source" end),
  opens = check.field(check.name),
  forward = check.field(check.boolean),
  channel = check.field(check.text),
  subscription = check.field(check.text),
  code = check.field(check.text),
  text = check.field(check.text),
}

local function read_sources(k, s, from)
  local sources, ok = {}, true
  for name in pairs(from) do
    if type(name) ~= "string" or not s.by_name[name] then
      problems.add(k.at, k.path, ('from: unknown column "%s" of stream %s'):format(tostring(name), s.name)
        .. problems.hint(tostring(name), column_names(s)))
      ok = false
    end
  end
  for _, column in ipairs(s.columns) do
    local value = from[column.name]
    local normal
    if value ~= nil then
      normal = read_source(k.at, k.path .. ": from", column, value)
    elseif column.not_null then
      problems.add(k.at, k.path, ('from: column "%s" of stream %s must have a source, it is not_null'):format(column.name, s.name))
    else
      normal = { column = column.name, from = "null" }
    end
    ok = ok and normal ~= nil
    sources[#sources + 1] = normal
  end
  return sources, ok
end

local kinds_by_tag = {}

-- Sources are bound at the end, when the streams are all known.
local function bind_kind(k)
  if k.role ~= "data" or not k.stream then return end
  local s = streams_by_name[k.stream]
  if not s then
    k.ok = false
    return problems.add(k.at, k.path,
      ('stream: unknown stream "%s"'):format(k.stream) .. problems.hint(k.stream, names_of(streams_by_name)))
  end
  if k.opens and not streams_by_name[k.opens] then
    k.ok = false
    problems.add(k.at, k.path,
      ('opens: unknown stream "%s"'):format(k.opens) .. problems.hint(k.opens, names_of(streams_by_name)))
  elseif k.opens and not s.ticker then
    k.ok = false
    problems.add(k.at, k.path, ('opens: stream %s names no ticker column, so that a row is of no market'):format(k.stream))
  end
  local good = false
  if s.ok then k.sources, good = read_sources(k, s, k.from or {}) end
  k.ok = k.ok and good
end

local function declare_kind(at, tag, definition)
  local path = "tm.kind " .. tostring(tag)
  local valid, expected = check.text(tag)
  if not valid then return problems.add(at, "tm.kind", expected) end
  if kinds_by_tag[tag] then return problems.add(at, path, "is declared already at " .. kinds_by_tag[tag].at) end
  local normal, ok = check.closed(at, path, definition, kind_fields)
  if ok and normal.role == "data" and not normal.stream then
    problems.add(at, path, 'missing key "stream": expected the name of the stream that its rows go to')
    ok = false
  end
  normal.tag, normal.at, normal.path, normal.ok = tag, at, path, ok
  kinds_by_tag[tag] = normal
  declared.kinds[#declared.kinds + 1] = normal
end

--- Declare a kind of frame, or (document = true) of REST object: its tag, and from where each column of its stream comes.
---
---     tm.kind "trade" { stream = "trades", from = { trade_id = "msg.trade_id", price = tm.decimal "msg.price" } }
---@param tag string
---@return fun(definition: tidemill.Kind)
function stream.kind(tag)
  declare.only "tm.kind"
  return function(definition) declare_kind(problems.caller(), tag, definition) end
end

declare.adjust[#declare.adjust + 1] = function()
  for _, k in ipairs(declared.kinds) do bind_kind(k) end
end

-- ---- protocol and keys ----

local protocol_fields = {
  tag = check.field(check.text, { required = true }),
  subscription = check.field(check.text),
  sequence = check.field(check.text),
  reconnect_codes = check.field(check.list(check.integer(-2 ^ 31, 2 ^ 31), "error codes")),
}

--- Where frames carry their tag, subscription id and sequence number, and after which errors a connection starts anew.
---@param definition tidemill.Protocol
function stream.protocol(definition)
  declare.only "tm.protocol"
  local at = problems.caller()
  if declared.protocol then return problems.add(at, "tm.protocol", "is declared already") end
  local normal = check.closed(at, "tm.protocol", definition, protocol_fields)
  normal.at = at
  declared.protocol = normal
end

-- Said once, not for each kind.
declare.adjust[#declare.adjust + 1] = function()
  for _, k in ipairs(declared.kinds) do
    if not declared.protocol and not k.document then
      problems.add(k.at, k.path, 'needs a tm.protocol { tag = "path" } that says where a frame names its kind')
      return
    end
  end
end

local dedup_fields = {
  key = check.field(check.list(check.name, "column names")),
  occurrence = check.field(check.boolean),
  from = check.field(check.moment, { to = "from_us" }),
  within = check.field(check.duration, { to = "within_us" }),
  window = check.field(window, { to = "window_us" }),
  memory = check.field(check.size, { to = "memory_bytes" }),
}

local keys_max = 4 -- of a stream, with the first (core/record/plan.h)

local dedups = {}

--- Change what makes two records of a stream the same, and how long it is remembered.
---
--- With `from` the key (or its occurrence) is that of the records whose exchange time is this moment or later; those
--- before it keep the key they had. Gatherers and deduplicator may be reloaded in any order, each before the moment comes.
---
---     tm.dedup("orderbook_deltas", { key = { "ticker", "exchange_ts", "side", "price" }, from = "2026-11-26T00:00:00Z" })
---@param name string
---@param definition tidemill.Dedup
function stream.dedup(name, definition)
  declare.only "tm.dedup"
  local at = problems.caller()
  local normal, ok = check.closed(at, "tm.dedup " .. tostring(name), definition, dedup_fields)
  local from = type(definition) == "table" and definition.from or nil
  dedups[#dedups + 1] = { at = at, name = name, settings = normal, ok = ok, from = from }
end

-- Why a key of the stream cannot begin at a moment (tm_stream_fixed_key in core/record says the same).
local function fixed_key(s)
  if s.observer then return "it is an observer stream, whose every row is a record of its own" end
  if s.mode == "upsert" then return "it is an upsert stream, whose key is the table's primary key" end
  if s.within_us then return "it is a within stream, whose records have no exchange time" end
  if not s.time then return "it names no time column, so that nobody can tell which key a record is of" end
  if s.partition == "hash" then return "it is partitioned by hash, and the partitions follow the key" end
  if s.partition ~= "day" then
    return "it is one table, whose unique index of the first key covers all times; partition it by day"
  end
  if s.partition_column ~= s.time then return "it is partitioned by another column than its time" end
  return nil
end

local function check_later_key(d, s, path, before)
  local settings = d.settings
  for _, field in ipairs { "within", "window", "memory" } do
    local normal = dedup_fields[field].to
    if settings[normal] ~= nil then
      return problems.add(d.at, path, field .. ": cannot begin at a moment: give it in a tm.dedup without from")
    end
  end
  if not settings.key and settings.occurrence == nil then
    return problems.add(d.at, path, "from: expected the key, or the occurrence, that begins then")
  end
  local fixed = fixed_key(s)
  if fixed then
    return problems.add(d.at, path, "from: the key of this stream cannot change at a moment of exchange time: " .. fixed)
  end
  if before.from_us and settings.from_us <= before.from_us then
    return problems.add(d.at, path, ("from: expected a moment later than %s, of the key before it at %s"):format(
      before.from, before.at))
  end
  if #s.later_keys >= keys_max - 1 then
    return problems.add(d.at, path, ("from: a stream has at most %d keys, one after the other"):format(keys_max))
  end
  return check_column_names({ at = d.at, path = path, by_name = s.by_name }, "key", settings.key or {})
end

-- What is not said stays as it was.
local function apply_later_key(d, s, path)
  s.later_keys = s.later_keys or {}
  local before, settings = s.later_keys[#s.later_keys] or s, d.settings
  if not check_later_key(d, s, path, before) then return end
  local occurrence = settings.occurrence
  if occurrence == nil then occurrence = before.occurrence or false end
  s.later_keys[#s.later_keys + 1] = {
    from_us = settings.from_us, from = d.from, at = d.at, key = settings.key or before.key, occurrence = occurrence,
  }
end

local function apply_dedup(d)
  local path, s = "tm.dedup " .. tostring(d.name), streams_by_name[d.name]
  if not s then
    return problems.add(d.at, path, "unknown stream" .. problems.hint(tostring(d.name), names_of(streams_by_name)))
  end
  if d.settings.from_us then
    if d.ok then apply_later_key(d, s, path) end
    return
  end
  if d.from ~= nil then return end -- no moment, which is noted already: not to be taken for the first key
  for field, value in pairs(d.settings) do s[field] = value end
  if d.settings.key then
    s.at, s.path = d.at, path
    if not check_references(s) then s.ok = false end
  end
end

-- ---- a column more ----

local added_fields = {
  scale = column_fields.scale,
  one_of = column_fields.one_of,
  min = column_fields.min,
  max = column_fields.max,
  from = check.field(function(v) return type(v) == "table" and next(v) ~= nil and v or nil, "expected a table kind = source" end,
    { required = true }),
}

local additions = {}

local function read_addition(at, path, definition)
  if type(definition) ~= "table" then
    return problems.add(at, path, 'expected { "name", "type", from = { kind = source } }, got a ' .. type(definition))
  end
  local options = {}
  for key, v in pairs(definition) do
    if key ~= 1 and key ~= 2 then options[key] = v end
  end
  local normal, ok = check.closed(at, path, options, added_fields)
  local column = read_column(at, path, { definition[1], definition[2], scale = normal.scale, one_of = normal.one_of,
                                         min = normal.min, max = normal.max })
  if ok and column then return { at = at, path = path, column = column, from = normal.from } end
end

--- Give a stream that is declared elsewhere one column more. It is NULL in the rows that are there and in those of kinds
--- that `from` does not name. The table gets it when the process starts or reloads; gatherers first, then the
--- deduplicator, which reads the column from all of them.
---
---     tm.add_column "trades" { "no_price", "int4", scale = 6, from = { trade = tm.decimal "msg.no_price_dollars" } }
---@param name string the stream
---@return fun(definition: tidemill.AddedColumn)
function stream.add_column(name)
  declare.only "tm.add_column"
  return function(definition)
    local at = problems.caller()
    local addition = read_addition(at, "tm.add_column " .. tostring(name), definition)
    if addition then
      addition.stream = name
      additions[#additions + 1] = addition
    end
  end
end

local function apply_addition(a)
  local s, column = streams_by_name[a.stream], a.column
  if not s then return problems.add(a.at, a.path, "unknown stream" .. problems.hint(tostring(a.stream), names_of(streams_by_name))) end
  if s.by_name[column.name] then return problems.add(a.at, a.path, ('column "%s" is there already'):format(column.name)) end
  s.columns[#s.columns + 1], s.by_name[column.name] = column, column
  for tag, value in pairs(a.from) do
    local k = kinds_by_tag[tag]
    if not k or k.stream ~= a.stream then
      local feeding = {}
      for name, kind in pairs(kinds_by_tag) do feeding[name] = kind.stream == a.stream and kind or nil end
      problems.add(a.at, a.path, ('from: "%s" is no kind of this stream'):format(tostring(tag))
        .. problems.hint(tostring(tag), names_of(feeding)))
    elseif k.from then
      k.from[column.name] = value
    end
  end
end

-- Added columns first, as keys may name them; the first key of each stream before those that follow it.
table.insert(declare.adjust, 1, function()
  for _, a in ipairs(additions) do apply_addition(a) end
  for _, d in ipairs(dedups) do
    if d.from == nil then apply_dedup(d) end
  end
  for _, d in ipairs(dedups) do
    if d.from ~= nil then apply_dedup(d) end
  end
end)

return stream
