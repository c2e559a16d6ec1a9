--- Values as text for people: records as tables, the rest as indented names and values; colours where a terminal shows
--- them. What a value holds is data of the feed at times, so control characters never come out as they are.

local pretty = {}

local WIDTH, ROWS_MAX, DEPTH_MAX, CELL_MAX = 100, 1000, 6, 60

local colours = { name = "36", text = "32", head = "1", red = "31;1", yellow = "33", green = "32", dim = "2" }

local tones = {
  red = { "critical", "disconnected", "down", "error", "failed", "firing", "none", "stalled", "stopped", "timeout",
          "unhealthy" },
  yellow = { "cancelled", "connecting", "degraded", "pending", "standby", "waiting", "warning" },
  green = { "connected", "done", "healthy", "held", "running", "success", "up" },
}
local tone_of = {}
for tone, words in pairs(tones) do
  for _, word in ipairs(words) do tone_of[word] = tone end
end

---@class tidemill.repl.Style
---@field color boolean
---@field width integer

function pretty.paint(style, tone, text)
  if not style.color or not colours[tone] then return text end
  return ("\27[%sm%s\27[0m"):format(colours[tone], text)
end

local function escape(c) return ("\\x%02x"):format(c:byte()) end

--- Text without control characters; line breaks and tabs stay where `lines` says so.
function pretty.safe(text, lines)
  text = text:gsub("\194([\128-\159])", function(c) return ("\\x%02x"):format(c:byte()) end)
  if not lines then return (text:gsub("[%z\1-\31\127]", escape)) end
  return (text:gsub("[%z\1-\8\11-\31\127]", escape))
end

-- ---- units ----

function pretty.bytes(n)
  if type(n) ~= "number" then return tostring(n) end
  for _, unit in ipairs { { "GiB", 2 ^ 30 }, { "MiB", 2 ^ 20 }, { "KiB", 2 ^ 10 } } do
    if n >= unit[2] then return ("%.1f %s"):format(n / unit[2], unit[1]) end
  end
  return ("%d B"):format(n)
end

function pretty.duration(seconds)
  if seconds < 0 then return "never" end
  if seconds < 1 then return ("%d ms"):format(seconds * 1000) end
  if seconds < 60 then return ("%.1f s"):format(seconds) end
  if seconds < 3600 then return ("%dm %ds"):format(seconds / 60, seconds % 60) end
  if seconds < 86400 then return ("%dh %dm"):format(seconds / 3600, seconds % 3600 / 60) end
  return ("%dd %dh"):format(seconds / 86400, seconds % 86400 / 3600)
end

function pretty.time(us)
  if type(us) ~= "number" or us <= 0 then return "" end
  return os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(us / 1e6))
end

-- ---- scalars ----

local function number(v)
  if v == math.floor(v) and math.abs(v) < 2 ^ 53 then return ("%d"):format(v) end
  return ("%.10g"):format(v)
end

local function scalar(value, null)
  if value == nil or value == null then return "" end
  if type(value) == "number" then return number(value) end
  return pretty.safe(tostring(value))
end

local function painted(style, text) return pretty.paint(style, tone_of[text], text) end

local function is_identifier(text) return text:find "^[%a_][%w_]*$" ~= nil end

local inline

