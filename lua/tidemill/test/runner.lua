--- Runs tests: turn by turn, driven by core/script/test.c. Not for tests themselves; they use require "tidemill.test".
---
---     begin(options); the test file runs, or load_script(); then turn() until it says "done"
---
--- A test waits by yielding a goal { world, until_us | until_done, result }; turn() takes one step of that world, or,
--- when there is none before the goal, resumes the test.

local c = require "tidemill.runner"
local host = require "tidemill.host"
local simulator = require "tidemill.simulator"
local units = require "tidemill.units"

local runner = {}

local LOG_LINES = 20

local options, directory
local tests, prefix, befores = {}, {}, {}
local current -- { test, co, goal, world, worlds }
local next_test = 1

function runner.begin(given)
  options = given
  directory = given.path:match("^(.*)/[^/]*$") or "."
end

-- ---- declaring ----

function runner.add(name, fn, at)
  if current then error("t.test: tests are declared when the file runs, not inside of a test", 3) end
  if type(name) ~= "string" or name == "" then error("t.test: expected a name, got a " .. type(name), 3) end
  if type(fn) ~= "function" then error(("t.test %s: expected a function, got a %s"):format(name, type(fn)), 3) end
  local words, before = {}, {}
  for i, word in ipairs(prefix) do words[i] = word end
  for i, b in ipairs(befores) do before[i] = b end
  words[#words + 1] = name
  local full = table.concat(words, " ")
  if options.filter and not full:find(options.filter, 1, true) then return end
  tests[#tests + 1] = { name = full, fn = fn, at = at, before = before }
end

function runner.describe(name, fn)
  if type(name) ~= "string" or type(fn) ~= "function" then error("t.describe: expected a name and a function", 3) end
  local depth = #befores
  prefix[#prefix + 1] = name
  fn()
  prefix[#prefix] = nil
  for i = #befores, depth + 1, -1 do befores[i] = nil end
end

function runner.before(fn)
  if type(fn) ~= "function" then error("t.before_each: expected a function, got a " .. type(fn), 3) end
  befores[#befores + 1] = fn
end

-- ---- worlds ----

local function by(list, key)
  local map = {}
  for _, item in ipairs(list or {}) do map[item[key]] = item end
  return map
end

local function policy_of(world, exports)
  local declared = world.declared
  return {
    problems = world.problems, declared = declared, role = declared.role, exports = exports,
    streams = by(declared.streams, "name"), kinds = by(declared.kinds, "tag"), alerts = by(declared.alerts, "name"),
    connections = declared.connections,
    require = function(name) return c.require(world.handle, name) end,
  }
end

local function add_error(world, text)
  local at, message = text:match("^(.-:%d+): (.*)$")
  local errors = world.declared.errors
  errors[#errors + 1] = { at = at or world.path, message = message or text }
end

-- The file runs, then what it declared is read and verified as check does.
local function declare(world, chunk)
  local ok, result = pcall(chunk)
  local finished, declared = pcall(function()
    return c.require(world.handle, "tidemill.declare").finish(world.path, ok)
  end)
  if not finished then error(declared, 0) end
  world.declared, world.role = declared, declared.role and declared.role.role
  if not ok then add_error(world, tostring(result)) end
  world.problems = c.finish(world.handle, declared)
  return result
end

-- A script in a new world, which becomes the current one.
local function open_world(path, given)
  local world = simulator.new { env = given.env, duration = units.duration }
  world.path = path
  local chunk
  world.handle, chunk = c.open(path, world.host, world.os)
  local exports = declare(world, chunk)
  if current then
    world.test_co, current.world = current.co, world
    current.worlds[#current.worlds + 1] = world
  end
  return policy_of(world, exports)
end

--- Load a script by its path, relative to the test file.
---@param path string
---@param given { env?: table<string, string> }
function runner.load(path, given)
  local env = {}
  for name, value in pairs(given.env or {}) do env[name] = tostring(value) end
  local absolute = path:sub(1, 1) == "/" or directory == "."
  return open_world(absolute and path or directory .. "/" .. path, { env = env })
end

function runner.world() return current and current.world end

--- Let the world go on up to that time (default: now) before the test does.
function runner.settle(world, until_us)
  if coroutine.running() ~= current.co then
    error("the world is moved by the test itself, not by a handler or a coroutine", 3)
  end
  coroutine.yield { world = world, until_us = until_us or world.clock_us }
end

function runner.frame(world, text) return c.frame(world.handle, text, world:wall_us()) end

function runner.fill(world, stream, rows)
  c.use(world.handle, world:wall_us())
  for _, registry in ipairs(world.declared.registries) do
    if registry.stream == stream then host.registry_open(stream, registry.columns, registry.quiet) end
  end
  for _, row in ipairs(rows) do c.put(world.handle, stream, row) end
end

-- ---- the script's own tests ----

--- Declare the tests of the script at options.path: each gets the script in a world of its own, with the environment
--- that it would start in.
function runner.load_script()
  local policy = open_world(options.path, {})
  if #policy.problems > 0 then error(policy.problems[1], 0) end
  for i, test in ipairs(policy.declared.tests) do
    runner.add(test.name, function(t) open_world(options.path, {}).declared.tests[i].fn(t) end, test.at)
  end
end

-- ---- turns ----

local function log_lines(world)
  local lines = {}
  for i = math.max(1, #world.logs - LOG_LINES + 1), #world.logs do
    local line = world.logs[i]
    local fields, names = {}, {}
    for name in pairs(line.fields) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do fields[#fields + 1] = (" %s=%s"):format(name, tostring(line.fields[name])) end
    lines[#lines + 1] = ("  %9.3fs %s %s%s"):format(line.at_us / 1e6, line.level, line.text, table.concat(fields))
  end
  return #lines > 0 and "\nlogged:\n" .. table.concat(lines, "\n") or ""
end

local function result_of(message)
  local test, logs = current.test, ""
  for _, world in ipairs(current.worlds) do
    for _, failure in ipairs(world.failures) do
      local at, text = failure.message:match "^([^\n]-:%d+): (.*)$"
      message = message or ("%s%s failed: %s"):format(at and at .. ": " or "", failure.name, text or failure.message)
    end
    if message then logs = log_lines(world) end
  end
  local result = { name = test.name, where = test.at }
  if message then
    local at, text = message:match "^([^\n ]-:%d+): (.*)$"
    result.where, result.message = at or test.at, (text or message) .. logs
  end
  current = nil
  return result
end

local function start_next()
  local test = tests[next_test]
  next_test = next_test + 1
  math.randomseed(options.seed)
  local t = require "tidemill.test"
  current = { test = test, worlds = {}, co = coroutine.create(function()
    for _, before in ipairs(test.before) do before(t) end
    test.fn(t)
  end) }
end

local function next_turn() return next_test <= #tests and "test" or "done" end

local function resume_test(...)
  local co = current.co
  local ok, value = coroutine.resume(co, ...)
  if coroutine.status(co) ~= "dead" then
    if type(value) ~= "table" or not value.world then
      return next_turn(), result_of "the test yielded without waiting for anything"
    end
    current.goal = value
    return "task"
  end
  local message
  if not ok then message = type(value) == "string" and value or ("error(%s value)"):format(type(value)) end
  local result = result_of(message)
  return next_turn(), result
end

local function is_reached(goal) return goal.until_done ~= nil and goal.until_done() end

--- Do the next thing. Returns what comes after it ("test", "task" or "done"), and the result of a test that has ended.
function runner.turn()
  if not current then
    if next_test > #tests then return "done" end
    start_next()
    return resume_test()
  end
  if current.stopped then return next_turn(), result_of(current.stopped) end
  local goal = current.goal
  if not is_reached(goal) and goal.world:step(goal.until_us or math.huge) then return "task" end
  current.goal = nil
  if goal.until_us then goal.world.clock_us = math.max(goal.world.clock_us, goal.until_us) end
  if is_reached(goal) then return resume_test(goal.result()) end
  return resume_test()
end

--- The last turn was stopped from outside, at "file:line" or "": its test has failed with that.
---@param message string
---@param at string
function runner.stop(message, at)
  if not current then error(message, 0) end
  local task = current.world and current.world.running
  local text = message:gsub("^[^\n]-:%d+: ", "")
  if task then text = task.name .. ": " .. text end
  current.stopped = at ~= "" and at .. ": " .. text or text
end

return runner
