/*
 * Our string functions against the stock ones of LuaJIT: the same arguments in the sandboxed VM and in a plain state must
 * give the same results and error texts. The corpus is random (fixed seed) and made of fragments of patterns, so that most
 * are meaningful and many are malformed.
 */
#include "script/call.h"

#include <lualib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define ROUNDS 30000

/* Returns all results of string.NAME(...) as one text, or the error without its place. gmatch is run to its end. */
static const char chunk[] =
    "local string, name, spec, subject, pattern, a, b, getname = ...\n"
    "local function show(ok, ...)\n"
    "  local list = { tostring(ok) }\n"
    "  for i = 1, select('#', ...) do\n"
    "    local v = select(i, ...)\n"
    "    list[#list + 1] = type(v) .. ':' .. tostring(v):gsub('^[^:]*:%d+: ', '')\n"
    "  end\n"
    "  return table.concat(list, '|')\n"
    "end\n"
    "local function numbers(...)\n"
    "  local list = {}\n"
    "  for i = 1, select('#', ...) do list[i] = tostring((select(i, ...))) end\n"
    "  return table.concat(list, ',')\n"
    "end\n"
    "local replacements = {\n"
    "  text = a,\n"
    "  number = 42,\n"
    "  table = { a = 'A', b = false, ab = 12, ['1'] = 'one', [1] = 'first', [2] = 'second', bad = {} },\n"
    "  index = setmetatable({}, { __index = function(_, k) return tostring(k) .. tostring(k) end }),\n"
    "  func = function(...) return '<' .. numbers(...) .. '>' end,\n"
    "  funcnil = function(x) if x == 'a' then return nil end return 7 end,\n"
    "  funcbad = function() return {} end,\n"
    "  funcerr = function() error('thrown', 0) end,\n"
    "  bool = true,\n"
    "}\n"
    "if name == 'gmatch' then\n"
    "  return show(pcall(function()\n"
    "    local list, n = {}, 0\n"
    "    for x, y, z in string.gmatch(subject, pattern) do\n"
    "      list[#list + 1] = numbers(x, y, z)\n"
    "      n = n + 1\n"
    "      if n > 100 then break end\n"
    "    end\n"
    "    return table.concat(list, ';')\n"
    "  end))\n"
    "elseif name == 'gsub' then\n"
    "  return show(pcall(string.gsub, subject, pattern, replacements[spec], b))\n"
    "elseif name == 'find' then\n"
    "  return show(pcall(string.find, subject, pattern, b, spec == 'plain'))\n"
    "else\n"
    "  return show(pcall(string.match, subject, pattern, b))\n"
    "end\n";

struct question {
    const char *name, *spec;
    char subject[64], pattern[64], text[24];
    size_t subject_len, pattern_len, text_len;
    int number;
    bool has_number;
};

static struct question question;
static char answers[2][8192];

static uint64_t seed = 0x9e3779b97f4a7c15;

static unsigned below(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed >> 33) % n;
}

static void ask(lua_State *L, int which)
{
    const struct question *q = &question;
    int top = lua_gettop(L);
    if (luaL_loadbufferx(L, chunk, sizeof chunk - 1, "=differ", "t"))
        lua_error(L);
    lua_getglobal(L, "string");
    lua_pushstring(L, q->name);
    lua_pushstring(L, q->spec);
    lua_pushlstring(L, q->subject, q->subject_len);
    lua_pushlstring(L, q->pattern, q->pattern_len);
    lua_pushlstring(L, q->text, q->text_len);
    if (q->has_number)
        lua_pushinteger(L, q->number);
    else
        lua_pushnil(L);
    lua_call(L, 7, 1);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    assert_true(len < sizeof answers[0]);
    memset(answers[which], 0, sizeof answers[0]);
    memcpy(answers[which], text, len);
    lua_settop(L, top);
}

static int ask_ours(lua_State *L)
{
    ask(L, 0);
    return 0;
}

