--! declares no role: expected tm.gatherer { ... } or tm.deduplicator { ... }
require "kalshi.streams"
