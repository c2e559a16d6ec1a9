--- A gatherer's new store gets recent rows back from production, for those who read it. They are not observations of
--- this gatherer: written into its tables they would be polled as such and fake redundancy (FAILURES T23). So they live
--- in a schema of their own, `restored`, which no poller reads, each marked origin = 'backfill'; the view
--- restored.all_<stream> shows both kinds together.
---
---     require "recovery" (exchange, {
---       rebuild = { production = tm.sql { ... }, store = tm.sql { ... }, past = "24h" },
---     })
---
--- `production` and `store` are databases with :query(sql, ...), which returns rows (tables by column name, values as
--- text) or nil and an error with its message. Rows pass through as JSON text that is never decoded, so no digit is
--- lost. They are read in slices of received_at, newest first: that column has a BRIN index in every production table,
--- and what is newest is wanted first.

local tm = require "tidemill"
local common = require "recovery.common"

local TELL_SLICES = 1000

-- Streams, and the columns by which a row is known again when a slice is written twice.
local STREAMS = {
  { name = "trades", key = "trade_id" },
  { name = "orderbook_deltas", key = "exchange_ts, ticker, side, price, delta, occurrence" },
}

local function query(db, sql, ...)
  local rows, why = db:query(sql, ...)
  if not rows then error(type(why) == "table" and why.message or tostring(why), 0) end
  return rows
end

local function columns_of(production, stream)
  local rows = query(production, "SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position) AS list"
    .. " FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1", stream.name)
  local list = rows[1] and rows[1].list
  if type(list) ~= "string" then error("production has no table " .. stream.name, 0) end
  return list
end

local function make_table(store, stream, columns)
  query(store, "CREATE SCHEMA IF NOT EXISTS restored")
  query(store, ("CREATE TABLE IF NOT EXISTS restored.%s AS SELECT %s, 'backfill'::text AS origin FROM public.%s"
    .. " WHERE false"):format(stream.name, columns, stream.name))
  query(store, ("CREATE UNIQUE INDEX IF NOT EXISTS %s_key ON restored.%s (%s)")
    :format(stream.name, stream.name, stream.key))
  query(store, ("CREATE OR REPLACE VIEW restored.all_%s AS SELECT %s, 'feed'::text AS origin FROM public.%s UNION ALL"
    .. " SELECT %s, origin FROM restored.%s"):format(stream.name, columns, stream.name, columns, stream.name))
end

local AT = "timestamptz 'epoch' + $%d::int8 * interval '1 microsecond'"

local function read_sql(stream, columns)
  return ("SELECT count(*)::text AS count, coalesce(json_agg(slice), '[]')::text AS rows FROM (SELECT %s FROM public.%s"
    .. " WHERE received_at >= %s AND received_at < %s) slice"):format(columns, stream.name, AT:format(1), AT:format(2))
end

local function put_sql(stream, columns)
  return ("INSERT INTO restored.%s (%s, origin) SELECT %s, 'backfill' FROM"
    .. " json_populate_recordset(NULL::restored.%s, $1::json) ON CONFLICT DO NOTHING")
    :format(stream.name, columns, columns, stream.name)
end

local function restore(run, settings, stream, progress)
  local columns = columns_of(settings.production, stream)
  if run:dry() then return run:step("would restore", { stream = stream.name, since = progress.since }) end
  make_table(settings.store, stream, columns)
  local read, put, slices = read_sql(stream, columns), put_sql(stream, columns), 0
  while progress.upto > progress.since do
    run:check()
    local low = math.max(progress.since, progress.upto - settings.slice)
    local slice = query(settings.production, read, ("%.0f"):format(low), ("%.0f"):format(progress.upto))[1]
    if slice.count ~= "0" then query(settings.store, put, slice.rows) end
    progress.rows, progress.upto = progress.rows + tonumber(slice.count), low
    run:save(progress)
    slices = slices + 1
    if slices % TELL_SLICES == 0 then run:step("restoring", { stream = stream.name, rows = progress.rows }) end
  end
end

local function rebuild(run, settings)
  local now = tm.now()
  local progress = run.saved or { since = now - settings.past, now = now, upto = now, part = 1, rows = 0 }
  run:step("restoring rows of production", { since = progress.since, rows = progress.rows })
  for i = progress.part, #STREAMS do
    restore(run, settings, STREAMS[i], progress)
    run:step("restored", { stream = STREAMS[i].name, rows = progress.rows })
    progress.part, progress.upto = i + 1, progress.now
    run:save(progress)
  end
end

--- Declared only where both databases are given.
return function(_, given, at)
  if next(given) == nil then return end
  local settings, ok = common.settings(at, "rebuild", given, {
    production = tm.check.field(common.database, { required = true }),
    store = tm.check.field(common.database, { required = true }),
    past = tm.check.field(tm.check.duration, { default = 86400e6 }),
    slice = tm.check.field(tm.check.duration, { default = 2e6 }), -- of received_at, in one statement
  })
  if not ok then return end
  if settings.slice < 1e3 then return tm.problem(at, "recovery rebuild", "slice: expected at least 1ms") end
  tm.routine "rebuild" {
    on = { "store_rebuilt" }, priority = 2, timeout = "6h", retries = 20, backoff = "10s",
    subject = function() return "store" end,
    run = function(run) rebuild(run, settings) end,
  }
end
