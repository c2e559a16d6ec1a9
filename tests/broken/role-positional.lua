local tm = require "tidemill"
tm.gatherer { "g1", id = "g1", store = "dbname=x", data = "d" } --> expected names only, got a value without a name at position 1
