--- Assertions: each raises one sentence, or a list of differences, at the line of the test that called it.

local host = require "tidemill.host"

local expect = {}

local DIFFERENCES_MAX, DEPTH_MAX, TEXT_MAX = 10, 12, 200

local function show_key(key)
  if type(key) == "string" and key:find("^[%a_][%w_]*$") then return "." .. key end
  return ("[%s]"):format(type(key) == "string" and ("%q"):format(key) or tostring(key))
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then return a < b end
    return type(a) < type(b)
  end)
  return keys
end

local function show(value, depth)
  if value == host.null then return "null" end
  if type(value) == "string" then
    return #value <= TEXT_MAX and ("%q"):format(value) or ("%q..."):format(value:sub(1, TEXT_MAX))
  end
  if type(value) ~= "table" then return tostring(value) end
  if depth > 3 then return "{...}" end
  local parts, list = {}, #value
  for i = 1, math.min(list, 10) do parts[#parts + 1] = show(value[i], depth + 1) end
  for _, key in ipairs(sorted_keys(value)) do
    local in_list = type(key) == "number" and key >= 1 and key <= list and key == math.floor(key)
    if not in_list and #parts < 10 then
      local name = show_key(key):gsub("^%.", "")
      parts[#parts + 1] = name .. " = " .. show(value[key], depth + 1)
    end
  end
  return #parts > 0 and "{ " .. table.concat(parts, ", ") .. " }" or "{}"
end

--- A value as text of one line, for messages.
---@param value any
---@return string
function expect.show(value) return (show(value, 0):gsub("\\\n", "\\n")) end

local function differ(list, path, text)
  list[#list + 1] = ("%s: %s"):format(path == "" and "value" or path, text)
end

local function compare(list, path, actual, expected, depth)
  if #list >= DIFFERENCES_MAX or rawequal(actual, expected) or actual == expected then return end
  if type(actual) ~= "table" or type(expected) ~= "table" or depth > DEPTH_MAX then
    return differ(list, path, ("expected %s, got %s"):format(expect.show(expected), expect.show(actual)))
  end
  for _, key in ipairs(sorted_keys(expected)) do
    if actual[key] == nil then
      differ(list, path .. show_key(key), ("expected %s, got nothing"):format(expect.show(expected[key])))
    else
      compare(list, path .. show_key(key), actual[key], expected[key], depth + 1)
    end
  end
  for _, key in ipairs(sorted_keys(actual)) do
    if expected[key] == nil then
      differ(list, path .. show_key(key), ("expected nothing, got %s"):format(expect.show(actual[key])))
    end
  end
end

-- Raises at the caller of the assertion, two levels up: never in a tail call, which would take a level away.
local function fail(text, note)
  error((note and tostring(note) .. ": " or "") .. text, 3)
end

--- Both are equal; tables by what is in them.
---@param actual any
---@param expected any
---@param note? string put in front of the message
function expect.equal(actual, expected, note)
  local list = {}
  compare(list, "", actual, expected, 0)
  if #list == 0 then return end
  if #list == 1 and list[1]:find("^value: ") then fail((list[1]:gsub("^value: ", "")), note) end
  local some = #list >= DIFFERENCES_MAX and " (the first places)" or ""
  fail(("the values differ%s\n  %s"):format(some, table.concat(list, "\n  ")), note)
end

--- Both are the same value, or the same table.
function expect.same(actual, expected, note)
  if not rawequal(actual, expected) then
    fail(("expected the same %s, got %s"):format(expect.show(expected), expect.show(actual)), note)
  end
end

--- The value is neither nil nor false.
function expect.truthy(value, note)
  if not value then fail("expected something that is true, got " .. expect.show(value), note) end
end

--- The value is nil or false.
function expect.falsy(value, note)
  if value then fail("expected nil or false, got " .. expect.show(value), note) end
end

--- The text has a match of the Lua pattern.
---@param text string
---@param pattern string
function expect.matches(text, pattern, note)
  if type(text) ~= "string" then fail("expected text, got " .. expect.show(text), note) end
  if not text:find(pattern) then fail(("expected a match of %q in %s"):format(pattern, expect.show(text)), note) end
end

--- The list has an element equal to the value, or the text has it in it.
function expect.contains(container, value, note)
  if type(container) == "string" then
    if not container:find(value, 1, true) then
      fail(("expected %q in %s"):format(value, expect.show(container)), note)
    end
    return
  end
  for _, item in ipairs(container) do
    local list = {}
    compare(list, "", item, value, 0)
    if #list == 0 then return end
  end
  fail(("expected %s among %s"):format(expect.show(value), expect.show(container)), note)
end

--- The function raises; its message has a match of the pattern. Returns the message.
---@param fn fun()
---@param pattern? string
---@return string
function expect.error(fn, pattern, note)
  local ok, message = pcall(fn)
  if ok then fail("expected an error, there was none", note) end
  local text = tostring(message)
  if pattern and not text:find(pattern) then
    fail(("expected an error that matches %q, got %q"):format(pattern, text), note)
  end
  return text
end

return expect
