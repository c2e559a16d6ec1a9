--- Talking to an exchange: signers, feeds (WebSocket) with their links, REST services, registries.

local host = require "tidemill.host"
local check = require "tidemill.check"
local declare = require "tidemill.declare"
local problems = require "tidemill.problems"
require "tidemill.secret"

local feed = {}
local declared = declare.declared

local function add(list, normal, at)
  normal.at = at
  list[#list + 1] = normal
  return #list
end

-- ---- signers ----

local function headers(value)
  local list = {}
  for name, template in pairs(type(value) == "table" and value or {}) do
    if type(name) ~= "string" or not check.secret_or_text(template) then list = {} break end
    list[#list + 1] = { name = name, value = template }
  end
  if #list == 0 then return nil, 'expected headers like { ["X-KEY"] = "{key_id}" }' end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

-- Text is a template; a secret is the header's value as it is.
local function split_headers(list)
  local templates, secrets = {}, {}
  for _, header in ipairs(list) do
    local to = check.secret(header.value) and secrets or templates
    to[#to + 1] = header
  end
  return templates, secrets
end

local signer_fields = {
  key_id = check.field(check.secret_or_text),
  key_file = check.field(check.text),
  key = check.field(check.secret),
  message = check.field(check.text),
  headers = check.field(headers, { required = true }),
}

--- How requests are signed (core/net/auth.h says what templates may contain). Returns what feeds and rests take.
---@param definition tidemill.Signer
---@param at? string "file:line" for messages: adapters pass tm.caller()
---@return table
function feed.signer(definition, at)
  declare.only "tm.signer"
  at = at or problems.caller()
  local normal, ok = check.closed(at, "tm.signer", definition, signer_fields)
  if ok then normal.headers, normal.secrets = split_headers(normal.headers) end
  return { signer = ok and add(declared.signers, normal, at) or nil }
end

local function signer(value)
  if type(value) == "table" and (value.signer or next(value) == nil) then return value end
  return nil, "expected what tm.signer returns"
end

-- ---- feeds and links ----

---@class tidemill.Link
---@field id integer
---@field name string
---@field opened boolean whether this script opened it; false: it was open already
local Link = {}
Link.__index = Link

--- Set the opening frame of a slot; the engine sends it whenever the link comes up, and now if `send`.
---@return boolean accepted, string? why
function Link:opening(slot, bytes, send) return host.link_opening(self.id, slot, bytes, send or false) end

--- Send a frame now, if the link is up.
---@return boolean accepted, string? why
function Link:send(bytes) return host.link_send(self.id, bytes) end

--- These markets are about to be taken out of what the link's subscriptions are for: say so before the frame that asks for
--- it, so that coverage() does not count on the link for them any more.
---@param tickers string[]
---@return boolean accepted, string? why
function Link:drop(tickers) return host.link_drop(self.id, table.concat(tickers, "\n")) end

--- Raise the event "row" (kind, text = the ticker) for each row of a kind that comes by this link; nil ends it.
---@param kind? string
---@return boolean accepted, string? why
function Link:tell(kind) return host.link_tell(self.id, kind) end

--- Drop the connection and come back.
function Link:reconnect() host.link_reconnect(self.id) end

--- What the other side has confirmed since the link came up, also before a reload: channel -> subscription id.
---@return table<string, integer>
function Link:subscriptions() return host.link_subscriptions(self.id) end

--- { state, ups, messages, rows, gaps }, at most a second old.
---@return table?
function Link:stats() return host.link_stats(self.id) end

function Link:close()
  host.link_close(self.id)
  declare.links[self.id] = nil
end

local feed_fields = {
  url = check.field(check.text, { required = true }),
  signer = check.field(signer),
  ca_file = check.field(check.text),
  connect_timeout = check.field(check.duration, { to = "connect_us" }),
  ping_idle = check.field(check.duration, { to = "ping_idle_us" }),
  silence = check.field(check.duration, { to = "silence_us" }),
  quiet = check.field(check.duration, { to = "quiet_us" }),
  max_message = check.field(check.size, { to = "message_bytes" }),
}

local Feed = {}
Feed.__index = Feed

--- Open a link, or find the one of that name: run time. It connects at once and stays connected. `listed`: what it
--- subscribes to is for chosen markets, so that a confirmed subscription says nothing about any one market.
---@param name string
---@param listed? boolean
---@return tidemill.Link
function Feed:open(name, listed)
  local id, opened = host.link_open(self.index, name, listed or false)
  local link = setmetatable({ id = id, name = name, opened = opened }, Link)
  declare.links[id] = link
  return link
end

--- Say at declare time which links will be opened at run time: what `tidemill plan` shows and counts.
---@param name string of the channel or purpose
---@param count integer links
---@param markets? string which markets they carry, in words; default: all that the exchange sends
function Feed:expect(name, count, markets)
  declare.only "expect"
  declared.connections[#declared.connections + 1] = { name = name, count = count, markets = markets, feed = self.index }
end

--- Declare a WebSocket feed.
---@param definition tidemill.Feed
---@param at? string "file:line" for messages
function feed.feed(definition, at)
  declare.only "tm.feed"
  at = at or problems.caller()
  local normal, ok = check.closed(at, "tm.feed", definition, feed_fields)
  normal.signer = normal.signer and normal.signer.signer
  return setmetatable({ index = ok and add(declared.feeds, normal, at) or nil }, Feed)
end

-- ---- REST ----

local rest_fields = {
  url = check.field(check.text, { required = true }),
  signer = check.field(signer),
  timeout = check.field(check.duration, { to = "timeout_us", default = 30e6 }),
  max_body = check.field(check.size, { to = "bytes_max" }),
  per_second = check.field(check.number, { default = 10 }),
}

---@class tidemill.Rest
local Rest = {}
Rest.__index = Rest

local function escape(text)
  return (tostring(text):gsub("[^%w_.~-]", function(c) return ("%%%02X"):format(c:byte()) end))
end

--- "?a=1&b=2" in the order of the names; a list repeats its name.
---@param query? table
---@return string
function feed.query(query)
  local names, parts = {}, {}
  for name in pairs(query or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local values = type(query[name]) == "table" and query[name] or { query[name] }
    for _, value in ipairs(values) do parts[#parts + 1] = escape(name) .. "=" .. escape(value) end
  end
  return #parts > 0 and "?" .. table.concat(parts, "&") or ""
end

-- Requests of a service are spread evenly in time.
function Rest:pace()
  local now = host.monotonic_us()
  local at = math.max(now, self.next_us or 0)
  self.next_us = at + 1e6 / self.per_second
  if at > now then host.sleep_us(at - now) end
end

--- One GET. { status, body, content_type, retry_after, error, elapsed_us }; status 0 when there was no answer.
---@param path string
---@param query? table
---@return table response
function Rest:get(path, query)
  self:pace()
  return host.http {
    method = "GET", url = self.url .. path .. feed.query(query), headers = { "Accept: application/json" },
    signer = self.signer, timeout_us = self.timeout_us, bytes_max = self.bytes_max,
  }
end

local function is_transient(status)
  return status == 0 or status == 429 or status >= 500
end

--- GET until there is an answer that further tries would not change, pausing with full jitter (1 s to 60 s) in between.
--- `on_retry(response)` is told each failure.
---@param path string
---@param query? table
---@param on_retry? fun(response: table)
---@return table response
function Rest:get_patiently(path, query, on_retry)
  local pause = 1e6
  while true do
    local response = self:get(path, query)
    if not is_transient(response.status) then return response end
    if on_retry then on_retry(response) end
    local wait = tonumber(response.retry_after)
    host.sleep_us(wait and math.min(wait, 60) * 1e6 or math.random() * pause)
    pause = math.min(pause * 2, 60e6)
  end
end

--- Declare a REST service by its base URL.
---@param definition tidemill.RestService
---@param at? string "file:line" for messages
---@return tidemill.Rest
function feed.rest(definition, at)
  declare.only "tm.rest"
  at = at or problems.caller()
  local normal, ok = check.closed(at, "tm.rest", definition, rest_fields)
  normal.signer = normal.signer and normal.signer.signer
  if ok and normal.per_second <= 0 then
    problems.add(at, "tm.rest", "per_second: expected more than 0")
    ok = false
  end
  normal.url = normal.url and normal.url:gsub("/+$", "")
  if ok then add(declared.rests, { url = normal.url }, at) end
  return setmetatable(normal, Rest)
end

-- ---- registries and documents ----

---@class tidemill.Registry
local Registry = {}
Registry.__index = Registry

--- How many there are.
---@return integer
function Registry:count() return host.registry_count(self.entry.id) end

--- The kept columns of the entry with this key, or nil. Times are microseconds since 1970, prices as stored.
---@param key string
---@return table?
function Registry:get(key)
  local found = host.registry_find(self.entry.id, key)
  return found and host.registry_get(self.entry.id, found)
end

function Registry:at(number) return host.registry_get(self.entry.id, number) end

--- The number of the next entry after that one (nil: the first) and its kept columns, or nil.
---@param number? integer
---@return integer?, table?
function Registry:following(number)
  local found = host.registry_next(self.entry.id, number)
  if found then return found, host.registry_get(self.entry.id, found) end
end

--- Forget the entry with this key.
---@param key string
function Registry:remove(key)
  local found = host.registry_find(self.entry.id, key)
  if found then host.registry_remove(self.entry.id, found) end
end

--- Iterate over all entries: for market in registry:each() do ... end
function Registry:each()
  local number = nil
  return function()
    number = host.registry_next(self.entry.id, number)
    return number and host.registry_get(self.entry.id, number)
  end
end

--- Up to `limit` entries that no document has shown since the round `before` (see tm.submit).
function Registry:unseen(before, limit) return host.registry_unseen(self.entry.id, before, limit) end

--- Keep the newest row of every key of an upsert stream in memory, with the columns named. `quiet` columns are kept too,
--- but a row that differs in nothing else does not count as changed.
---@param stream string
---@param columns string[]
---@param quiet? string[]
---@return tidemill.Registry
function feed.registry(stream, columns, quiet)
  declare.only "tm.registry"
  local at, names = problems.caller(), check.list(check.name, "column names")
  local list, expected = names(columns)
  local quiet_list, quiet_expected
  if quiet ~= nil then quiet_list, quiet_expected = names(quiet) end
  if not list or quiet_expected then problems.add(at, "tm.registry " .. tostring(stream), expected or quiet_expected) end
  local known, name_expected = check.name(stream)
  if not known then problems.add(at, "tm.registry", name_expected) end
  local entry = { stream = stream, columns = list or {}, quiet = quiet_list, at = at }
  if list and known then declared.registries[#declared.registries + 1] = entry end
  return setmetatable({ entry = entry }, Registry)
end

--- Decode a document of a declared kind and hand its rows to the engine, waiting while its queue is full. With a
--- registry, only rows that change it are handed over. `round` marks the entries as seen (default: not marked).
--- Returns the numbers of the changed entries and how many rows there were; nil and why when it is not JSON.
---@param kind string
---@param path string of the array in the document
---@param body string
---@param registry? tidemill.Registry
---@param round? integer
---@return integer[]?, integer|string
function feed.submit(kind, path, body, registry, round)
  local batch, changed, rows = host.decode(kind, path, body, registry and registry.entry.id, round)
  if not batch then return nil, changed end
  while not host.submit(batch) do host.sleep_us(50e3) end
  return changed, rows
end

return feed
