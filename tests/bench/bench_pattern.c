/*
 * Our pattern matcher against LuaJIT's own, on ordinary uses of patterns; both without the compiler.
 *
 *     build/release/tests/bench_pattern [--quick] [--json]
 *
 * Columns: nanoseconds a call in the sandboxed VM, in a plain state, and the ratio.
 */
#include "report.h"

#include "script/call.h"

#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define BUDGET_US INT64_C(600000000)

struct work {
    const char *what, *setup, *call;
    int times;
};

static const struct work works[] = {
    {"find a literal", "local s = ('x'):rep(40) .. 'needle'", "f(s, 'needle')", 1000000},
    {"find, anchored", "local s = 'KXHIGHNY-26NOV05-T47'", "f(s, '^KX%w+')", 1000000},
    {"match key = value", "local s = '  key = some value'", "m(s, '^%s*(%w+)%s*=%s*(.-)%s*$')", 500000},
    {"match a duration", "local s = '250ms'", "m(s, '^(%d+%.?%d*)%s*(%a+)$')", 1000000},
    {"find in 10 kB, set", "local s = ('lorem ipsum '):rep(850) .. '7'", "f(s, '[0-9]')", 2000},
    {"find in 10 kB, class", "local s = ('lorem ipsum '):rep(850) .. '7'", "f(s, '%d')", 2000},
    {"find in 10 kB, word", "local s = ('lorem ipsum '):rep(850) .. 'end7'", "f(s, 'end%d')", 2000},
    {"gmatch words", "local s = ('lorem ipsum '):rep(100)", "for w in g(s, '%a+') do end", 10000},
    {"gmatch lines", "local s = ('a line of some text\\n'):rep(100)", "for w in g(s, '[^\\n]+') do end", 10000},
    {"gsub text", "local s = ('lorem ipsum '):rep(100)", "u(s, 'o', '0')", 10000},
    {"gsub trim", "local s = '   lorem ipsum   '", "u(s, '^%s+', '')", 500000},
    {"gsub function", "local s, fn = ('lorem ipsum '):rep(100), function(w) return w end", "u(s, '%a+', fn)", 10000},
    {"gsub {name}", "local s, t = 'gatherer {id} hears {what}', {id = 'g1', what = 'nothing'}", "u(s, '{(%w+)}', t)",
     300000},
};

static int times(const struct work *w)
{
    return tm_bench_quick ? w->times / 20 : w->times;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int run_body(lua_State *L)
{
    const struct work *w = lua_touserdata(L, 1);
    char source[1024];
    (void)snprintf(source, sizeof source,
                   "local f, m, g, u = string.find, string.match, string.gmatch, string.gsub\n%s\n"
                   "for i = 1, %d do %s end",
                   w->setup, times(w), w->call);
    if (luaL_loadstring(L, source))
        return lua_error(L);
    lua_call(L, 0, 0);
    return 0;
}

int main(int argc, char **argv)
{
    tm_bench_begin(&argc, argv);
    double all[2] = {0, 0};
    struct tm_vm *vm;
    struct tm_error err;
    if (tm_vm_create(0, NULL, &vm, &err) < 0)
        return 1;
    lua_State *stock = luaL_newstate();
    luaL_openlibs(stock);
    luaJIT_setmode(stock, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    tm_bench_note("%-22s %10s %10s %7s\n", "", "ours ns", "stock ns", "ratio");
    for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
        const struct work *w = &works[i];
        double best[2] = {1e9, 1e9};
        for (int round = 0; round < 3; round++) {
            double begun = seconds();
            if (tm_call(vm, run_body, (void *)(uintptr_t)w, BUDGET_US, &err) < 0) {
                fprintf(stderr, "%s: %s\n", w->what, err.message);
                return 1;
            }
            double middle = seconds();
            if (lua_cpcall(stock, run_body, (void *)(uintptr_t)w)) {
                fprintf(stderr, "%s: %s\n", w->what, lua_tostring(stock, -1));
                return 1;
            }
            double end = seconds();
            best[0] = middle - begun < best[0] ? middle - begun : best[0];
            best[1] = end - middle < best[1] ? end - middle : best[1];
        }
        tm_bench_note("%-22s %10.0f %10.0f %7.2f\n", w->what, best[0] * 1e9 / times(w), best[1] * 1e9 / times(w),
                      best[0] / best[1]);
        all[0] += best[0];
        all[1] += best[1];
    }
    tm_bench_report(&(struct tm_bench_result){"pattern/all", all[0] * 1e3, "ms", all[1] * 1e3, "LuaJIT's own"});
    lua_close(stock);
    tm_vm_destroy(vm);
    return 0;
}
