local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
kalshi.exchange { ws_url = "ws://127.0.0.1:1/ws", rest_url = "https://127.0.0.1.example.com" } --> for https://127.0.0.1.example.com, got neither