static size_t make(char *out, size_t size, const char *const *parts, unsigned count, unsigned most)
{
    size_t len = 0;
    for (unsigned n = below(most + 1); n > 0; n--) {
        const char *part = parts[below(count)];
        size_t part_len = strcmp(part, "\\0") == 0 ? 1 : strlen(part);
        if (len + part_len > size)
            break;
        memcpy(out + len, strcmp(part, "\\0") == 0 ? "" : part, part_len);
        len += part_len;
    }
    return len;
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

static const char *const letters[] = {"a",  "a", "b", "b", "ab",   "c",   "1",    "2",   " ",
                                      "\n", "(", ")", "[", "]",    "x",   "%",    ".",   "-",
                                      "^",  "$", "Z", "_", "\xe9", "\\0", "\x7f", "aaa", "((a))"};
static const char *const fragments[] = {
    "a",    "b",     "ab",    ".",    "%a",    "%d",     "%s",          "%w",    "%x",     "%l",   "%u",   "%p",
    "%c",   "%g",    "%A",    "%D",   "%S",    "%W",     "%P",          "%z",    "%Z",     "*",    "+",    "-",
    "?",    "*",     "-",     "(",    ")",     "()",     "(a",          "(.",    "(.-",    ")",    "(b*)", "%1",
    "%2",   "%0",    "%b()",  "%bab", "%b",    "%f[%w]", "%f[a",        "%f",    "[ab]",   "[^a]", "[a-",  "[]]",
    "[^]]", "[%a_]", "[a-c]", "[%]]", "[1-9]", "[-a]",   "[a-]",        "[",     "^",      "$",    "%",    "%%",
    "%.",   "\\0",   "\xe9",  "1",    " ",     "[%w%s]", "[\xe0-\xff]", "[^%d]", "%f[^a]", "[%",
};
static const char *const texts[] = {"a", "x", "%0", "%1", "%2", "%", "%%", "%a", "\\0", "-", "(%1)"};
static const char *const specs[] = {"text", "text",    "number",  "table",   "index",
                                    "func", "funcnil", "funcbad", "funcerr", "bool"};
static const char *const names[] = {"find", "match", "gmatch", "gsub"};

static void make_question(void)
{
    struct question *q = &question;
    q->name = names[below(4)];
    q->spec = strcmp(q->name, "gsub") == 0 ? specs[below(COUNT(specs))] : below(4) ? "" : "plain";
    q->subject_len = make(q->subject, 24, letters, COUNT(letters), 12);
    q->pattern_len = make(q->pattern, 40, fragments, COUNT(fragments), 6);
    q->text_len = make(q->text, sizeof q->text, texts, COUNT(texts), 4);
    q->has_number = below(3) == 0;
    q->number = (int)below(60) - 30;
}

static void print_bytes(const char *what, const char *bytes, size_t len)
{
    fprintf(stderr, "%s: \"", what);
    for (size_t i = 0; i < len; i++)
        fprintf(stderr, bytes[i] >= ' ' && bytes[i] < 127 ? "%c" : "\\x%02x", (unsigned char)bytes[i]);
    fprintf(stderr, "\"\n");
}

static void compare(struct tm_vm *vm, lua_State *stock)
{
    struct tm_error err;
    if (tm_call(vm, ask_ours, NULL, 10000000, &err) < 0)
        fail_msg("%s", err.message);
    ask(stock, 1);
    if (memcmp(answers[0], answers[1], sizeof answers[0]) == 0)
        return;
    fprintf(stderr, "string.%s, %s, %d\n", question.name, question.spec, question.has_number ? question.number : 0);
    print_bytes("subject", question.subject, question.subject_len);
    print_bytes("pattern", question.pattern, question.pattern_len);
    print_bytes("text", question.text, question.text_len);
    fail_msg("ours  %s\nstock %s", answers[0], answers[1]);
}

static void test_same_as_stock(void **state)
{
    (void)state;
    struct tm_vm *vm;
    struct tm_error err;
    unsigned good = 0, found = 0;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    lua_State *stock = luaL_newstate();
    luaL_openlibs(stock);
    for (int i = 0; i < ROUNDS; i++) {
        make_question();
        compare(vm, stock);
        good += strncmp(answers[0], "true", 4) == 0;
        found += strncmp(answers[0], "true|nil", 8) != 0;
    }
    lua_close(stock);
    tm_vm_destroy(vm);
    assert_true(good > ROUNDS / 3 && good < ROUNDS * 9 / 10); /* the corpus has both */
    assert_true(found > ROUNDS / 3);
}

static void ask_both(struct tm_vm *vm, lua_State *stock, const char *name, const char *subject, const char *pattern)
{
    question = (struct question){.name = name, .spec = "func"};
    question.subject_len = (size_t)snprintf(question.subject, sizeof question.subject, "%s", subject);
    question.pattern_len = (size_t)snprintf(question.pattern, sizeof question.pattern, "%s", pattern);
    compare(vm, stock);
}

/* Each class, and its opposite, over each byte. */
static void test_classes_of_all_bytes(void **state)
{
    (void)state;
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    lua_State *stock = luaL_newstate();
    luaL_openlibs(stock);
    for (int class = 1; class < 256; class ++) {
        for (int c = 0; c < 256; c += 32) {
            question = (struct question){.name = "gmatch", .spec = "", .subject_len = 32, .pattern_len = 4};
            for (int i = 0; i < 32; i++)
                question.subject[i] = (char)(c + i);
            memcpy(question.pattern, (char[]){'(', '%', (char)class, ')'}, 4);
            if (class != 'b' && class != 'f')
                compare(vm, stock);
        }
    }
    lua_close(stock);
    tm_vm_destroy(vm);
}

static void test_bounds_are_the_same(void **state)
{
    (void)state;
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    lua_State *stock = luaL_newstate();
    luaL_openlibs(stock);
    static const char *const scripts[] = {
        "return pcall(string.find, ('a'):rep(400), ('a?'):rep(198))",
        "return pcall(string.find, ('a'):rep(400), ('a?'):rep(199))",
        "return pcall(string.find, ('a'):rep(400), ('a?'):rep(200))",
        "return pcall(string.find, ('a'):rep(40), ('(a)'):rep(32))",
        "return pcall(string.find, ('a'):rep(40), ('(a)'):rep(33))",
        "return pcall(string.find, ('a'):rep(40), ('('):rep(32))",
        "return pcall(string.find, {}, 'a')",
        "return pcall(string.find, 'a')",
        "return pcall(string.find, 12, 2)",
        "return pcall(string.find, 'a', 'a', {})",
        "return pcall(string.find, 'abc', 'b', '2', true)",
        "return pcall(string.find, 'abc', '', 10)",
        "return pcall(string.find, 'abc', '', -10)",
        "return pcall(string.gsub, 'abc', 'b')",
        "return pcall(string.gsub, 'abc', 'b', 'x', 'y')",
        "return pcall(string.gsub, 'abc', '%w', '%9')",
        "return pcall(string.gsub, 'hello world', '(o)()', '%2%1')",
        "return pcall(string.gsub, ('abc'):rep(2000), 'b', ('xyz'):rep(9))",
        "return pcall(string.gsub, ('abc'):rep(2000), '()', '%1')",
        "return pcall(string.gsub, 'abc', '', '-')",
        "return pcall(string.gmatch, 'abc')",
        "return pcall(string.gmatch, 123, '%d')()",
        "return pcall(string.match, '  key = value  ', '^%s*(%S+)%s*=%s*(%S+)%s*$')",
    };
    for (size_t i = 0; i < COUNT(scripts); i++) {
        char texts_of[2][8192] = {{0}};
        for (int which = 0; which < 2; which++) {
            lua_State *L = which ? stock : tm_vm_state(vm);
            tm_vm_enter(vm, 10000000);
            assert_int_equal(luaL_loadstring(L, scripts[i]), 0);
            int before = lua_gettop(L) - 1;
            if (lua_pcall(L, 0, LUA_MULTRET, 0))
                (void)snprintf(texts_of[which], sizeof texts_of[0], "raised");
            else
                for (int v = before + 1; v <= lua_gettop(L); v++)
                    (void)snprintf(texts_of[which] + strlen(texts_of[which]),
                                   sizeof texts_of[0] - strlen(texts_of[which]), "%s|",
                                   lua_isfunction(L, v)  ? "function"
                                   : lua_isboolean(L, v) ? (lua_toboolean(L, v) ? "true" : "false")
                                   : lua_isnil(L, v)     ? "nil"
                                                         : lua_tostring(L, v));
            lua_settop(L, before);
            tm_vm_leave(vm);
        }
        if (strcmp(texts_of[0], texts_of[1]) != 0)
            fail_msg("%s\nours  %.300s\nstock %.300s", scripts[i], texts_of[0], texts_of[1]);
    }
    ask_both(vm, stock, "gsub", "THE (quick) fox", "%((%a+)%)");
    ask_both(vm, stock, "gmatch", "one two", "%f[%w]%w+");
    lua_close(stock);
    tm_vm_destroy(vm);
}

/* ---- bounded ---- */

static int run_body(lua_State *L)
{
    const char *source = lua_touserdata(L, 1);
    if (luaL_loadbufferx(L, source, strlen(source), "=test", "t"))
        return lua_error(L);
    lua_call(L, 0, 0);
    return 0;
}

static void test_pathological_patterns_end(void **state)
{
    (void)state;
    static const char *const attacks[] = {
        "('a'):rep(3e5):find(('.-'):rep(9) .. 'b')",
        "('a'):rep(3e5):find(('.*'):rep(9) .. 'b')",
        "('a'):rep(3e5):match(('a?'):rep(60) .. ('a*'):rep(40) .. 'b')",
        "for _ in ('a'):rep(3e5):gmatch(('.-'):rep(9) .. 'b') do end",
        "('a'):rep(3e5):gsub(('.-'):rep(9) .. 'b', '')",
        "('('):rep(1e6):find('%b()')",
        "('('):rep(1e6):gsub('%b()', '')",
        "('a'):rep(1e5):find('[' .. ('b'):rep(1e5) .. ']')",
        "('a'):rep(1e6):find('(.*)%1b')",
        "('a'):rep(1e6):gsub('a', ('%0'):rep(1000))",
        "while true do pcall(string.find, ('a'):rep(3e5), ('.-'):rep(9) .. 'b') end",
        "local co = coroutine.wrap(function() return ('a'):rep(3e5):find(('.-'):rep(9) .. 'b') end) pcall(co) co()",
        "('x'):rep(1e5):gsub('.', function() return ('a'):rep(3e5):find(('.-'):rep(9) .. 'b') end)",
    };
    for (size_t i = 0; i < COUNT(attacks); i++) {
        struct tm_vm *vm;
        struct tm_error err;
        assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
        int rc = tm_call(vm, run_body, (void *)(uintptr_t)attacks[i], 50000, &err);
        if (rc != TM_ENOMEM && (rc != TM_ESCRIPT || !strstr(err.message, "budget")))
            fail_msg("%s\n-> %d %s", attacks[i], rc, err.message);
        tm_vm_destroy(vm);
    }
}

/* A text search looks at each byte a bounded number of times. */
static void test_plain_find_is_linear(void **state)
{
    (void)state;
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    int rc =
        tm_call(vm, run_body,
                (void *)(uintptr_t) "assert(not ('a'):rep(4e6):find(('a'):rep(2e6) .. 'b' .. ('a'):rep(1e6), 1, true))",
                10000000, &err);
    if (rc)
        fail_msg("%s", err.message);
    tm_vm_destroy(vm);
}

static void test_no_yield_across_gsub(void **state)
{
    (void)state;
    struct tm_vm *vm;
    struct tm_error err;
    assert_int_equal(tm_vm_create(0, NULL, &vm, &err), TM_OK);
    int rc =
        tm_call(vm, run_body,
                (void *)(uintptr_t) "local co = coroutine.create(function() ('x'):gsub('x', coroutine.yield) end)\n"
                                    "local ok, why = coroutine.resume(co)\n"
                                    "assert(not ok and why:find('attempt to yield across C', 1, true), why)",
                1000000, &err);
    if (rc)
        fail_msg("%s", err.message);
    tm_vm_destroy(vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_stock),        cmocka_unit_test(test_classes_of_all_bytes),
        cmocka_unit_test(test_bounds_are_the_same),  cmocka_unit_test(test_pathological_patterns_end),
        cmocka_unit_test(test_plain_find_is_linear), cmocka_unit_test(test_no_yield_across_gsub),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
