/* The guards of the policy VM (FAILURES c2): each attack is stopped within its budget and the VM goes on. */
#include "script/call.h"
#include "script/grant.h"
#include "script/script_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define BUDGET_US 50000
#define PATIENT_US 20000000 /* where another bound is meant to end it */
#define WATCHDOG_S 60

static int run_body(lua_State *L)
{
    const char *source = lua_touserdata(L, 1);
    if (luaL_loadbufferx(L, source, strlen(source), "=test", "t"))
        return lua_error(L);
    lua_call(L, 0, 0);
    return 0;
}

static int64_t budget_us = BUDGET_US;

static int run(struct tm_vm *vm, const char *source, struct tm_error *err)
{
    return tm_call(vm, run_body, (void *)(uintptr_t)source, budget_us, err);
}

static int reset_budget(void **state)
{
    (void)state;
    budget_us = BUDGET_US;
    return 0;
}

static int64_t cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* The attack ends with an error that contains `text`; afterwards the same VM works. */
static void assert_contained(const char *source, int code, const char *text)
{
    struct tm_vm *vm;
    struct tm_error err;
    alarm(WATCHDOG_S);
    assert_int_equal(tm_vm_create(64 << 20, NULL, &vm, &err), TM_OK);
    int64_t before = cpu_us();
    int rc = run(vm, source, &err);
    if (rc != code || !strstr(err.message, text))
        fail_msg("%s\n-> %d %s", source, rc, err.message);
    assert_true(cpu_us() - before < 20 * 1000000);
    assert_int_equal(run(vm, "assert(1 + 1 == 2)", &err), TM_OK);
    tm_vm_destroy(vm);
    alarm(0);
}

static void test_endless_loops(void **state)
{
    (void)state;
    static const char *const attacks[] = {
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "while true do xpcall(error, function() while true do end end) end",
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
        ("while true do local co = coroutine.create(function() while true do pcall(error) end end) "
         "coroutine.resume(co) end"),
        "table.sort({3, 2, 1}, function() while true do end end)",
        "('x'):rep(100000):gsub('.', function() while true do end end)",
        "tostring(setmetatable({}, { __tostring = function() while true do end end }))",
    };
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++)
        assert_contained(attacks[i], TM_ESCRIPT, "budget");
}

/* At the end of its stack LuaJIT calls no hook: a recursion through pcall must be stopped before. */
static void test_recursion(void **state)
{
    (void)state;
    assert_contained("local function f() pcall(f) f() end while true do pcall(f) end", TM_ESCRIPT, "recursion");
    assert_contained("local function f() return 1 + f() end f()", TM_ESCRIPT, "recursion");
    assert_contained("local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) "
                     "while true do pcall(function() return t[1] end) end",
                     TM_ESCRIPT, "recursion");
    assert_contained("local function f(...) pcall(f, ...) f(...) end\n"
                     "local t = {} for i = 1, 440 do t[i] = i end while true do pcall(f, unpack(t)) end",
                     TM_ESCRIPT, "stopped");
    assert_contained("local function f(n) return n == 0 and 0 or 1 + f(n - 1) end assert(f(150) == 150) error('fine')",
                     TM_ESCRIPT, "fine");
}

static void test_memory_balloons(void **state)
{
    (void)state;
    budget_us = PATIENT_US;
    assert_contained("return ('x'):rep(2e9)", TM_ENOMEM, "memory");
    assert_contained("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end", TM_ENOMEM, "memory");
    assert_contained("local s = 'x' while true do s = s .. s end", TM_ENOMEM, "memory");
}

