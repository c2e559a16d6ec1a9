/*
 * The host of a session's VM (script/session.h): what its library lua/tidemill/repl/ is written in. The session's own
 * commands do not see it.
 *
 *     load(text, environment) -> function | nil, why, unfinished       print(text)          done(answer)
 *     command(line) -> answer     call(name, arguments) -> result | nil, why     wait_call(name, arguments) -> ok, result
 *     sleep_us(us)     tap_open(stream, ticker?)   tap_next(us) -> row | nil   tap_left_out() -> n   tap_close()
 *     now_us()   monotonic_us()   json_decode   json_encode   json_array   null
 */
#include "script/session_impl.h"

#include "base/clock.h"
#include "script/json.h"
#include "script/remote.h"

#include <string.h>

#define ANSWER_US (30 * TM_US_PER_S) /* that policy may take */
#define WAIT_US_MAX (3600 * TM_US_PER_S)

static struct tm_session *session_of(lua_State *L)
{
    return tm_vm_owner(L);
}

static int load(lua_State *L)
{
    static const char eof[] = "'<eof>'";
    size_t len, message_len;
    const char *text = luaL_checklstring(L, 1, &len);
    luaL_checktype(L, 2, LUA_TTABLE);
    if (luaL_loadbufferx(L, text, len, "=command", "t") == 0) {
        lua_pushvalue(L, 2);
        lua_setfenv(L, -2);
        return 1;
    }
    const char *message = lua_tolstring(L, -1, &message_len);
    bool unfinished = message_len >= sizeof eof - 1 && strcmp(message + message_len - (sizeof eof - 1), eof) == 0;
    lua_pushnil(L);
    lua_insert(L, -2);
    lua_pushboolean(L, unfinished);
    return 3;
}

/* ---- output ---- */

static int print(lua_State *L)
{
    struct tm_session *s = session_of(L);
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    s->out_bytes += len;
    if (s->out_bytes > s->options.output_bytes_max) {
        if (!s->tap) /* what is tapped comes at the reader's pace and is bounded there */
            return luaL_error(L, "the output is larger than %d KiB: it ends here",
                              (int)(s->options.output_bytes_max >> 10));
        s->out_bytes = 0;
    }
    if (tm_buf_append(&s->out, text, len) < 0)
        return luaL_error(L, "not enough memory");
    return 0;
}

static int done(lua_State *L)
{
    struct tm_session *s = session_of(L);
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (len > s->options.output_bytes_max)
        return luaL_error(L, "the answer is larger than %d KiB: ask for less",
                          (int)(s->options.output_bytes_max >> 10));
    tm_buf_clear(&s->answer);
    if (tm_buf_append(&s->answer, text, len) < 0)
        return luaL_error(L, "not enough memory");
    s->has_answered = true;
    return 0;
}

/* ---- the process ---- */

/* What the process does for the command, such as a reload, is not on the account of its Lua. */
static int run_command(struct tm_session *s, const char *line, struct tm_buf *out)
{
    int64_t begun_us = tm_clock_thread_us();
    int rc = s->options.owner.command(s->options.owner.arg, line, out);
    int64_t took_us = tm_clock_thread_us() - begun_us;
    tm_vm_extend(s->vm, took_us);
    s->cpu_us -= took_us;
    return rc;
}

static const char *check_text(lua_State *L, int index)
{
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);
    if (strlen(text) != len)
        luaL_error(L, "expected text without NUL bytes");
    return text;
}

/* Kept between calls: pushing may raise. One thread comes here. */
static struct tm_buf scratch;

static int push_scratch(lua_State *L)
{
    lua_pushlstring(L, (const char *)scratch.data, scratch.len);
    if (scratch.cap > 1 << 20) /* one large answer is not kept for ever */
        tm_buf_fini(&scratch);
    return 1;
}

static int command(lua_State *L)
{
    const char *line = check_text(L, 1);
    tm_buf_clear(&scratch);
    if (run_command(session_of(L), line, &scratch) < 0)
        return luaL_error(L, "not enough memory");
    return push_scratch(L);
}

