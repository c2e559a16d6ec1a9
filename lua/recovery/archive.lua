--- What a gatherer had to let go before production had it, and put into the archive first, comes back from there: in the
--- deduplicator, which reads in tidemill.absent where such rows are (FAILURES B4, B5).
---
---     require "recovery.archive" { production = tm.sql { conninfo = ... } }     -- behind the role, which sets the archive
---
--- Each manifest goes through the table tidemill.restores: wanted, looked (a dry run of the engine's says how many rows, and
--- whether the object is there), approved, done or failed. Where the role's archive has `approve = true` the step from looked
--- to approved is a person's:
---
---     run("unarchive", "archive", { approved = true })                     all that wait, at the REPL
---     run("unarchive", "archive", { approved = true, manifest = "..." })   this one
---
--- The engine does the work (core/engine/refill.h); this asks, waits and tells.

local tm = require "tidemill"
local common = require "recovery.common"
local declare = require "tidemill.declare"

local ROUTINE, SUBJECT = "unarchive", "archive"

local WISH = "INSERT INTO tidemill.restores (manifest) SELECT DISTINCT substr(detail, 11) FROM tidemill.absent"
  .. " WHERE reason = 'expired' AND starts_with(detail, 'archived: ') ON CONFLICT (manifest) DO NOTHING"

local NEW = "SELECT count(*)::int4 AS count FROM (SELECT DISTINCT substr(detail, 11) AS manifest FROM tidemill.absent"
  .. " WHERE reason = 'expired' AND starts_with(detail, 'archived: ')) a LEFT JOIN tidemill.restores r USING (manifest)"
  .. " WHERE r.manifest IS NULL OR r.state IN ('wanted', 'approved') OR (r.state = 'looked' AND $1)"

local LOOKED = "SELECT manifest, rows::float8 AS rows, bytes::float8 AS bytes FROM tidemill.restores WHERE state = 'looked'"
  .. " AND ($1 = '' OR manifest = $1) ORDER BY asked_at, manifest"

local BUSY = "SELECT count(*)::int4 AS count FROM tidemill.restores WHERE state IN ('wanted', 'approved')"

local ENDED = "SELECT state, count(*)::int4 AS count, coalesce(sum(stored), 0)::float8 AS stored, max(detail) AS why"
  .. " FROM tidemill.restores WHERE state IN ('done', 'failed') AND changed_at >= $1::timestamptz GROUP BY 1 ORDER BY 1"

local function query(db, sql, ...)
  local rows, why = db:query(sql, ...)
  if not rows then error(why.message, 0) end
  return rows
end

-- The engine deals with one after the other.
local function wait_until_idle(run, db)
  while query(db, BUSY)[1].count > 0 do run:sleep "1s" end
end

local function approve(run, db, wanted)
  for _, row in ipairs(query(db, LOOKED, wanted)) do
    run:step("restoring", { manifest = row.manifest, rows = row.rows })
    query(db, "UPDATE tidemill.restores SET state = 'approved', changed_at = now() WHERE manifest = $1", row.manifest)
  end
  wait_until_idle(run, db)
end

local function tell_ended(run, db, since)
  for _, row in ipairs(query(db, ENDED, since)) do
    run:step(row.state, { manifests = row.count, stored = row.stored, why = row.why })
  end
end

local function recover(run, event, settings)
  local db, wanted = settings.production, event.manifest or ""
  if run:dry() then return run:step("would ask the archive", { manifests = query(db, NEW, not settings.approve)[1].count }) end
  local since = query(db, "SELECT now()::text AS at")[1].at
  query(db, WISH)
  wait_until_idle(run, db)
  if event.approved or not settings.approve then
    approve(run, db, wanted)
    return tell_ended(run, db, since)
  end
  for _, row in ipairs(query(db, LOOKED, wanted)) do
    run:step("is in the archive and waits for a person's word", { manifest = row.manifest, rows = row.rows, bytes = row.bytes })
  end
end

--- Declare the routine.
---@param given { production: tidemill.Database, every?: tidemill.Duration }
return function(given)
  local at, role = tm.caller(), declare.declared.role
  if not role or role.role ~= "deduplicator" or not role.archive then
    return tm.problem(at, "recovery archive", "expected tm.deduplicator { archive = ... } before it")
  end
  local settings, ok = common.settings(at, "archive", given, {
    production = tm.check.field(common.database, { required = true }),
    every = tm.check.field(tm.check.text, { default = "30s" }),
  })
  if not ok then return end
  settings.approve = role.archive.approve
  tm.routine(ROUTINE) {
    priority = 6, timeout = "12h", retries = 20, backoff = "10s",
    subject = function() return SUBJECT end,
    run = function(run, event) recover(run, event, settings) end,
  }
  -- a run is for something; that there is nothing to do is not worth one
  tm.every(settings.every, function()
    local rows = settings.production:query(NEW, not settings.approve) -- production is away: the next look will tell
    if rows and rows[1].count > 0 then tm.routine.run(ROUTINE, SUBJECT, {}) end
  end)
end
