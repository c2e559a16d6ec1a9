--- help(): what there is to say, by group, word and topic.

local pretty = require "tidemill.repl.pretty"
local process = require "tidemill.repl.process"
local verbs = require "tidemill.repl.verbs"

local help = {}

local groups = {
  { "look", "Look" }, { "live", "Live" }, { "operate", "Operate (role operate)" }, { "change", "Change (role admin)" },
}

local topics = {
  start = [[
Begin with problems() and status(). A word alone on a line is called: "problems" is problems().
What comes back is data: links()[1].state, #alerts(). "_" is the last result. Variables are this session's alone and
survive a reload of the script. An unfinished line goes on in the next one; an empty line ends it in any case.
Ctrl-C cancels the command under way, Ctrl-D leaves. Tab completes names of the running process.]],
  oncall = [[
  problems()                              what is wrong, and why
  links()                                 which connection is silent
  gaps { n = 5 }                          what was missed, by the ledger
  dry("resync", "orderbook_delta/1")      what a recovery routine would do
  run("resync", "orderbook_delta/1")      do it, step by step
  tap "trades" { n = 5 }                  see records come again
  changes()                               what was changed by hand, to be kept or forgotten]],
  roles = [[
read looks at everything; operate may also reload, reconnect, run routines, set the log level and end commands of others;
admin may also change alerts, windows and subscriptions, query the database and run policy. Root and the process's own user
are admin; others are what the role's control setting in the script says.]],
  limits = [[
A command runs in slices between the other work of the policy thread, 2 s of CPU time in all (control.cpu), 32 MiB of
memory (control.memory), 1 MiB of output; a session ends after 10 idle minutes. The feed, the journal and the stores have
threads of their own and do not notice.]],
  changes = [[
alert, window, memory, subscribe, unsubscribe and log_level change the running process until the next reload, which brings
what the script says. changes() prints them as a script that does them again, and what to write into the script to keep
them.]],
  json = [[
tidemill eval --json 'links()' prints JSON. Programs speak frames on the socket: the line "frames", then LENGTH, a line
break and so many bytes of JSON, both ways: {"id":1,"op":"eval","text":"status()","json":true}.]],
}

local order = { "start", "oncall", "roles", "limits", "changes", "json" }

function help.topics()
  local names = {}
  for name in pairs(topics) do names[#names + 1] = name end
  for name in pairs(verbs.all) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function overview(style)
  local lines = {}
  for _, group in ipairs(groups) do
    lines[#lines + 1] = pretty.paint(style, "head", group[2])
    for _, name in ipairs(verbs.order) do
      local verb = verbs.all[name]
      if verb.group == group[1] then
        lines[#lines + 1] = ("  %s %s"):format(pretty.paint(style, "name", ("%-14s"):format(name)), verb.help:match "^[^.:;]+")
      end
    end
  end
  local more = ('help WORD, %s; help "tm.alert" for what scripts use'):format(table.concat(order, ", "))
  lines[#lines + 1] = pretty.paint(style, "head", "More") .. ": " .. more
  return table.concat(lines, "\n")
end

--- The text for a topic, or nil.
function help.text(topic, style)
  if topic == nil then return overview(style) end
  if verbs.is_verb(topic) then topic = topic.name end
  local verb = verbs.all[topic]
  if not verb then return topics[topic] end
  local text = ("  %s\n%s"):format(pretty.paint(style, "name", verb.usage), verb.help)
  return topics[topic] and text .. "\n" .. topics[topic] or text -- a topic of the same name says more
end

--- What the reference of the script's library says: help "tm.alert".
function help.manual(topic)
  if type(topic) ~= "string" or not topic:find "^[%w_.:]+$" then return nil end
  local ok, text = pcall(process.ask, "manual " .. topic)
  return ok and pretty.safe((text:gsub("%s+$", "")), true) or nil
end

return help
