--- The host that C gives the library, made of tables: specs run the Lua library alone, without an engine.
---
---     local fake = dofile "tests/lua/fake_host.lua"
---     local tm, host = fake.load()          -- fresh modules each time
---     host.calls                            -- what the library asked for, in order
---     fake.load(nil, host.kept)             -- the next generation: it finds links, subscriptions, spreads, registries

local fake = {}
local add_spreads = dofile "tests/lua/fake_spread.lua"

local function forget_modules()
  for name in pairs(package.loaded) do
    if name:find("^tidemill") or name:find("^kalshi") then package.loaded[name] = nil end
  end
end

-- dkjson is the second implementation here; the host's own is tested in tests/unit/script.
local json = require "dkjson"

-- What stands in for the registries: rows by key, in order of their coming; a script's rows come by host.rows[name].
local function add_registries(host, kept)
  kept.registries = kept.registries or {}
  function host.registry_open(stream)
    for id, r in ipairs(kept.registries) do if r.stream == stream then return id end end
    table.insert(kept.registries, { stream = stream, rows = {}, seen = {} })
    return #kept.registries
  end
  local function rows(id) return kept.registries[id].rows end
  local function copy(row)
    local new = {}
    for k, v in pairs(row) do new[k] = v end
    return new
  end
  local function key_of(row) return row.ticker or row.event_ticker end
  function host.registry_count(id)
    local n = 0
    for _, row in ipairs(rows(id)) do n = n + (row and 1 or 0) end
    return n
  end
  function host.registry_find(id, key)
    for number, row in ipairs(rows(id)) do
      if row and key_of(row) == key then return number end
    end
  end
  function host.registry_get(id, number) return copy(rows(id)[number]) end
  function host.registry_next(id, number)
    for i = (number or 0) + 1, #rows(id) do if rows(id)[i] then return i end end
  end
  function host.registry_remove(id, number) rows(id)[number] = false end
  function host.registry_unseen(id, before)
    local list = {}
    for number, row in ipairs(rows(id)) do
      if row and (kept.registries[id].seen[number] or 0) < before then list[#list + 1] = number end
    end
    return list
  end
  --- Put a row: what REST would bring.
  function host.put(stream, row, round)
    local id = host.registry_open(stream)
    local number = host.registry_find(id, key_of(row)) or #rows(id) + 1
    rows(id)[number], kept.registries[id].seen[number] = row, round
    return number
  end
end

local function add_links(host, kept, record)
  kept.links, kept.sids = kept.links or {}, kept.sids or {}
  function host.link_open(feed, name)
    host.opened[#host.opened + 1] = name
    record("open", feed, name)
    for id, other in pairs(kept.links) do if other == name then return id, false end end
    local id = kept.next_link or 0
    kept.next_link, kept.links[id], kept.sids[id] = id + 1, name, {}
    return id, true
  end
  function host.link_opening(id, slot, bytes, send) record("opening", id, slot, bytes, send) return host.accept ~= false end
  function host.link_send(id, bytes) record("send", id, bytes) return host.accept ~= false end
  function host.link_drop(id, tickers) record("drop", id, tickers) return host.accept ~= false end
  function host.link_reconnect(id) record("reconnect", id) end
  function host.link_subscriptions(id)
    local copy = {}
    for channel, sid in pairs(kept.sids[id]) do copy[channel] = sid end
    return copy
  end
end

local array_meta = { __jsontype = "array" }

-- As the host's reader: arrays carry the mark, integers too large for a double stay text.
local function mark_arrays(value)
  if type(value) ~= "table" or value == json.null then return value end
  local meta = getmetatable(value)
  if meta then setmetatable(value, meta.__jsontype == "array" and array_meta or nil) end
  for _, item in pairs(value) do mark_arrays(item) end
  return value
end

local Secret = { __tostring = function() return "***" end, __concat = function() error "a secret cannot be joined to text" end }
Secret.__index = Secret
local function is_secret(value) return type(value) == "table" and getmetatable(value) == Secret end
local function new_secret(text) return setmetatable({ text = text }, Secret) end
function Secret:format(template) return new_secret((template:gsub("{}", (self.text:gsub("%%", "%%%%"))))) end

local function make_host(env, kept)
  local host = { calls = {}, env_table = env or {}, clock_us = 0, opened = {}, timers = {}, null = json.null,
                 kept = kept, metrics = {} }
  local function record(name, ...) host.calls[#host.calls + 1] = { name, ... } end
  function host.where(level)
    if type(level) == "function" then
      local of = debug.getinfo(level, "S")
      return ("%s:%d"):format(of.short_src:match("[^/]*$"), of.linedefined)
    end
    local info = debug.getinfo(level + 1, "Sl")
    return info and ("%s:%d"):format(info.short_src:match("[^/]*$"), info.currentline) or "?"
  end
  function host.env(name) return host.env_table[name] end
  function host.log(level, text, fields) record("log", level, text, fields) end
  host.json_decode = function(text) return mark_arrays(assert(json.decode(text, 1, json.null))) end
  host.json_encode = function(value) return json.encode(value) end
  host.json_array = function(list) return setmetatable(list, array_meta) end
  host.json_get = function(body, path) return host.json_decode(body)[path] end
  function host.monotonic_us() return host.clock_us end
  function host.now_us() return host.clock_us end
  function host.sleep_us(us) host.clock_us = host.clock_us + us record("sleep", us) end
  function host.timer(after_us, every_us, name, fn)
    host.timers[#host.timers + 1] = { after_us = after_us, every_us = every_us, name = name, fn = fn }
    return #host.timers
  end
  function host.cancel() return true end
  function host.callback(kind, name, failures) record("callback", kind, name, failures) end
  function host.limits(load_us, memory_bytes) record("limits", load_us, memory_bytes) end
  function host.freeze(t) return t end
  function host.spawn(_, fn, ...) fn(...) end
  add_links(host, kept, record)
  add_registries(host, kept)
  add_spreads(host, kept)
  function host.keep_task() end
  function host.metric(kind, name, _, labels) return { kind = kind, name = name, labels = labels or "" } end
  function host.metric_labelled(kind, name, _, names, values, max)
    record("labelled", name, table.concat(names, ","), table.concat(values, ","))
    host.series = host.series or {}
    host.series[name] = (host.series[name] or 0) + 1
    local is_other = host.series[name] > max
    return { kind = kind, name = name, labels = is_other and "other" or table.concat(values, ",") }, is_other
  end
  local function series(handle) return handle.name .. "{" .. handle.labels .. "}" end
  function host.metric_add(handle, n)
    record("add", handle.name, handle.labels, n)
    host.metrics[series(handle)] = (host.metrics[series(handle)] or 0) + n
  end
  function host.metric_set(handle, v)
    record("set", handle.name, handle.labels, v)
    host.metrics[series(handle)] = v
  end
  function host.metric_observe(handle, v) record("observe", handle.name, handle.labels, v) end
  function host.metric_check(name) return type(name) == "string" and name:find("^[%a_:][%w_:]*$") ~= nil end
  function host.metric_check_label(name) return type(name) == "string" and name:find("^[%a_][%w_]*$") ~= nil end
  host.secrets = {} -- "file:/path" -> text
  function host.secret(source, name)
    local text = host.secrets[source .. ":" .. name]
    if not text then return nil, ("no %s %s"):format(source, name) end
    return new_secret(text)
  end
  function host.secret_format(secret, template) return secret:format(template) end
  function host.is_secret(value) return is_secret(value) end
  function host.conninfo(list, hidden)
    local parts = {}
    for i, part in ipairs(list) do
      hidden = hidden or is_secret(part[2])
      parts[i] = ("%s='%s'"):format(part[1], is_secret(part[2]) and part[2].text or part[2])
    end
    local text = table.concat(parts, " ")
    return hidden and new_secret(text) or text
  end
  function host.sql(...)
    record("sql", ...)
    if host.rows then return host.rows(...) end
    return {}, 0
  end
  function host.sql_begin(db) record("begin", db) return host.begun ~= false and 7 or nil, { message = "no" } end
  function host.sql_end(id, commit) record("end", id, commit) return host.ended ~= false or nil, { message = "not ended" } end
  function host.http(request)
    record("http", request.url, request)
    return host.answer and host.answer(request) or { status = 200, body = "{}", elapsed_us = 0 }
  end
  function host.decode() return {}, {}, 0, 0 end
  function host.submit() return true end
  return host
end

--- Calls of one kind.
function fake.named(host, name)
  local list = {}
  for _, call in ipairs(host.calls) do
    if call[1] == name then list[#list + 1] = call end
  end
  return list
end

--- Run all timers that wait once, as time would; those that repeat wait again.
function fake.fire(host)
  local timers = host.timers
  host.timers = {}
  for _, timer in ipairs(timers) do
    if timer.every_us > 0 then table.insert(host.timers, timer) end
    timer.fn()
  end
end

--- A fresh library on a fresh host, which `prepare(host)` may change first. `kept` is what an earlier host kept (a reload).
--- Also returns the module of declarations.
function fake.load(env, kept, prepare)
  forget_modules()
  local host = make_host(env, kept or {})
  if prepare then prepare(host) end
  package.loaded["tidemill.host"] = host
  return require "tidemill", host, require "tidemill.declare"
end

--- The messages of all problems, with their places.
function fake.problems(declare)
  local list = {}
  for _, e in ipairs(declare.finish("file.lua", true).errors) do list[#list + 1] = e.at .. ": " .. e.message end
  return list
end

fake.json = json

return fake
