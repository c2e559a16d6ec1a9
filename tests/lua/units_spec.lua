local fake = dofile "tests/lua/fake_host.lua"

describe("units", function()
  local tm
  before_each(function() tm = fake.load() end)

  it("reads durations as microseconds", function()
    local expected = { ["250ms"] = 250000, ["10s"] = 1e7, ["5m"] = 3e8, ["48h"] = 172800e6, ["7d"] = 604800e6,
                       ["1.5s"] = 1500000, ["3us"] = 3, ["0s"] = 0, ["2 h"] = 7200e6 }
    for text, us in pairs(expected) do assert.equal(us, (tm.duration(text))) end
  end)

  it("reads sizes as bytes", function()
    local expected = { ["1B"] = 1, ["64MiB"] = 67108864, ["8GiB"] = 8589934592, ["0.5KiB"] = 512 }
    for text, bytes in pairs(expected) do assert.equal(bytes, (tm.size(text))) end
  end)

  -- Expected seconds are those of `date -u -d TEXT +%s`.
  it("reads moments as microseconds since 1970", function()
    local expected = {
      ["1970-01-01T00:00:00Z"] = 0, ["2026-11-26T00:00:00Z"] = 1795651200, ["2000-02-29T23:59:59Z"] = 951868799,
      ["2024-03-01T00:00:00Z"] = 1709251200, ["2100-03-01T00:00:00Z"] = 4107542400, ["2026-12-31T12:34:56.000Z"] = 1798720496,
      ["2026-11-26T02:00:00+02:00"] = 1795651200, ["2026-11-25T18:30:00-05:30"] = 1795651200,
    }
    for text, seconds in pairs(expected) do assert.equal(seconds * 1e6, (tm.check.moment(text)), text) end
  end)

  it("refuses what is no moment", function()
    local bad = {
      ["2026-11-26"] = "expected a moment", ["2026-11-26 00:00:00Z"] = "expected a moment", ["2026-11-26T00:00:00"] = "expected a moment",
      ["2026-11-26t00:00:00Z"] = "expected a moment", ["2026-11-26T00:00:00z"] = "an offset like", ["2026-11-26T00:00:00+1"] = "an offset",
      ["2026-11-26T00:00:00+24:00"] = "an offset like", ["2026-11-26T00:00:00Zulu"] = "an offset like",
      ["2026-11-26T00:00:00.5Z"] = "a whole second", ["2026-11-26T00:00:00.000001Z"] = "a whole second",
      ["2026-11-31T00:00:00Z"] = "no such day", ["2026-02-29T00:00:00Z"] = "no such day", ["1969-12-31T00:00:00Z"] = "no such day",
      ["2026-13-01T00:00:00Z"] = "no such day", ["2026-00-01T00:00:00Z"] = "no such day", ["2026-01-00T00:00:00Z"] = "no such day",
      ["2026-11-26T24:00:00Z"] = "time of day", ["2026-11-26T23:60:00Z"] = "time of day", ["2026-11-26T23:59:60Z"] = "time of day",
      ["now"] = "expected a moment", [""] = "expected a moment",
    }
    for text, part in pairs(bad) do
      local us, expected = tm.check.moment(text)
      assert.is_nil(us, text)
      assert.matches('expected a moment like "2026-11-26T00:00:00Z", got ', expected, 1, true)
      assert.matches(part, expected, 1, true)
    end
    for _, value in ipairs { 5, {}, true } do assert.is_nil((tm.check.moment(value))) end
  end)

  it("says what was expected", function()
    for _, bad in ipairs { "48 hours", "", "h", "-1s", "1", "1M", "s1", "1e3s", 5, {}, true } do
      local us, expected = tm.duration(bad)
      assert.is_nil(us)
      assert.matches('expected a duration like "250ms"', expected, 1, true)
    end
    for _, bad in ipairs { "64MB", "64", "MiB", 64 } do
      local bytes, expected = tm.size(bad)
      assert.is_nil(bytes)
      assert.matches('expected a size like "64MiB"', expected, 1, true)
    end
  end)
end)
