/*
 * Every function that Lua can reach in C, called with arguments of random number, type and value, on a real gatherer: errors
 * are fine, anything else is not. The functions are found in the host table, so a new one is fuzzed without being named.
 *
 * An input is a program for a small machine: calls, made at once or as a task (which may wait), whose arguments are values
 * of all types, among them what earlier calls returned. The world (script, gatherer without exchange and store) is made
 * anew every INPUTS_A_WORLD inputs, so a crash may need its predecessors: libFuzzer's corpus replays them.
 */
#include "base/log.h"
#include "script/script_impl.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUTS_A_WORLD 64
#define CALLS_MAX 64
#define ARGUMENTS_MAX 6
#define KEPT 16
#define NAMES_MAX 200
#define BUDGET_US 100000

static const char source[] =
    "local tm = require 'tidemill'\n"
    "require 'kalshi.streams'\n"
    "tm.gatherer { id = 'fuzz', store = 'host=/nonexistent connect_timeout=1', data = tm.env 'FUZZ_DATA', migrate = false,\n"
    "  limits = { step = '100ms', memory = '64MiB' }, journal = '16MiB', segment = '1MiB' }\n"
    "tm.feed { url = 'ws://127.0.0.1:9/' }\n"
    "tm.rest { url = 'http://127.0.0.1:9/' }\n"
    "tm.registry('markets', { 'status', 'close_time', 'volume' })\n";

struct input {
    const uint8_t *at, *end;
};

struct world {
    struct tm_script *script;
    struct tm_services services;
    struct tm_problems problems;
    char *names[NAMES_MAX];
    size_t name_count;
    int inputs;
};

static struct world world;
static char directory[] = "/tmp/tm-fuzz-XXXXXX";
static struct input in;

static unsigned take(unsigned below)
{
    return in.at < in.end ? *in.at++ % below : 0;
}

/* ---- values ---- */

static void push_text(lua_State *L)
{
    static const char *const texts[] = {
        "",
        "x",
        "market",
        "markets",
        "trades",
        "counter",
        "gauge",
        "event",
        "timer",
        "info",
        "GET",
        "http://127.0.0.1:9/",
        "{\"markets\":[{\"ticker\":\"A\",\"status\":\"active\"}]}",
        "[1,2,{\"a\":null}]",
        "markets[0].ticker",
        "%s%n%d",
        "../../etc",
        "\xff\xfe",
        "name=\"value\"",
        "1h",
        "ticker",
    };
    unsigned pick = take(sizeof texts / sizeof *texts + 3);
    if (pick < sizeof texts / sizeof *texts) {
        lua_pushstring(L, texts[pick]);
    } else if (pick == sizeof texts / sizeof *texts) {
        size_t left = (size_t)(in.end - in.at), len = take(64);
        len = len < left ? len : left;
        lua_pushlstring(L, (const char *)in.at, len);
        in.at += len;
    } else {
        luaL_Buffer b;
        luaL_buffinit(L, &b);
        for (unsigned i = take(255) * 40; i > 0; i--)
            luaL_addchar(&b, pick % 2 ? '[' : 'a');
        luaL_pushresult(&b);
    }
}

static void push_number(lua_State *L)
{
    static const double numbers[] = {0,
                                     1,
                                     2,
                                     -1,
                                     0.5,
                                     1e3,
                                     1e6,
                                     1e15,
                                     1e308,
                                     -1e308,
                                     65536,
                                     2147483647,
                                     -2147483648.0,
                                     4294967296.0,
                                     9007199254740992.0,
                                     1.0 / 0.0,
                                     0.0 / 0.0};
    unsigned pick = take(sizeof numbers / sizeof *numbers + 1);
    lua_pushnumber(L, pick < sizeof numbers / sizeof *numbers ? numbers[pick] : take(256));
}

static void push_value(lua_State *L, int depth);

static void push_table(lua_State *L, int depth)
{
    static const char *const keys[] = {"method",    "url",  "headers", "body",   "signer",  "timeout_us",
                                       "bytes_max", "name", "labels",  "market", "__index", "n"};
    lua_newtable(L);
    for (unsigned i = take(6); i > 0; i--) {
        unsigned pick = take(sizeof keys / sizeof *keys + 4);
        if (pick < sizeof keys / sizeof *keys)
            lua_pushstring(L, keys[pick]);
        else
            lua_pushinteger(L, (lua_Integer)lua_objlen(L, -1) + 1);
        push_value(L, depth + 1);
        lua_rawset(L, -3);
    }
    if (take(8) == 0) {
        lua_pushvalue(L, -1);
        lua_setmetatable(L, -2);
    }
}

static int harmless(lua_State *L)
{
    return lua_gettop(L) > 2 ? 2 : 0;
}

static void push_value(lua_State *L, int depth)
{
    luaL_checkstack(L, 8, "values");
    switch (take(11)) {
    case 0:
        lua_pushnil(L);
        break;
    case 1:
        lua_pushboolean(L, (int)take(2));
        break;
    case 2:
    case 3:
        push_number(L);
        break;
    case 4:
    case 5:
        push_text(L);
        break;
    case 6:
        if (depth < 4)
            push_table(L, depth);
        else
            lua_newtable(L);
        break;
    case 7:
        lua_pushcfunction(L, harmless);
        break;
    case 8:
        lua_pushlightuserdata(L, NULL);
        break;
    case 9:
        (void)lua_newthread(L);
        break;
    default: /* what an earlier call returned */
        lua_getfield(L, LUA_REGISTRYINDEX, "fuzz.kept");
        lua_rawgeti(L, -1, (int)take(KEPT) + 1);
        lua_remove(L, -2);
    }
}