/* Work in C functions that no hook interrupts: each is bounded by the memory cap or looks at the clock. */
static void test_work_in_c(void **state)
{
    (void)state;
    static const char *const over_budget[] = {
        "table.insert({}, -2147483647, 1) while true do end",
        "local t = {} for i = 1, 1e5 do t[i] = i end while true do table.sort(t, function() return true end) end",
        "local t = {} for i = 1, 1e5 do t[i] = 1e5 - i end while true do table.sort(t) end",
        "local t = {} for i = 1, 1e5 do t[i] = i end while true do table.insert(t, 1, 0) table.remove(t) end",
        "local a = ('x'):rep(2e7) local b = a .. 'b' local c = a .. 'c' while true do local _ = b < c end",
        "local a = (' '):rep(2e7) while true do tonumber(a) end",
        "local t = {} for i = 1, 1e5 do t['k' .. i] = 1 end for k in pairs(t) do t[k] = nil end while true do next(t) end",
        "while true do pcall(string.rep, 'x', 3e7) end",
        "local t = {} for i = 1, 1e5 do t[i] = 'some text' end while true do table.concat(t, ('-'):rep(100)) end",
        "table.move({}, 1, 2^29, 2)",
        "local s = ('x'):rep(1e6) while true do s:reverse() s:upper() s:format() s:byte(1, 100) end",
        "while true do tostring(('x'):rep(1e6)) end",
    };
    for (size_t i = 0; i < sizeof over_budget / sizeof *over_budget; i++)
        assert_contained(over_budget[i], TM_ESCRIPT, i == 0 ? "position" : "budget");
    static const char *const refused[] = {
        "unpack({}, 1, 1e8)",
        "unpack({}, -2147483648, 2147483647)",
        "('x'):rep(1e6):byte(1, -1)",
        "select(-1)",
        "string.char(unpack({}, 1, 1e7))",
        "('%s'):format()",
        "('%99999d'):format(1)",
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_contained(refused[i], TM_ESCRIPT, "");
}

/* LuaJIT does not bound the C stack: without a check of ours these end the process. */
static void test_c_stack(void **state)
{
    (void)state;
    budget_us = PATIENT_US;
    assert_contained("local function f() local co = coroutine.create(f) "
                     "local ok, why = coroutine.resume(co) if not ok then error(why, 0) end end f()",
                     TM_ESCRIPT, "C stack overflow");
    /* coroutine.wrap puts the place before the message at each level */
    assert_contained("local function f() coroutine.wrap(f)() end f()", TM_ESCRIPT, "test:1: ");
    assert_contained("local function f() ('x'):gsub('x', function() coroutine.wrap(f)() end) end f()", TM_ESCRIPT,
                     "test:1: ");
    assert_contained("local function f() table.sort({1, 2}, function() coroutine.wrap(f)() end) end f()", TM_ESCRIPT,
                     "test:1: ");
    assert_contained("local function f() pcall(coroutine.wrap(f)) f() end f()", TM_ESCRIPT, "stopped");
}

static void test_sort_and_insert(void **state)
{
    (void)state;
    static const char *const source =
        "local function check(n, range, less)\n"
        "  local t, count = {}, {}\n"
        "  for i = 1, n do t[i] = math.random(range) count[t[i]] = (count[t[i]] or 0) + 1 end\n"
        "  table.sort(t, less)\n"
        "  for i = 2, n do assert(not (less or function(a, b) return a < b end)(t[i], t[i - 1])) end\n"
        "  for i = 1, n do count[t[i]] = count[t[i]] - 1 end\n"
        "  for _, c in pairs(count) do assert(c == 0) end\n"
        "end\n"
        "for n = 0, 70 do check(n, 10) check(n, 1000, function(a, b) return a > b end) end\n"
        "check(2000, 50)\n"
        "local pairs_ = {}\n"
        "for i = 1, 300 do pairs_[i] = { i % 7, i } end\n"
        "table.sort(pairs_, function(a, b) return a[1] < b[1] end)\n"
        "for i = 2, 300 do local a, b = pairs_[i - 1], pairs_[i] assert(a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])) end\n"
        "local bad = {}\n"
        "for i = 1, 100 do bad[i] = i end\n"
        "table.sort(bad, function() return math.random(2) == 1 end)\n"
        "local sum = 0 for i = 1, 100 do sum = sum + bad[i] end assert(sum == 5050)\n"
        "assert(not pcall(table.sort, { 1, 'x' }) and not pcall(table.sort, { {}, {} }) and not pcall(table.sort, 'x'))\n"
        "assert(not pcall(table.sort, { 3, 2, 1 }, function() error 'no' end))\n"
        "local words = { 'pear', 'apple', 'fig' } table.sort(words) assert(table.concat(words, ' ') == 'apple fig pear')\n"
        "local t = { 1, 2 } table.insert(t, 3) table.insert(t, 1, 0) table.insert(t, 3, 'm')\n"
        "assert(table.concat(t, ' ') == '0 1 m 2 3')\n"
        "t = table.move({ 1, 2, 3, 4, 5 }, 2, 4, 1) assert(table.concat(t, ' ') == '2 3 4 4 5')\n"
        "t = table.move({ 1, 2, 3, 4, 5 }, 1, 3, 3) assert(table.concat(t, ' ') == '1 2 1 2 3')\n"
        "t = table.move({ 1, 2, 3 }, 1, 3, 2, {}) assert(t[1] == nil and t[2] == 1 and t[4] == 3)\n"
        "assert(#table.move({ 1, 2 }, 3, 2, 9) == 2 and not pcall(table.move, {}, 1, 2^40, 1))\n"
        "assert(not pcall(table.insert, t, 0, 1) and not pcall(table.insert, t) and not pcall(table.insert, t, 1, 2, 3))\n";
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    if (tm_call(vm, run_body, (void *)(uintptr_t)source, 10000000, &err) < 0)
        fail_msg("%s", err.message);
    tm_vm_destroy(vm);
}

static void expect_error(struct tm_vm *vm, const char *source, const char *message)
{
    struct tm_error err;
    assert_int_equal(run(vm, source, &err), TM_ESCRIPT);
    if (!strstr(err.message, message))
        fail_msg("%s\n-> %s\nexpected %s", source, err.message, message);
}

static void test_what_is_closed(void **state)
{
    (void)state;
    static const char *const absent[] = {"package",  "load",           "loadstring", "loadfile", "dofile",
                                         "newproxy", "getfenv",        "setfenv",    "gcinfo",   "module",
                                         "require",  "collectgarbage", "print",      "_G"};
    static const char *const ungranted[] = {"io", "debug", "ffi", "jit"};
    struct tm_vm *vm;
    struct tm_error err;
    char source[80], message[120];
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        (void)snprintf(source, sizeof source, "return %s", absent[i]);
        expect_error(vm, source, "is not defined");
    }
    for (size_t i = 0; i < sizeof ungranted / sizeof *ungranted; i++) {
        (void)snprintf(source, sizeof source, "return %s", ungranted[i]);
        (void)snprintf(message, sizeof message, "test:1: '%s' is not granted to scripts: start with --grant %s",
                       ungranted[i], ungranted[i]);
        expect_error(vm, source, message);
    }
    expect_error(vm, "os.execute('true')", "'os.execute' is not granted to scripts: start with --grant os");
    expect_error(vm, "os.getenv('HOME')", "or use tm.env");
    assert_int_equal(run(vm, "assert(string.dump == nil and os.nonsense == nil and os.time() > 0)", &err), TM_OK);
    tm_vm_destroy(vm);
}

