--- Metrics of one's own, on the page of the process. They may be declared with the script or made in a handler; the series
--- appears when it is first used.

local host = require "tidemill.host"
local check = require "tidemill.check"
local declare = require "tidemill.declare"
local problems = require "tidemill.problems"

local metric = {}

local function metric_name(value)
  if host.metric_check(value) then return value end
  return nil, "expected a name of letters, digits, '_' and ':'" .. (type(value) == "string" and (', got "%s"'):format(value) or "")
end

local function label_names(kind)
  return check.list(function(value)
    if host.metric_check_label(value) and not (kind == "histogram" and value == "le") then return value end
    return nil, "expected a name of letters, digits and '_'" .. (value == "le" and ", and le is the histogram's own" or "")
  end, "label names")
end

local function fields_of(kind)
  return {
    name = check.field(metric_name, { required = true }),
    help = check.field(check.text, { required = true }),
    labels = check.field(label_names(kind)),
    max = check.field(check.integer(1, 100), { default = 50 }),
  }
end

local fields = { counter = fields_of "counter", gauge = fields_of "gauge", histogram = fields_of "histogram" }
local declared_at = {} -- name -> { kind, at }

-- ---- label values ----

local function value_text(self, name, labels)
  local value = labels[name]
  local kind = type(value)
  if kind == "string" or kind == "boolean" or kind == "number" then return tostring(value) end
  error(("%s: label %s: expected text, a number or a boolean, got a %s"):format(self.name, name, kind), 4)
end

local function check_names(self, labels)
  if type(labels) ~= "table" then
    error(("%s: expected values for its labels, like { %s = \"...\" }"):format(self.name, self.labels[1]), 4)
  end
  for name in pairs(labels) do
    if not self.is_label[name] then
      error(('%s: unknown label "%s"'):format(self.name, tostring(name)) .. problems.hint(tostring(name), self.labels), 4)
    end
  end
end

-- The series for these values. Those beyond the bound share one and are not remembered here.
local function labelled(self, labels)
  check_names(self, labels)
  local values = {}
  for i, name in ipairs(self.labels) do values[i] = value_text(self, name, labels) end
  local key = table.concat(values, "\0")
  local handle = self.handles[key]
  if handle then return handle end
  local made, is_other = host.metric_labelled(self.kind, self.name, self.help, self.labels, values, self.max)
  if not is_other then self.handles[key] = made end
  return made
end

local function handle_of(self, labels)
  if self.labels then return labelled(self, labels) end
  if labels ~= nil then error(("%s: it is declared without labels"):format(self.name), 3) end
  self.handle = self.handle or host.metric(self.kind, self.name, self.help, self.fixed)
  return self.handle
end

---@class tidemill.Counter
local Counter = {}
Counter.__index = Counter

--- Count `n` (1) up. With labels: counter:add(1, { endpoint = "/markets" }).
---@param n? integer
---@param labels? table<string, string|number|boolean>
function Counter:add(n, labels) host.metric_add(handle_of(self, labels), n or 1) end

---@class tidemill.Gauge
local Gauge = {}
Gauge.__index = Gauge

---@param v number
---@param labels? table<string, string|number|boolean>
function Gauge:set(v, labels) host.metric_set(handle_of(self, labels), v) end

---@class tidemill.Histogram
local Histogram = {}
Histogram.__index = Histogram

---@param seconds number
---@param labels? table<string, string|number|boolean>
function Histogram:observe(seconds, labels) host.metric_observe(handle_of(self, labels), seconds) end

-- ---- making ----

local function note(kind, name, at)
  local before = declared_at[name]
  if before and before.kind ~= kind then
    problems.add(at, "tm." .. kind .. " " .. name, ("is a %s already at %s"):format(before.kind, before.at))
    return
  end
  declared_at[name] = declared_at[name] or { kind = kind, at = at }
end

local function normal_form(kind, at, definition)
  if declare.running then return check.demand("tm." .. kind, definition, fields[kind], 5), true end
  return check.closed(at, "tm." .. kind, definition, fields[kind])
end

local function from_table(kind, class, at, definition)
  local self, ok = normal_form(kind, at, definition)
  self.kind, self.handles, self.is_label = kind, {}, {}
  for _, name in ipairs(self.labels or {}) do self.is_label[name] = true end
  if #(self.labels or {}) > 8 and not declare.running then
    problems.add(at, "tm." .. kind, "labels: expected at most 8")
  end
  if ok and not declare.running then note(kind, self.name, at) end
  return setmetatable(self, class)
end

local function from_words(kind, class, at, name, help, labels)
  local self = setmetatable({ kind = kind, name = name, help = help, fixed = labels }, class)
  if declare.running then
    handle_of(self, nil)
    return self
  end
  local good, expected = metric_name(name)
  if not good then problems.add(at, "tm." .. kind, expected) else note(kind, name, at) end
  return self
end

local function maker(kind, class)
  return function(first, help, labels)
    local at = problems.caller()
    -- no tail calls, which would take a level away from errors
    local made = type(first) == "table" and from_table(kind, class, at, first) or from_words(kind, class, at, first, help, labels)
    return made
  end
end

--- A counter. Either with names of labels, whose values are given at use, at most `max` (50, up to 100) sets of them,
--- after which all further ones are counted as "other":
---
---     local calls = tm.counter { name = "my_calls_total", help = "Calls", labels = { "endpoint" } }
---     calls:add(1, { endpoint = "/markets" })
---
--- or tm.counter(name, help, labels) with fixed labels as text, like 'endpoint="/markets"'. Label values are never data of
--- the feed.
---@type fun(definition: tidemill.Metric|string, help?: string, labels?: string): tidemill.Counter
metric.counter = maker("counter", Counter)

--- A gauge: gauge:set(value, labels).
---@type fun(definition: tidemill.Metric|string, help?: string, labels?: string): tidemill.Gauge
metric.gauge = maker("gauge", Gauge)

--- A histogram of durations in seconds, buckets from 1 ms to 300 s: histogram:observe(seconds, labels).
---@type fun(definition: tidemill.Metric|string, help?: string, labels?: string): tidemill.Histogram
metric.histogram = maker("histogram", Histogram)

return metric
