--- The manual: what the annotations in the library's sources say, as data, as Markdown and as help on a topic.
---
--- Pure text in, text out: who calls it reads the files. The reference in lua/REFERENCE.md is made by scripts/manual;
--- an editor with LuaLS reads the same annotations.

local manual = {}

-- ---- reading a source ----

-- A type may hold spaces inside of brackets and behind the colon of a function's result.
local function split_type(text)
  local depth, i = 0, 1
  while i <= #text do
    local c = text:sub(i, i)
    if c:find "[%(<%[{]" then depth = depth + 1 end
    if c:find "[%)>%]}]" then depth = depth - 1 end
    local result = text:sub(i - 1, i) == ": " or text:sub(i, i + 1) == " |" or text:sub(i - 1, i) == "| "
    if c == " " and depth == 0 and not result then break end
    i = i + 1
  end
  return text:sub(1, i - 1), text:sub(i):match "^%s*(.-)%s*$"
end

local function named(text)
  local name, optional, rest = text:match "^(%S-)(%??)%s+(.*)$"
  if not name then return { name = text, type = "any", text = "" } end
  local type_name, words = split_type(rest)
  return { name = name, optional = optional == "?", type = type_name, text = words }
end

local tags = {
  param = function(block, rest) block.params[#block.params + 1] = named(rest) end,
  field = function(block, rest) block.fields[#block.fields + 1] = named(rest) end,
  ["return"] = function(block, rest)
    local type_name, words = split_type(rest)
    block.returns[#block.returns + 1] = { type = type_name, text = words }
  end,
  class = function(block, rest)
    local name, parent, words = rest:match "^([%w_.]+):?%s*([%w_.]*)%s*(.*)$"
    local inherits = rest:find("^" .. name:gsub("%.", "%%.") .. ":") ~= nil
    block.class, block.parent = name, inherits and parent or nil
    block.summary = inherits and words or (parent .. " " .. words):match "^%s*(.-)%s*$"
  end,
  alias = function(block, rest)
    block.alias = rest:match "^%S+"
    block.type, block.summary = split_type(rest:match "^%S+%s+(.*)$")
  end,
}

local function new_block() return { text = {}, params = {}, returns = {}, fields = {} } end

local function read_doc_line(block, line)
  local tag, rest = line:match "^%-%-%-@(%w+)%s*(.*)$"
  if not tag then
    block.text[#block.text + 1] = line:match "^%-%-%-%s?(.*)$"
  elseif tags[tag] then
    tags[tag](block, rest)
  end
end

-- The name that a line of code gives to what the block before it describes, and how it is written.
local function defined(line)
  local name, arguments = line:match "^function ([%w_.:]+)(%b())"
  if name then return name, arguments end
  return line:match "^([%w_]+%.[%w_.]+)[^=]*= " or line:match "^local ([%w_]+) = {}"
end

local function close_block(found, block, line)
  local name, arguments = defined(line)
  if block.class then
    found.types[#found.types + 1] = block
    if name then found.classes[name] = block.class end
  elseif block.alias then
    found.types[#found.types + 1] = block
  elseif name and #block.text + #block.params + #block.returns > 0 then
    block.name, block.arguments = name, arguments
    found.entries[#found.entries + 1] = block
  end
end

-- `name = module.member` inside of the table that becomes tm.
local function read_exports(found, source)
  local body = source:match "\nlocal tm = (%b{})"
  for name, target in (body or ""):gmatch "([%w_]+) = ([%w_]+%.[%w_]+)" do found.exports[name] = target end
  for names, targets in source:gmatch "\n(tm%.[%w_., ]+) = ([%w_., ]+)\n" do
    local list = {}
    for target in targets:gmatch "[%w_.]+" do list[#list + 1] = target end
    local i = 0
    for name in names:gmatch "tm%.([%w_]+)" do
      i = i + 1
      if list[i] and list[i]:find "%." then found.exports[name] = list[i] end
    end
  end
end

--- What one source file documents: entries (functions and values), types, and the names that it exports as tm.*.
---@param source string
---@return { entries: table[], types: table[], classes: table<string, string>, exports: table<string, string> }
function manual.read(source)
  local found = { entries = {}, types = {}, classes = {}, exports = {} }
  local block
  for line in (source .. "\n"):gmatch "(.-)\n" do
    if line:find "^%-%-%-" and not line:find "^%-%-%-%-" then
      block = block or new_block()
      read_doc_line(block, line)
    elseif block then
      close_block(found, block, line)
      block = nil
    end
  end
  read_exports(found, source)
  return found
end

-- ---- putting sources together ----

local function by_name(a, b) return a.title < b.title end

local function first_words(text) return text:match "^(.-[.:])%s" or text:match "^(.-)%.?$" end

--- The whole manual from its sources, in the order given: { { name = "role", text = "..." }, ... }. The module "init" is
--- tm itself, "meta" holds types only; others are adapters and libraries, shown under their own name.
---@param sources { name: string, text: string, title?: string }[]
---@return { functions: table[], methods: table[], types: table[] }
function manual.collect(sources)
  local model, read, exported = { functions = {}, methods = {}, types = {} }, {}, {}
  for _, source in ipairs(sources) do
    local found = manual.read(source.text)
    read[#read + 1] = { source = source, found = found }
    for name, target in pairs(found.exports) do exported[target] = name end
  end
  for _, r in ipairs(read) do
    for _, entry in ipairs(r.found.entries) do
      local owner, separator, member = entry.name:match "^([%w_]+)([.:])(.+)$"
      local class = owner and r.found.classes[owner]
      if class then
        entry.title, entry.class = class .. ":" .. member, class
        if separator == ":" then model.methods[#model.methods + 1] = entry end
      elseif (owner == "tm" and not r.found.exports[member]) or exported[entry.name] or r.source.title then
        entry.title = owner == "tm" and entry.name or exported[entry.name] and "tm." .. exported[entry.name]
          or r.source.title .. "." .. member
        model.functions[#model.functions + 1] = entry
      end
    end
    for _, t in ipairs(r.found.types) do
      t.title = t.class or t.alias
      if #t.fields > 0 or t.alias or #t.text > 0 or t.summary ~= "" then model.types[#model.types + 1] = t end
    end
  end
  table.sort(model.functions, by_name)
  table.sort(model.methods, by_name)
  table.sort(model.types, by_name)
  return model
end

-- ---- as text ----

local function signature(entry)
  local names = {}
  for name in (entry.arguments or ""):gmatch "[%w_.]+" do names[#names + 1] = name end
  return entry.arguments and ("%s(%s)"):format(entry.title, table.concat(names, ", ")) or entry.title
end

local function put(out, ...) out[#out + 1] = table.concat { ... } end

local function put_list(out, title, list)
  if #list == 0 then return end
  put(out, title)
  put(out, "")
  for _, item in ipairs(list) do
    local name = item.name and ("`%s%s` "):format(item.name, item.optional and "?" or "") or ""
    put(out, "- ", name, "`", item.type, "`", item.text ~= "" and ": " .. item.text or "")
  end
  put(out, "")
end

local function put_entry(out, entry)
  put(out, "### ", signature(entry))
  put(out, "")
  for _, line in ipairs(entry.text) do put(out, line) end
  if #entry.text > 0 then put(out, "") end
  put_list(out, "Takes:", entry.params)
  put_list(out, "Returns:", entry.returns)
end

local function put_type(out, t)
  put(out, "### ", t.title)
  put(out, "")
  if t.parent then put(out, "All of ", t.parent, ", and:") put(out, "") end
  if t.alias then put(out, "`", t.type, "`") put(out, "") end
  if t.summary and t.summary ~= "" then put(out, t.summary) put(out, "") end
  for _, line in ipairs(t.text) do put(out, line) end
  if #t.text > 0 then put(out, "") end
  put_list(out, "Fields:", t.fields)
end

--- The manual as one Markdown text.
---@param model table from manual.collect
---@return string
function manual.markdown(model)
  local out = {}
  put(out, "# Reference of the Lua library")
  put(out, "")
  put(out, "Made by scripts/manual from the annotations in lua/; do not edit. `require \"tidemill\"` gives `tm`.")
  put(out, "")
  for _, part in ipairs { { "Functions", model.functions, put_entry }, { "Methods", model.methods, put_entry },
                          { "Types", model.types, put_type } } do
    put(out, "## ", part[1])
    put(out, "")
    for _, item in ipairs(part[2]) do part[3](out, item) end
  end
  while out[#out] == "" do out[#out] = nil end
  return table.concat(out, "\n") .. "\n"
end

--- Help on a name ("tm.every", "every", "Link:send", "tidemill.Stream"), or nil and the names that are near.
---@param model table from manual.collect
---@param name string
---@return string? text, string[] near
function manual.topic(model, name)
  local near = {}
  for _, part in ipairs { { model.functions, put_entry }, { model.methods, put_entry }, { model.types, put_type } } do
    for _, item in ipairs(part[1]) do
      local short = item.title:match "[.]([^.]+)$" or item.title
      if item.title == name or short == name then
        local out = {}
        part[2](out, item)
        out[1] = out[1]:gsub("^### ", "")
        return (table.concat(out, "\n"):gsub("`", ""))
      end
      if item.title:lower():find(name:lower(), 1, true) then near[#near + 1] = item.title end
    end
  end
  return nil, near
end

--- One line a function: its signature and the first words on it.
---@param model table from manual.collect
---@return string
function manual.contents(model)
  local out = {}
  for _, entry in ipairs(model.functions) do
    put(out, ("%-36s "):format(signature(entry)), first_words(table.concat(entry.text, " ")) or "")
  end
  return table.concat(out, "\n")
end

return manual
