local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "d", helth = "127.0.0.1:1" } --> unknown key "helth", did you mean "health"?
