--- The routine that has the engine bring back what gatherers archived, against a database made of tables.
local loop = dofile "tests/lua/fake_loop.lua"
local fake = loop.fake

local tm, host, declare

-- tidemill.restores and tidemill.absent as the routine sees them; the engine answers one second later.
local function database(absent)
  local db = { restores = {}, asked = {} }
  local function count(test)
    local n = 0
    for _, row in pairs(db.restores) do n = n + (test(row.state) and 1 or 0) end
    return { { count = n } }
  end
  local answers = {
    ["^SELECT count%(%*%)::int4 AS count FROM %(SELECT DISTINCT"] = function(also_looked)
      local n = 0
      for _, manifest in ipairs(absent) do
        local row = db.restores[manifest]
        local state = row and row.state or "wanted"
        n = n + ((state == "wanted" or state == "approved" or state == "looked" and also_looked) and 1 or 0)
      end
      return { { count = n } }
    end,
    ["^INSERT INTO tidemill.restores"] = function()
      for _, manifest in ipairs(absent) do
        db.restores[manifest] = db.restores[manifest] or { state = "wanted", manifest = manifest, rows = 7, bytes = 100 }
      end
      return {}
    end,
    ["^SELECT count%(%*%)::int4 AS count FROM tidemill.restores"] = function()
      local busy = count(function(state) return state == "wanted" or state == "approved" end)
      for _, row in pairs(db.restores) do
        row.state = row.state == "wanted" and "looked" or row.state == "approved" and (db.broken or "done") or row.state
      end
      return busy
    end,
    ["^SELECT manifest"] = function(wanted)
      local list = {}
      for _, row in pairs(db.restores) do
        if row.state == "looked" and (wanted == "" or wanted == row.manifest) then list[#list + 1] = row end
      end
      table.sort(list, function(a, b) return a.manifest < b.manifest end)
      return list
    end,
    ["^UPDATE"] = function(manifest) db.restores[manifest].state = "approved" return {} end,
    ["^SELECT now"] = function() return { { at = "2026-11-26" } } end,
    ["^SELECT state"] = function() return { { state = db.broken or "done", count = 1, stored = 7 } } end,
  }
  function db.query(_, sql, ...)
    db.asked[#db.asked + 1] = sql
    if db.away then return nil, { message = "connection lost" } end
    for pattern, answer in pairs(answers) do
      if sql:find(pattern) then return answer(...) end
    end
    error("an unexpected statement: " .. sql)
  end
  return db
end

local function load(db, approve)
  tm, host, declare = loop.load()
  tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=g",
                    archive = { to = "file:///archive", approve = approve } }
  require "recovery.archive" { production = db }
  assert.same({}, fake.problems(declare))
  loop.begin(declare)
end

local function states(db)
  local list = {}
  for manifest, row in pairs(db.restores) do list[#list + 1] = manifest .. " " .. row.state end
  table.sort(list)
  return list
end

describe("unarchive", function()
  it("has a dry run done, and waits for a person's word", function()
    local db = database { "a", "b" }
    load(db, true)
    loop.run(host, "5m")
    assert.same({}, host.failures)
    assert.same({ "a looked", "b looked" }, states(db))
    assert.equal(1, #host.runs.ended) -- it is told once, not each half a minute
    tm.routine.run("unarchive", "archive", { approved = true, manifest = "b" })
    loop.run(host, "10s")
    assert.same({ "a looked", "b done" }, states(db))
    tm.routine.run("unarchive", "archive", { approved = true })
    loop.run(host, "10s")
    assert.same({ "a done", "b done" }, states(db))
  end)

  it("restores by itself where nobody need approve", function()
    local db = database { "a" }
    load(db, false)
    loop.run(host, "2m")
    assert.same({}, host.failures)
    assert.same({ "a done" }, states(db))
    assert.equal(1, #host.runs.ended)
  end)

  it("changes nothing in a dry run", function()
    local db = database { "a" }
    load(db, false)
    tm.routine.run("unarchive", "archive", {}, { dry = true })
    loop.run(host, "10s")
    assert.same({}, states(db))
  end)

  it("does nothing while there is nothing, or while production is away", function()
    local db = database {}
    load(db, false)
    loop.run(host, "5m")
    db.away = true
    loop.run(host, "5m")
    assert.equal(0, #host.runs.ended)
    assert.same({}, host.failures)
  end)

  it("needs an archive", function()
    tm, host, declare = loop.load()
    tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=g" }
    require "recovery.archive" { production = database {} }
    assert.matches("expected tm.deduplicator { archive = ... } before it", fake.problems(declare)[1], 1, true)
  end)
end)
