local tm = require "tidemill"
tm.gatherer { id = "g 1", store = "dbname=x", data = "d" } --> id: expected an id of letters, digits
