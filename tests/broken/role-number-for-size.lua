local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "d", buffer = 64 } --> buffer: expected a size like "64MiB" or "8GiB", got a number
