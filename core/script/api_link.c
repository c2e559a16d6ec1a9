/* host: link_open, link_close, link_opening, link_send, link_drop, link_tell, link_reconnect, link_stats, link_subscriptions. Links
 * are found by their name, so that a reloaded script finds the ones that are open. */
#include "script/script_impl.h"

#include <string.h>

static struct tm_services *gatherer_of(lua_State *L, const char *change)
{
    struct tm_services *services = change ? tm_script_services_anew(L, change) : tm_script_services(L, "a link");
    if (!services->gatherer)
        luaL_error(L, "links are a gatherer's: this script declares a deduplicator");
    return services;
}

static int check_link(lua_State *L, const struct tm_services *services)
{
    int link = (int)luaL_checkinteger(L, 1);
    if (link < 0 || link >= TM_LINKS_MAX || !services->links[link])
        luaL_error(L, "link: it is closed");
    return link;
}

static const struct tm_config_feed *check_feed(lua_State *L)
{
    struct tm_config *config = &tm_script_of(L)->config;
    lua_Integer feed = luaL_checkinteger(L, 1);
    if (feed < 1 || (size_t)feed > config->feed_count)
        luaL_error(L, "link_open: expected a feed declared with tm.feed");
    return &config->feeds[feed - 1];
}

/* The link of that name becomes this one, whichever generation opened it. */
static int open_or_update(struct tm_services *services, const struct tm_gatherer_link *link, struct tm_error *err)
{
    int id = tm_services_find_link(services, link->name);
    if (id >= 0) {
        int rc = tm_gatherer_link_update(services->gatherer, id, link);
        return rc < 0
                   ? tm_error_set(err, rc, "it cannot become what feed \"%s\" says: %s", link->ws.url, tm_code_name(rc))
                   : id;
    }
    id = tm_gatherer_link_add(services->gatherer, link, err);
    if (id >= 0)
        services->links[id] = strdup(link->name);
    return id;
}

/* link_open(feed, name, listed?) -> id, opened anew */
static int link_open(lua_State *L)
{
    struct tm_services *services = gatherer_of(L, "opening a link");
    const struct tm_script *script = tm_script_of(L);
    const struct tm_config_feed *feed = check_feed(L);
    const char *name = luaL_checkstring(L, 2);
    bool opened = tm_services_find_link(services, name) < 0;
    struct tm_gatherer_link link = {
        .name = name, .ws = feed->ws, .quiet_us = feed->quiet_us, .listed = lua_toboolean(L, 3)};
    struct tm_error err;
    link.ws.auth = feed->signer >= 0 ? script->config.signers[feed->signer].auth : NULL;
    int id = open_or_update(services, &link, &err);
    if (id < 0)
        return luaL_error(L, "link %s: %s", name, err.message);
    services->link_generations[id] = script->generation;
    lua_pushinteger(L, id);
    lua_pushboolean(L, opened);
    return 2;
}

static int link_close(lua_State *L)
{
    struct tm_services *services = gatherer_of(L, "closing a link");
    tm_services_close_link(services, check_link(L, services));
    return 0;
}

static int push_result(lua_State *L, int rc)
{
    lua_pushboolean(L, rc >= 0);
    if (rc >= 0)
        return 1;
    lua_pushstring(L, tm_code_name(rc));
    return 2;
}

/* link_opening(id, slot, bytes, send) -> true | false, why; empty bytes remove the frame of that slot */
static int link_opening(lua_State *L)
{
    struct tm_services *services = gatherer_of(L, "setting an opening frame");
    int link = check_link(L, services);
    lua_Integer slot = luaL_checkinteger(L, 2);
    size_t len;
    const char *bytes = luaL_checklstring(L, 3, &len);
    if (slot < 0 || slot > 999999)
        return luaL_error(L, "link: expected an opening slot from 0 to 999999");
    return push_result(
        L, tm_gatherer_link_opening(services->gatherer, link, (uint32_t)slot, bytes, len, lua_toboolean(L, 4)));
}

/* link_send(id, bytes) -> true | false, why */
static int link_send(lua_State *L)
{
    struct tm_services *services = gatherer_of(L, NULL);
    int link = check_link(L, services);
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    return push_result(L, tm_gatherer_link_send(services->gatherer, link, bytes, len));
}

/* link_drop(id, tickers) -> true | false, why; one ticker a line */
static int link_drop(lua_State *L)
{
    struct tm_services *services = gatherer_of(L, NULL);
    int link = check_link(L, services);
    size_t len;
    const char *tickers = luaL_checklstring(L, 2, &len);
    return push_result(L, tm_gatherer_link_drop(services->gatherer, link, tickers, len));
}

/* link_tell(id, kind?) -> true | false, why: each row of that kind raises the event "row"; no kind ends it */
static int link_tell(lua_State *L)
{
    struct tm_services *services = gatherer_of(L, NULL);
    int link = check_link(L, services);
    const char *kind = luaL_optstring(L, 2, NULL);
    if (kind && !tm_plan_kind_by_tag(services->plan, kind))
        return luaL_error(L, "link: there is no kind '%s'", kind);
    return push_result(L, tm_gatherer_link_tell(services->gatherer, link, kind));
}

static int link_reconnect(lua_State *L)
{
    struct tm_services *services = gatherer_of(L, NULL);
    tm_gatherer_link_reconnect(services->gatherer, check_link(L, services));
    return 0;
}

/* link_stats(id) -> {state, ups, messages, rows, gaps} | nil */
static int link_stats(lua_State *L)
{
    struct tm_services *services = gatherer_of(L, NULL);
    struct tm_gatherer_link_stats stats;
    if (tm_gatherer_link_stats(services->gatherer, check_link(L, services), &stats) < 0)
        return 0;
    lua_createtable(L, 0, 5);
    lua_pushstring(L, tm_link_state_name(stats.link.state));
    lua_setfield(L, -2, "state");
    lua_pushnumber(L, (lua_Number)stats.link.ups);
    lua_setfield(L, -2, "ups");
    lua_pushnumber(L, (lua_Number)stats.link.messages);
    lua_setfield(L, -2, "messages");
    lua_pushnumber(L, (lua_Number)stats.rows);
    lua_setfield(L, -2, "rows");
    lua_pushnumber(L, (lua_Number)stats.gaps);
    lua_setfield(L, -2, "gaps");
    return 1;
}

/* link_subscriptions(id) -> {channel = sid}: what the other side has confirmed since the link came up */
static int link_subscriptions(lua_State *L)
{
    struct tm_services *services = gatherer_of(L, NULL);
    const struct tm_service_subscriptions *all = &services->subscriptions[check_link(L, services)];
    lua_createtable(L, 0, (int)all->count);
    for (size_t i = 0; i < all->count; i++) {
        lua_pushnumber(L, (lua_Number)all->list[i].sid);
        lua_setfield(L, -2, all->list[i].channel);
    }
    return 1;
}

void tm_api_link(lua_State *L)
{
    static const luaL_Reg functions[] = {{"link_open", link_open},
                                         {"link_close", link_close},
                                         {"link_opening", link_opening},
                                         {"link_send", link_send},
                                         {"link_drop", link_drop},
                                         {"link_tell", link_tell},
                                         {"link_reconnect", link_reconnect},
                                         {"link_stats", link_stats},
                                         {"link_subscriptions", link_subscriptions},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
