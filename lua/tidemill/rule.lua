--- Which markets a subscription is for: all, those named, those whose ticker matches a pattern, or those that a function
--- says yes to.

local rule = {}

local EXPECTED = 'expected "all", a list of tickers or patterns like { "KXBTC*", "KXETH-26NOV05-T1" }, a pattern, or a '
  .. 'function(market) like kalshi.open_markets'

-- "KX*-26*T1" -> { "KX", "-26", "T1" }: what must come first, in between in this order, and last.
local function split(pattern)
  local parts = {}
  for part in (pattern .. "*"):gmatch "([^*]*)%*" do parts[#parts + 1] = part end
  return parts
end

--- Whether the whole of `name` matches the parts of a pattern. Time is linear, whatever the pattern.
---@param parts string[]
---@param name string
---@return boolean
function rule.matches(parts, name)
  local first, last = parts[1], parts[#parts]
  if #name < #first + #last or name:sub(1, #first) ~= first then return false end
  local at, stop = #first + 1, #name - #last
  for i = 2, #parts - 1 do
    local from, to = name:find(parts[i], at, true)
    if not from or to > stop then return false end
    at = to + 1
  end
  return name:sub(stop + 1) == last
end

local function is_ticker(value) return type(value) == "string" and #value <= 255 and value:find "^[%w._*-]+$" ~= nil end

local function got(value)
  if type(value) == "string" then return (', got "%s"'):format(value:sub(1, 60)) end
  return ", got a " .. type(value)
end

local function check_list(list)
  local normal, count = { kind = "list", names = {}, list = {}, patterns = {} }, 0
  for key, value in pairs(list) do
    if type(key) ~= "number" then return nil, EXPECTED .. (', got the key "%s"'):format(tostring(key)) end
    if not is_ticker(value) then
      return nil, ("[%s]: expected a ticker or a pattern of letters, digits, '.', '_', '-' and '*'"):format(key) .. got(value)
    end
    count = count + 1
  end
  if count == 0 or count ~= #list then return nil, EXPECTED .. ", got " .. (count == 0 and "an empty list" or "a list with holes") end
  for _, value in ipairs(list) do
    if value:find("*", 1, true) then
      normal.patterns[#normal.patterns + 1] = split(value)
    elseif not normal.names[value] then
      normal.names[value] = true
      normal.list[#normal.list + 1] = value
    end
  end
  return normal
end

--- The normal form of a choice of markets, or nil and what was expected.
---@param value any
---@return table?, string?
function rule.check(value)
  if value == "all" then return { kind = "all", names = {}, list = {} } end
  if type(value) == "function" then return { kind = "predicate", names = {}, list = {}, fn = value } end
  if type(value) == "table" then return check_list(value) end
  if type(value) == "string" and is_ticker(value) and value:find("*", 1, true) then return check_list { value } end
  if type(value) == "string" then
    return nil, EXPECTED .. got(value) .. (is_ticker(value) and ('; for one ticker write { "%s" }'):format(value) or "")
  end
  return nil, EXPECTED .. got(value)
end

--- Whether markets of a registry can be chosen, so that their coming and going matters.
---@param choice table
---@return boolean
function rule.follows_registry(choice) return choice.kind ~= "list" or #choice.patterns > 0 end

--- Say of a name that it is wanted or not, whatever the choice says.
---@param choice table
---@param name string
---@param wanted boolean
function rule.by_hand(choice, name, wanted)
  choice.by_hand = choice.by_hand or {}
  choice.by_hand[name] = wanted
end

--- Whether somebody has said so.
---@param choice table
---@param name string
---@return boolean
function rule.is_by_hand(choice, name) return choice.by_hand ~= nil and choice.by_hand[name] ~= nil end

--- Whether a name is chosen by itself, whatever is known of it; nil: that depends on the market's fields.
---@param choice table
---@param name string
---@return boolean?
function rule.wants_name(choice, name)
  if rule.is_by_hand(choice, name) then return choice.by_hand[name] end
  if choice.kind == "all" or choice.names[name] then return true end
  if choice.kind == "predicate" then return nil end
  for _, parts in ipairs(choice.patterns) do
    if rule.matches(parts, name) then return true end
  end
  return false
end

return rule
