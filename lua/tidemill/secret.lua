--- Secrets: text that prints as "***", and conninfos made with them.

local host = require "tidemill.host"
local check = require "tidemill.check"
local declare = require "tidemill.declare"
local problems = require "tidemill.problems"

local secret = {}

--- A secret: tostring gives "***", joining it to text with .. raises, JSON and logs show "***". It can stand wherever the
--- library takes secret text: parts of a conninfo, HTTP headers, keys of signers, URLs of notifications, SQL parameters.
---@class tidemill.Secret
---@field format fun(self: tidemill.Secret, template: string): tidemill.Secret another secret: `{}` in the template is this one

--- A secret, or text in its place where someone insists.
function check.secret_or_text(value)
  if host.is_secret(value) then return value end
  local text = check.text(value)
  if text then return text end
  return nil, "expected text or tm.secret { ... }, got a " .. type(value)
end

--- A secret alone: text would be in the script's source.
function check.secret(value)
  if host.is_secret(value) then return value end
  return nil, "expected tm.secret { ... }, got a " .. type(value)
end

local fields = {
  file = check.field(check.text),
  credential = check.field(check.text),
  env = check.field(check.text),
}

local function source_of(normal)
  local found, count
  for name in pairs(fields) do
    if normal[name] ~= nil then found, count = name, (count or 0) + 1 end
  end
  return count == 1 and found or nil
end

--- A secret from a file (0640 at most, owned by root or this process's user), from a systemd credential
--- (LoadCredential=name:/path in the unit), or, where nothing else is possible, from the environment, which child
--- processes inherit and /proc shows. It is read at once; a reload reads it again.
---
---     local password = tm.secret { credential = "production" }
---@param definition tidemill.SecretSource
---@return tidemill.Secret?
function secret.secret(definition)
  declare.only "tm.secret"
  local at = problems.caller()
  local normal, ok = check.closed(at, "tm.secret", definition, fields)
  if not ok then return nil end
  local source = source_of(normal)
  if not source then return problems.add(at, "tm.secret", "expected one of file, credential, env") end
  local value, why = host.secret(source, normal[source])
  if not value then return problems.add(at, "tm.secret", why) end
  return value
end

-- ---- conninfo ----

-- What libpq 15 knows, but for what the engine sets itself.
local keywords = {
  "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "connect_timeout", "options", "application_name",
  "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "sslmode",
  "sslcompression", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir", "sslsni", "requirepeer",
  "ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gssencmode", "gsslib", "service",
  "target_session_attrs", "channel_binding",
}

local is_list = { host = true, hostaddr = true, port = true }

local function setting(value)
  if type(value) == "number" and value == math.floor(value) then return ("%d"):format(value) end
  return check.secret_or_text(value)
end

local function setting_list(value)
  if type(value) ~= "table" then return setting(value) end
  local texts, expected = check.list(function(item)
    local text, why = setting(item)
    if host.is_secret(text) then return nil, "expected text, got a secret" end
    return text, why
  end, "texts")(value)
  if not texts then return nil, expected end
  return table.concat(texts, ",")
end

local conninfo_fields = {}
for _, keyword in ipairs(keywords) do
  conninfo_fields[keyword] = check.field(is_list[keyword] and setting_list or setting)
end

--- A conninfo of parts, each quoted as it must be. Lists become "a,b". With a password, or any part that is a secret, the
--- whole is a secret.
---
---     production = tm.conninfo { host = { "prod-a", "prod-b" }, dbname = "kalshi", user = "tidemill", password = password }
---@param parts table<string, any> keywords of libpq
---@return string|tidemill.Secret
function secret.conninfo(parts)
  declare.only "tm.conninfo"
  local normal, ok = check.closed(problems.caller(), "tm.conninfo", parts, conninfo_fields)
  if not ok then return "" end
  local list = {}
  for _, keyword in ipairs(keywords) do
    if normal[keyword] ~= nil then list[#list + 1] = { keyword, normal[keyword] } end
  end
  return host.conninfo(list, normal.password ~= nil or normal.sslpassword ~= nil)
end

return secret
