local tm = require "tidemill"
require "kalshi.streams"
tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=g", retain = { tickers = "1h" } } --> tickers: expected 1d to 36500d
