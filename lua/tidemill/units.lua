--- Durations and sizes as people write them: "48h", "250ms", "64MiB".

local units = {}

local microseconds = { us = 1, ms = 1e3, s = 1e6, m = 60e6, h = 3600e6, d = 86400e6 }
local bytes = { B = 1, KiB = 2 ^ 10, MiB = 2 ^ 20, GiB = 2 ^ 30, TiB = 2 ^ 40 }

local EXACT_MAX = 2 ^ 53 -- what a double counts exactly: 285 years, 8192 TiB

local function parse(text, scale, expected)
  if type(text) ~= "string" then return nil, expected .. ", got a " .. type(text) end
  local number, unit = text:match("^(%d+%.?%d*)%s*(%a+)$")
  local factor = unit and scale[unit]
  if not factor then return nil, expected .. (', got "%s"'):format(text:sub(1, 60)) end
  local value = math.floor(tonumber(number) * factor + 0.5)
  if value > EXACT_MAX then return nil, expected .. (', got "%s", which is too large'):format(text:sub(1, 60)) end
  return value
end

--- Microseconds of a duration; nil and what was expected when it is none.
---@param text string
---@return number?, string?
function units.duration(text)
  return parse(text, microseconds, 'expected a duration like "250ms", "10s", "5m", "48h" or "7d"')
end

--- Bytes of a size.
---@param text string
---@return number?, string?
function units.size(text)
  return parse(text, bytes, 'expected a size like "64MiB" or "8GiB"')
end

return units
