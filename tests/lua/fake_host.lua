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
  function host.link_reconnect(id) record("reconnect", id) end
  function host.link_subscriptions(id)
    local copy = {}
    for channel, sid in pairs(kept.sids[id]) do copy[channel] = sid end
    return copy
  end
end

local function make_host(env, kept)
  local host = { calls = {}, env_table = env or {}, clock_us = 0, opened = {}, timers = {}, null = json.null,
                 kept = kept, metrics = {} }
  local function record(name, ...) host.calls[#host.calls + 1] = { name, ... } end
  function host.where(level)
    local info = debug.getinfo(level + 1, "Sl")
    return info and ("%s:%d"):format(info.short_src:match("[^/]*$"), info.currentline) or "?"
  end
  function host.env(name) return host.env_table[name] end
  function host.log(level, text, fields) record("log", level, text, fields) end
  host.json_decode = function(text) return assert(json.decode(text, 1, json.null)) end
  host.json_encode = function(value) return json.encode(value) end
  host.json_array = function(list) return setmetatable(list, { __jsontype = "array" }) end
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
  function host.metric(_, name, _, labels) return { name = name .. "{" .. (labels or "") .. "}" } end
  function host.metric_add(metric, n) host.metrics[metric.name] = (host.metrics[metric.name] or 0) + n end
  function host.metric_set(metric, v) host.metrics[metric.name] = v end
  function host.keep_task() end
  function host.http(request)
    record("http", request.url)
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

--- A fresh library on a fresh host. Also returns the module of declarations.
function fake.load(env, kept)
  forget_modules()
  local host = make_host(env, kept or {})
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
