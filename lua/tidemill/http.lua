--- HTTP requests to anywhere: run time, inside handlers, which wait. tm.rest is for a service with a base URL and a pace.
---
--- https verifies; http goes to loopback only. Redirects are never followed: the 3xx is the answer, so a secret in a header
--- goes to no other host. At most 8 requests of the process are under way at once, the rest wait.

local host = require "tidemill.host"
local check = require "tidemill.check"
require "tidemill.secret"

local http = {}

---@class tidemill.Response
---@field status integer 0: no answer, `error` says why
---@field body string
---@field content_type? string
---@field retry_after? string
---@field error? string
---@field elapsed_us number
local Response = {}
Response.__index = Response

--- The body as JSON; nil and why when it is none.
---@return any value
---@return string? err
function Response:json()
  local ok, value = pcall(host.json_decode, self.body)
  if not ok then return nil, tostring(value) end
  return value
end

--- Whether the status is 2xx.
---@return boolean
function Response:ok() return self.status >= 200 and self.status < 300 end

local methods = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" }
local is_idempotent = { GET = true, HEAD = true, PUT = true, DELETE = true, OPTIONS = true }

local function header_table(value)
  if type(value) ~= "table" then return nil, 'expected headers like { ["X-Key"] = "text" }, got a ' .. type(value) end
  local list = {}
  for name, v in pairs(value) do
    if type(name) ~= "string" or not name:find("^[%w!#$%%&'*+.^_`|~-]+$") then
      return nil, "expected names of headers, got " .. tostring(name)
    end
    if host.is_secret(v) then
      list[#list + 1] = host.secret_format(v, name .. ": {}")
    elseif type(v) == "string" and not v:find("[\r\n%z]") then
      list[#list + 1] = name .. ": " .. v
    else
      return nil, ("%s: expected text without line breaks, or a secret"):format(name)
    end
  end
  return list
end

local fields = {
  method = check.field(check.one_of(methods), { default = "GET" }),
  url = check.field(check.secret_or_text, { required = true }),
  headers = check.field(header_table, { default = {} }),
  body = check.field(function(v)
    return (type(v) == "string" or host.is_secret(v)) and v or nil, "expected text or a secret, got a " .. type(v)
  end),
  json = check.field(function(v) return v end),
  signer = check.field(function(v)
    if type(v) == "table" and (v.signer or next(v) == nil) then return v end
    return nil, "expected what tm.signer returns"
  end),
  timeout = check.field(check.duration, { to = "timeout_us", default = 30e6 }),
  max_body = check.field(check.size, { to = "bytes_max", default = 16 * 2 ^ 20 }),
  retries = check.field(check.integer(0, 20)),
}

local function has_header(list, name)
  for _, header in ipairs(list) do
    if type(header) == "string" and header:lower():find(name .. ":", 1, true) == 1 then return true end
  end
  return false
end

local function prepare(options)
  local normal = check.demand("tm.http.request", options, fields, 5)
  local headers = {}
  for i, header in ipairs(normal.headers) do headers[i] = header end
  if normal.json ~= nil then
    if normal.body then error("tm.http.request: expected one of body and json", 4) end
    normal.body = host.json_encode(normal.json)
    if not has_header(headers, "content-type") then headers[#headers + 1] = "Content-Type: application/json" end
    if not has_header(headers, "accept") then headers[#headers + 1] = "Accept: application/json" end
  end
  normal.headers, normal.json = headers, nil
  normal.signer = normal.signer and normal.signer.signer
  return normal
end

--- Whether another try may end better.
function http.is_transient(status) return status == 0 or status == 408 or status == 429 or status >= 500 end

--- The pause before try number `tries` + 1, in microseconds: full jitter up to 1 s, 2 s, 4 s ... 60 s, or what the server
--- asks for.
function http.pause_us(tries, retry_after)
  local wait = tonumber(retry_after)
  if wait and wait >= 0 then return math.min(wait, 60) * 1e6 end
  return math.random() * math.min(2 ^ tries, 60) * 1e6
end

local function request(options)
  local normal = prepare(options)
  local retries = normal.retries or (is_idempotent[normal.method] and 1 or 0)
  normal.retries = nil
  for tries = 0, retries do
    local response = setmetatable(host.http(normal), Response)
    if tries == retries or not http.is_transient(response.status) then return response end
    host.sleep_us(http.pause_us(tries, response.retry_after))
  end
end

--- One request. What may change by itself (no answer, 408, 429, 5xx) is tried again `retries` times with growing pauses:
--- once by default, and never by default for POST and PATCH, which might be done twice.
---
---     local r = tm.http.request { method = "POST", url = "https://...", headers = { Authorization = token:format "Bearer {}" },
---                                 json = { text = "hello" }, retries = 3 }
---     if not r:ok() then tm.log.warn("refused", { status = r.status, error = r.error }) end
---@param options tidemill.Request
---@return tidemill.Response
function http.request(options)
  local response = request(options)
  return response
end

local function with_method(method, url, options)
  local copy = {}
  for key, value in pairs(options or {}) do copy[key] = value end
  copy.method, copy.url = method, url
  return copy
end

---@param url string|tidemill.Secret
---@param options? tidemill.Request
---@return tidemill.Response
function http.get(url, options)
  local response = request(with_method("GET", url, options))
  return response
end

---@param url string|tidemill.Secret
---@param options? tidemill.Request
---@return tidemill.Response
function http.post(url, options)
  local response = request(with_method("POST", url, options))
  return response
end

return http
