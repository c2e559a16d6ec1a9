/*
 * Our pattern matcher against LuaJIT's own: the same call in the sandboxed VM and in a plain state gives the same results
 * or the same error. The input is: which function, a number, and three texts that a NUL divides (0xff stands for NUL in
 * them). What takes ours more than its budget is not asked of the stock one, which nothing would stop.
 */
#include "script/call.h"

#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#define BUDGET_US 50000
#define TEXT_MAX 80

static const char chunk[] = "local string, which, number, subject, pattern, text = ...\n"
                            "local function show(ok, ...)\n"
                            "  local out = ok and 'ok' or 'error'\n"
                            "  for i = 1, select('#', ...) do\n"
                            "    local v = tostring((select(i, ...)))\n"
                            "    if not ok then v = v:sub(-40) end\n"
                            "    out = out .. '|' .. type((select(i, ...))) .. ':' .. v\n"
                            "  end\n"
                            "  return out\n"
                            "end\n"
                            "local init = number ~= 0 and number or nil\n"
                            "if which == 0 then return show(pcall(string.find, subject, pattern, init)) end\n"
                            "if which == 1 then return show(pcall(string.find, subject, pattern, init, true)) end\n"
                            "if which == 2 then return show(pcall(string.match, subject, pattern, init)) end\n"
                            "if which == 3 then\n"
                            "  return show(pcall(function()\n"
                            "    local out, n = '', 0\n"
                            "    for a, b, c in string.gmatch(subject, pattern) do\n"
                            "      out = out .. tostring(a) .. ',' .. tostring(b) .. ',' .. tostring(c) .. ';'\n"
                            "      n = n + 1 if n > 200 then break end\n"
                            "    end\n"
                            "    return out\n"
                            "  end))\n"
                            "end\n"
                            "local replacement = text\n"
                            "if which == 5 then replacement = { a = 'x', b = false, [text] = 'y' } end\n"
                            "if which == 6 then replacement = function(a, b) return a == text and '' or b end end\n"
                            "return show(pcall(string.gsub, subject, pattern, replacement, init))\n";

struct question {
    int which, number;
    const char *texts[3];
    size_t lens[3];
};

static struct question question;
static char answers[2][1 << 16];
static size_t lens[2];

static int ask(lua_State *L, int side)
{
    if (luaL_loadbufferx(L, chunk, sizeof chunk - 1, "=fuzz", "t"))
        return lua_error(L);
    lua_getglobal(L, "string");
    lua_pushinteger(L, question.which);
    lua_pushinteger(L, question.number);
    for (int i = 0; i < 3; i++)
        lua_pushlstring(L, question.texts[i], question.lens[i]);
    lua_call(L, 6, 1);
    const char *text = lua_tolstring(L, -1, &lens[side]);
    if (lens[side] > sizeof answers[0])
        lens[side] = sizeof answers[0];
    memcpy(answers[side], text, lens[side]);
    return 0;
}

static int ask_ours(lua_State *L)
{
    return ask(L, 0);
}

static int ask_stock(lua_State *L)
{
    return ask(L, 1);
}

static bool read_question(const uint8_t *data, size_t size)
{
    static char bytes[3 * TEXT_MAX];
    if (size < 2 || size > sizeof bytes)
        return false;
    question = (struct question){.which = data[0] % 7, .number = (int8_t)data[1]};
    size_t text = 0, begin = 0;
    for (size_t i = 0; i < size - 2; i++) {
        uint8_t c = data[i + 2];
        bytes[i] = c == 0xff ? '\0' : (char)c;
        if (c != 0 || text == 2)
            continue;
        question.texts[text] = bytes + begin;
        question.lens[text++] = i - begin;
        begin = i + 1;
    }
    question.texts[text] = bytes + begin;
    question.lens[text++] = size - 2 - begin;
    for (; text < 3; text++)
        question.texts[text] = "";
    return question.lens[0] <= TEXT_MAX && question.lens[1] <= TEXT_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tm_vm *vm;
    static lua_State *stock;
    struct tm_error err;
    if (!vm) {
        TM_FATAL_UNLESS(tm_vm_create(0, NULL, &vm, &err) == TM_OK);
        stock = luaL_newstate();
        luaL_openlibs(stock);
        luaJIT_setmode(stock, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    }
    if (!read_question(data, size) || tm_call(vm, ask_ours, NULL, BUDGET_US, &err) < 0)
        return 0;
    TM_FATAL_UNLESS(lua_cpcall(stock, ask_stock, NULL) == 0);
    if (lens[0] != lens[1] || memcmp(answers[0], answers[1], lens[0]) != 0) {
        fprintf(stderr, "ours  %.*s\nstock %.*s\n", (int)lens[0], answers[0], (int)lens[1], answers[1]);
        tm_fatal(__FILE__, __LINE__, "ours is the same as stock");
    }
    return 0;
}
