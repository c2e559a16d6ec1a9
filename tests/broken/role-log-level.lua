local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "d", log_level = "warning" } --> log_level: unknown value "warning", did you mean "warn"?