static void test_grants(void **state)
{
    (void)state;
    struct tm_vm *vm;
    struct tm_error err;
    uint32_t grants;
    assert_int_equal(tm_grant_parse("", &grants, &err), TM_OK);
    assert_int_equal(grants, 0);
    assert_int_equal(tm_grant_parse("io,iO", &grants, &err), TM_EINVAL);
    assert_non_null(strstr(err.message, "got 'iO'"));
    assert_int_equal(tm_grant_parse("io,", &grants, &err), TM_OK);
    assert_int_equal(tm_grant_parse("os,io,debug,jit,ffi", &grants, &err), TM_OK);
    assert_string_equal(tm_grant_names(grants), "io,os,debug,ffi,jit");
    tm_grants_set(grants);
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    tm_grants_set(0);
    if (run(vm,
            "assert(io.open and os.getenv('PATH') and debug.traceback and ffi.cdef and jit.on)\n"
            "assert(not jit.status())\n"
            "assert(not pcall(function() io.open = nil end))",
            &err))
        fail_msg("%s", err.message);
    assert_int_equal(run(vm, "while true do end", &err), TM_ESCRIPT); /* the compiler is off all the same */
    tm_vm_destroy(vm);
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    expect_error(vm, "return io", "is not granted");
    tm_vm_destroy(vm);
}

