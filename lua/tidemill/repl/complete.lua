--- Completion of what stands before the cursor: words, names that live in the process, fields of values.

local help = require "tidemill.repl.help"
local process = require "tidemill.repl.process"
local verbs = require "tidemill.repl.verbs"

local complete = {}

local WORDS_MAX = 200

local option_names = { tap = { "ticker", "n", "seconds", "fields" }, sample = { "ticker", "n", "seconds", "fields" },
                       gaps = { "ticker", "n" },
                       alert = { "when", "clear", "hold", "severity", "summary", "every", "description", "runbook" } }

local function matching(names, prefix)
  local found = {}
  for _, name in ipairs(names) do
    if #found < WORDS_MAX and type(name) == "string" and name:sub(1, #prefix) == prefix then found[#found + 1] = name end
  end
  table.sort(found)
  return found
end

local function names_of(kind, prefix)
  local ok, names = pcall(process.names[kind], prefix)
  return ok and names or {}
end

-- In a string that is an argument: the verb, which argument it is, and what is typed of it.
local function in_string(text)
  local before, quote, typed = text:match "^(.*)([\"'])([^\"']*)$"
  if not before then return nil end
  local _, quotes = before:gsub(quote, "")
  if quotes % 2 == 1 then return nil end -- it is the end of a string
  local verb, arguments = before:match "([%a_][%w_]*)%s*%(([^()]*)$"
  if not verb then verb, arguments = before:match "([%a_][%w_]*)%s*$", "" end
  if not verb then return nil end
  local _, commas = arguments:gsub(",", "")
  return verb, commas + 1, typed, arguments
end

local function string_names(verb, number, typed, arguments)
  if verb == "help" then return help.topics() end
  local kind = verbs.all[verb] and verbs.all[verb].kind
  if number == 1 and kind then return names_of(kind, typed) end
  if number == 2 and kind == "routine" then return names_of("link", typed) end
  if number == 2 and kind == "subscription" then return names_of("market", typed) end
  if verb == "tap" and arguments:find "fields" then return process.fields(arguments:match '"([^"]+)"') or {} end
  return {}
end

-- In the table of options of a verb: tap "trades" { tick
local function in_options(text)
  local verb, typed = text:match "([%a_][%w_]*)[%s%(\"'%w_%-%.,]*{[^{}\"']*[,{%s]([%a_]*)$"
  if not verb then verb, typed = text:match "([%a_][%w_]*)[^{}]*{[^{}]*[,{]%s*([%a_]*)$" end
  return verb and option_names[verb] and verb, typed
end

local function in_fields(text)
  local stream, typed = text:match "([%w_]+)[\"']%)?%s*{[^{}]*fields%s*=%s*{[^{}]*[\"']([%w_]*)$"
  return stream, typed
end

-- a.b.c of the session's own variables, without calling anything.
local function value_of(environment, path)
  local value = environment
  for name in path:gmatch "[^.]+" do
    if type(value) ~= "table" then return nil end
    value = rawget(value, name)
  end
  return value
end

local function members(value)
  local names = {}
  for name in pairs(type(value) == "table" and value or {}) do
    if type(name) == "string" and name:find "^[%a_][%w_]*$" then names[#names + 1] = name end
  end
  return names
end

--- What could stand instead of the last `#typed` bytes of the text.
---@param text string up to the cursor
---@param environment table the session's variables
---@param base table what all sessions have
---@return string typed, string[] words
function complete.words(text, environment, base)
  local stream, field = in_fields(text)
  if stream then return field, matching(process.fields(stream) or {}, field) end
  local verb, number, typed, arguments = in_string(text)
  if verb then return typed, matching(string_names(verb, number, typed, arguments), typed) end
  local options, word = in_options(text)
  if options then return word, matching(option_names[options], word) end
  local topic = text:match "^%s*help%s+([%w_]*)$"
  if topic then return topic, matching(help.topics(), topic) end
  local path, member = text:match "([%a_][%w_.]*)%.([%a_]?[%w_]*)$"
  if path then
    local value = value_of(environment, path)
    if value == nil then value = value_of(base, path) end
    return member, matching(members(value), member)
  end
  word = text:match "[%a_][%w_]*$" or ""
  local names = members(environment)
  for _, name in ipairs(members(base)) do names[#names + 1] = name end
  return word, matching(names, word)
end

return complete
