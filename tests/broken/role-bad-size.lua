local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "d", journal = "8GB" } --> journal: expected a size like "64MiB" or "8GiB", got "8GB"
