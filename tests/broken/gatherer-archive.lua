local tm = require "tidemill"
require "kalshi.streams"
tm.gatherer { id = "g", store = "dbname=s", data = "d", archive = { to = "file:///a", lag = "1h" } } --> unknown key "lag"
