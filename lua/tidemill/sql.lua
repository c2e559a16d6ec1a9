--- SQL for policy: a handler that asks waits, the loop does not.

local host = require "tidemill.host"
local check = require "tidemill.check"
require "tidemill.secret"
local declare = require "tidemill.declare"
local problems = require "tidemill.problems"

local sql = {}
local declared = declare.declared

---@class tidemill.SqlError
---@field message string
---@field sqlstate? string five characters; 08001: cannot connect; 08007: the outcome of COMMIT is not known

-- What a database and a transaction have in common.
local Session = {}

--- Run one statement with parameters $1, $2, ... and wait for its rows: a list of tables column = value. NULL is nil;
--- int8 and numeric that a Lua number cannot hold exactly are their digits as text; timestamptz is microseconds since 1970
--- (text when it is infinity); bool is a boolean; other types are text as PostgreSQL writes them, jsonb too.
---
---     local rows, err = db:query("SELECT ticker, volume FROM markets WHERE status = $1", "active")
---@param text string
---@param ... any texts, numbers, booleans, nil, secrets
---@return table[]? rows
---@return tidemill.SqlError? err
function Session:query(text, ...)
  local rows, err = host.sql(self.index, self.transaction_id, text, ...)
  if not rows then return nil, err end
  return rows
end

--- Run one statement and wait for its end. How many rows it affected.
---@param text string
---@param ... any
---@return integer? affected
---@return tidemill.SqlError? err
function Session:exec(text, ...)
  local rows, affected = host.sql(self.index, self.transaction_id, text, ...)
  if not rows then return nil, affected end
  return affected
end

---@class tidemill.Transaction
---@field query fun(self: tidemill.Transaction, text: string, ...: any): table[]?, tidemill.SqlError?
---@field exec fun(self: tidemill.Transaction, text: string, ...: any): integer?, tidemill.SqlError?
local Transaction = { query = Session.query, exec = Session.exec }
Transaction.__index = Transaction

---@class tidemill.Database
---@field query fun(self: tidemill.Database, text: string, ...: any): table[]?, tidemill.SqlError?
---@field exec fun(self: tidemill.Database, text: string, ...: any): integer?, tidemill.SqlError?
local Database = { query = Session.query, exec = Session.exec }
Database.__index = Database

local function pack(...) return { n = select("#", ...), ... } end

local function end_transaction(tx, commit)
  local id = tx.transaction_id
  tx.transaction_id = 0 -- no transaction: further use is told that it is over
  return host.sql_end(id, commit)
end

--- Run fn(tx) in a transaction, on one connection. It is committed when fn returns, and rolled back when fn raises (which
--- goes on), or returns nil and an error, or its handler dies. Returns what fn returns, or true.
---
---     local ok, err = db:transaction(function(tx)
---       tx:exec("DELETE FROM notes WHERE day = $1", day)
---       return tx:exec("INSERT INTO notes (day, text) VALUES ($1, $2)", day, text)
---     end)
---@param fn fun(tx: tidemill.Transaction): ...
function Database:transaction(fn)
  if type(fn) ~= "function" then error("transaction: expected a function, got a " .. type(fn), 2) end
  local id, begin_err = host.sql_begin(self.index)
  if not id then return nil, begin_err end
  local tx = setmetatable({ index = self.index, transaction_id = id }, Transaction)
  local results = pack(pcall(fn, tx))
  if not results[1] then
    end_transaction(tx, false)
    error(results[2], 0)
  end
  if not results[2] and results[3] ~= nil then
    end_transaction(tx, false)
    return nil, results[3]
  end
  local ok, err = end_transaction(tx, true)
  if not ok then return nil, err end
  if results.n == 1 then return true end
  return unpack(results, 2, results.n)
end

local fields = {
  conninfo = check.field(check.secret_or_text, { required = true }),
  timeout = check.field(check.duration, { to = "timeout_us", default = 10e6 }),
  connections = check.field(check.integer(1, 16), { default = 2 }),
  max_rows = check.field(check.integer(1, 1e6), { to = "rows_max", default = 10000 }),
  max_bytes = check.field(check.size, { to = "bytes_max", default = 16 * 2 ^ 20 }),
}

--- Declare a database. It is connected to when it is first used. `timeout` is that of each statement, waiting for a
--- connection included; what takes longer is cancelled.
---@param definition tidemill.Sql
---@return tidemill.Database
function sql.sql(definition)
  declare.only "tm.sql"
  local at = problems.caller()
  local normal, ok = check.closed(at, "tm.sql", definition, fields)
  if ok and normal.timeout_us < 1000 then
    problems.add(at, "tm.sql", "timeout: expected at least 1ms")
  end
  if ok and normal.bytes_max > 256 * 2 ^ 20 then
    problems.add(at, "tm.sql", "max_bytes: expected at most 256MiB")
  end
  normal.at = at
  if ok then declared.sqls[#declared.sqls + 1] = normal end
  return setmetatable({ index = ok and #declared.sqls or nil }, Database)
end

return sql
