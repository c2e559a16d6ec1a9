--- State that survives a reload: plain tables, saved as JSON by the generation that goes, read by the one that comes.
---
--- The text: {"v":1,"states":{NAME:{"unused":N,"data":VALUE}}}. A value is JSON as it stands, but for what JSON cannot
--- say: {"#number":"inf"}, {"#array":[...]} for an array of tm.json.array, {"#pairs":[[key,value],...]} for tables with
--- keys that are not all texts, or are texts that begin with "#".

local host = require "tidemill.host"
local check = require "tidemill.check"
local declare = require "tidemill.declare"
local problems = require "tidemill.problems"

local state = {}
local declared = declare.declared

local bytes_each, bytes_all = 2 ^ 20, 16 * 2 ^ 20
local depth_max = 20 -- three levels of JSON each, of the 64 that there are

local states = {}  -- name -> { at, table, defaults }
local carried = {} -- name -> saved entry that this generation has not asked for

local array_mark = getmetatable(host.json_array {})

-- ---- to JSON ----

local function step(path, key)
  if type(key) == "string" and key:find("^[%a_][%w_]*$") then return path .. "." .. key end
  return ("%s[%s]"):format(path, type(key) == "string" and ("%q"):format(key) or tostring(key))
end

local encode

local function encode_number(v)
  if v ~= v then return { ["#number"] = "nan" } end
  if v == math.huge or v == -math.huge then return { ["#number"] = v > 0 and "inf" or "-inf" } end
  -- the reader of JSON gives integers so large as text
  if math.abs(v) >= 2 ^ 53 then return { ["#number"] = ("%.17g"):format(v) } end
  return v
end

local function shape_of(value)
  local count, last, names = 0, 0, true
  for key in pairs(value) do
    local is_index = type(key) == "number" and key >= 1 and key == math.floor(key)
    count = count + 1
    last = math.max(last, is_index and key or math.huge)
    names = names and type(key) == "string" and key:sub(1, 1) ~= "#"
  end
  if count > 0 and count == last then return "list" end
  return names and "names" or "pairs"
end

local function encode_list(value, path, seen)
  local list = host.json_array {}
  for i, item in ipairs(value) do list[i] = encode(item, step(path, i), seen) end
  return list
end

