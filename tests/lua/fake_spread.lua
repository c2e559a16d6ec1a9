--- The host's spreads as tables, for fake_host.lua: where a name is placed and who was told, nothing else; changes are
--- worked out anew each time. The real ones are core/engine/spread.c, tested by tests/unit/engine/test_spread.c.

local json = require "dkjson"

local function array(names) return json.encode(setmetatable(names, { __jsontype = "array" })) end

local function new(connections, chunk)
  local s = { chunk = chunk, chunks = {}, slots = {}, told = {}, dirty = {}, batch = {}, placed = {}, order = {} }
  function s.open(c)
    s.chunks[c], s.slots[c], s.told[c], s.dirty[c], s.batch[c] = s.chunk, {}, {}, {}, {}
  end
  for c = 1, connections do s.open(c) end
  return s
end

local function load_of(s, c)
  local n = 0
  for _, slot in ipairs(s.slots[c]) do n = n + #slot end
  return n
end

local function put(s, c, name)
  local k = 1
  while s.slots[c][k] and #s.slots[c][k] >= s.chunks[c] do k = k + 1 end
  s.slots[c][k] = s.slots[c][k] or {}
  table.insert(s.slots[c][k], name)
  s.dirty[c][k - 1] = true
  s.placed[name] = c
end

local function pull(s, name)
  local c = s.placed[name]
  for k, slot in ipairs(s.slots[c]) do
    for i, other in ipairs(slot) do
      if other == name then
        slot[i] = slot[#slot]
        slot[#slot] = nil
        s.dirty[c][k - 1] = true
      end
    end
  end
  s.placed[name] = nil
end

local function choose(s, name)
  local best = 1
  for c = 1, #s.slots do
    if s.told[c][name] then return c end
    if load_of(s, c) < load_of(s, best) then best = c end
  end
  return best
end

local function changes(s, c, what)
  local list = {}
  for _, name in ipairs(s.order) do
    local here, told = s.placed[name] == c, s.told[c][name] == true
    if what == "added" and here and not told or what == "removed" and told and not here then list[#list + 1] = name end
  end
  return list
end

local function resize(s, connections, chunk)
  local had, homeless = #s.slots, {}
  for c = connections + 1, had do
    for _, slot in ipairs(s.slots[c]) do
      for _, name in ipairs(slot) do homeless[#homeless + 1] = name end
    end
    for _, name in ipairs(homeless) do s.placed[name] = nil end
    s.slots[c], s.told[c] = nil, nil
  end
  for _, name in ipairs(homeless) do put(s, choose(s, name), name) end
  s.chunk = chunk
  for c = had + 1, connections do s.open(c) end
  local share = math.floor(#s.order / connections)
  for c = had + 1, connections do
    while load_of(s, c) < share do
      local from = 1
      for other = 1, had do if load_of(s, other) > load_of(s, from) then from = other end end
      local slots = s.slots[from]
      local k = #slots
      while #slots[k] == 0 do k = k - 1 end
      local name = slots[k][#slots[k]]
      pull(s, name)
      put(s, c, name)
    end
  end
end

local function known(s, name)
  for _, other in ipairs(s.order) do if other == name then return true end end
end

--- Add the functions to a host. `kept` is what survives: give it to the next host to play a reload.
return function(host, kept)
  kept.spreads = kept.spreads or {}
  local function at(id) return kept.spreads[id].spread end
  function host.spread_open(name, connections, chunk)
    for id, entry in ipairs(kept.spreads) do
      if entry.name == name then
        resize(entry.spread, connections, chunk)
        return id, false
      end
    end
    table.insert(kept.spreads, { name = name, spread = new(connections, chunk) })
    return #kept.spreads, true
  end
  function host.spread_names()
    local names = {}
    for _, entry in ipairs(kept.spreads) do if entry.name then names[#names + 1] = entry.name end end
    return names
  end
  function host.spread_close(name)
    for _, entry in ipairs(kept.spreads) do
      if entry.name == name then entry.name = nil return true end
    end
    return false
  end
  function host.spread_add(id, name)
    local s = at(id)
    if s.placed[name] then return false end
    if not known(s, name) then table.insert(s.order, name) end
    put(s, choose(s, name), name)
    return true
  end
  function host.spread_remove(id, name)
    if not at(id).placed[name] then return false end
    pull(at(id), name)
    return true
  end
  function host.spread_find(id, name) return at(id).placed[name] end
  function host.spread_next(id, cursor, limit)
    local list, s = {}, at(id)
    for i = cursor + 1, #s.order do
      if s.placed[s.order[i]] then list[#list + 1] = s.order[i] end
      if #list == limit then return list, i end
    end
    return list
  end
  function host.spread_take(id, c, what, limit)
    local s, list = at(id), {}
    for _, name in ipairs(changes(s, c, what)) do if #list < limit then list[#list + 1] = name end end
    for _, name in ipairs(list) do s.told[c][name] = what == "added" or nil end
    s.batch[c][what] = list
    if #list > 0 then return array(list), #list end
  end
  function host.spread_give_back(id, c, what)
    for _, name in ipairs(at(id).batch[c][what] or {}) do at(id).told[c][name] = what == "removed" or nil end
    at(id).batch[c][what] = nil
  end
  function host.spread_sent(id, c, what) at(id).batch[c][what] = nil end
  function host.spread_slot(id, c, slot)
    local names = { unpack(at(id).slots[c][slot + 1] or {}) }
    return array(names), #names
  end
  function host.spread_take_slot(id, c)
    for slot = 0, #at(id).slots[c] - 1 do
      if at(id).dirty[c][slot] then
        at(id).dirty[c][slot] = nil
        local names, count = host.spread_slot(id, c, slot)
        return names, count, slot
      end
    end
  end
  function host.spread_touch_slot(id, c, slot) at(id).dirty[c][slot] = true end
  function host.spread_retell(id, c)
    for name, placed in pairs(at(id).placed) do if placed == c then at(id).told[c][name] = nil end end
  end
  function host.spread_restart(id, c)
    at(id).told[c] = {}
    for slot = 0, #at(id).slots[c] - 1 do at(id).dirty[c][slot] = true end
  end
  function host.spread_chunk(id, c, chunk)
    local s, names = at(id), {}
    for _, slot in ipairs(s.slots[c]) do for _, name in ipairs(slot) do names[#names + 1] = name end end
    s.chunks[c], s.slots[c] = chunk, {}
    for _, name in ipairs(names) do put(s, c, name) end
  end
  function host.spread_stats(id, c)
    local s, count = at(id), 0
    for _ in pairs(s.placed) do count = count + 1 end
    if not c then return { names = count, connections = #s.slots, chunk = s.chunk } end
    return { names = load_of(s, c), slots = #s.slots[c], added = #changes(s, c, "added"),
             removed = #changes(s, c, "removed"), chunk = s.chunks[c] }
  end
  function host.spread_pending(id)
    local s, n = at(id), 0
    for c = 1, #s.slots do
      n = n + #changes(s, c, "added") + #changes(s, c, "removed")
      for _ in pairs(s.dirty[c]) do n = n + 1 end
    end
    return n
  end
end