static uint64_t next_token(const struct tm_session *s)
{
    return (uint64_t)s->number << 20 | (s->commands & 0xfffff); /* below 2^53: it travels as a Lua number */
}

/* TM_OK: the result is in `scratch`; 1: it comes later. */
static int call_remote(lua_State *L, uint64_t token, struct tm_error *err)
{
    struct tm_session *s = session_of(L);
    struct tm_remote_call call = {.role = s->options.owner.role, .name = check_text(L, 1), .token = token};
    struct tm_script *script = s->options.owner.script(s->options.owner.arg);
    call.arguments = luaL_checklstring(L, 2, &call.len);
    tm_buf_clear(&scratch);
    if (!script)
        return tm_error_set(err, TM_ESTATE, "no script runs");
    int64_t begun_us = tm_clock_thread_us();
    int rc = tm_remote_call(script, &call, &scratch, err);
    tm_vm_extend(s->vm, tm_clock_thread_us() - begun_us); /* of one piece; the command pays all the same */
    return rc;
}

/* call(name, arguments as JSON) -> JSON | nil, why */
static int call(lua_State *L)
{
    struct tm_error err;
    if (call_remote(L, 0, &err) == TM_OK)
        return push_scratch(L);
    lua_pushnil(L);
    lua_pushstring(L, err.message);
    return 2;
}

struct late {
    bool ok;
    const char *text;
    size_t len;
};

static int push_late(lua_State *co, void *arg)
{
    const struct late *late = arg;
    lua_pushboolean(co, late->ok);
    lua_pushlstring(co, late->text, late->len);
    return 2;
}

static void answer(struct tm_session *s, bool ok, const char *text, size_t len)
{
    struct late late = {ok, text, len};
    tm_session_wake(s, push_late, &late);
}

static void on_no_answer(void *arg)
{
    static const char why[] = "no answer came within 30 s: the log may say why";
    answer(arg, false, why, sizeof why - 1);
}

void tm_sessions_answer(struct tm_sessions *set, uint64_t token, bool ok, const char *text, size_t len)
{
    struct tm_session *s = set->first;
    while (s && (s->token != token || s->state != TM_SESSION_WAITING))
        s = s->next;
    if (s && token)
        answer(s, ok, text, len);
}

void tm_sessions_script_changed(struct tm_sessions *set)
{
    static const char why[] = "the script was reloaded before it answered: ask again";
    for (struct tm_session *s = set->first, *next; s; s = next) {
        next = s->next;
        if (s->token && s->state == TM_SESSION_WAITING)
            answer(s, false, why, sizeof why - 1);
    }
}

/* wait_call(name, arguments as JSON) -> true, JSON | false, why */
static int wait_call(lua_State *L)
{
    struct tm_session *s = session_of(L);
    struct tm_error err;
    uint64_t token = next_token(s);
    int rc = call_remote(L, token, &err);
    if (rc < 0) {
        lua_pushboolean(L, 0);
        lua_pushstring(L, err.message);
        return 2;
    }
    if (rc == TM_OK) {
        lua_pushboolean(L, 1);
        return 1 + push_scratch(L);
    }
    s->token = token;
    tm_timer_init(&s->timer, s->set->loop, on_no_answer, s);
    tm_timer_start(&s->timer, ANSWER_US, 0);
    return lua_yield(L, 0);
}

/* ---- waiting ---- */

static int push_nothing(lua_State *co, void *arg)
{
    (void)co;
    (void)arg;
    return 0;
}

static void on_slept(void *arg)
{
    tm_session_wake(arg, push_nothing, NULL);
}

static int64_t check_wait(lua_State *L, int index)
{
    double us = luaL_checknumber(L, index);
    if (!(us >= 0 && us <= (double)WAIT_US_MAX))
        luaL_error(L, "expected a wait of at most 1h");
    return (int64_t)us;
}

