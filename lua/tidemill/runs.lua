--- The stream recovery_runs: what recovery routines did, as rows that go the way of all others (journal, store,
--- production). A run has a row when it starts and one when it has ended, under the same run_id. A deduplicator needs
--- this declaration to carry them.

local stream = require "tidemill.stream"

stream.stream "recovery_runs" {
  columns = {
    { "run_id", "uuid", not_null = true },
    { "routine", "text", not_null = true },
    { "subject", "text", not_null = true },
    { "event", "text", not_null = true },
    { "state", "text", not_null = true, one_of = { "running", "done", "failed", "timeout", "cancelled" } },
    { "started_at", "timestamptz", not_null = true },
    { "ended_at", "timestamptz" },
    { "dry", "bool", not_null = true },
    { "attempt", "int4", not_null = true },
    { "steps", "jsonb" },
    { "error", "text" },
    { "received_at", "timestamptz", not_null = true },
  },
  observer = true,
}

stream.kind "recovery_run" {
  document = true, stream = "recovery_runs",
  from = {
    run_id = "run_id",
    routine = "routine",
    subject = "subject",
    event = "event",
    state = "state",
    started_at = stream.micros "started_at",
    ended_at = stream.micros "ended_at",
    dry = "dry",
    attempt = "attempt",
    steps = "steps",
    error = "error",
    received_at = stream.received_at,
  },
}
