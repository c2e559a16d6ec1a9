-- What people see in a session: nothing that the feed or a peer has put into a text may move the cursor about, and what is
-- shown says what was there.

local pretty = require "tidemill.repl.pretty"

local null = newproxy() -- JSON's null is a userdata in the host too
local plain, colours = { color = false, width = 80 }, { color = true, width = 80 }

local function show(value, style) return pretty.text(value, style or plain, null) end

describe("values for people", function()
  it("hold no control characters", function()
    local evil = "a\27[2J\r\0\7\127\194\155x\nb"
    for _, value in ipairs { { evil }, { { name = evil } }, { [evil] = evil }, { a = { b = evil } } } do
      local text = show(value)
      assert.is_nil(text:find "[%z\1-\9\11-\31\127]")
      assert.is_nil(text:find("\194\155", 1, true))
      assert.is_truthy(text:find("\\x1b[2J", 1, true))
    end
    assert.equal("a\\x1b[2J\nb", show "a\27[2J\nb") -- a text alone keeps its lines
  end)

  it("are numbers without an exponent as far as they are whole", function()
    assert.equal("9007199254740991", show(2 ^ 53 - 1))
    assert.equal("-5", show(-5))
    assert.equal("0.25", show(0.25))
    assert.equal("nil", show(nil))
    assert.equal("nil", show(null))
    assert.equal("(nothing)", show {})
  end)

  it("that are records become a table with the columns in order", function()
    local rows = setmetatable({ { b = 1, a = "x" }, { b = 22, a = "yyy", c = 1 } }, { columns = { "b", "a" } })
    assert.equal(" b  a  \n 1  x\n22  yyy", show(rows))
    assert.equal("name  b\nx     1\ny", show { { name = "x", b = 1 }, { name = "y", b = null } })
  end)

  it("that are nested stay readable", function()
    assert.equal("a    1\nbcd  { x = 1, y = { 2, 3 } }", show { a = 1, bcd = { x = 1, y = { 2, 3 } } })
    local deep = {}
    deep.deep = deep
    assert.is_string(show(deep))
  end)

  it("have colours where they are asked for", function()
    assert.equal("\27[31;1mfiring\27[0m", show("firing" and { "firing" }, colours))
    assert.equal("up", show { "up" })
    assert.is_nil(show({ { state = "down", name = "x" } }):find "\27")
    assert.is_truthy(show({ { state = "down", name = "x" } }, colours):find("\27[31;1mdown", 1, true))
  end)

  it("cut a long cell between characters", function()
    local text = show { { name = ("ä"):rep(100) } }
    assert.is_nil(text:find "\195…")
    assert.is_truthy(text:find "…")
  end)

  it("know units", function()
    assert.equal("1.5 KiB", pretty.bytes(1536))
    assert.equal("12 ms", pretty.duration(0.012))
    assert.equal("1h 1m", pretty.duration(3660))
    assert.equal("never", pretty.duration(-1))
    assert.equal("2026-01-01T00:00:00Z", pretty.time(1767225600e6))
  end)
end)