/* Only the command itself can wait, not a coroutine of it. */
static void check_waiting(lua_State *L, const struct tm_session *s)
{
    if (L != s->co || !lua_isyieldable(L))
        luaL_error(L, "only the command itself can wait, not a coroutine or a function that C calls");
}

static int sleep_us(lua_State *L)
{
    struct tm_session *s = session_of(L);
    int64_t us = check_wait(L, 1);
    check_waiting(L, s);
    tm_timer_init(&s->timer, s->set->loop, on_slept, s);
    tm_timer_start(&s->timer, us, 0);
    return lua_yield(L, 0);
}

/* ---- taps ---- */

static void wake_loop(void *arg)
{
    struct tm_sessions *set = arg;
    tm_async_send(&set->tapped);
}

static int tap_open(lua_State *L)
{
    struct tm_session *s = session_of(L);
    struct tm_tap_options options = {.stream = check_text(L, 1), .wake = wake_loop, .arg = s->set};
    struct tm_error err;
    options.ticker = lua_isnoneornil(L, 2) ? NULL : check_text(L, 2);
    if (!s->set->taps)
        return luaL_error(L, "there is nothing to tap");
    tm_session_close_tap(s);
    if (tm_tap_open(s->set->taps, &options, &s->tap, &err) < 0)
        return luaL_error(L, "%s", err.message);
    return 0;
}

static int push_row(lua_State *co, void *arg)
{
    (void)arg;
    return push_scratch(co);
}

void tm_session_offer_row(struct tm_session *s)
{
    if (!s->waits_for_row || s->state != TM_SESSION_WAITING)
        return;
    tm_buf_clear(&scratch);
    if (tm_tap_take(s->set->taps, s->tap, &scratch) != 0)
        tm_session_wake(s, push_row, NULL);
}

static void on_no_row(void *arg)
{
    tm_session_wake(arg, push_nothing, NULL);
}

/* tap_next(us) -> a row as JSON | nothing came in that time */
static int tap_next(lua_State *L)
{
    struct tm_session *s = session_of(L);
    int64_t us = check_wait(L, 1);
    check_waiting(L, s);
    if (!s->tap)
        return luaL_error(L, "the tap is closed");
    tm_buf_clear(&scratch);
    int rc = tm_tap_take(s->set->taps, s->tap, &scratch);
    if (rc < 0)
        return luaL_error(L, "a row cannot be shown: %s", tm_code_name(rc));
    if (rc > 0)
        return push_scratch(L);
    s->waits_for_row = true;
    tm_timer_init(&s->timer, s->set->loop, on_no_row, s);
    tm_timer_start(&s->timer, us, 0);
    return lua_yield(L, 0);
}

static int tap_left_out(lua_State *L)
{
    const struct tm_session *s = session_of(L);
    lua_pushnumber(L, s->tap ? (lua_Number)tm_tap_left_out(s->set->taps, s->tap) : 0);
    return 1;
}

static int tap_close(lua_State *L)
{
    tm_session_close_tap(session_of(L));
    return 0;
}

/* ---- time ---- */

static int now_us(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)tm_clock_wall_us());
    return 1;
}

static int monotonic_us(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)tm_clock_mono_us());
    return 1;
}

void tm_session_api_push(lua_State *L)
{
    static const luaL_Reg functions[] = {{"load", load},
                                         {"print", print},
                                         {"done", done},
                                         {"command", command},
                                         {"call", call},
                                         {"wait_call", wait_call},
                                         {"sleep_us", sleep_us},
                                         {"tap_open", tap_open},
                                         {"tap_next", tap_next},
                                         {"tap_left_out", tap_left_out},
                                         {"tap_close", tap_close},
                                         {"now_us", now_us},
                                         {"monotonic_us", monotonic_us},
                                         {"json_decode", tm_json_lua_decode},
                                         {"json_encode", tm_json_lua_encode},
                                         {"json_array", tm_json_lua_array},
                                         {NULL, NULL}};
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
}
