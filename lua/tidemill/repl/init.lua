--- What runs in the VM of a session of the control socket (core/script/session.h). A request is a JSON object:
---
---     { "op": "eval", "text": "...", "json": true, "color": false, "width": 100, "collect": false }
---         -> { "ok": true, "result": ... }        with json: the value
---         -> { "ok": true, "text": "..." }        without: as people see it; no text when there is no value
---            "output" too, what was printed, when "collect" asks for it; else it comes as it is printed
---     { "op": "complete", "text": "tap \"tr" }
---         -> { "ok": true, "result": { "typed": "tr", "words": ["trades"] } }
---     { "op": "command", "text": "status" }       one of the socket's table
---         -> its answer
---
--- A failure is { "ok": false, "error": "..." }, with "unfinished": true when more text could make it whole.

local host = require "tidemill.host"
local complete = require "tidemill.repl.complete"
local help = require "tidemill.repl.help"
local pretty = require "tidemill.repl.pretty"
local tap = require "tidemill.repl.tap"
local verbs = require "tidemill.repl.verbs"

local repl = {}

local style = { color = false, width = 100 } -- of the command under way
local collected                             -- its output, when that is asked for

-- ---- the session's globals ----

local base = {
  json = { encode = host.json_encode, decode = host.json_decode, array = host.json_array }, null = host.null,
  assert = assert, bit = bit, coroutine = coroutine, error = error, getmetatable = getmetatable, ipairs = ipairs,
  math = math, next = next, os = os, pairs = pairs, pcall = pcall, rawequal = rawequal, rawget = rawget, rawset = rawset,
  select = select, setmetatable = setmetatable, string = string, table = table, tonumber = tonumber, tostring = tostring,
  type = type, unpack = unpack, xpcall = xpcall,
}

for name, verb in pairs(verbs.all) do base[name] = verb end

local function write(text)
  if collected then
    collected[#collected + 1] = text
    return
  end
  host.print(text)
end

function base.print(...)
  local parts = {}
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    parts[i] = type(value) == "string" and pretty.safe(value, true) or pretty.text(value, style, host.null)
  end
  write(table.concat(parts, "\t") .. "\n")
end

-- A text that is shown as it is.
local function shown(text) return setmetatable({ text = text }, { display = function(value) return value.text end }) end

function base.help(topic)
  local text = help.text(topic, style) or help.manual(topic)
  if not text then error(("help has nothing about %s: help() lists what there is"):format(tostring(topic)), 0) end
  return shown(text)
end

local function undefined(_, name)
  local value = base[name]
  if value ~= nil then return value end
  if name == "tm" then error("tm is the script's: policy [[ return tm... ]] runs inside of it", 2) end
  error(("there is no '%s': help() lists what there is"):format(tostring(name)), 2)
end

local environment = setmetatable({}, { __index = undefined, __metatable = "locked" })

-- ---- evaluating ----

-- "help tap" for people.
local function sweeten(text)
  local topic = text:match "^%s*help%s+([%a_][%w_.:]*)%s*$" or text:match "^%s*%?%s*([%a_]*)%s*$"
  if topic then return topic == "" and "help()" or ("help(%q)"):format(topic) end
  return text
end

local function compile(text)
  local chunk, _, unfinished = host.load("return " .. text, environment)
  if chunk then return chunk end
  local statement, why, unfinished_statement = host.load(text, environment)
  if statement then return statement end
  return nil, why, unfinished or unfinished_statement
end

local function pack(...) return { n = select("#", ...), ... } end

-- What JSON can say of it.
local function plain(value, depth)
  local kind = type(value)
  if kind == "table" then
    if depth > 20 then return "..." end
    local copy = #value > 0 and host.json_array {} or {}
    if next(value) == nil then return getmetatable(value) ~= nil and host.json_array {} or value end
    for key, item in pairs(value) do
      if #value == 0 then copy[tostring(key)] = plain(item, depth + 1)
      elseif type(key) == "number" then copy[key] = plain(item, depth + 1) end
    end
    return copy
  end
  if kind == "number" and (value ~= value or math.abs(value) == math.huge) then return tostring(value) end
  if kind == "string" or kind == "number" or kind == "boolean" or value == host.null then return value end
  if value == nil then return host.null end
  return tostring(value)
end

-- A word alone is called, a tap is shown.
local function resolve(value)
  if verbs.is_verb(value) or value == base.help then value = value() end
  if tap.is_tap(value) then return shown(value:show(style)) end
  return value
end

local function evaluate(request)
  local chunk, why, unfinished = compile(sweeten(request.text))
  if not chunk then return { ok = false, error = why, unfinished = unfinished or nil } end
  local results = pack(chunk())
  if results.n == 0 then return { ok = true } end
  for i = 1, results.n do results[i] = resolve(results[i]) end
  rawset(environment, "_", results[1])
  if request.json then
    local value = results[1]
    if results.n > 1 then
      value = host.json_array {}
      for i = 1, results.n do value[i] = plain(results[i], 1) end
    end
    return { ok = true, result = plain(value, 1) }
  end
  local texts = {}
  for i = 1, results.n do texts[i] = pretty.text(results[i], style, host.null) end
  return { ok = true, text = table.concat(texts, "\n") }
end

local operations = {}

function operations.eval(request)
  collected = request.collect and {} or nil
  local answer = evaluate(request)
  if collected then answer.output = table.concat(collected) end
  collected = nil
  return host.json_encode(answer)
end

function operations.complete(request)
  local typed, words = complete.words(request.text, environment, base)
  return host.json_encode { ok = true, result = { typed = typed, words = host.json_array(words) } }
end

function operations.command(request) return (host.command(request.text):gsub("%s+$", "")) end

local function number_between(value, low, high, fallback)
  return type(value) == "number" and math.max(low, math.min(value, high)) or fallback
end

--- Forget the session's variables: they fill its memory.
function repl.forget()
  for name in next, environment do environment[name] = nil end
end

--- Called by the host for each request.
---@param json string
function repl.command(json)
  local request = host.json_decode(json)
  local operation = type(request) == "table" and operations[request.op]
  if not operation or type(request.text) ~= "string" then
    error('expected {"op":"eval","text":"..."}, or the op "complete" or "command"', 0)
  end
  style.color, style.json = request.color == true, request.json == true
  style.width = number_between(request.width, 40, 500, 100)
  host.done(operation(request))
end

return repl
