local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "d", metrics = "localhost" } --> metrics: expected "address:port" like "127.0.0.1:8080"
