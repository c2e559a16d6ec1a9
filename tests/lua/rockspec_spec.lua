-- The rockspec names every module of the library, and nothing else.
local function lines(command)
  local found, pipe = {}, assert(io.popen(command))
  for line in pipe:lines() do found[#found + 1] = line end
  pipe:close()
  return found
end

describe("the rockspec", function()
  it("lists the modules of the library", function()
    local spec = {}
    setfenv(assert(loadfile("rockspec/tidemill-scm-1.rockspec")), spec)()
    local expected = {}
    for _, path in ipairs(lines("find lua -name '*.lua'")) do
      local name = path:match("^lua/(.*)%.lua$"):gsub("/init$", ""):gsub("/", ".")
      if name ~= "kalshi.gatherer" and name ~= "kalshi.deduplicator" then expected[name] = path end -- scripts, not modules
    end
    assert.is_truthy(next(expected))
    assert.same(expected, spec.build.modules)
  end)
end)
