--- The process as a session sees it: commands of the control socket and functions of the running script, as Lua values.

local host = require "tidemill.host"

local process = {}

--- One command of the table (core/control/command.h): its result, or an error.
---@param line string
---@return any
function process.ask(line)
  local answer = host.json_decode(host.command(line))
  if answer.ok then return answer.result end
  local lines = { answer.error }
  for _, problem in ipairs(answer.problems or {}) do
    lines[#lines + 1] = ("  %s: %s"):format(problem.at, problem.message)
  end
  error(table.concat(lines, "\n"), 0)
end

--- A function of the running script's library (lua/tidemill/remote.lua) that answers at once.
---@param name string
---@param arguments? table
---@return any
function process.call(name, arguments)
  local text, why = host.call(name, host.json_encode(arguments or {}))
  if not text then error(why, 0) end
  return host.json_decode(text)
end

--- One that takes its time. `text` is what it is given as it is: for "policy".
---@param name string
---@param arguments? table|string
---@return any
function process.wait(name, arguments)
  local given = type(arguments) == "string" and arguments or host.json_encode(arguments or {})
  local ok, text = host.wait_call(name, given)
  if not ok then error(text, 0) end
  return host.json_decode(text)
end

--- Names of a kind that live in the process, sorted: for completion and for hints.
---@type table<string, fun(prefix: string): string[]>
process.names = {}

local function names_in(rows, field)
  local names, seen = {}, {}
  for _, row in ipairs(rows) do
    local name = row[field]
    if type(name) == "string" and not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

function process.names.stream() return names_in(process.ask "streams", "name") end
function process.names.link() return names_in(process.ask "links", "name") end
function process.names.registry() return names_in(process.ask "registries", "stream") end
function process.names.alert() return names_in(process.ask "status".alerts or {}, "name") end
function process.names.routine() return names_in(process.call "routines", "name") end
function process.names.subscription() return names_in(process.call "subscriptions", "name") end
function process.names.level() return { "debug", "error", "info", "warn" } end

function process.names.metric()
  local rows = {}
  for _, series in ipairs(process.ask "metrics") do rows[#rows + 1] = { name = series[1]:match "^[^{]+" } end
  return names_in(rows, "name")
end

function process.names.market(prefix)
  return names_in(process.ask(("entries markets %s* 100"):format(prefix)), "ticker")
end

function process.names.session()
  local names = {}
  for _, session in ipairs(process.ask "sessions") do names[#names + 1] = tostring(session.session) end
  return names
end

--- The fields of a stream's rows.
function process.fields(stream)
  for _, known in ipairs(process.ask "streams") do
    if known.name == stream then return names_in(known.columns, "name"), known end
  end
end

return process
