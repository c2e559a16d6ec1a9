local tm = require "tidemill"
tm.gatherer "g1" --> expected a table { ... }, got "g1"