/* A script cannot change what another one finds in the same VM. */
static void test_libraries_are_read_only(void **state)
{
    (void)state;
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    expect_error(vm, "string.find = nil", "test:1: 'string.find' cannot be set: library tables are read-only");
    expect_error(vm, "math.pi = 3", "read-only");
    expect_error(vm, "rawset(table, 'x', 1)", "read-only");
    expect_error(vm, "table.insert(math, 1)", "read-only");
    expect_error(vm, "table.sort(os)", "read-only");
    expect_error(vm, "setmetatable(string, {})", "protected");
    expect_error(vm, "pairs = nil", "'pairs' is Lua's own and cannot be replaced");
    expect_error(vm, "string = {}", "cannot be replaced");
    expect_error(vm, "setmetatable({}, { __gc = function() end })", "'__gc' is not supported");
    if (run(vm,
            "local names = {}\n"
            "for name, f, more in pairs(string) do names[#names + 1] = name assert(type(f) == 'function' and not more) end\n"
            "table.sort(names)\n"
            "assert(table.concat(names, ' ') == 'byte char find format gmatch gsub len lower match rep reverse sub upper')\n"
            "local next_, state, first = pairs(string)\n"
            "assert(next_ ~= next and first == nil and not pcall(function() state.find = 1 end))\n"
            "local f, t = pairs({}) assert(f == next)\n"
            "assert(getmetatable(string) == 'locked' and next(string) == nil and rawget(string, 'find') == nil)\n"
            "pcall(table.remove, math) assert(not pcall(table.move, { 1 }, 1, 1, 1, math))\n"
            "assert(math[1] == nil and ('x'):find('x') == 1)\n"
            "local mt = { __metatable = 'mine' } local own = setmetatable({}, mt)\n"
            "assert(getmetatable(own) == 'mine' and not pcall(setmetatable, own, {}))\n"
            "assert(not pcall(setmetatable, {}) and not pcall(setmetatable, 1, {}) and not pcall(setmetatable, {}, 1))\n"
            "assert(getmetatable(setmetatable(setmetatable({}, {}), nil)) == nil)\n",
            &err))
        fail_msg("%s", err.message);
    tm_vm_destroy(vm);
}

/* Nothing a script leaves behind runs code of its own when it is collected, not even as the state closes. */
static void test_nothing_is_finalized(void **state)
{
    (void)state;
    budget_us = PATIENT_US;
    assert_contained("local mt = {} local t = setmetatable({}, mt) mt.__gc = function() while true do end end t = nil "
                     "for i = 1, 2000 do local _ = ('x'):rep(1e5) .. i end error('fine')",
                     TM_ESCRIPT, "fine");
}

/* ---- what is reachable ---- */

/*
 * Walks all that a script can get at: globals, the host table behind `require`, metatables, upvalues and environments of
 * functions. Each value is named by the first way to it, breadth first; functions, tables and userdata are listed.
 * tests/unit/script/reachable.txt holds what is meant to be there; TM_REACHABLE=write writes it anew.
 */
#define REACHABLE TM_SOURCE_DIR "/tests/unit/script/reachable.txt"
#define VALUES_MAX 4000

struct walk {
    lua_State *L;
    int seen, queue, names; /* stack indexes */
    int count;
    char *lines[VALUES_MAX];
};