local function encode_pairs(value, path, seen)
  local list = host.json_array {}
  for key, item in pairs(value) do
    if type(key) == "table" or type(key) == "function" or type(key) == "userdata" or type(key) == "thread" then
      error(("state %s: a key that is a %s cannot be kept"):format(path, type(key)), 0)
    end
    list[#list + 1] = host.json_array { encode(key, path, seen), encode(item, step(path, key), seen) }
  end
  return list
end

local function encode_names(value, path, seen)
  local copy = {}
  for key, item in pairs(value) do copy[key] = encode(item, step(path, key), seen) end
  return copy
end

local function encode_table(value, path, seen)
  if seen[value] then error(("state %s: the table contains itself"):format(path), 0) end
  if seen.depth == depth_max then error(("state %s: nested deeper than %d tables"):format(path, depth_max), 0) end
  local mark = getmetatable(value)
  if mark ~= nil and mark ~= array_mark then
    error(("state %s: a table with a metatable (an object) cannot be kept, only plain tables"):format(path), 0)
  end
  seen[value], seen.depth = true, seen.depth + 1
  local shape, result = shape_of(value), {}
  if mark and (shape == "list" or next(value) == nil) then
    result["#array"] = encode_list(value, path, seen)
  elseif shape == "pairs" then
    result["#pairs"] = encode_pairs(value, path, seen)
  else
    result = (shape == "list" and encode_list or encode_names)(value, path, seen)
  end
  seen[value], seen.depth = nil, seen.depth - 1
  return result
end

function encode(value, path, seen)
  local kind = host.is_secret(value) and "secret" or type(value)
  if kind == "number" then return encode_number(value) end
  if kind == "string" or kind == "boolean" or value == host.null then return value end
  if kind == "table" then return encode_table(value, path, seen) end
  error(("state %s: a %s cannot be kept, only texts, numbers, booleans and plain tables"):format(path, kind), 0)
end

-- ---- from JSON ----

local decode

local function decode_list(list)
  local copy = {}
  for i, item in ipairs(list) do copy[i] = decode(item) end
  return copy
end

local numbers = { nan = 0 / 0, inf = math.huge, ["-inf"] = -math.huge }

function decode(value)
  if type(value) ~= "table" or value == host.null then return value end
  if getmetatable(value) == array_mark then return decode_list(value) end
  if value["#number"] then return numbers[value["#number"]] or tonumber(value["#number"]) end
  if value["#array"] then return host.json_array(decode_list(value["#array"])) end
  local copy = {}
  if value["#pairs"] then
    for _, pair in ipairs(value["#pairs"]) do copy[decode(pair[1])] = decode(pair[2]) end
    return copy
  end
  for key, item in pairs(value) do copy[key] = decode(item) end
  return copy
end

-- ---- generations ----

local function copy_of(value, name) return decode(encode(value, name, { depth = 0 })) end

--- A table that survives a reload of the script: what this generation leaves in it, the next one finds. It may hold texts,
--- numbers, booleans and tables of them, 1 MiB as JSON; 16 MiB in all. `defaults` are the values of keys that are not
--- there. A state that a generation does not ask for is kept for one more, then dropped.
---
---     local seen = tm.state("seen", { count = 0 })
---@param name string
---@param defaults? table
---@return table
function state.state(name, defaults)
  declare.only "tm.state"
  local at = problems.caller()
  local path = "tm.state " .. tostring(name)
  local valid, expected = check.id(name)
  if not valid then
    problems.add(at, "tm.state", expected)
    return {}
  end
  if states[name] then
    problems.add(at, path, "is declared already at " .. states[name].at)
    return states[name].table
  end
  local ok, copy = pcall(copy_of, defaults or {}, name)
  if not ok or type(defaults or {}) ~= "table" then
    problems.add(at, path, ok and "defaults: expected a table, got a " .. type(defaults) or "defaults: " .. tostring(copy))
    copy = {}
  end
  states[name] = { at = at, table = copy, defaults = defaults or {} }
  return copy
end

--- All states as JSON text. Raises, naming the way to it, when something cannot be kept.
---@return string
function state.save()
  local all, bytes = {}, 0
  local function add(name, entry)
    local text = host.json_encode(entry)
    if #text > bytes_each then error(("state %s: %d bytes, more than 1 MiB"):format(name, #text), 0) end
    bytes = bytes + #text
    all[name] = entry
  end
  for name, s in pairs(states) do add(name, { unused = 0, data = encode(s.table, name, { depth = 0 }) }) end
  for name, entry in pairs(carried) do add(name, entry) end
  if bytes > bytes_all then error(("states: %d bytes in all, more than 16 MiB"):format(bytes), 0) end
  return host.json_encode { v = 1, states = all }
end

local function fill(s, data)
  local saved = decode(data)
  for key in pairs(s.table) do s.table[key] = nil end
  for key, value in pairs(saved) do s.table[key] = value end
  for key, value in pairs(copy_of(s.defaults, "defaults")) do
    if s.table[key] == nil then s.table[key] = value end
  end
end

--- Fill the states that were declared with what the generation before has saved.
---@param text string
function state.restore(text)
  for name, entry in pairs(host.json_decode(text).states) do
    if states[name] then
      fill(states[name], entry.data)
    elseif entry.unused >= 1 then
      host.log("info", "state dropped: two generations of the script have not asked for it", { state = name })
    else
      carried[name] = { unused = entry.unused + 1, data = entry.data }
    end
  end
end

--- For the library's own use: a state without a declaration of the operator's.
function state.internal(name)
  states[name] = states[name] or { at = "tidemill", table = {}, defaults = {} }
  return states[name].table
end

declared.save_state, declared.restore_state = state.save, state.restore

return state
