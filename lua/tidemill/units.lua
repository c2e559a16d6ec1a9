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

local days_before = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 }

local function is_leap(year) return year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0) end

local function days_in(year, month)
  if month == 2 then return is_leap(year) and 29 or 28 end
  return (month == 4 or month == 6 or month == 9 or month == 11) and 30 or 31
end

-- Days since 1970-01-01 of the proleptic Gregorian calendar.
local function days_since_1970(year, month, day)
  local before = year - 1
  local leaps = math.floor(before / 4) - math.floor(before / 100) + math.floor(before / 400) - 477
  return (year - 1970) * 365 + leaps + days_before[month] + (month > 2 and is_leap(year) and 1 or 0) + day - 1
end

-- Seconds east of UTC; nil when it is no offset.
local function offset_of(text)
  if text == "Z" then return 0 end
  local sign, hours, minutes = text:match("^([+-])(%d%d):(%d%d)$")
  hours, minutes = tonumber(hours), tonumber(minutes)
  if not hours or hours > 23 or minutes > 59 then return nil end
  return (sign == "-" and -1 or 1) * (hours * 3600 + minutes * 60)
end

--- Microseconds since 1970 of a moment in RFC 3339, a whole second; nil and what was expected when it is none.
---@param text string
---@return number?, string?
function units.moment(text)
  local expected = 'expected a moment like "2026-11-26T00:00:00Z"'
  if type(text) ~= "string" then return nil, expected .. ", got a " .. type(text) end
  expected = expected .. (', got "%s"'):format(text:sub(1, 60))
  local date, clock, fraction, zone = text:match("^(%d%d%d%d%-%d%d%-%d%d)T(%d%d:%d%d:%d%d)(%.?%d*)(.+)$")
  if not date then return nil, expected end
  if fraction ~= "" and not fraction:find("^%.0+$") then
    return nil, expected .. ": a whole second, as millisecond and microsecond times must stand on the same side of it"
  end
  local year, month, day = date:match("^(%d+)-(%d+)-(%d+)$")
  local hour, minute, second = clock:match("^(%d+):(%d+):(%d+)$")
  year, month, day, hour, minute, second =
    tonumber(year), tonumber(month), tonumber(day), tonumber(hour), tonumber(minute), tonumber(second)
  local offset = offset_of(zone)
  if not offset then return nil, expected .. ': expected "Z" or an offset like "+01:00" at its end' end
  if year < 1970 or month < 1 or month > 12 or day < 1 or day > days_in(year, month) then
    return nil, expected .. ": there is no such day since 1970"
  end
  if hour > 23 or minute > 59 or second > 59 then return nil, expected .. ": there is no such time of day" end
  return (days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset) * 1e6
end

return units
