--- Stock alerts of a deduplicator: a function of how many gatherers there ought to be. One that stands by is not at work,
--- so what it does not do is no fault.

local AT_WORK = " and dedup_standby == 0"

-- Copies of each record over five minutes. Streams whose records are observations have one each.
local function copies(stream, least)
  local polled = ('rate(tidemill_polled_rows_total{stream="%s"}, "5m")'):format(stream)
  local written = ('rate(tidemill_written_rows_total{stream="%s"}, "5m")'):format(stream)
  return ("(%s / %s < %g and %s > 0)"):format(polled, written, least, written)
end

return function(gatherers)
  local least = gatherers - 0.5
  return {
    -- ---- gatherers ----
    { "GathererDown", {
      when = ("sum(dedup_gatherer_health) < %d"):format(gatherers) .. AT_WORK, hold = "5s",
      summary = ("{value} of %d gatherers can be read"):format(gatherers),
      description = "Nothing is missing while one of them lives. Replace it within hours.",
    } },
    { "OneGathererLeft", {
      when = "sum(dedup_gatherer_health) == 1 and count(dedup_gatherer_health) > 1" .. AT_WORK, hold = "5s",
      severity = "critical",
      summary = "a single gatherer can be read: what it misses now is lost",
    } },
    { "NoGatherer", {
      when = "sum(dedup_gatherer_health) == 0" .. AT_WORK, hold = "5s", severity = "critical",
      summary = "no gatherer can be read: nothing reaches production, perhaps nothing is collected",
    } },
    { "GathererLagging", {
      when = "dedup_gatherer_lag_seconds > 60", hold = "30s", clear = "max(dedup_gatherer_lag_seconds) < 30",
      summary = "a gatherer is {value} s behind: {labels}",
    } },
    { "TooFewCopies", {
      when = copies("orderbook_deltas", least) .. " or " .. copies("trades", least), hold = "5m",
      summary = ("records come from %s gatherers, of %d: one of them is deaf in part"):format("{value}", gatherers),
    } },
    { "HistoryRefused", {
      when = 'rate(tidemill_poll_holes_total, "5m") > 0', severity = "critical",
      summary = "a gatherer's history has a hole or a fork: its stream is not read any more; see the log",
    } },
    { "RowsLost", {
      when = 'rate(dedup_absent_rows_total{reason="lost"}, "5m") > 0', severity = "critical",
      summary = "rows were stepped over that a gatherer lost or expired; the ledger in `gaps` says which",
    } },
    { "AmbiguousCounts", {
      when = 'rate(tidemill_ambiguous_keys_total, "15m") > 0', severity = "info",
      summary = "of some repeated records fewer may be stored than were sent; see tidemill.ambiguous",
    } },

    -- ---- the archive ----
    { "ExportLagging", {
      when = "max(export_lag_seconds) > 7200" .. AT_WORK, hold = "5m", clear = "max(export_lag_seconds) < 3600",
      summary = "the archive is {value} s overdue: days that production should drop stay until it has them",
    } },
    { "ExportsFail", {
      when = 'rate(export_errors_total, "15m") > 0', hold = "10m",
      summary = "exports to the archive fail: {labels}; they are tried again",
    } },
    { "ArchiveDamaged", {
      when = 'rate(export_errors_total{type="damaged"}, "15m") > 0', severity = "critical",
      summary = "objects of the archive are missing or damaged; what production still had was written again",
      description = "`tidemill archive verify --deep` names them. Look who may write to the target besides this.",
    } },

    -- ---- lag ----
    { "SyncLagHigh", {
      when = "dedup_sync_lag_seconds > 30", hold = "10s", clear = "dedup_sync_lag_seconds < 15",
      summary = "production is {value} s behind the gatherers",
    } },
    { "SyncLagCritical", {
      when = "dedup_sync_lag_seconds > 300", hold = "10s", clear = "dedup_sync_lag_seconds < 150", severity = "critical",
      summary = "production is {value} s behind the gatherers",
    } },

    -- ---- production ----
    { "RdsConnectionErrors", {
      when = 'rate(rds_connection_errors_total, "1m") > 0', hold = "1m",
      summary = "sessions with production keep failing; the gatherers keep the records meanwhile",
    } },
    { "RdsDown", {
      when = "dedup_rds_connected == 0", hold = "2m", severity = "critical", -- longer than a failover takes
      summary = "production has been away for {hold}",
    } },
    { "NobodyWrites", {
      when = "dedup_lease_held == 0 and dedup_rds_connected == 1" .. AT_WORK, hold = "30s", severity = "critical",
      summary = "production is there and {id} neither writes nor stands by",
    } },
    { "ShardNotMerged", {
      when = "dedup_shards_free > 0 and dedup_rds_connected == 1", hold = "30s", severity = "critical",
      summary = "{value} of production's shards are nobody's to merge: its deduplicators do not take them",
    } },
    { "LeaseTakenOver", {
      when = 'rate(dedup_lease_takeovers_total, "5m") > 0',
      summary = "{id} took over from a deduplicator that died or hung",
    } },
    { "RowsQuarantined", {
      when = 'rate(tidemill_quarantined_rows_total, "5m") > 0',
      summary = "production cannot take some rows: {labels}; see `tidemill quarantine`",
    } },
  }
end
