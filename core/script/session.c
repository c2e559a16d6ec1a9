#include "script/session_impl.h"

#include "base/clock.h"
#include "base/json.h"
#include "record/row_json.h"
#include "record/scanner.h"
#include "script/script.h"

#include <stdlib.h>
#include <string.h>

#define SLICE_US (2 * TM_US_PER_MS)
#define HOLD_US (100 * TM_US_PER_MS)
#define OPEN_US (500 * TM_US_PER_MS)
#define SHARE 0.25
#define BURST_US 100e3
#define MEMORY_LEFT_MIN ((size_t)256 << 10)
#define ENTRY "tidemill.repl"

static void on_run(void *arg);
static void on_tapped(void *arg);

/* ---- the set ---- */

struct tm_sessions *tm_sessions_create(struct tm_loop *loop, struct tm_taps *taps)
{
    struct tm_sessions *set = calloc(1, sizeof *set);
    TM_FATAL_UNLESS(set);
    set->loop = loop;
    set->taps = taps;
    set->memory_bytes_max = TM_SESSIONS_MEMORY;
    set->ready_tail = &set->ready_head;
    tm_async_init(&set->run, loop, on_run, set);
    tm_timer_init(&set->rest, loop, on_run, set);
    set->counted_us = tm_clock_mono_us();
    set->allowance_us = BURST_US;
    tm_async_init(&set->tapped, loop, on_tapped, set);
    return set;
}

void tm_sessions_destroy(struct tm_sessions *set)
{
    if (!set)
        return;
    TM_FATAL_UNLESS(!set->first);
    tm_async_fini(&set->run);
    tm_timer_stop(&set->rest);
    tm_async_fini(&set->tapped);
    free(set);
}

void tm_sessions_set_memory_max(struct tm_sessions *set, size_t bytes)
{
    set->memory_bytes_max = bytes;
}

static void on_tapped(void *arg)
{
    struct tm_sessions *set = arg;
    for (struct tm_session *s = set->first; s; s = s->next)
        tm_session_offer_row(s);
}

/* ---- ready ---- */

static void make_ready(struct tm_session *s)
{
    struct tm_sessions *set = s->set;
    s->state = TM_SESSION_READY;
    if (s->resting)
        return;
    s->next_ready = NULL;
    *set->ready_tail = s;
    set->ready_tail = &s->next_ready;
    tm_async_send(&set->run);
}

static void unqueue(struct tm_session *s)
{
    struct tm_sessions *set = s->set;
    struct tm_session **at = &set->ready_head;
    while (*at && *at != s)
        at = &(*at)->next_ready;
    if (!*at)
        return;
    *at = s->next_ready;
    if (!*at)
        set->ready_tail = at;
}

void tm_session_resume(struct tm_session *s)
{
    if (!s->resting)
        return;
    s->resting = false;
    if (s->state == TM_SESSION_READY)
        make_ready(s);
}

/* ---- the end of a command ---- */

void tm_session_close_tap(struct tm_session *s)
{
    if (s->tap)
        tm_tap_close(s->set->taps, s->tap);
    s->tap = NULL;
    s->waits_for_row = false;
}

static int drop_body(lua_State *L)
{
    struct tm_session *s = lua_touserdata(L, 1);
    luaL_unref(L, LUA_REGISTRYINDEX, s->reference);
    return 0;
}

/* Nothing of the command is left, but for what it printed and its answer. */
static void drop_command(struct tm_session *s)
{
    unqueue(s);
    tm_timer_stop(&s->timer);
    tm_session_close_tap(s);
    s->token = 0;
    if (s->co)
        (void)!tm_call(s->vm, drop_body, s, HOLD_US, NULL); /* if it fails, a leak of this VM alone */
    s->co = NULL;
    s->state = TM_SESSION_IDLE;
}

static void flush(struct tm_session *s)
{
    if (s->out.len == 0)
        return;
    bool wanted = s->options.owner.on_output(s->options.owner.arg, (const char *)s->out.data, s->out.len);
    tm_buf_clear(&s->out);
    s->resting = !wanted;
}

static void finish(struct tm_session *s)
{
    drop_command(s);
    flush(s);
    s->resting = false;
    s->options.owner.on_done(s->options.owner.arg, (const char *)s->answer.data, s->answer.len);
}

static int put_error(struct tm_buf *out, const char *message)
{
    size_t len = strlen(message);
    tm_buf_clear(out);
    int rc = tm_buf_printf(out, "{\"ok\":false,\"error\":");
    rc = rc                               ? rc
         : tm_text_storable(message, len) ? tm_json_put_text(out, message, len)
                                          : tm_json_put_string(out, message);
    return rc ? rc : tm_buf_append(out, "}", 1);
}

