/* JSON between text and Lua values. Expected values are written out by hand; jansson is the second opinion on
 * what is JSON. */
#include "script/call.h"
#include "script/json.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct round {
    const char *in;
    char out[512];
};

static int round_body(lua_State *L)
{
    struct round *r = lua_touserdata(L, 1);
    tm_json_push(L, r->in, strlen(r->in));
    tm_json_encode(L, -1);
    (void)snprintf(r->out, sizeof r->out, "%s", lua_tostring(L, -1));
    return 0;
}

static struct tm_vm *vm;

static int setup(void **state)
{
    (void)state;
    struct tm_error err;
    return tm_vm_create(0, NULL, &vm, &err);
}

static int teardown(void **state)
{
    (void)state;
    tm_vm_destroy(vm);
    return 0;
}

static void assert_round(const char *in, const char *out)
{
    struct round r = {.in = in};
    struct tm_error err;
    if (tm_call(vm, round_body, &r, 1000000, &err) < 0)
        fail_msg("%s: %s", in, err.message);
    assert_string_equal(r.out, out);
}

static void test_values_survive(void **state)
{
    (void)state;
    assert_round("null", "null");
    assert_round(" [1, 2.5, -0.1, 1e3, true, false, null] ", "[1,2.5,-0.1,1000,true,false,null]");
    assert_round("{\"a\":{\"b\":null}}", "{\"a\":{\"b\":null}}");
    assert_round("[]", "[]");
    assert_round("{}", "{}");
    assert_round("9007199254740991", "9007199254740991");
    assert_round("9007199254740993", "\"9007199254740993\""); /* a double would change it */
    assert_round("-18446744073709551616", "\"-18446744073709551616\"");
    assert_round("\"\\u00e9\\ud83d\\ude00\\n\\\"\\\\\"", "\"\xc3\xa9\xf0\x9f\x98\x80\\u000a\\\"\\\\\"");
    assert_round("0.1", "0.1");
    assert_round("0.30000000000000004", "0.30000000000000004");
}

static int refuse_body(lua_State *L)
{
    const char *in = lua_touserdata(L, 1);
    tm_json_push(L, in, strlen(in));
    return 0;
}

static void test_what_is_not_json_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    "[",   "[1,]",   "{\"a\"}",     "{\"a\":1,}",  "01",    "1.",
                                      ".5",  "+1",  "\"",     "\"\\x\"",     "nul",         "[1] 2", "{1:2}",
                                      "--1", "1e",  "\"\t\"", "\"\\ud800\"", "\"\\udc00\"", "tru",   "[1 2]",
                                      "'a'", "NaN", "]"};
    struct tm_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *second = json_loads(bad[i], JSON_DECODE_ANY, NULL);
        assert_null(second);
        if (tm_call(vm, refuse_body, (void *)(uintptr_t)bad[i], 1000000, &err) != TM_ESCRIPT)
            fail_msg("accepted: %s", bad[i]);
        assert_non_null(strstr(err.message, "JSON: expected"));
    }
}

static void test_depth_is_bounded(void **state)
{
    (void)state;
    char deep[100001];
    struct tm_error err;
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    assert_int_equal(tm_call(vm, refuse_body, deep, 1000000, &err), TM_ESCRIPT);
    assert_non_null(strstr(err.message, "64 levels"));
}

static int encode_body(lua_State *L)
{
    const char *source = lua_touserdata(L, 1);
    if (luaL_loadbufferx(L, source, strlen(source), "=t", "t"))
        return lua_error(L);
    lua_call(L, 0, 1);
    tm_json_encode(L, -1);
    return 0;
}

static void test_what_json_cannot_hold_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"return 0/0",
                                      "return math.huge",
                                      "return {print = tostring}",
                                      "return {[3.5] = 1}",
                                      "return {1, 2, a = 3}",
                                      "local t = {} t.t = t return t",
                                      "return coroutine.create(tostring)"};
    struct tm_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (tm_call(vm, encode_body, (void *)(uintptr_t)bad[i], 1000000, &err) != TM_ESCRIPT)
            fail_msg("encoded: %s", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_survive),
        cmocka_unit_test(test_what_is_not_json_is_refused),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_what_json_cannot_hold_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
