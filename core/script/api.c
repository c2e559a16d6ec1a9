/* The index of all that Lua can reach: the table of require "tidemill.host". */
#include "script/frozen.h"
#include "script/script_impl.h"

void tm_api_push(lua_State *L)
{
    lua_newtable(L);
    tm_api_base(L);
    tm_api_clock(L);
    tm_api_task(L);
    tm_api_http(L);
    tm_api_link(L);
    tm_api_rows(L);
    tm_api_registry(L);
    tm_api_metric(L);
    tm_api_spread(L);
    tm_api_guard(L);
    tm_api_secret(L);
    tm_api_sql(L);
    tm_api_routine(L);
    tm_api_alert(L);
    tm_api_adjust(L);
    tm_api_remote(L);
    tm_frozen_make(L, "tidemill.host");
}
