/* Compiled files that are kept: the same function with the same places in its errors, and never that of another text. */
#include "script/chunk.h"

#include "base/hash.h"

#include <lauxlib.h>
#include <lualib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int protected_load(lua_State *L)
{
    const char *text = lua_tostring(L, 1);
    tm_chunk_load(L, text, strlen(text), lua_tostring(L, 2), tm_hash64(text, strlen(text), 0));
    return 1;
}

/* In a state of its own, as each generation has one: what the file returns, or its error. */
static void expect(const char *name, const char *text, const char *expected)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    lua_pushcfunction(L, protected_load);
    lua_pushstring(L, text);
    lua_pushstring(L, name);
    if (lua_pcall(L, 2, 1, 0) == 0)
        (void)lua_pcall(L, 0, 1, 0);
    assert_string_equal(lua_tostring(L, -1), expected);
    lua_close(L);
}

static void test_same_again(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        expect("@a/init.lua", "local t = { x = 'one' }\nreturn t.x .. 0x1p-2 .. #'\\0\\255'", "one0.252");
        expect("@a/error.lua", "local x\n\nx = nil + 1", "a/error.lua:3: attempt to perform arithmetic on a nil value");
        expect("@a/syntax.lua", "return\n= 1", "a/syntax.lua:2: unexpected symbol near '='");
    }
}

static void test_other_text(void **state)
{
    (void)state;
    expect("@b.lua", "return 'first'", "first");
    expect("@b.lua", "return 'second'", "second");
    expect("@b.lua", "return = 1", "b.lua:1: unexpected symbol near '='");
    expect("@b.lua", "return 'first'", "first");
    expect("@c.lua", "return 'first', error('here')", "c.lua:1: here"); /* places are those of the file's own name */
    expect("@d.lua", "return 'first', error('here')", "d.lua:1: here");
}

static void test_more_than_are_kept(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < TM_CHUNKS_MAX + 50; i++) {
            char name[32], text[32], number[12];
            (void)snprintf(name, sizeof name, "@many/%d.lua", i);
            (void)snprintf(text, sizeof text, "return '%d'", i + round);
            (void)snprintf(number, sizeof number, "%d", i + round);
            expect(name, text, number);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_again),
        cmocka_unit_test(test_other_text),
        cmocka_unit_test(test_more_than_are_kept),
    };
    return cmocka_run_group_tests_name("script/chunk", tests, NULL, NULL);
}