static bool is_full(const struct tm_session *s)
{
    return tm_vm_memory(s->vm) > s->options.memory_bytes_max / 2;
}

static int forget_body(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, ENTRY);
    lua_getfield(L, -1, "forget");
    lua_call(L, 0, 0);
    return 0;
}

/* What its variables hold fills the session. */
static void make_room(struct tm_session *s)
{
    (void)!tm_call(s->vm, forget_body, NULL, HOLD_US, NULL);
    tm_vm_collect(s->vm);
}

/* What it held is garbage only now, and the next command may not live to see the collector run. */
static void fail(struct tm_session *s, const char *message)
{
    TM_FATAL_UNLESS(put_error(&s->answer, message) == TM_OK);
    if (is_full(s)) {
        drop_command(s);
        tm_vm_collect(s->vm);
    }
    if (is_full(s)) {
        make_room(s);
        TM_FATAL_UNLESS(put_error(&s->answer, "the session's memory was full: its variables are gone") == TM_OK);
    }
    finish(s);
}

bool tm_session_cancel(struct tm_session *s, const char *why)
{
    if (s->state == TM_SESSION_IDLE)
        return false;
    if (s->state == TM_SESSION_RUNNING)
        s->cancelled = why;
    else
        fail(s, why);
    return true;
}

/* ---- slices ---- */

struct slice {
    struct tm_session *s;
    int status;
    struct tm_error err;
};

static int slice_body(lua_State *L)
{
    struct slice *slice = lua_touserdata(L, 1);
    struct tm_session *s = slice->s;
    int args = s->args;
    s->args = 0;
    tm_vm_set_slice(s->vm, s->co, SLICE_US);
    slice->status = tm_call_resume(L, s->co, args, &slice->err);
    return 0;
}

static void end_slice(struct slice *slice)
{
    struct tm_session *s = slice->s;
    bool waits = slice->status == 0 && !tm_vm_is_sliced(s->vm);
    tm_vm_set_slice(s->vm, NULL, 0);
    if (s->cancelled)
        fail(s, s->cancelled);
    else if (slice->status < 0)
        fail(s, slice->err.message);
    else if (slice->status == 1 && !s->has_answered)
        fail(s, "the command ended without an answer");
    else if (slice->status == 1)
        finish(s);
    else if (s->cpu_us >= s->options.cpu_us)
        fail(s, "stopped: the command used up its CPU time");
    else if (!waits)
        make_ready(s);
    else
        s->state = TM_SESSION_WAITING;
}

/* Its own cap, or what the others leave of the one of all. */
static void bound_memory(struct tm_session *s)
{
    size_t used = tm_vm_memory(s->vm), all = 0;
    for (const struct tm_session *other = s->set->first; other; other = other->next)
        all += tm_vm_memory(other->vm);
    size_t left = s->set->memory_bytes_max > all ? s->set->memory_bytes_max - all : 0;
    size_t max = used + (left > MEMORY_LEFT_MIN ? left : MEMORY_LEFT_MIN);
    tm_vm_set_memory_max(s->vm, max < s->options.memory_bytes_max ? max : s->options.memory_bytes_max);
}

static void run_slice(struct tm_session *s)
{
    struct slice slice = {.s = s};
    int64_t begun_us = tm_clock_thread_us(), left_us = s->options.cpu_us - s->cpu_us;
    s->state = TM_SESSION_RUNNING;
    s->cancelled = NULL;
    bound_memory(s);
    if (tm_call(s->vm, slice_body, &slice, left_us < HOLD_US ? left_us : HOLD_US, &slice.err) < 0)
        slice.status = slice.err.code;
    s->cpu_us += tm_clock_thread_us() - begun_us;
    flush(s);
    end_slice(&slice);
}

/* What all sessions may use of the thread: SHARE of the time that passes, BURST_US of it at once. Who only looks does not
 * notice; commands without end leave the processor to threads that the feed needs. */
static bool may_run(struct tm_sessions *set)
{
    int64_t now_us = tm_clock_mono_us();
    double earned = set->allowance_us + (double)(now_us - set->counted_us) * SHARE;
    set->allowance_us = earned < BURST_US ? earned : BURST_US;
    set->counted_us = now_us;
    return set->allowance_us > 0;
}

/* One for a turn, so that the rest of the loop has at least every other one. */
static void on_run(void *arg)
{
    struct tm_sessions *set = arg;
    struct tm_session *s = set->ready_head;
    if (!s)
        return;
    if (!may_run(set)) {
        tm_timer_start(&set->rest, (int64_t)(-set->allowance_us / SHARE) + 1000, 0);
        return;
    }
    set->ready_head = s->next_ready;
    if (!set->ready_head)
        set->ready_tail = &set->ready_head;
    int64_t begun_us = tm_clock_thread_us();
    run_slice(s);
    set->allowance_us -= (double)(tm_clock_thread_us() - begun_us);
    if (set->ready_head)
        tm_async_send(&set->run);
}

