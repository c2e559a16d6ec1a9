--- The fake host with a loop: tasks are coroutines, time is virtual and passes only in loop.run.
---
---     local loop = dofile "tests/lua/fake_loop.lua"
---     local tm, host, declare = loop.load()
---     local declared = loop.begin(declare)     -- to run time
---     declared.dispatch { type = "gap" }
---     loop.run(host, "10s")                    -- what happens in ten seconds, in order
---
--- The table of runs is a second, simple implementation of core/script/routines.h.

local fake = dofile "tests/lua/fake_host.lua"

local loop = { fake = fake }

local function add_tasks(host)
  host.tasks, host.ready, host.serial = {}, {}, 0
  local function step(task, ...)
    host.current = task
    local ok, why = coroutine.resume(task.co, ...)
    host.current = nil
    if not ok then
      host.failures[#host.failures + 1] = tostring(why)
    end
    if coroutine.status(task.co) == "dead" then host.tasks[task.id] = nil end
  end
  host.failures = {}
  function host.spawn(name, fn, ...)
    host.serial = host.serial + 1
    local task = { id = host.serial, name = name, co = coroutine.create(fn) }
    local args = { n = select("#", ...), ... }
    host.tasks[task.id] = task
    host.ready[#host.ready + 1] = function() step(task, unpack(args, 1, args.n)) end
    return task.id
  end
  function host.task() return host.current.id end
  function host.is_live(id) return host.tasks[id] ~= nil end
  function host.kill(id)
    local task = host.tasks[id]
    if not task or task == host.current then return false end
    host.tasks[id] = nil
    task.killed = true
    return true
  end
  function host.keep() host.current.kept = true end
  local function suspend(us, parked)
    local task = assert(host.current, "only a task can wait")
    host.serial = host.serial + 1
    local wait = { id = host.serial, at = host.clock_us + us, task = task, parked = parked }
    host.waits[wait] = true
    return coroutine.yield()
  end
  host.waits = {}
  function host.sleep_us(us) suspend(us, false) end
  function host.park(us) return suspend(us, true) end
  function host.wake(id)
    for wait in pairs(host.waits) do
      if wait.parked and wait.task.id == id then
        host.waits[wait] = nil
        host.ready[#host.ready + 1] = function() step(wait.task, true) end
        return true
      end
    end
    return false
  end
  function host.resume_wait(wait)
    host.waits[wait] = nil
    if not wait.task.killed then step(wait.task) end
  end
  function host.timer(after_us, every_us, name, fn)
    host.serial = host.serial + 1
    host.timers[host.serial] = { id = host.serial, at = host.clock_us + after_us, every_us = every_us, name = name, fn = fn }
    return host.serial
  end
  function host.cancel(id)
    local there = host.timers[id] ~= nil
    host.timers[id] = nil
    return there
  end
  function host.http(request)
    suspend(1000, false)
    host.calls[#host.calls + 1] = { "http", request.url }
    return host.answer and host.answer(request) or { status = 200, body = "{}", elapsed_us = 0 }
  end
end

local function add_links(host)
  host.told = {}
  function host.link_tell(id, kind) host.told[#host.told + 1] = { id, kind } return true end
  function host.link_reconnect(id) host.calls[#host.calls + 1] = { "reconnect", id } end
  function host.decode(kind, path, body, registry)
    host.calls[#host.calls + 1] = { "decode", kind, path, body, registry }
    local document = fake.json.decode(body)
    local list = document and document[path]
    if type(list) ~= "table" then return nil, "nothing at " .. path end
    return { kind = kind, rows = list }, {}, #list
  end
  function host.submit(batch)
    host.submitted[#host.submitted + 1] = batch
    return true
  end
  host.submitted = {}
  function host.json_get(body, path) -- "a", "a[0].b", "a[-1].b"
    local value = host.json_decode(body)
    for name, index in (path .. "."):gmatch("([%w_]+)(%[?%-?%d*%]?)%.") do
      value = value[name]
      local number = tonumber(index:match("%-?%d+"))
      if value and number then value = value[number < 0 and #value + 1 + number or number + 1] end
      if value == nil then return nil end
    end
    return value
  end
end

local function add_runs(host)
  local waiting, running, serial = {}, {}, 0
  host.runs = { waiting = waiting, running = running, ended = {}, owner = nil, running_max = 4 }
  local function find(list, routine, subject)
    for i, run in ipairs(list) do
      if run.routine == routine and run.subject == subject then return run, i end
    end
  end
  local function by_id(id)
    for i, run in ipairs(running) do
      if run.id == id then return run, i end
    end
  end
  function host.routine_open(most) host.runs.running_max = most > 0 and most or 4 end
  function host.routine_offer(o)
    local run = find(waiting, o.routine, o.subject)
    if run then
      run.fields, run.event = o.fields, o.event
      run.saved = o.saved or run.saved
      return "coalesced"
    end
    serial = serial + 1
    run = { id = serial, run_id = "uuid" .. serial, at = host.clock_us + (o.delay_us or 0), steps = {} }
    for key, value in pairs(o) do run[key] = value end
    waiting[#waiting + 1] = run
    return find(running, o.routine, o.subject) and "coalesced" or "queued"
  end
  function host.routine_pending(routine, subject)
    local run = find(waiting, routine, subject)
    return run and run.fields
  end
  function host.routine_take(routine, subject)
    local run, i = find(waiting, routine, subject)
    if run then table.remove(waiting, i) return run.fields end
  end
  function host.routine_next()
    if #running >= host.runs.running_max then return nil end
    local best
    for i, run in ipairs(waiting) do
      local may = run.at <= host.clock_us and not find(running, run.routine, run.subject)
      if may and (not best or run.priority < waiting[best].priority) then best = i end
    end
    if not best then return nil end
    local run = table.remove(waiting, best)
    running[#running + 1] = run
    run.started = host.clock_us
    return { id = run.id, run_id = run.run_id, routine = run.routine, subject = run.subject, event = run.event,
             fields = run.fields, saved = run.saved, attempt = run.attempt or 0, started = run.started, dry = run.dry or false }
  end
  function host.routine_step(id, text) local run = by_id(id) run.steps[#run.steps + 1] = text end
  function host.routine_save(id, text) by_id(id).saved = text end
  function host.routine_saved(id) return by_id(id).saved end
  function host.routine_cancelled(id)
    local run = by_id(id)
    if not run then return nil end
    return run.cancelled or false
  end
  function host.routine_cancel(routine, subject)
    local count = 0
    for i = #waiting, 1, -1 do
      if waiting[i].routine == routine and (not subject or waiting[i].subject == subject) then
        table.remove(waiting, i)
        count = count + 1
      end
    end
    for _, run in ipairs(running) do
      if run.routine == routine and (not subject or run.subject == subject) then run.cancelled = true count = count + 1 end
    end
    return count
  end
  function host.routine_end(id, result, why)
    local run, i = by_id(id)
    if not run then return end
    table.remove(running, i)
    run.result, run.error, run.ended = result, why, host.clock_us
    host.runs.ended[#host.runs.ended + 1] = run
  end
  function host.routine_list() return fake.json.encode { running = running } end
end

--- A fresh library on a fresh host with a loop.
function loop.load(env)
  for name in pairs(package.loaded) do
    if name:find("^recovery") then package.loaded[name] = nil end
  end
  return fake.load(env, nil, function(host)
    add_tasks(host)
    add_links(host)
    add_runs(host)
  end)
end

--- To run time; the problems of the declarations must be none.
function loop.begin(declare)
  local declared = declare.finish("file.lua", true)
  assert(#declared.errors == 0, declared.errors[1] and declared.errors[1].message)
  declared.begin()
  return declared
end

local function run_ready(host)
  while #host.ready > 0 do table.remove(host.ready, 1)() end
end

-- Of what is due at the same time, the one that was asked for first.
local function soonest(host, until_us)
  local best
  local function consider(due)
    if due.at > until_us then return end
    if not best or due.at < best.at or due.at == best.at and due.id < best.id then best = due end
  end
  for _, timer in pairs(host.timers) do consider(timer) end
  for wait in pairs(host.waits) do consider(wait) end
  return best
end

--- Let that much virtual time pass.
function loop.run(host, duration)
  local until_us = host.clock_us + require("tidemill.units").duration(duration)
  run_ready(host)
  for _ = 1, 1e6 do
    local due = soonest(host, until_us)
    if not due then break end
    host.clock_us = math.max(host.clock_us, due.at)
    if due.task then
      host.resume_wait(due)
    else
      if due.every_us > 0 then due.at = due.at + due.every_us else host.timers[due.id] = nil end
      host.spawn(due.name, due.fn)
    end
    run_ready(host)
  end
  host.clock_us = until_us
end

return loop
