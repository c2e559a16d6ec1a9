local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken", store_limit = "1MiB" } --> store_limit: expected 16MiB or more
