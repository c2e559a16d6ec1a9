/* The guards of the policy VM (FAILURES c2): each attack is stopped within its budget and the VM goes on. */
#include "script/call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define BUDGET_US 50000
#define WATCHDOG_S 60

static int run_body(lua_State *L)
{
    const char *source = lua_touserdata(L, 1);
    if (luaL_loadbufferx(L, source, strlen(source), "=test", "t"))
        return lua_error(L);
    lua_pushvalue(L, LUA_GLOBALSINDEX); /* as `...`: scripts themselves have no _G */
    lua_call(L, 1, 0);
    return 0;
}

static int run(struct tm_vm *vm, const char *source, struct tm_error *err)
{
    return tm_call(vm, run_body, (void *)(uintptr_t)source, BUDGET_US, err);
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
    assert_contained("return ('x'):rep(2e9)", TM_ENOMEM, "memory");
    assert_contained("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end", TM_ENOMEM, "memory");
    assert_contained("local s = 'x' while true do s = s .. s end", TM_ENOMEM, "memory");
}

static void test_what_is_closed(void **state)
{
    (void)state;
    static const char *const absent[] = {"io",      "debug",      "package",        "ffi",    "jit",
                                         "load",    "loadstring", "loadfile",       "dofile", "newproxy",
                                         "getfenv", "setfenv",    "collectgarbage", "gcinfo", "module",
                                         "require"};
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        char source[80];
        (void)snprintf(source, sizeof source, "assert(rawget(..., '%s') == nil)", absent[i]);
        if (run(vm, source, &err) != TM_OK)
            fail_msg("%s is reachable", absent[i]);
    }
    assert_int_equal(
        run(vm, "assert(string.dump == nil and os.execute == nil and os.getenv == nil and os.exit == nil)", &err),
        TM_OK);
    tm_vm_destroy(vm);
}

/* Everything reachable from the globals stands in this list: a library that grows must be looked at. */
static void test_allow_list(void **state)
{
    (void)state;
    static const char *const source =
        "local allowed, G = {}, ...\n"
        "for name in ([[assert error getmetatable ipairs next pairs pcall rawequal rawget rawset select setmetatable\n"
        "  tonumber tostring type unpack xpcall\n"
        "  string.byte string.char string.find string.format string.gmatch string.gsub string.len string.lower\n"
        "  string.match string.rep string.reverse string.sub string.upper\n"
        "  table.concat table.foreach table.foreachi table.getn table.insert table.maxn table.move table.remove\n"
        "  table.sort\n"
        "  math.abs math.acos math.asin math.atan math.atan2 math.ceil math.cos math.cosh math.deg math.exp math.floor\n"
        "  math.fmod math.frexp math.ldexp math.log math.log10 math.max math.min math.modf math.pow math.rad\n"
        "  math.random math.randomseed math.sin math.sinh math.sqrt math.tan math.tanh math.mod\n"
        "  bit.arshift bit.band bit.bnot bit.bor bit.bswap bit.bxor bit.lshift bit.rol bit.ror bit.rshift bit.tobit\n"
        "  bit.tohex\n"
        "  coroutine.create coroutine.isyieldable coroutine.resume coroutine.running coroutine.status coroutine.wrap\n"
        "  coroutine.yield\n"
        "  os.clock os.date os.difftime os.time]]):gmatch('%S+') do allowed[name] = true end\n"
        "for name, value in pairs(G) do\n"
        "  if type(value) == 'function' then assert(allowed[name], name) end\n"
        "  if type(value) == 'table' then\n"
        "    for key, inner in pairs(value) do\n"
        "      assert(type(inner) == 'number' or allowed[name .. '.' .. key], name .. '.' .. key)\n"
        "    end\n"
        "  end\n"
        "end\n";
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    if (run(vm, source, &err) != TM_OK)
        fail_msg("%s", err.message);
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
        cmocka_unit_test(test_endless_loops),       cmocka_unit_test(test_recursion),
        cmocka_unit_test(test_memory_balloons),     cmocka_unit_test(test_what_is_closed),
        cmocka_unit_test(test_allow_list),          cmocka_unit_test(test_strings_are_locked),
        cmocka_unit_test(test_globals_are_strict),  cmocka_unit_test(test_bytecode_is_refused),
        cmocka_unit_test(test_errors_of_any_value), cmocka_unit_test(test_yield_through_pcall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
