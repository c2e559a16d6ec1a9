#include "control/server_private.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IDLE_US (600 * TM_US_PER_S)
#define BEGIN_US (10 * TM_US_PER_S)
#define READ_BYTES 16384
#define COMMANDS_PER_S 100.0
#define COMMANDS_BURST 200.0
#define LATER_US (20 * TM_US_PER_MS)
#define LOOK_AHEAD 16 /* the scanner's, behind a frame */
#define LENGTH_DIGITS 7
#define HANGUP_US TM_US_PER_S /* how often a peer that has shut its sending side is looked after */

/* ---- life ---- */

static void on_events(void *arg, int events);
static void on_idle(void *arg);
static void on_later(void *arg);

static int64_t or_default(int64_t given, int64_t fallback)
{
    return given ? given : fallback;
}

static bool is_busy(const struct tm_control_session *s)
{
    return s->lua && tm_session_is_busy(s->lua);
}

/* The idle time starts anew, unless a line or frame has begun: that has its own. */
static void touch(struct tm_control_session *s)
{
    const struct tm_control_options *o = &s->control->options;
    int64_t left_us = s->ended && is_busy(s) ? HANGUP_US : or_default(o->idle_us, IDLE_US);
    if (s->begun_us) {
        int64_t begin_us = s->begun_us + or_default(o->begin_us, BEGIN_US) - tm_clock_mono_us();
        begin_us = begin_us > 0 ? begin_us : 1;
        left_us = begin_us < left_us ? begin_us : left_us;
    }
    tm_timer_start(&s->idle, left_us, 0);
}

struct tm_control_session *tm_control_session_create(struct tm_control *c, int fd, const struct tm_control_peer *peer)
{
    struct tm_control_session *s = calloc(1, sizeof *s);
    TM_FATAL_UNLESS(s);
    s->control = c;
    s->fd = fd;
    s->peer = *peer;
    s->last_us = s->begun_us = s->tokens_us = tm_clock_mono_us();
    s->tokens = COMMANDS_BURST;
    tm_io_init(&s->io, c->options.loop, fd, on_events, s);
    tm_timer_init(&s->idle, c->options.loop, on_idle, s);
    tm_timer_init(&s->later, c->options.loop, on_later, s);
    s->next = c->sessions;
    c->sessions = s;
    c->session_count++;
    tm_io_set(&s->io, EV_READ);
    touch(s);
    return s;
}

void tm_control_session_destroy(struct tm_control_session *s)
{
    struct tm_control *c = s->control;
    struct tm_control_session **at = &c->sessions;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    c->session_count--;
    tm_io_set(&s->io, 0);
    tm_timer_stop(&s->idle);
    tm_timer_stop(&s->later);
    tm_session_destroy(s->lua);
    close(s->fd);
    tm_buf_fini(&s->in);
    tm_buf_fini(&s->out);
    free(s);
}

bool tm_control_session_is_idle(const struct tm_control_session *s)
{
    return !is_busy(s) && s->out.len == 0;
}

