local fake = dofile "tests/lua/fake_host.lua"

describe("closed tables", function()
  local check, problems, declare
  before_each(function()
    local _
    _, _, declare = fake.load()
    check, problems = require "tidemill.check", require "tidemill.problems"
  end)

  local function only_problem()
    assert.equal(1, #problems.list)
    return problems.list[1].message
  end

  it("return their normal form, with defaults", function()
    local normal, ok = check.closed("f.lua:1", "x", { wait = "2s" }, {
      wait = check.field(check.duration, { to = "wait_us" }),
      count = check.field(check.integer(1, 9), { default = 3 }),
    })
    assert.is_true(ok)
    assert.same({ wait_us = 2000000, count = 3 }, normal)
    assert.same({}, problems.list)
  end)

  it("name the nearest key", function()
    local _, ok = check.closed("f.lua:1", "subscribe", { conections = 3 }, { connections = check.field(check.number) })
    assert.is_false(ok)
    assert.equal('subscribe: unknown key "conections", did you mean "connections"?', only_problem())
    assert.equal("f.lua:1", problems.list[1].at)
  end)

  it("list the keys when none is near", function()
    check.closed("f", "x", { zebra = 3 }, { b = check.field(check.number), a = check.field(check.number) })
    assert.equal('x: unknown key "zebra", expected one of a, b', only_problem())
  end)

  it("refuse values without a name, missing keys and wrong types", function()
    local fields = { id = check.field(check.id, { required = true }), on = check.field(check.boolean) }
    check.closed("f", "x", { "stray", on = "yes" }, fields)
    local text = {}
    for _, p in ipairs(problems.list) do text[#text + 1] = p.message end
    table.sort(text)
    assert.same({ 'x: expected names only, got a value without a name at position 1',
                  'x: missing key "id": expected an id of letters, digits, \'_\', \'-\' and \'.\'',
                  'x: on: expected true or false, got "yes"' }, text)
  end)

  it("refuse what is no table", function()
    check.closed("f", "x", 5, {})
    assert.equal("x: expected a table { ... }, got 5", only_problem())
  end)

  it("check lists element by element", function()
    local names = check.list(check.name, "column names")
    assert.same({ "a", "b" }, (names { "a", "b" }))
    for _, bad in ipairs { {}, { "a", 3 }, { "A" }, { a = 1 }, { "a", x = "b" }, "a" } do
      assert.is_nil((names(bad)))
    end
  end)

  it("find names by letters lost, added, changed and swapped", function()
    local names = { "connections", "markets", "window" }
    for typo, meant in pairs { conections = "connections", connectionss = "connections", markest = "markets",
                               Window = "window", winndow = "window" } do
      assert.equal(meant, problems.nearest(typo, names))
    end
    assert.is_nil(problems.nearest("x", names))
  end)

  it("are gone with the module", function() assert.same({}, declare.declared.streams) end)
end)
