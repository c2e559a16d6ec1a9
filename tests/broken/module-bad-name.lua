local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
require "../secret" --> expected a module name like "tidemill" or "dir.file"
