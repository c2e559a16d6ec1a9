--- Stock alerts of a gatherer.

return {
  -- ---- the exchange ----
  { "AllWebSocketsDisconnected", {
    when = "sum(ws_client_connected) == 0", hold = "30s", severity = "critical",
    summary = "gatherer {id} hears nothing: no WebSocket connection is up",
    description = "If the others hear nothing either, the exchange is out: wait, they come back by themselves.",
  } },
  { "WebSocketDown", {
    when = "ws_connection_up == 0", hold = "1m",
    summary = "gatherer {id}: a connection to the exchange does not come up: {labels}",
  } },
  { "FeedSilent", {
    when = "tidemill_last_message_age_seconds > 120 and sum(ws_client_connected) > 0",
    clear = "tidemill_last_message_age_seconds < 60",
    summary = "gatherer {id} is connected and has heard nothing for {value} s",
  } },
  { "RestErrors", {
    when = 'rate(market_registry_rest_errors_total, "10m") > 0', hold = "1m",
    summary = "gatherer {id}: requests to the exchange fail: {labels}",
  } },
  { "FeedGaps", {
    when = 'rate(tidemill_gaps_total, "5m") > 0',
    summary = "gatherer {id} has missed messages; the ledger in `gaps` says which",
  } },
  { "UnknownFrames", {
    when = 'rate(tidemill_frames_unknown_total, "5m") + rate(tidemill_frames_malformed_total, "5m") > 0.02',
    summary = "gatherer {id}: frames are not understood; they are kept in unknown_frames",
  } },
  { "EventsDropped", {
    when = 'rate(tidemill_events_dropped_total, "5m") > 0',
    summary = "gatherer {id}: the script did not take its events in time",
  } },

  -- ---- the journal and its disk ----
  { "NotDurable", {
    when = "tidemill_last_durable_age_seconds > 5", hold = "2s", severity = "critical",
    summary = "gatherer {id}: what it hears does not become durable; look at the journal's disk",
  } },
  { "RowsDiscarded", {
    when = 'sum(rate(tidemill_rows_discarded_total, "5m")) > 0', severity = "critical",
    summary = "gatherer {id} gives records up, because the journal takes no more",
  } },
  { "JournalFilling", {
    when = "tidemill_journal_bytes > 0.8 * tidemill_journal_bytes_max", hold = "10s",
    clear = "tidemill_journal_bytes < 0.7 * tidemill_journal_bytes_max",
    summary = "gatherer {id}: the journal is near its bound: its database takes too little",
  } },
  { "DiskHoursLow", {
    when = "tidemill_disk_left_seconds / 3600 < 24", hold = "5m", clear = "tidemill_disk_left_seconds / 3600 > 30",
    summary = "gatherer {id}: at this rate the disk is full in {value} hours",
  } },
  { "DiskHoursCritical", {
    when = "tidemill_disk_left_seconds / 3600 < 4", hold = "1m", clear = "tidemill_disk_left_seconds / 3600 > 6", severity = "critical",
    summary = "gatherer {id}: at this rate the disk is full in {value} hours",
  } },
  { "DiskNearlyFull", {
    when = "tidemill_disk_free_bytes < 2147483648", hold = "10s", clear = "tidemill_disk_free_bytes > 3221225472",
    severity = "critical", summary = "gatherer {id}: {value} bytes are free for the journal",
  } },

  -- ---- the local store ----
  { "StoreDown", {
    when = "tidemill_store_connected == 0", hold = "30s",
    summary = "gatherer {id}: its PostgreSQL is away; the journal keeps the records meanwhile",
  } },
  { "StoreErrors", {
    when = 'rate(tidemill_store_errors_total, "1m") > 0', hold = "2m",
    summary = "gatherer {id}: sessions with its PostgreSQL keep failing",
  } },
  { "StoreRowsQuarantined", {
    when = "tidemill_store_quarantine_rows > 0",
    summary = "gatherer {id}: its PostgreSQL cannot take {value} rows; see `tidemill quarantine`",
  } },
  -- at 0.8 of its bound the journal raises "disk_low" (tm.watch); these two are the local store's
  { "StoreNearlyFull", {
    when = "tidemill_store_bytes > 0.8 * tidemill_store_bytes_max and tidemill_store_bytes_max > 0", hold = "10s",
    summary = "gatherer {id}: the local store is near its bound",
  } },
  { "RowsExpired", {
    when = "sum(tidemill_store_expired_rows_total) > 0", severity = "critical", -- until somebody has looked and starts anew
    summary = "gatherer {id}: rows left the full store before production had them",
  } },
  { "ExportsFail", {
    when = 'rate(export_errors_total, "15m") > 0', severity = "critical",
    summary = "gatherer {id}: rows that have to leave the full store could not be archived first",
  } },
  { "NobodyFetches", {
    when = "tidemill_acknowledged_age_seconds > 60", hold = "10s", clear = "tidemill_acknowledged_age_seconds < 30",
    summary = "no deduplicator has taken anything from gatherer {id} for {value} s",
    description = "Collection goes on; the local store keeps the rows, as long as it has room. Restart the deduplicator.",
  } },
  { "RecoveryFailed", {
    when = 'rate(tidemill_recovery_runs_total{result="failed"}, "15m") > 0',
    summary = "gatherer {id}: a recovery routine failed: {labels}",
  } },
}
