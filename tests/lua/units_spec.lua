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
