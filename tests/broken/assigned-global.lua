local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
counter = 1 --> 'counter' is assigned as a global variable: write 'local counter' instead
