--- Closed tables: every key is known, every value is checked and brought into its normal form.
---
--- A *check* is a function (value) -> normal form, or nil and what was expected. A *field* is a check with its rules.

local problems = require "tidemill.problems"
local units = require "tidemill.units"

local check = {}

local function got(value)
  if type(value) == "string" then return (', got "%s"'):format(value:sub(1, 60)) end
  if type(value) == "number" or type(value) == "boolean" then return ", got " .. tostring(value) end
  return ", got a " .. type(value)
end

---@class tidemill.Field
---@field check fun(value: any): any, string?
---@field required? boolean
---@field default? any   in normal form
---@field to? string     the name in normal form

---@param fn fun(value: any): any, string?
---@param rules? table
---@return tidemill.Field
function check.field(fn, rules)
  local field = rules or {}
  field.check = fn
  return field
end

function check.text(value)
  if type(value) == "string" and value ~= "" and not value:find("%z") then return value end
  return nil, "expected text" .. got(value)
end

function check.boolean(value)
  if type(value) == "boolean" then return value end
  return nil, "expected true or false" .. got(value)
end

function check.func(value)
  if type(value) == "function" then return value end
  return nil, "expected a function" .. got(value)
end

function check.number(value)
  if type(value) == "number" and value == value and math.abs(value) < math.huge then return value end
  return nil, "expected a number" .. got(value)
end

--- A number from `low` to `high`.
function check.between(low, high)
  return function(value)
    if type(value) == "number" and value >= low and value <= high then return value end
    return nil, ("expected a number from %s to %s"):format(low, high) .. got(value)
  end
end

--- An integer from `low` to `high`.
function check.integer(low, high)
  return function(value)
    if type(value) == "number" and value == math.floor(value) and value >= low and value <= high then return value end
    return nil, ("expected an integer from %d to %d"):format(low, high) .. got(value)
  end
end

function check.duration(value) return units.duration(value) end

function check.size(value) return units.size(value) end

function check.moment(value) return units.moment(value) end

--- An id that is safe in file names, labels and logs.
function check.id(value)
  if type(value) == "string" and #value <= 63 and value:find("^[%w_][%w_.-]*$") then return value end
  return nil, "expected an id of letters, digits, '_', '-' and '.'" .. got(value)
end

--- A name of a table or column.
function check.name(value)
  if type(value) == "string" and #value <= 63 and value:find("^[a-z_][a-z0-9_]*$") then return value end
  return nil, "expected a name of lower-case letters, digits and '_'" .. got(value)
end

--- One of the texts.
function check.one_of(names)
  return function(value)
    for _, name in ipairs(names) do
      if value == name then return value end
    end
    if type(value) ~= "string" then return nil, "expected one of " .. table.concat(names, ", ") .. got(value) end
    return nil, ('unknown value "%s"'):format(value) .. problems.hint(value, names)
  end
end

--- A list, each element under the same check.
function check.list(element, what)
  return function(value)
    if type(value) ~= "table" then return nil, "expected a list of " .. what .. got(value) end
    local list = {}
    for i, item in ipairs(value) do
      local normal, expected = element(item)
      if normal == nil then return nil, ("[%d]: %s"):format(i, expected) end
      list[i] = normal
    end
    for key in pairs(value) do
      if type(key) ~= "number" or key < 1 or key > #list or key ~= math.floor(key) then
        return nil, "expected a list of " .. what .. " without names or holes"
      end
    end
    if #list == 0 then return nil, "expected at least one of " .. what end
    return list
  end
end

local function names_of(fields)
  local names = {}
  for name in pairs(fields) do names[#names + 1] = name end
  return names
end

-- Returns whether all keys are known, and which ones the unknown keys were probably meant to be.
local function check_keys(at, path, value, fields)
  local ok, meant = true, {}
  for key in pairs(value) do
    if type(key) ~= "string" then
      problems.add(at, path, ("expected names only, got a value without a name at position %s"):format(tostring(key)))
      ok = false
    elseif not fields[key] then
      problems.add(at, path, ('unknown key "%s"'):format(key:sub(1, 60)) .. problems.hint(key, names_of(fields)))
      ok = false
      local near = problems.nearest(key, names_of(fields))
      if near then meant[near] = true end
    end
  end
  return ok, meant
end

local function check_field(at, path, name, field, value, meant)
  if value == nil then
    if not field.required then return true, field.default end
    if meant[name] then return false end
    local _, expected = field.check(nil)
    problems.add(at, path, ('missing key "%s": %s'):format(name, (expected:gsub(", got.*$", ""))))
    return false
  end
  local normal, expected = field.check(value)
  if normal == nil then
    problems.add(at, path, name .. ": " .. expected)
    return false
  end
  return true, normal
end

--- Check `value` against the fields. Returns its normal form and whether it has no fault; faults are noted.
---@param at string
---@param path string
---@param value any
---@param fields table<string, tidemill.Field>
---@return table normal, boolean ok
function check.closed(at, path, value, fields)
  if type(value) ~= "table" then
    problems.add(at, path, "expected a table { ... }" .. got(value))
    return {}, false
  end
  local ok, meant = check_keys(at, path, value, fields)
  local normal = {}
  for name, field in pairs(fields) do
    local good, v = check_field(at, path, name, field, value[name], meant)
    ok = ok and good
    normal[field.to or name] = v
  end
  return normal, ok
end

--- The same at run time: the normal form, or an error with the first fault at that level.
---@param what string
---@param value any
---@param fields table<string, tidemill.Field>
---@param level integer
---@return table normal
function check.demand(what, value, fields, level)
  local before = #problems.list
  local normal = check.closed("", what, value, fields)
  local first = problems.list[before + 1]
  for i = #problems.list, before + 1, -1 do problems.list[i] = nil end
  if first then error(first.message, level) end
  return normal
end

--- What is wrong with a table that is given at run time, or nil: for functions that raise instead of noting.
---@param value any
---@param fields table<string, tidemill.Field>
---@return string?
function check.explain(value, fields)
  if type(value) ~= "table" then return "expected a table { ... }" .. got(value) end
  for key in pairs(value) do
    local name = tostring(key)
    if not fields[key] then return ('unknown key "%s"'):format(name) .. problems.hint(name, names_of(fields)) end
  end
  for name, field in pairs(fields) do
    local v = value[name]
    if v == nil and field.required then return ('missing key "%s"'):format(name) end
    if v ~= nil then
      local normal, expected = field.check(v)
      if normal == nil then return name .. ": " .. expected end
    end
  end
  return nil
end

return check
