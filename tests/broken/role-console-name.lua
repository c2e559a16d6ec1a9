local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "d", console_names = { "g1.example.com", "g1:8080" } } --> console_names: [2]: expected a host name without a port
