--- Taps: records of a stream as they are taken (core/engine/tap.h). A tap is called with options, which gives another one;
--- what a session does with one that is the value of a command is to show it.

local host = require "tidemill.host"
local pretty = require "tidemill.repl.pretty"
local process = require "tidemill.repl.process"

local tap = {}

local TAP_ROWS, TAP_ROWS_MAX, TAP_WAIT_US = 10, 1e6, 250e3

local tap_options = { ticker = "string", n = "number", seconds = "number", fields = "table" }

local Tap = {}
Tap.__index = Tap

local function check_options(options)
  if type(options) ~= "table" then error('tap: expected options like { ticker = "KX-1", n = 10 }', 0) end
  for name, value in pairs(options) do
    local kind = tap_options[name]
    if not kind then error(("tap: unknown option %q, expected ticker, n, seconds, fields"):format(tostring(name)), 0) end
    if type(value) ~= kind then error(("tap: %s: expected a %s, got a %s"):format(name, kind, type(value)), 0) end
  end
  if options.n and (options.n < 0 or options.n > TAP_ROWS_MAX) then error("tap: n: expected 0 to 1000000", 0) end
end

function Tap:__call(options)
  check_options(options)
  local all = {}
  for name, value in pairs(self.options) do all[name] = value end
  for name, value in pairs(options) do all[name] = value end
  return setmetatable({ stream = self.stream, options = all }, Tap)
end

-- A whole number with the column's scale as people write it: 550000 with 6 is 0.55.
local function scaled(value, scale)
  if type(value) ~= "number" or scale == 0 then return value end
  local text = (("%%.%df"):format(scale)):format(value / 10 ^ scale)
  return (text:gsub("0+$", ""):gsub("%.$", ""))
end

local function line_of(row, columns, style)
  local parts = {}
  for _, column in ipairs(columns) do
    local value = row[column.name]
    if value ~= nil and value ~= host.null then
      local text = type(value) == "table" and pretty.inline(value, host.null) or pretty.safe(tostring(scaled(value, column.scale)))
      parts[#parts + 1] = pretty.paint(style, "name", column.name .. "=") .. text
    end
  end
  return table.concat(parts, " ")
end

local function wanted_columns(stream, fields)
  if not fields then return stream.columns end
  local columns = {}
  for i, name in ipairs(fields) do
    for _, column in ipairs(stream.columns) do
      if column.name == name then columns[i] = column end
    end
    if not columns[i] then error(("tap: there is no field %q: fields(%q) lists them"):format(tostring(name), stream.name), 0) end
  end
  return columns
end

-- Call take(text of a row) for each row until there were enough, or the time is over.
function Tap:each(take)
  local options = self.options
  local most = options.n or TAP_ROWS
  local expires = options.seconds and host.monotonic_us() + options.seconds * 1e6
  host.tap_open(self.stream, options.ticker)
  local count = 0
  while most == 0 or count < most do
    local left = expires and expires - host.monotonic_us() or TAP_WAIT_US
    if left <= 0 then break end
    local text = host.tap_next(math.min(left, TAP_WAIT_US))
    if text then
      count = count + 1
      take(text)
    end
  end
  local left_out = host.tap_left_out()
  host.tap_close()
  return count, left_out
end

local function stream_of(name)
  if type(name) ~= "string" then error("tap: expected the name of a stream", 0) end
  local names, stream = process.fields(name)
  if not names then error(("tap: there is no stream %q: streams() lists them"):format(name), 0) end
  return stream
end

--- Show its rows as they come: what a session does with a tap that is the value of a command.
function Tap:show(style)
  local columns = wanted_columns(stream_of(self.stream), self.options.fields)
  local count, left_out = self:each(function(text)
    if style.json and not self.options.fields then return host.print(text .. "\n") end
    local row = host.json_decode(text)
    if not style.json then return host.print(line_of(row, columns, style) .. "\n") end
    local chosen = {}
    for _, column in ipairs(columns) do chosen[column.name] = row[column.name] end
    host.print(host.json_encode(chosen) .. "\n")
  end)
  local lost = left_out > 0 and (", %d more were left out: they came faster than they were shown"):format(left_out)
  return ("%d rows%s"):format(count, lost or "")
end

--- A tap of the stream of that name, with its usual options.
---@param name string
---@return table
function tap.of(name) return setmetatable({ stream = stream_of(name).name, options = {} }, Tap) end

function tap.is_tap(value) return getmetatable(value) == Tap end

return tap
