local tm = require "tidemill"
tm.gatherer { id = "g1" } --> missing key "data" --> missing key "store"
