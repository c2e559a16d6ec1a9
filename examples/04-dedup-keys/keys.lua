-- What makes two records the same: gatherers and deduplicator have to agree, so both require this file.

local tm = require "tidemill"
require "kalshi.streams"

-- How long keys are remembered, and in how much memory. What a repeat brings later than that meets the unique index of
-- the table instead.
tm.dedup("trades", { window = "72h", memory = "256MiB" })

-- From this moment of exchange time on, changes of a price level are numbered in the order they came, whatever their
-- amount; those before it keep the stock key, which counts equal amounts only.
tm.dedup("orderbook_deltas", {
  key  = { "ticker", "exchange_ts", "side", "price" },
  from = tm.env("KEYS_FROM", "2027-01-01T00:00:00Z"),
})