static void visit(struct walk *w, const char *path) /* the value on top, popped */
{
    lua_State *L = w->L;
    int type = lua_type(L, -1);
    if (type == LUA_TTABLE || type == LUA_TFUNCTION || type == LUA_TUSERDATA || type == LUA_TTHREAD) {
        lua_pushvalue(L, -1);
        lua_rawget(L, w->seen);
        bool known = lua_toboolean(L, -1);
        lua_pop(L, 1);
        if (!known) {
            assert_true(w->count < VALUES_MAX);
            lua_pushvalue(L, -1);
            lua_pushboolean(L, true);
            lua_rawset(L, w->seen);
            lua_pushvalue(L, -1);
            lua_rawseti(L, w->queue, ++w->count);
            lua_pushstring(L, path);
            lua_rawseti(L, w->names, w->count);
            assert_true(asprintf(&w->lines[w->count - 1], "%s %s", path, lua_typename(L, type)) > 0);
        }
    }
    lua_pop(L, 1);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in their order and then the rest, so that a value is always found on the same way. */
static void visit_fields(struct walk *w, const char *path)
{
    lua_State *L = w->L;
    const char *keys[400];
    char name[300];
    size_t count = 0;
    int table = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING && count < 400)
            keys[count++] = lua_tostring(L, -2);
    qsort(keys, count, sizeof *keys, by_text);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "%s%s%s", path, *path ? "." : "", keys[i]);
        lua_pushstring(L, keys[i]);
        lua_rawget(L, table);
        visit(w, name);
    }
    for (lua_pushnil(L); lua_next(L, table);) {
        (void)snprintf(name, sizeof name, "%s[%s]", path, lua_typename(L, lua_type(L, -2)));
        visit(w, name);
    }
}

static void visit_inside(struct walk *w, const char *path) /* the value on top stays */
{
    lua_State *L = w->L;
    char name[300];
    if (lua_getmetatable(L, -1)) {
        (void)snprintf(name, sizeof name, "%s<meta>", path);
        visit(w, name);
    }
    if (lua_istable(L, -1))
        visit_fields(w, path);
    if (!lua_isfunction(L, -1))
        return;
    for (int i = 1; lua_getupvalue(L, -1, i); i++) {
        (void)snprintf(name, sizeof name, "%s<upvalue %d>", path, i);
        visit(w, name);
    }
    lua_getfenv(L, -1);
    (void)snprintf(name, sizeof name, "%s<env>", path);
    visit(w, name);
}

static int walk_body(lua_State *L)
{
    struct walk *w = lua_touserdata(L, 1);
    w->L = L;
    static struct tm_module_paths paths = {.library = "/nowhere", .script = "/nowhere"};
    tm_api_push(L);
    tm_module_open(L, &paths);
    lua_settop(L, 1);
    for (int i = 0; i < 3; i++)
        lua_newtable(L);
    w->seen = 2;
    w->queue = 3;
    w->names = 4;
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    visit(w, "G");
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    visit(w, "string<meta>");
    lua_pop(L, 1);
    for (int i = 1; i <= w->count; i++) {
        lua_rawgeti(L, w->names, i);
        lua_rawgeti(L, w->queue, i);
        visit_inside(w, lua_tostring(L, -2));
        lua_pop(L, 2);
    }
    qsort(w->lines, (size_t)w->count, sizeof *w->lines, by_text);
    return 0;
}

static void write_reachable(const struct walk *w)
{
    FILE *f = fopen(REACHABLE, "w");
    assert_non_null(f);
    for (int i = 0; i < w->count; i++)
        fprintf(f, "%s\n", w->lines[i]);
    fclose(f);
}

static void test_what_is_reachable(void **state)
{
    (void)state;
    static struct walk w;
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    if (tm_call(vm, walk_body, &w, 10000000, &err) < 0)
        fail_msg("%s", err.message);
    if (getenv("TM_REACHABLE"))
        write_reachable(&w);
    FILE *f = fopen(REACHABLE, "r");
    assert_non_null(f);
    char line[400];
    int at = 0;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        int order = at < w.count ? strcmp(w.lines[at], line) : 1;
        if (order < 0)
            fail_msg("'%s' is reachable and not in " REACHABLE ": if that is meant, TM_REACHABLE=write adds it",
                     w.lines[at]);
        if (order > 0)
            fail_msg("'%s' is in " REACHABLE " and not reachable any more: TM_REACHABLE=write removes it", line);
        at++;
    }
    fclose(f);
    if (at < w.count)
        fail_msg("'%s' is reachable and not in " REACHABLE, w.lines[at]);
    for (int i = 0; i < w.count; i++)
        free(w.lines[i]);
    tm_vm_destroy(vm);
}

