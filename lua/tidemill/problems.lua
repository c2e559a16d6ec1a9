--- What is wrong with the declarations, collected so that a check can show all of it at once.

local host = require "tidemill.host"

local problems = { list = {} }

--- Note a problem. `at` is "file:line" of the declaration, `path` the way to the field ("tm.stream trades: columns[2]").
---@param at string
---@param path string
---@param text string
function problems.add(at, path, text)
  local message = path ~= "" and (path .. ": " .. text) or text
  problems.list[#problems.list + 1] = { at = at, message = message }
end

--- Where the function that calls the one that calls this stands: the line of the operator's declaration.
---@return string
function problems.caller()
  local at = host.where(3) -- not a tail call, which would take a level away
  return at
end

--- Where a function is defined: "file:line".
---@param fn function
---@return string
function problems.place(fn)
  local at = host.where(fn)
  return at
end

local function distance(a, b)
  local previous, before = {}, {}
  for j = 0, #b do previous[j] = j end
  for i = 1, #a do
    local current = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local best = math.min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (same and 0 or 1))
      local swapped = i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j)
      current[j] = swapped and math.min(best, before[j - 2] + 1) or best
    end
    before, previous = previous, current
  end
  return previous[#b]
end

-- "warning" for "warn", "sub" for "subscription": one begins with the other.
local function begins(a, b)
  local length = math.min(#a, #b)
  return length >= 3 and a:sub(1, length):lower() == b:sub(1, length):lower()
end

--- The nearest of the names to a misspelt one, or nil when none is near.
---@param name string
---@param names string[]
---@return string?
function problems.nearest(name, names)
  if #name > 64 then return nil end
  local best, best_distance = nil, math.floor((#name + 1) / 3) + 0.5
  for _, candidate in ipairs(names) do
    local d = distance(name:lower(), candidate:lower())
    if d < best_distance or (d == best_distance and candidate < best) then best, best_distance = candidate, d end
  end
  for _, candidate in ipairs(names) do
    if not best and begins(name, candidate) then best = candidate end
  end
  return best
end

--- ', did you mean "x"?' or a list of what there is.
---@param name string
---@param names string[]
---@return string
function problems.hint(name, names)
  local near = problems.nearest(name, names)
  if near then return (', did you mean "%s"?'):format(near) end
  local sorted = {}
  for i, candidate in ipairs(names) do sorted[i] = candidate end
  table.sort(sorted)
  return ", expected one of " .. table.concat(sorted, ", ")
end

--- Close a module's table: a name that it does not have is an error which names the nearest one.
---@generic T
---@param name string as scripts call it
---@param module T
---@return T
function problems.seal(name, module)
  return setmetatable(module, {
    __index = function(_, key)
      local names = {}
      for known in pairs(module) do names[#names + 1] = known end
      error(("%s.%s is not there"):format(name, tostring(key):sub(1, 60)) .. problems.hint(tostring(key), names), 2)
    end,
    __metatable = "locked",
  })
end

return problems
