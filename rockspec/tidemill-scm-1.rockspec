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
  modules = {},
}
