--- The host that C gives the library, made of tables: specs run the Lua library alone, without an engine.
---
---     local fake = dofile "tests/lua/fake_host.lua"
---     local tm, host = fake.load()          -- fresh modules each time
---     host.calls                            -- what the library asked for, in order

local fake = {}

local function forget_modules()
  for name in pairs(package.loaded) do
    if name:find("^tidemill") or name:find("^kalshi") then package.loaded[name] = nil end
  end
end

-- dkjson is the second implementation here; the host's own is tested in tests/unit/script.
local json = require "dkjson"

local function make_host(env)
  local host = { calls = {}, env_table = env or {}, clock_us = 0, opened = {}, timers = {}, null = json.null }
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
  function host.spawn(_, fn, ...) fn(...) end
  function host.link_open(feed, name)
    host.opened[#host.opened + 1] = name
    record("open", feed, name)
    return #host.opened - 1
  end
  function host.link_opening(id, slot, bytes, send) record("opening", id, slot, bytes, send) return host.accept ~= false end
  function host.link_send(id, bytes) record("send", id, bytes) return host.accept ~= false end
  function host.metric() return {} end
  function host.metric_add() end
  function host.metric_set() end
  function host.registry_open() return 1 end
  function host.registry_count() return 0 end
  function host.registry_unseen() return {} end
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

--- Run all timers that wait once, as time would.
function fake.fire(host)
  local timers = host.timers
  host.timers = {}
  for _, timer in ipairs(timers) do timer.fn() end
end

--- A fresh library on a fresh host. Also returns the module of declarations.
function fake.load(env)
  forget_modules()
  local host = make_host(env)
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