static void push_host(lua_State *L)
{
    lua_getglobal(L, "require");
    lua_pushliteral(L, "tidemill.host");
    lua_call(L, 1, 1);
}

/* ---- calls ---- */

static int keep_results(lua_State *L, int first)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "fuzz.kept");
    for (int i = first; i < lua_gettop(L); i++) {
        lua_pushvalue(L, i);
        lua_rawseti(L, -2, (int)take(KEPT) + 1);
    }
    return 0;
}

static int call_body(lua_State *L)
{
    push_host(L);
    int host = lua_gettop(L);
    const char *name = world.names[take((unsigned)world.name_count)];
    bool as_task = take(2);
    lua_getfield(L, host, name);
    if (!lua_isfunction(L, -1))
        return 0;
    int arguments = (int)take(ARGUMENTS_MAX + 1);
    for (int i = 0; i < arguments; i++)
        push_value(L, 0);
    if (as_task)
        (void)tm_task_spawn(L, name, arguments);
    else if (lua_pcall(L, arguments, LUA_MULTRET, 0) == 0)
        keep_results(L, host + 1);
    return 0;
}

static void run_input(void)
{
    struct tm_error err;
    for (int i = 0; i < CALLS_MAX && in.at < in.end; i++) {
        (void)!tm_call(world.script->vm, call_body, NULL, BUDGET_US, &err);
        ev_run(tm_loop_native(world.services.loop), EVRUN_NOWAIT);
    }
    struct tm_event *event;
    while ((event = tm_gatherer_next_event(world.services.gatherer))) {
        tm_script_event(world.script, event);
        free(event);
    }
    ev_run(tm_loop_native(world.services.loop), EVRUN_NOWAIT);
}

/* ---- the world ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int names_body(lua_State *L)
{
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "fuzz.kept");
    lua_getglobal(L, "pairs");
    push_host(L);
    lua_call(L, 1, 3);
    for (;;) {
        lua_pushvalue(L, -3);
        lua_pushvalue(L, -3);
        lua_pushvalue(L, -3);
        lua_call(L, 2, 1); /* the key alone */
        if (lua_isnil(L, -1))
            break;
        lua_replace(L, -2);
        if (world.name_count < NAMES_MAX)
            world.names[world.name_count++] = strdup(lua_tostring(L, -1));
    }
    qsort(world.names, world.name_count, sizeof *world.names, by_name);
    return 0;
}

static void start_world(void)
{
    char path[PATH_MAX];
    struct tm_error err = {0};
    struct tm_services *s = &world.services;
    (void)snprintf(path, sizeof path, "%s/fuzz.lua", directory);
    struct tm_script_options options = {.path = path};
    world.problems = (struct tm_problems){.arena = tm_arena_create()};
    int rc = tm_script_load(&options, &world.problems, &world.script);
    if (rc)
        fprintf(stderr, "%s\n", world.problems.count ? world.problems.list[0].message : "no memory");
    TM_FATAL_UNLESS(rc == TM_OK);
    s->loop = tm_loop_create();
    s->metrics = tm_metrics_create();
    struct tm_gatherer_options gatherer = tm_script_config(world.script)->gatherer;
    gatherer.metrics = s->metrics;
    TM_FATAL_UNLESS(tm_http_create(s->loop, 4, 100, &s->http, &err) == TM_OK);
    TM_FATAL_UNLESS(tm_gatherer_start(&gatherer, &s->gatherer, &err) == TM_OK);
    s->plan = tm_gatherer_plan(s->gatherer);
    TM_FATAL_UNLESS(tm_script_start(world.script, s, &err) == TM_OK);
    TM_FATAL_UNLESS(tm_call(world.script->vm, names_body, NULL, INT64_C(1000000), &err) == TM_OK);
}

static void end_world(void)
{
    if (!world.script)
        return;
    tm_http_destroy(world.services.http);
    tm_services_fini(&world.services);
    tm_gatherer_stop(world.services.gatherer);
    tm_script_destroy(world.script);
    tm_loop_destroy(world.services.loop);
    tm_metrics_destroy(world.services.metrics);
    tm_arena_destroy(world.problems.arena);
    for (size_t i = 0; i < world.name_count; i++)
        free(world.names[i]);
    world = (struct world){0};
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void at_exit(void)
{
    end_world();
    (void)nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void prepare(void)
{
    char path[PATH_MAX];
    TM_FATAL_UNLESS(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/journal", directory);
    setenv("FUZZ_DATA", path, 1);
    (void)snprintf(path, sizeof path, "%s/fuzz.lua", directory);
    FILE *f = fopen(path, "w");
    TM_FATAL_UNLESS(f && fwrite(source, 1, sizeof source - 1, f) == sizeof source - 1);
    fclose(f);
    tm_log_init(TM_LOG_ERROR, TM_LOG_LOGFMT, "fuzz");
    atexit(at_exit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool prepared;
    if (!prepared)
        prepare();
    prepared = true;
    if (!world.script)
        start_world();
    in = (struct input){data, data + size};
    run_input();
    if (++world.inputs >= INPUTS_A_WORLD)
        end_world();
    return 0;
}