struct wake {
    struct tm_session *s;
    int (*push)(lua_State *co, void *arg);
    void *arg;
};

static int wake_body(lua_State *L)
{
    struct wake *w = lua_touserdata(L, 1);
    int count = w->push(L, w->arg);
    luaL_checkstack(w->s->co, count, "answer");
    lua_xmove(L, w->s->co, count);
    w->s->args = count;
    return 0;
}

void tm_session_wake(struct tm_session *s, int (*push)(lua_State *co, void *arg), void *arg)
{
    struct wake w = {.s = s, .push = push, .arg = arg};
    struct tm_error err;
    tm_timer_stop(&s->timer);
    s->token = 0;
    s->waits_for_row = false;
    if (tm_call(s->vm, wake_body, &w, HOLD_US, &err) < 0)
        fail(s, err.message);
    else
        make_ready(s);
}

/* ---- life ---- */

static int open_body(lua_State *L)
{
    struct tm_session *s = lua_touserdata(L, 1);
    tm_session_api_push(L);
    tm_module_open(L, &s->paths);
    lua_getglobal(L, "require");
    lua_pushliteral(L, ENTRY);
    lua_call(L, 1, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, ENTRY);
    return 0;
}

int tm_session_create(const struct tm_session_options *options, struct tm_session **out, struct tm_error *err)
{
    struct tm_session *s = calloc(1, sizeof *s);
    TM_FATAL_UNLESS(s);
    s->set = options->set;
    s->options = *options;
    s->options.cpu_us = options->cpu_us ? options->cpu_us : TM_SESSION_CPU_US;
    s->options.output_bytes_max = options->output_bytes_max ? options->output_bytes_max : TM_SESSION_OUTPUT;
    s->arena = tm_arena_create();
    s->paths.library = tm_arena_strdup(s->arena, options->library ? options->library : tm_script_library());
    s->paths.script = s->paths.library;
    s->number = ++s->set->last_number;
    tm_timer_init(&s->timer, s->set->loop, NULL, s);
    s->options.memory_bytes_max = options->memory_bytes_max ? options->memory_bytes_max : TM_SESSION_MEMORY;
    int rc = tm_vm_create_bare(s->options.memory_bytes_max, s, &s->vm, err);
    if (!rc) {
        s->next = s->set->first;
        s->set->first = s;
    }
    rc = rc ? rc : tm_call(s->vm, open_body, s, OPEN_US, err);
    if (rc) {
        tm_session_destroy(s);
        return rc;
    }
    *out = s;
    return TM_OK;
}

void tm_session_destroy(struct tm_session *s)
{
    if (!s)
        return;
    struct tm_session **at = &s->set->first;
    while (*at && *at != s)
        at = &(*at)->next;
    if (*at) /* one whose VM could not be made is in no list */
        *at = s->next;
    if (s->vm)
        drop_command(s);
    tm_vm_destroy(s->vm);
    tm_buf_fini(&s->request);
    tm_buf_fini(&s->out);
    tm_buf_fini(&s->answer);
    tm_buf_fini(&s->paths.source);
    tm_arena_destroy(s->arena);
    free(s);
}

/* ---- commands ---- */

static int start_body(lua_State *L)
{
    struct tm_session *s = lua_touserdata(L, 1);
    s->co = lua_newthread(L);
    s->reference = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getfield(L, LUA_REGISTRYINDEX, ENTRY);
    lua_getfield(L, -1, "command");
    lua_pushlstring(L, (const char *)s->request.data, s->request.len);
    lua_xmove(L, s->co, 2);
    s->args = 1;
    return 0;
}

bool tm_session_is_busy(const struct tm_session *s)
{
    return s->state != TM_SESSION_IDLE;
}

int tm_session_start(struct tm_session *s, const char *json, size_t len, struct tm_error *err)
{
    if (tm_session_is_busy(s))
        return tm_error_set(err, TM_ESTATE, "a command runs already: wait for its answer, or cancel it");
    tm_buf_clear(&s->request);
    tm_buf_clear(&s->answer);
    s->has_answered = false;
    s->cpu_us = 0;
    s->out_bytes = 0;
    s->commands++;
    if (tm_buf_append(&s->request, json, len) < 0)
        return tm_error_set(err, TM_ENOMEM, "out of memory");
    int rc = tm_call(s->vm, start_body, s, HOLD_US, err);
    if (rc) {
        s->co = NULL;
        return rc;
    }
    make_ready(s);
    return TM_OK;
}
