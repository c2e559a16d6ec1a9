rockspec_format = "3.0"
package = "tidemill"
version = "scm-1"

source = { url = "git+file://." } -- `luarocks make rockspec/tidemill-scm-1.rockspec` builds what is checked out

description = {
  summary = "The Lua library of Tidemill, a scriptable market-data ingestion engine",
  detailed = [[
What policy scripts require: declarations, events, recovery routines, stock alerts, the Kalshi adapter. Inside the
engine the module tidemill.host is built in; outside of it the library runs against a simulated one, so that scripts can
be checked and tested by any Lua test runner and editors find its types.]],
  license = "Apache-2.0",
}

dependencies = { "lua == 5.1" } -- LuaJIT

build = {
  type = "builtin",
  modules = {
    ["alerts"] = "lua/alerts/init.lua",
    ["alerts.common"] = "lua/alerts/common.lua",
    ["alerts.deduplicator"] = "lua/alerts/deduplicator.lua",
    ["alerts.gatherer"] = "lua/alerts/gatherer.lua",
    ["kalshi.frames"] = "lua/kalshi/frames.lua",
    ["kalshi"] = "lua/kalshi/init.lua",
    ["kalshi.markets"] = "lua/kalshi/markets.lua",
    ["kalshi.session"] = "lua/kalshi/session.lua",
    ["kalshi.streams"] = "lua/kalshi/streams.lua",
    ["recovery.archive"] = "lua/recovery/archive.lua",
    ["recovery.backfill"] = "lua/recovery/backfill.lua",
    ["recovery.common"] = "lua/recovery/common.lua",
    ["recovery"] = "lua/recovery/init.lua",
    ["recovery.pause"] = "lua/recovery/pause.lua",
    ["recovery.rebuild"] = "lua/recovery/rebuild.lua",
    ["recovery.reconcile"] = "lua/recovery/reconcile.lua",
    ["recovery.resync"] = "lua/recovery/resync.lua",
    ["recovery.snapshots"] = "lua/recovery/snapshots.lua",
    ["tidemill.alert"] = "lua/tidemill/alert.lua",
    ["tidemill.check"] = "lua/tidemill/check.lua",
    ["tidemill.chooser"] = "lua/tidemill/chooser.lua",
    ["tidemill.declare"] = "lua/tidemill/declare.lua",
    ["tidemill.event"] = "lua/tidemill/event.lua",
    ["tidemill.feed"] = "lua/tidemill/feed.lua",
    ["tidemill.http"] = "lua/tidemill/http.lua",
    ["tidemill"] = "lua/tidemill/init.lua",
    ["tidemill.manual"] = "lua/tidemill/manual.lua",
    ["tidemill.meta"] = "lua/tidemill/meta.lua",
    ["tidemill.metric"] = "lua/tidemill/metric.lua",
    ["tidemill.notify"] = "lua/tidemill/notify.lua",
    ["tidemill.problems"] = "lua/tidemill/problems.lua",
    ["tidemill.remote"] = "lua/tidemill/remote.lua",
    ["tidemill.repl.complete"] = "lua/tidemill/repl/complete.lua",
    ["tidemill.repl.help"] = "lua/tidemill/repl/help.lua",
    ["tidemill.repl"] = "lua/tidemill/repl/init.lua",
    ["tidemill.repl.pretty"] = "lua/tidemill/repl/pretty.lua",
    ["tidemill.repl.process"] = "lua/tidemill/repl/process.lua",
    ["tidemill.repl.tap"] = "lua/tidemill/repl/tap.lua",
    ["tidemill.repl.verbs"] = "lua/tidemill/repl/verbs.lua",
    ["tidemill.role"] = "lua/tidemill/role.lua",
    ["tidemill.routine"] = "lua/tidemill/routine.lua",
    ["tidemill.rule"] = "lua/tidemill/rule.lua",
    ["tidemill.runs"] = "lua/tidemill/runs.lua",
    ["tidemill.secret"] = "lua/tidemill/secret.lua",
    ["tidemill.shape"] = "lua/tidemill/shape.lua",
    ["tidemill.simulator"] = "lua/tidemill/simulator.lua",
    ["tidemill.spread"] = "lua/tidemill/spread.lua",
    ["tidemill.sql"] = "lua/tidemill/sql.lua",
    ["tidemill.state"] = "lua/tidemill/state.lua",
    ["tidemill.stream"] = "lua/tidemill/stream.lua",
    ["tidemill.summary"] = "lua/tidemill/summary.lua",
    ["tidemill.test"] = "lua/tidemill/test.lua",
    ["tidemill.test.expect"] = "lua/tidemill/test/expect.lua",
    ["tidemill.test.runner"] = "lua/tidemill/test/runner.lua",
    ["tidemill.units"] = "lua/tidemill/units.lua",
  },
}