local function inline_table(value, null, depth)
  if depth > DEPTH_MAX then return "..." end
  local parts, list = {}, #value
  for _, item in ipairs(value) do parts[#parts + 1] = inline(item, null, depth + 1) end
  local names = {}
  for name in pairs(value) do
    if type(name) ~= "number" or name < 1 or name > list then names[#names + 1] = tostring(name) end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local shown = is_identifier(name) and name or ("[%q]"):format(name)
    parts[#parts + 1] = pretty.safe(shown) .. " = " .. inline(value[name], null, depth + 1)
  end
  return #parts > 0 and "{ " .. table.concat(parts, ", ") .. " }" or "{}"
end

-- As in a line of Lua.
function inline(value, null, depth)
  if type(value) == "table" then return inline_table(value, null, depth or 1) end
  if value == nil or value == null then return "nil" end
  if type(value) == "string" then return '"' .. pretty.safe(value) .. '"' end
  return scalar(value, null)
end

-- ---- records ----

local function is_record(value)
  if type(value) ~= "table" or #value > 0 then return false end
  return next(value) ~= nil
end

local function are_records(value)
  if #value == 0 then return false end
  for _, item in ipairs(value) do
    if not is_record(item) then return false end
  end
  return true
end

local first = { name = 1, id = 2, gatherer = 3, stream = 4, ticker = 5, routine = 6, subject = 7, state = 8 }

local function columns_of(rows)
  local meta = getmetatable(rows)
  if type(meta) == "table" and meta.columns then return meta.columns end
  local names, seen = {}, {}
  for _, row in ipairs(rows) do
    for name in pairs(row) do
      if not seen[name] then
        seen[name] = true
        names[#names + 1] = tostring(name)
      end
    end
  end
  table.sort(names, function(a, b)
    if (first[a] or 99) ~= (first[b] or 99) then return (first[a] or 99) < (first[b] or 99) end
    return a < b
  end)
  return names
end

-- How many characters a text is wide: bytes that begin one.
local function width_of(text)
  local _, continued = text:gsub("[\128-\191]", "")
  return #text - continued
end

local function cell(value, null)
  local text = type(value) == "table" and inline(value, null) or scalar(value, null)
  if width_of(text) <= CELL_MAX then return text end
  return (text:sub(1, CELL_MAX - 1):gsub("[\192-\255]?[\128-\191]*$", "")) .. "…"
end

local function pad(text, width, right)
  local missing = (" "):rep(width - width_of(text))
  return right and missing .. text or text .. missing
end

local function table_of(rows, style, null)
  local columns, widths, right, cells = columns_of(rows), {}, {}, {}
  for c, name in ipairs(columns) do widths[c], right[c] = width_of(name), true end
  for r = 1, math.min(#rows, ROWS_MAX) do
    cells[r] = {}
    for c, name in ipairs(columns) do
      local value = rows[r][name]
      cells[r][c] = cell(value, null)
      widths[c] = math.max(widths[c], width_of(cells[r][c]))
      right[c] = right[c] and (type(value) == "number" or value == nil or value == null)
    end
  end
  local lines, head = {}, {}
  for c, name in ipairs(columns) do head[c] = pretty.paint(style, "head", pad(name, widths[c], right[c])) end
  lines[1] = table.concat(head, "  ")
  for _, row in ipairs(cells) do
    local parts = {}
    for c, text in ipairs(row) do
      local padded = pad(text, widths[c], right[c])
      parts[c] = tone_of[text] and pretty.paint(style, tone_of[text], padded) or padded
    end
    lines[#lines + 1] = (table.concat(parts, "  "):gsub("%s+$", ""))
  end
  if #rows > ROWS_MAX then lines[#lines + 1] = ("... and %d more"):format(#rows - ROWS_MAX) end
  return table.concat(lines, "\n")
end

-- ---- anything ----

local render

local function names_of(value)
  local names = {}
  for name in pairs(value) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  return names
end

local function indent(text, by) return (by .. text:gsub("\n", "\n" .. by)) end

local function members(value, style, null, depth)
  local lines, width = {}, 0
  for _, name in ipairs(names_of(value)) do width = math.max(width, math.min(width_of(tostring(name)), 30)) end
  for _, name in ipairs(names_of(value)) do
    local item, shown = value[name], pad(pretty.safe(tostring(name)), width)
    local text = type(item) == "table" and inline(item, null) or nil
    if text and (#text > style.width - width - 2 or (#item > 0 and are_records(item))) then
      lines[#lines + 1] = pretty.paint(style, "name", (shown:gsub("%s+$", "")))
      lines[#lines + 1] = indent(render(item, style, null, depth + 1), "  ")
    else
      lines[#lines + 1] = pretty.paint(style, "name", shown) .. "  " .. painted(style, text or scalar(item, null))
    end
  end
  return table.concat(lines, "\n")
end

local function list(value, style, null, depth)
  local lines = {}
  for i, item in ipairs(value) do
    if i > ROWS_MAX then
      lines[#lines + 1] = ("... and %d more"):format(#value - ROWS_MAX)
      break
    end
    lines[i] = type(item) == "table" and render(item, style, null, depth + 1) or painted(style, scalar(item, null))
  end
  return table.concat(lines, "\n")
end

function render(value, style, null, depth)
  local meta = type(value) == "table" and getmetatable(value)
  if type(meta) == "table" and meta.display then return meta.display(value, style) end
  if type(value) ~= "table" then return painted(style, scalar(value, null)) end
  if depth > DEPTH_MAX then return "..." end
  if next(value) == nil then return pretty.paint(style, "dim", "(nothing)") end
  if are_records(value) then return table_of(value, style, null) end
  if #value > 0 then return list(value, style, null, depth) end
  return members(value, style, null, depth)
end

--- The text of a value, without a line break at its end.
---@param value any
---@param style tidemill.repl.Style
---@param null any what stands for JSON's null
---@return string
function pretty.text(value, style, null)
  if value == nil or value == null then return "nil" end
  if type(value) == "string" then return pretty.safe(value, true) end
  return render(value, { color = style.color, width = style.width or WIDTH }, null, 1)
end

pretty.inline, pretty.tone_of, pretty.painted = inline, tone_of, painted

return pretty
