local fake = dofile "tests/lua/fake_host.lua"

describe("the summary of declarations", function()
  local tm, declare
  before_each(function()
    local _
    tm, _, declare = fake.load()
  end)

  -- "group: field" -> text, or "secret <text>"
  local function facts()
    local list, found = declare.finish("file.lua", true).summary, {}
    assert.equal(0, #list % 4)
    for i = 1, #list, 4 do
      local name = list[i + 1] == "" and list[i] or list[i] .. ": " .. list[i + 1]
      assert.is_nil(found[name], name .. " is there twice")
      found[name] = (list[i + 3] and "secret " or "") .. list[i + 2]
    end
    return found
  end

  it("names settings in the script's own words and units", function()
    tm.gatherer { id = "g", store = "password=x", data = "d", journal = "3GiB" }
    tm.stream "t" { columns = { { "id", "uuid", not_null = true }, { "price", "int4", scale = 6 } }, key = { "id" },
                    window = "36h", memory = "1536KiB" }
    local found = facts()
    assert.equal("3GiB", found["gatherer: journal"])
    assert.equal("36h", found["stream t: window"])
    assert.equal("1536KiB", found["stream t: memory"])
    assert.equal("id", found["stream t: key"])
    assert.equal("type int4, scale 6", (found["stream t: column price"]:gsub("scale 6, type int4", "type int4, scale 6")))
    assert.equal("", found["stream t"])
  end)

  it("compares secrets without showing them", function()
    tm.deduplicator { id = "d", production = "password=x", gatherers = { g1 = "host=a password=y" } }
    tm.signer { key_id = "k", headers = { A = "{key_id}" } }
    tm.rest { url = "http://user:pass@127.0.0.1/x" }
    local found = facts()
    for name, text in pairs(found) do
      local hides = name:find("production") or name:find("gatherer g1") or name:find("^signer 1: ") or name:find("^rest 1: url")
      if hides then assert.matches("^secret ", text, 1, false) else assert.is_nil(text:find("^secret "), name) end
    end
    assert.equal("secret password=x", found["deduplicator: production"])
    assert.equal("secret k", found["signer 1: key_id"])
  end)

  it("counts what has no name", function()
    tm.on("gap", function() end)
    tm.on("gap", function() end)
    tm.every("90s", function() end)
    tm.after("90s", function() end)
    local found = facts()
    assert.equal("2", found["handlers: gap"])
    assert.equal("1", found["timers: tm.every 90s"])
    assert.equal("1", found["timers: tm.after 90s"])
  end)

  it("takes in whatever else is declared, but for places and functions", function()
    local loop = { name = "loop" }
    loop.self = loop
    declare.declared.recipes = { { name = "soup", hold_us = 30e6, fn = print, at = "x:1", opts = { a = 1, b = { true } } }, loop }
    local found = facts()
    assert.equal("30s", found["recipe soup: hold"])
    assert.equal("a 1, b true", found["recipe soup: opts"])
    assert.is_nil(found["recipe soup: at"])
    assert.is_nil(found["recipe soup: fn"])
    assert.is_string(found["recipe loop: self"])
  end)

  it("is the same for the same declarations", function()
    local function declare_all()
      tm.gatherer { id = "g", store = "s", data = "d" }
      require "kalshi.streams"
      return declare.finish("file.lua", true).summary
    end
    local first = declare_all()
    local _
    tm, _, declare = fake.load()
    assert.same(first, declare_all())
    assert.is_true(#first > 400)
  end)
end)
