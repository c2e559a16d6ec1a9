-- What Slack, PagerDuty and Alertmanager are sent: their shapes as their documentation has them, by hand.

local t = require "tidemill.test"

local posts -- { path, body } in the order of arrival

local function begin(answer)
  posts = {}
  t.load("told.lua", { env = { KEY = "R0UTINGKEY" } })
  t.http(function(request)
    posts[#posts + 1] = { path = request.url:match "[^/]*$", body = t.json.decode(request.body) }
    return answer and answer(request) or { status = 202 }
  end)
  t.start()
end

local function to(path)
  local list = {}
  for _, post in ipairs(posts) do
    if post.path == path then list[#list + 1] = post.body end
  end
  return list
end

local function x(value, duration)
  t.measure("x", value)
  t.advance(duration)
end

t.test("Slack", function()
  begin()
  x(7, "5s")
  x(0, "5s")
  local list = to "slack"
  t.equal(#list, 2) -- the small one is below its severity
  t.equal(list[1].text, "[critical] Lag: g1: &lt;7&gt; &amp; more")
  local attachment = list[1].attachments[1]
  t.equal(attachment.color, "#d72631")
  t.equal(attachment.title, "[critical] Lag")
  t.equal(attachment.title_link, "https://runbook/lag")
  t.equal(attachment.ts, 1767225600)
  t.equal(attachment.fields[4], { title = "team", value = "data", short = true })
  t.matches(list[2].text, "^%[resolved%] Lag")
end)

t.test("PagerDuty", function()
  begin()
  x(7, "5s")
  x(0, "5s")
  local list = to "pager"
  t.equal(#list, 2)
  t.equal(list[1].routing_key, "R0UTINGKEY")
  t.equal(list[1].event_action, "trigger")
  t.equal(list[1].dedup_key, "g1/Lag")
  t.equal(list[1].links, { { href = "https://runbook/lag", text = "runbook" } })
  local payload = list[1].payload
  t.equal({ payload.summary, payload.source, payload.severity, payload.timestamp, payload.component },
    { "g1: <7> & more", "g1", "critical", "2026-01-01T00:00:00Z", "tidemill" })
  t.equal({ list[2].event_action, list[2].dedup_key, list[2].routing_key }, { "resolve", "g1/Lag", "R0UTINGKEY" })
end)

t.test("Alertmanager is told of all that fires each minute, and of what is over", function()
  begin()
  x(7, "3m")
  x(0, "5s")
  local list = to "alertmanager"
  local first = list[1][1]
  t.equal(first.labels, { alertname = "Lag", severity = "critical", instance = "g1", job = "tidemill", team = "data" })
  t.equal(first.annotations, { summary = "g1: <7> & more", runbook_url = "https://runbook/lag" })
  t.equal({ first.startsAt, first.endsAt }, { "2026-01-01T00:00:00Z", "2026-01-01T00:04:00Z" })
  local both = 0
  for _, alerts in ipairs(list) do both = both + (#alerts == 2 and 1 or 0) end
  t.equal(both, 3)
  local last = list[#list - 1][1]
  t.equal({ last.labels.alertname, last.startsAt, last.endsAt }, { "Lag", nil, "2026-01-01T00:03:01Z" })
  local before = #list
  t.advance "5m"
  t.equal(#to "alertmanager", before) -- nothing fires
end)

t.test("Alertmanager away: what fires is not queued over and over", function()
  begin(function(request) return request.url:find "alertmanager" and { status = 503 } or nil end)
  x(7, "8m")
  local moments, count = {}, 0 -- of the same refresh all tries have the same
  for _, alerts in ipairs(to "alertmanager") do
    if #alerts == 2 and not moments[alerts[1].endsAt] then moments[alerts[1].endsAt], count = true, count + 1 end
  end
  t.truthy(count >= 1 and count <= 3, "there were " .. count .. " refreshes")
end)

t.test("a silence keeps quiet, and what fires still is told at its end", function()
  begin()
  t.emit "quiet"
  x(7, "9m")
  t.equal(t.alert("Lag").state, "firing")
  t.equal(t.alert("Lag").silenced, true)
  t.equal(#to "slack", 0)
  for _, alerts in ipairs(to "alertmanager") do
    for _, alert in ipairs(alerts) do t.equal(alert.labels.alertname, "Small") end
  end
  t.advance "2m"
  t.equal(#to "slack", 1)
  t.equal(t.alert("Lag").silenced, false)
  t.emit "quiet"
  t.emit "loud"
  t.equal(t.failures(), {})
  t.emit "loud"
  t.matches(t.failures()[1].message, "there is no silence of L%* to end")
end)

t.test("messages that are no alerts", function()
  begin()
  local bodies = {}
  t.http(function(request)
    bodies[#bodies + 1] = request.body
    return {}
  end)
  t.emit "say"
  t.advance "1s"
  t.equal(bodies, { "hello\nn: 1" })
  t.emit "say_wrong"
  t.matches(t.failures()[1].message, "alertmanager is an Alertmanager, which takes alerts and no messages")
end)
