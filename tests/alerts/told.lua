-- Alerts told in every shape.
local tm = require "tidemill"

tm.gatherer { id = "g1", store = "dbname=kalshi_ts", data = "data" }

tm.alert "Lag" { when = "x > 1", severity = "critical", summary = "{id}: <{value}> & more", runbook = "https://runbook/lag",
                 labels = { team = "data" } }
tm.alert "Small" { when = "x > 1", severity = "info", summary = "small" }

tm.notify "slack" { format = "slack", url = "http://127.0.0.1:1/slack", alerts = "warning" }
tm.notify "pager" { format = "pagerduty", url = "http://127.0.0.1:1/pager", key = tm.env "KEY", alerts = { "Lag" } }
tm.notify "alertmanager" { format = "alertmanager", url = "http://127.0.0.1:1/alertmanager" }
tm.notify "plain" { format = "text", url = "http://127.0.0.1:1/plain" }

tm.on("quiet", function() tm.silence("L*", "10m", "work") end)
tm.on("loud", function() tm.unsilence "L*" end)
tm.on("say", function() tm.notify.send("plain", "hello", { n = 1 }) end)
tm.on("say_wrong", function() tm.notify.send("alertmanager", "hello") end)
tm.event "quiet"
tm.event "loud"
tm.event "say"
tm.event "say_wrong"
