--- Stock alerts of every process.

return {
  { "PolicyStuck", {
    when = 'rate(tidemill_engine_alerts_total{alert="PolicyStuck"}, "5m") > 0', severity = "critical",
    summary = "{id}: the thread of the scripts hung: no handler, timer or command ran meanwhile; the feed went on",
    description = "The log says when and for how long; /health says so while it lasts. Look for a handler that computes too long.",
  } },
  { "ClockStepped", {
    when = 'rate(tidemill_clock_steps_total, "5m") > 0',
    summary = "{id}: the wall clock was set",
    description = "Times of arrival jump; order, cursors and keys do not depend on them. See to the time service.",
  } },
  { "ScriptErrors", {
    when = 'rate(tidemill_script_errors_total, "5m") > 0',
    summary = "{id}: functions of the script fail; see the log",
  } },
  { "CallbacksDisabled", {
    when = "tidemill_callbacks_disabled > 0",
    summary = "{id}: {value} functions of the script failed too often and do not run any more, until the next reload",
  } },
  { "ReloadFailed", {
    when = "tidemill_reload_last_result == 0",
    summary = "{id}: the last reload was refused, the script before it goes on; `tidemill status` says why",
  } },
  { "NotificationsLost", {
    when = 'rate(tidemill_notify_dropped_total, "15m") > 0',
    summary = "{id}: messages were given up; {labels}",
  } },
  { "SeriesDropped", {
    when = 'rate(tidemill_metrics_dropped_series_total, "15m") > 0',
    summary = "{id}: there are too many series, further ones are counted together",
  } },
  { "LogLost", {
    when = 'rate(tidemill_log_lost_total, "5m") > 0',
    summary = "{id}: lines of the log are lost: whoever reads stderr is too slow, hangs or has a full disk",
  } },
  { "Watchdog", {
    deadman = true,
    summary = "{id} is alive; whoever does not hear this any more should look",
  } },
}
