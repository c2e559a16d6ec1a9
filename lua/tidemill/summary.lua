--- What a script declares as flat facts, so that two generations of it can be compared (core/script/diff.h):
---
---     group            field     text           secret
---     "stream trades"  "window"  "2d"           false
---     "signer 1"       "key_id"  "..."          true: compared, never shown
---
--- Whatever is put into the declarations is compared, without further ado: a list named "alerts" of
--- { name = "Lag", hold_us = 30e6 } gives "alert Lag", "hold", "30s". Where a declaration stands is left out, and so are
--- functions: that their code has changed is told by the files.

local summary = {}

local DEPTH_MAX = 6
local left_out = { at = true, path = true, by_name = true, ok = true, from = true, fn = true }
local not_lists = { errors = true, handlers = true, timers = true, role = true, protocol = true, summary = true }
local secret_fields = { store = true, production = true, conninfo = true }
local secret_groups = { signers = true }

local units = {
  us = { { "d", 86400e6 }, { "h", 3600e6 }, { "m", 60e6 }, { "s", 1e6 }, { "ms", 1e3 }, { "us", 1 } },
  bytes = { { "GiB", 2 ^ 30 }, { "MiB", 2 ^ 20 }, { "KiB", 2 ^ 10 }, { "B", 1 } },
}

local function with_unit(value, unit)
  for _, u in ipairs(units[unit]) do
    if value >= u[2] and value % u[2] == 0 then return ("%d%s"):format(value / u[2], u[1]) end
  end
  return ("%.14g"):format(value)
end

local function sorted_keys(value)
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then return a < b end
    return tostring(a) < tostring(b)
  end)
  return keys
end

-- "window_us" -> "window", "us"
local function split_name(name)
  local base, unit = tostring(name):match("^(.+)_(%a+)$")
  if units[unit] then return base, unit end
  return tostring(name)
end

local render

local function render_table(value, depth)
  if depth > DEPTH_MAX or getmetatable(value) ~= nil and type(getmetatable(value)) ~= "table" then return "..." end
  local parts = {}
  for _, item in ipairs(value) do parts[#parts + 1] = render(item, nil, depth + 1) end
  for _, key in ipairs(sorted_keys(value)) do
    if type(key) ~= "number" and not left_out[key] then
      local name, unit = split_name(key)
      parts[#parts + 1] = name .. " " .. render(value[key], unit, depth + 1)
    end
  end
  return table.concat(parts, ", ")
end

--- One value as text.
function render(value, unit, depth)
  if type(value) == "table" then return render_table(value, depth) end
  if type(value) == "number" then return unit and with_unit(value, unit) or ("%.14g"):format(value) end
  if type(value) == "function" then return "function" end
  local text = tostring(value)
  return text:find("^userdata: 0x") and "userdata" or text -- an address would differ each time
end

local function singular(name)
  return (name:gsub("ies$", "y"):gsub("s$", ""))
end

local function name_of(element)
  if type(element) ~= "table" then return nil end
  local name = element.name or element.tag or element.id or element.stream or element.column
  return type(name) == "string" and name or nil
end

local function is_list_of_named(value)
  return type(value) == "table" and name_of(value[1]) ~= nil
end

local function has_userinfo(text) return text:find("://[^/]*@") ~= nil end

local Facts = {}
Facts.__index = Facts

function Facts:add(group, field, text, secret)
  local list = self.list
  local n = #list
  list[n + 1], list[n + 2], list[n + 3], list[n + 4] = group, field, text, secret or false
end

-- An element of such a list in one text, without its name.
local function add_named(self, group, field, list, secret)
  for _, element in ipairs(list) do
    local rest = {}
    for key, value in pairs(element) do
      if value ~= name_of(element) then rest[key] = value end
    end
    self:add(group, singular(field) .. " " .. tostring(name_of(element)), render(rest, nil, 1), secret)
  end
end

function Facts:add_fields(group, element, secret)
  for _, key in ipairs(sorted_keys(element)) do
    local value = element[key]
    if not left_out[key] and type(value) ~= "function" then
      local name, unit = split_name(key)
      local hidden = secret or secret_fields[key] or false
      if is_list_of_named(value) then
        add_named(self, group, name, value, hidden or name_of(value[1]) and value[1].conninfo ~= nil)
      else
        local text = render(value, unit, 1)
        self:add(group, name, text, hidden or has_userinfo(text))
      end
    end
  end
end

function Facts:add_list(name, list)
  for i, element in ipairs(list) do
    local group = ("%s %s"):format(singular(name), name_of(element) or i)
    self:add(group, "", "")
    if type(element) == "table" then self:add_fields(group, element, secret_groups[name]) end
  end
end

local function add_counts(self, group, counts)
  self:add(group, "", "")
  for _, name in ipairs(sorted_keys(counts)) do self:add(group, name, tostring(counts[name])) end
end

-- Handlers and timers have no names of their own: they are counted.
function Facts:add_calls(declared)
  local handlers, timers = {}, {}
  for event, list in pairs(declared.handlers or {}) do handlers[event] = #list end
  for _, timer in ipairs(declared.timers or {}) do
    local what = ("%s %s"):format(timer.name:match("^%S+") or "timer", with_unit(timer.after_us, "us"))
    timers[what] = (timers[what] or 0) + 1
  end
  add_counts(self, "handlers", handlers)
  add_counts(self, "timers", timers)
end

--- All facts of the declarations as one flat list, four values each.
---@param declared table
---@return any[]
function summary.of(declared)
  local facts = setmetatable({ list = {} }, Facts)
  if declared.role then facts:add_fields(tostring(declared.role.role), declared.role) end
  if declared.protocol then facts:add_fields("protocol", declared.protocol) end
  facts:add_calls(declared)
  for _, name in ipairs(sorted_keys(declared)) do
    local list = declared[name]
    if type(list) == "table" and not not_lists[name] then facts:add_list(name, list) end
  end
  return facts.list
end

return summary