static void test_strings_are_locked(void **state)
{
    (void)state;
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    assert_int_equal(run(vm, "getmetatable('').__index = nil", &err), TM_ESCRIPT);
    assert_int_equal(run(vm, "setmetatable('', {})", &err), TM_ESCRIPT);
    assert_int_equal(run(vm, "assert(getmetatable('') == 'locked' and ('x'):rep(2) == 'xx')", &err), TM_OK);
    tm_vm_destroy(vm);
}

static void test_globals_are_strict(void **state)
{
    (void)state;
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    assert_int_equal(run(vm, "count = 1", &err), TM_ESCRIPT);
    assert_string_equal(err.message, "test:1: 'count' is assigned as a global variable: write 'local count' instead");
    assert_int_equal(run(vm, "return cuont", &err), TM_ESCRIPT);
    assert_non_null(strstr(err.message, "'cuont' is not defined"));
    tm_vm_destroy(vm);
}

static int bytecode_body(lua_State *L)
{
    static const char bytes[] = "\x1bLJ\x02";
    return luaL_loadbufferx(L, bytes, sizeof bytes - 1, "=b", "t") ? lua_error(L) : 0;
}

static void test_bytecode_is_refused(void **state)
{
    (void)state;
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    assert_int_equal(tm_call(vm, bytecode_body, NULL, BUDGET_US, &err), TM_ESCRIPT);
    tm_vm_destroy(vm);
}

static void test_errors_of_any_value(void **state)
{
    (void)state;
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    assert_int_equal(run(vm, "error({})", &err), TM_ESCRIPT);
    assert_string_equal(err.message, "error(table value)");
    assert_int_equal(run(vm, "error()", &err), TM_ESCRIPT);
    assert_int_equal(run(vm, "error(setmetatable({}, { __tostring = function() while true do end end }))", &err),
                     TM_ESCRIPT);
    assert_int_equal(run(vm, "local function f() error('deep') end f()", &err), TM_ESCRIPT);
    assert_string_equal(err.message, "test:1: deep");
    assert_non_null(strstr(tm_call_traceback(), "in function 'f'"));
    tm_vm_destroy(vm);
}

static void test_yield_through_pcall(void **state)
{
    (void)state;
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    int rc = run(vm,
                 "local co = coroutine.wrap(function()\n"
                 "  local ok, v = xpcall(function(a) return coroutine.yield(a) + 1 end, function(e) return e end, 7)\n"
                 "  assert(ok and v == 42)\n"
                 "  ok, v = pcall(function() error(coroutine.yield('second'), 0) end)\n"
                 "  assert(not ok and v == 'x')\n"
                 "  return 'end'\n"
                 "end)\n"
                 "assert(co() == 7 and co(41) == 'second' and co('x') == 'end')\n",
                 &err);
    if (rc)
        fail_msg("%s", err.message);
    tm_vm_destroy(vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endless_loops),
        cmocka_unit_test(test_recursion),
        cmocka_unit_test_teardown(test_memory_balloons, reset_budget),
        cmocka_unit_test(test_work_in_c),
        cmocka_unit_test_teardown(test_c_stack, reset_budget),
        cmocka_unit_test(test_sort_and_insert),
        cmocka_unit_test(test_what_is_closed),
        cmocka_unit_test(test_grants),
        cmocka_unit_test(test_libraries_are_read_only),
        cmocka_unit_test_teardown(test_nothing_is_finalized, reset_budget),
        cmocka_unit_test(test_what_is_reachable),
        cmocka_unit_test(test_strings_are_locked),
        cmocka_unit_test(test_globals_are_strict),
        cmocka_unit_test(test_bytecode_is_refused),
        cmocka_unit_test(test_errors_of_any_value),
        cmocka_unit_test(test_yield_through_pcall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
