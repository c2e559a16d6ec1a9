#include "script/test.h"

#include "base/clock.h"
#include "script/test_world.h"

#include <stdio.h>
#include <string.h>

struct run {
    const struct tm_test_options *options;
    struct tm_script *script;
    int runner; /* reference to the module tidemill.test.runner */
    tm_test_each *each;
    void *arg;
    bool more, task;         /* what turn() said: it wants another one, of a task */
    bool ended;              /* a test, in this turn */
    int64_t cpu_us, turn_us; /* of the test so far; when the turn at hand began */
    const char *broken;
    char broken_at[160];
};

static bool is_test_file(const char *path)
{
    static const char suffix[] = "_test.lua";
    size_t len = strlen(path), n = sizeof suffix - 1;
    return len > n && strcmp(path + len - n, suffix) == 0;
}

static void push_runner(lua_State *L, const struct run *run, const char *function)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, run->runner);
    lua_getfield(L, -1, function);
    lua_remove(L, -2);
}

static int begin_body(lua_State *L)
{
    struct run *run = lua_touserdata(L, 1);
    tm_test_world_push(L);
    tm_module_add(L, "tidemill.runner");
    lua_getglobal(L, "require");
    lua_pushliteral(L, "tidemill.test.runner");
    lua_call(L, 1, 1);
    run->runner = luaL_ref(L, LUA_REGISTRYINDEX);
    push_runner(L, run, "begin");
    lua_createtable(L, 0, 4);
    lua_pushstring(L, run->options->path);
    lua_setfield(L, -2, "path");
    lua_pushnumber(L, run->options->seed);
    lua_setfield(L, -2, "seed");
    lua_pushstring(L, run->options->filter);
    lua_setfield(L, -2, "filter");
    lua_pushboolean(L, !is_test_file(run->options->path));
    lua_setfield(L, -2, "script");
    lua_call(L, 1, 0);
    return 0;
}

/* The test file itself; a script is loaded by the runner, into a world. */
static int file_body(lua_State *L)
{
    struct run *run = lua_touserdata(L, 1);
    if (is_test_file(run->options->path)) {
        tm_module_load(L, &run->script->paths, run->options->path, run->options->path);
        lua_call(L, 0, 0);
    } else {
        push_runner(L, run, "load_script");
        lua_call(L, 0, 0);
    }
    return 0;
}

/* CPU time since the turn began, or since this was asked last, is the test's. */
static void spend(struct run *run)
{
    int64_t now_us = tm_clock_thread_us();
    run->cpu_us += now_us - run->turn_us;
    run->turn_us = now_us;
}

static void tell(lua_State *L, struct run *run)
{
    spend(run);
    struct tm_test_result result = {.cpu_us = run->cpu_us};
    lua_getfield(L, -1, "name");
    lua_getfield(L, -2, "where");
    lua_getfield(L, -3, "message");
    result.name = luaL_checkstring(L, -3);
    result.where = luaL_checkstring(L, -2);
    result.message = lua_isnil(L, -1) ? NULL : luaL_checkstring(L, -1);
    run->each(run->arg, &result);
    run->ended = true;
    run->cpu_us = 0;
    lua_pop(L, 3);
}

/* turn() -> "test" or "task": what the next turn is; or "done". With a result when a test has ended. */
static int turn_body(lua_State *L)
{
    struct run *run = lua_touserdata(L, 1);
    push_runner(L, run, "turn");
    lua_call(L, 0, 2);
    const char *next = luaL_checkstring(L, -2);
    run->more = strcmp(next, "done") != 0;
    run->task = strcmp(next, "task") == 0;
    if (lua_istable(L, -1))
        tell(L, run);
    return 0;
}

static int break_body(lua_State *L)
{
    struct run *run = lua_touserdata(L, 1);
    push_runner(L, run, "stop");
    lua_pushstring(L, run->broken);
    lua_pushstring(L, run->broken_at);
    lua_call(L, 2, 0);
    return 0;
}

/* A turn that was stopped (budget, memory) ends its test. */
static int break_off(struct run *run, const char *why, struct tm_error *err)
{
    run->broken = why;
    (void)snprintf(run->broken_at, sizeof run->broken_at, "%s", tm_vm_killed_at(run->script->vm));
    run->task = false;
    return tm_call(run->script->vm, break_body, run, TM_SCRIPT_STEP_CPU_US, err);
}

static int run_all(struct run *run, struct tm_error *err)
{
    int rc = TM_OK, turns = 0;
    run->more = true;
    while (run->more && !rc) {
        struct tm_error failure;
        int64_t budget_us = run->task ? TM_SCRIPT_STEP_CPU_US : TM_SCRIPT_LOAD_CPU_US;
        turns = run->task ? turns + 1 : 0;
        run->turn_us = tm_clock_thread_us();
        if (tm_call(run->script->vm, turn_body, run, budget_us, &failure) < 0)
            rc = break_off(run, failure.message, err);
        else if (turns > TM_TEST_TURNS_MAX)
            rc = break_off(run, "the script does not come to rest: 200,000 steps without an end", err);
        spend(run);
        if (run->ended)
            tm_vm_collect(run->script->vm); /* what one test leaves behind is not the next one's */
        run->ended = false;
    }
    return rc;
}

static void tell_broken(const struct run *run, const struct tm_error *err)
{
    struct tm_problems problems = {.arena = tm_arena_create()};
    tm_script_problem(&problems, run->options->path, err->message);
    struct tm_test_result result = {
        .name = "(load)", .where = problems.list[0].where, .message = problems.list[0].message, .cpu_us = run->cpu_us};
    run->each(run->arg, &result);
    tm_arena_destroy(problems.arena);
}

int tm_test_run(const struct tm_test_options *options, tm_test_each *each, void *arg, struct tm_error *err)
{
    struct tm_script_options script = {
        .path = options->path, .library = options->library, .memory_bytes_max = options->memory_bytes_max};
    struct run run = {.options = options, .each = each, .arg = arg};
    struct tm_error failure;
    int rc = tm_script_open(&script, &run.script, err);
    if (rc)
        return rc;
    rc = tm_call(run.script->vm, begin_body, &run, TM_SCRIPT_LOAD_CPU_US, &failure);
    if (!rc)
        rc = tm_call(run.script->vm, file_body, &run, TM_SCRIPT_LOAD_CPU_US, &failure);
    if (!rc)
        rc = run_all(&run, &failure);
    if (rc)
        tell_broken(&run, &failure);
    run.script->services = NULL; /* they are the worlds' */
    tm_script_destroy(run.script);
    return TM_OK;
}

/* ---- the script's own ---- */

static void add_failure(void *arg, const struct tm_test_result *result)
{
    struct tm_problems *problems = arg;
    char message[1200];
    if (!result->message)
        return;
    (void)snprintf(message, sizeof message, "test \"%.200s\": %s", result->name, result->message);
    tm_problem_add(problems, result->where, message);
}

int tm_script_test(struct tm_script *script, struct tm_problems *problems)
{
    struct tm_test_options options = {
        .path = script->path, .library = script->paths.library, .memory_bytes_max = script->memory_bytes_max};
    size_t before = problems->count;
    struct tm_error err;
    if (script->test_count == 0)
        return TM_OK;
    int rc = tm_test_run(&options, add_failure, problems, &err);
    if (rc)
        tm_problem_add(problems, script->path, err.message);
    return problems->count == before ? TM_OK : TM_EINVAL;
}