static bool has_hung_up(const struct tm_control_session *s)
{
    struct pollfd p = {.fd = s->fd};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

static void on_idle(void *arg)
{
    struct tm_control_session *s = arg;
    if (is_busy(s) && !s->begun_us && !has_hung_up(s))
        touch(s);
    else
        tm_control_session_destroy(s);
}

/* ---- commands ---- */

void tm_control_audit(const struct tm_control_session *s, const char *text, size_t len)
{
    tm_log(TM_LOG_INFO, "control", "command", TM_F_U64("uid", s->peer.uid), TM_F_I64("pid", s->peer.pid),
           TM_F_U64("session", s->peer.session), TM_F_STR("role", tm_command_role_name(s->peer.role)),
           TM_F_BYTES("command", text, len));
}

int tm_control_run(struct tm_control_session *s, const char *line, size_t len, struct tm_buf *out)
{
    struct tm_control *c = s->control;
    size_t start = out->len;
    struct tm_control_peer before = c->peer;
    c->peer = s->peer;
    int rc = tm_command_answer(c->options.commands, s->peer.role, c->options.context, line, len, out);
    c->peer = before;
    if (!rc && out->len - start > TM_CONTROL_ANSWER_MAX) {
        out->len = start;
        rc = tm_buf_printf(out, "{\"ok\":false,\"error\":\"the answer is larger than 1 MiB\"}\n");
    }
    return rc;
}

static bool has_token(struct tm_control_session *s)
{
    int64_t now_us = tm_clock_mono_us();
    s->tokens += (double)(now_us - s->tokens_us) / 1e6 * COMMANDS_PER_S;
    s->tokens = s->tokens < COMMANDS_BURST ? s->tokens : COMMANDS_BURST;
    s->tokens_us = now_us;
    return s->tokens >= 1;
}

static void take_token(struct tm_control_session *s)
{
    s->tokens -= 1;
    s->commands++;
    s->last_us = tm_clock_mono_us();
}

static int say_ended(struct tm_control_session *s, const char *error)
{
    s->ended = true;
    tm_buf_clear(&s->in);
    if (!s->framed)
        return tm_buf_printf(&s->out, "{\"ok\":false,\"error\":\"%s\"}\n", error);
    char json[160];
    int len = snprintf(json, sizeof json, "{\"id\":null,\"ok\":false,\"error\":\"%s\"}", error);
    return tm_control_put_frame(s, json, (size_t)len);
}

/* ---- lines ---- */

static bool is_word(const char *line, size_t len, const char *word)
{
    size_t n = strlen(word);
    return len >= n && memcmp(line, word, n) == 0 && (len == n || line[n] == ' ');
}

static int begin_frames(struct tm_control_session *s)
{
    if (!s->control->options.sessions)
        return tm_buf_printf(&s->out, "{\"ok\":false,\"error\":\"there are no frames here\"}\n");
    s->framed = true;
    return tm_buf_printf(&s->out, "{\"ok\":true,\"result\":{\"session\":%u,\"role\":\"%s\"}}\n", s->peer.session,
                         tm_command_role_name(s->peer.role));
}

static int answer_line(struct tm_control_session *s, size_t len)
{
    const char *line = (const char *)s->in.data;
    if (len > 0 && line[len - 1] == '\r')
        len--;
    if (len == 0)
        return TM_OK;
    take_token(s);
    tm_control_audit(s, line, len);
    if (is_word(line, len, "frames"))
        return begin_frames(s);
    if (is_word(line, len, "eval") && s->control->options.sessions)
        return tm_control_eval_line(s, line + (len > 4 ? 5 : 4), len - (len > 4 ? 5 : 4));
    return tm_control_run(s, line, len, &s->out);
}

/* 1: a line was taken; 0: there is none. */
static int take_line(struct tm_control_session *s)
{
    char *end = s->in.len ? memchr(s->in.data, '\n', s->in.len) : NULL;
    size_t len = end ? (size_t)(end - (char *)s->in.data) : s->in.len;
    if (len > TM_CONTROL_LINE_MAX) {
        int rc = say_ended(s, "expected a line of at most 64 KiB");
        return rc ? rc : 1;
    }
    if (!end)
        return 0;
    int rc = answer_line(s, len);
    tm_buf_consume(&s->in, len + 1);
    s->begun_us = 0;
    return rc ? rc : 1;
}

/* ---- frames ---- */

int tm_control_put_frame(struct tm_control_session *s, const char *json, size_t len)
{
    int rc = tm_buf_printf(&s->out, "%zu\n", len);
    return rc ? rc : tm_buf_append(&s->out, json, len);
}

/* The length of the frame's JSON, and where it begins; 0: more must come first; negative: it is none. */
static int64_t frame_length(const struct tm_control_session *s, size_t *begin)
{
    int64_t len = 0;
    size_t at = 0;
    for (; at < s->in.len && s->in.data[at] != '\n'; at++) {
        if (at == LENGTH_DIGITS || s->in.data[at] < '0' || s->in.data[at] > '9')
            return TM_EINVAL;
        len = len * 10 + (s->in.data[at] - '0');
    }
    if (at == s->in.len)
        return 0;
    *begin = at + 1;
    return len > 0 && len <= TM_CONTROL_FRAME_MAX ? len : TM_EINVAL;
}

/* The scanner looks a little further than the frame, so what follows it is put aside meanwhile. */
static int answer_frame(struct tm_control_session *s, size_t begin, size_t len)
{
    uint8_t aside[LOOK_AHEAD];
    int rc = tm_buf_reserve(&s->in, LOOK_AHEAD);
    if (rc)
        return rc;
    uint8_t *end = s->in.data + begin + len;
    memcpy(aside, end, LOOK_AHEAD);
    memset(end, 0, LOOK_AHEAD);
    take_token(s);
    rc = tm_control_eval_frame(s, (const char *)s->in.data + begin, len);
    memcpy(end, aside, LOOK_AHEAD);
    return rc;
}

static int take_frame(struct tm_control_session *s)
{
    size_t begin = 0;
    int64_t len = frame_length(s, &begin);
    if (len < 0) {
        int rc =
            say_ended(s, "expected a frame: its length of 1 to 262144 in digits, a line break, so many bytes of JSON");
        return rc ? rc : 1;
    }
    if (len == 0 || s->in.len - begin < (size_t)len)
        return 0;
    int rc = answer_frame(s, begin, (size_t)len);
    tm_buf_consume(&s->in, begin + (size_t)len);
    s->begun_us = 0;
    return rc ? rc : 1;
}

/* ---- reading and writing ---- */

/* Lines wait for the answer before them; a frame may be about the command under way. */
static bool may_take(const struct tm_control_session *s)
{
    return s->framed ? s->out.len < TM_CONTROL_OUT_REST : s->out.len == 0 && !is_busy(s);
}

static int take_all(struct tm_control_session *s)
{
    int rc = 1;
    while (rc > 0 && s->in.len > 0 && may_take(s)) {
        if (!has_token(s)) {
            s->throttled = true;
            tm_timer_start(&s->later, LATER_US, 0);
            return TM_OK;
        }
        rc = s->framed ? take_frame(s) : take_line(s);
    }
    return rc < 0 ? rc : TM_OK;
}

static int write_out(struct tm_control_session *s)
{
    while (s->out.len > 0) {
        ssize_t n = send(s->fd, s->out.data, s->out.len, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return TM_OK;
        if (n < 0)
            return TM_EIO;
        tm_buf_consume(&s->out, (size_t)n);
    }
    if (s->lua)
        tm_session_resume(s->lua);
    return TM_OK;
}

static int read_in(struct tm_control_session *s)
{
    if (tm_buf_reserve(&s->in, READ_BYTES) < 0)
        return TM_ENOMEM;
    ssize_t n = read(s->fd, s->in.data + s->in.len, READ_BYTES);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? TM_OK : TM_EIO;
    s->ended = s->ended || n == 0;
    s->hung_up = s->framed && n == 0; /* whoever speaks frames stays for the answers */
    s->in.len += (size_t)n;
    return TM_OK;
}

/* Answer and write until the peer must read or send more, or a command runs; a peer that only shut its sending side still
 * gets all. */
static int progress(struct tm_control_session *s)
{
    size_t in, out;
    int rc;
    do {
        in = s->in.len;
        rc = take_all(s);
        out = s->out.len;
        rc = rc ? rc : write_out(s);
    } while (!rc && s->out.len == 0 && s->in.len > 0 && (s->in.len < in || out > 0));
    return rc;
}

/* A frame that is larger than may be is found out by its first line, so `in` is bounded by what one read adds. */
static bool may_read(const struct tm_control_session *s)
{
    size_t max = s->framed ? TM_CONTROL_FRAME_MAX + READ_BYTES : TM_CONTROL_LINE_MAX + READ_BYTES;
    size_t rest = s->framed ? TM_CONTROL_OUT_REST : 1;
    return !s->ended && !s->throttled && s->in.len < max && s->out.len < rest;
}

static void settle(struct tm_control_session *s, int rc)
{
    bool is_done = s->out.len == 0 && !is_busy(s) && !s->throttled;
    if (rc || s->closing || (s->ended && (is_done || s->hung_up))) {
        tm_control_session_destroy(s);
        return;
    }
    if (s->in.len > 0 && !s->begun_us && may_take(s))
        s->begun_us = tm_clock_mono_us();
    touch(s);
    tm_io_set(&s->io, (s->out.len ? EV_WRITE : 0) | (may_read(s) ? EV_READ : 0));
}

static void on_events(void *arg, int events)
{
    struct tm_control_session *s = arg;
    int rc = events & EV_READ ? read_in(s) : TM_OK;
    settle(s, rc ? rc : progress(s));
}

static void on_later(void *arg)
{
    struct tm_control_session *s = arg;
    s->throttled = false;
    settle(s, s->closing ? TM_OK : progress(s));
}

void tm_control_session_go_on(struct tm_control_session *s)
{
    tm_timer_start(&s->later, 0, 0);
}
