-- What the documents promise: README's table of variables is what the stock scripts read, with their defaults; links lead somewhere.
local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

-- What is read without a default, or not by a script, and what README says of it.
local SAID = { KALSHI_WS_URL = "production's", KALSHI_REST_URL = "production's", TIDEMILL_GRANT = "none" }

-- name -> default; where the scripts differ, both of them.
local function variables_of_scripts()
  local found = { TIDEMILL_GRANT = SAID.TIDEMILL_GRANT }
  for _, script in ipairs { "gatherer", "deduplicator" } do
    local text = read(("lua/kalshi/%s.lua"):format(script))
    local count = select(2, text:gsub("tm%.env", ""))
    for name in text:gmatch 'tm%.env "([%w_]+)"' do found[name], count = SAID[name] or "none", count - 1 end
    for name, default in text:gmatch 'tm%.env%("([%w_]+)", ([^)]*)%)' do
      default = default:gsub('" %.%. id$', '<id>"'):gsub('"', "")
      found[name] = found[name] and found[name] ~= default and found[name] .. ", " .. default or default
      count = count - 1
    end
    assert.equal(0, count, script .. ": a tm.env is written in another way")
  end
  return found
end

local function words(cell)
  local list = {}
  for word in cell:gmatch "[^`, ]+" do list[#list + 1] = word end
  return list
end

local function variables_of_readme()
  local found = {}
  for names, defaults in read("README.md"):gmatch "\n| ([^|\n]*) | ([^|\n]*) | [^\n]*" do
    local variables, values = words(names), words(defaults)
    for i, name in ipairs(variables) do
      if name:find "^TIDEMILL_%u" or name:find "^KALSHI_%u" then
        assert.is_nil(found[name], name .. " is there twice")
        found[name] = #variables == 1 and table.concat(values, ", ") or values[i] or values[1]
      end
    end
  end
  return found
end

describe("README", function()
  it("has every variable of the stock scripts, with its default", function()
    assert.same(variables_of_scripts(), variables_of_readme())
  end)
end)

describe("the documents", function()
  local function documents()
    local list, pipe = {}, assert(io.popen "ls README.md ARCHITECTURE.md core/*/README.md examples/README.md tests/README.md")
    for path in pipe:lines() do list[#list + 1] = path end
    pipe:close()
    return list
  end

  it("link to files that are there", function()
    local count = 0
    for _, path in ipairs(documents()) do
      local folder = path:match "^(.*/)" or ""
      for target in read(path):gmatch "%]%(([%w_./-]+)%)" do
        local file = io.open(folder .. target)
        assert(file, path .. ": " .. target)
        file:close()
        count = count + 1
      end
    end
    assert.is_true(count > 30)
  end)

  it("lead from ARCHITECTURE, which is one page, to every room", function()
    local text = read "ARCHITECTURE.md"
    assert.is_true(select(2, text:gsub("\n", "")) <= 150)
    for _, path in ipairs(documents()) do
      if path:find "^core/" then assert.is_truthy(text:find("](" .. path .. ")", 1, true), path) end
    end
  end)
end)
