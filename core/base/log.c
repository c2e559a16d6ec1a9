#include "base/log.h"
#include "base/clock.h"
#include "base/log_writer.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define RING_BYTES ((size_t)1 << 20)
#define VALUE_MAX_BYTES 256
#define ERROR_MAX_BYTES 1000
#define LINES_PER_SECOND 10

static _Atomic int log_level = TM_LOG_INFO;
static _Atomic int log_format = TM_LOG_LOGFMT;
static char log_id[64];

struct line {
    char text[TM_LOG_LINE_MAX];
    size_t len;
    bool json; /* the format may change while a line is made */
};

static void put(struct line *l, const char *bytes, size_t n)
{
    /* the last bytes are kept free for the closing brace and the newline */
    size_t room = sizeof l->text - 8 - l->len;
    if (n > room)
        n = room;
    memcpy(l->text + l->len, bytes, n);
    l->len += n;
}

static void put_str(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

/* C0, DEL and C1, which terminals obey, too. */
static bool is_control(const unsigned char *s, size_t len)
{
    return s[0] < 0x20 || s[0] == 0x7f || (len == 2 && s[0] == 0xc2 && s[1] < 0xa0);
}

static void put_escaped(struct line *l, const void *bytes, size_t n, size_t max)
{
    const unsigned char *s = bytes;
    bool cut = n > max;
    if (cut)
        n = max;
    for (size_t i = 0; i < n;) {
        size_t len = tm_utf8_length((const char *)s + i, n - i);
        char escape[8];
        if (len == 0 || is_control(s + i, len)) {
            (void)snprintf(escape, sizeof escape, "\\u%04x", s[i]);
            put_str(l, escape);
            i++;
        } else if (s[i] == '"' || s[i] == '\\') {
            escape[0] = '\\';
            escape[1] = (char)s[i++];
            put(l, escape, 2);
        } else {
            put(l, (const char *)s + i, len);
            i += len;
        }
    }
    if (cut)
        put_str(l, "...");
}

static bool is_plain(const char *s, size_t n)
{
    if (n == 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '=')
            return false;
    }
    return true;
}

static void put_text_value(struct line *l, const char *s, size_t n, size_t max)
{
    bool quote = l->json || n > max || !is_plain(s, n);
    if (quote)
        put(l, "\"", 1);
    put_escaped(l, s, n, max);
    if (quote)
        put(l, "\"", 1);
}

static void put_name(struct line *l, const char *name)
{
    if (l->json) {
        put(l, l->len ? ",\"" : "{\"", 2);
        put_str(l, name);
        put(l, "\":", 2);
        return;
    }
    if (l->len)
        put(l, " ", 1);
    put_str(l, name);
    put(l, "=", 1);
}

static void put_text(struct line *l, const char *name, const char *value)
{
    put_name(l, name);
    put_text_value(l, value, strlen(value), VALUE_MAX_BYTES);
}

static void put_field(struct line *l, const struct tm_log_field *f)
{
    char number[40];
    put_name(l, f->name);
    switch (f->kind) {
    case TM_LOG_STR:
        put_text_value(l, f->bytes ? f->bytes : "", f->bytes ? strlen(f->bytes) : 0, VALUE_MAX_BYTES);
        return;
    case TM_LOG_ERR:
        put_text_value(l, f->bytes, strlen(f->bytes), ERROR_MAX_BYTES);
        return;
    case TM_LOG_BYTES:
        put_text_value(l, f->bytes, f->len, VALUE_MAX_BYTES);
        return;
    case TM_LOG_INT:
        (void)snprintf(number, sizeof number, "%" PRId64, f->i);
        break;
    case TM_LOG_UINT:
        (void)snprintf(number, sizeof number, "%" PRIu64, f->u);
        break;
    case TM_LOG_FLOAT:
        (void)snprintf(number, sizeof number, "%.6g", f->f);
        break;
    }
    put_str(l, number);
}

static void put_time(struct line *l)
{
    int64_t us = tm_clock_wall_us();
    time_t s = (time_t)(us / TM_US_PER_S);
    struct tm utc;
    char day[32], text[48];
    gmtime_r(&s, &utc);
    (void)strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(text, sizeof text, "%s.%06dZ", day, (int)(us % TM_US_PER_S));
    put_text(l, "time", text);
}

void tm_log_init(enum tm_log_level level, enum tm_log_format format, const char *id)
{
    atomic_store(&log_level, level);
    atomic_store(&log_format, format);
    (void)snprintf(log_id, sizeof log_id, "%s", id ? id : "");
}

void tm_log_set_level(enum tm_log_level level)
{
    atomic_store(&log_level, level);
}

void tm_log_set_format(enum tm_log_format format)
{
    atomic_store(&log_format, format);
}

int tm_log_level_parse(const char *name, enum tm_log_level *out)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum tm_log_level)i;
            return TM_OK;
        }
    return TM_EINVAL;
}

static void make_line(struct line *l, enum tm_log_level level, const char *room, const char *event,
                      const struct tm_log_field *fields, size_t count)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    l->len = 0;
    l->json = atomic_load_explicit(&log_format, memory_order_relaxed) == TM_LOG_JSON;
    put_time(l);
    put_text(l, "level", names[level]);
    if (log_id[0])
        put_text(l, "id", log_id);
    put_text(l, "room", room);
    put_text(l, "event", event);
    for (size_t i = 0; i < count; i++)
        if (fields[i].name)
            put_field(l, &fields[i]);
    if (l->json)
        l->text[l->len++] = '}';
    l->text[l->len++] = '\n';
}

void tm_log_fields(enum tm_log_level level, const char *room, const char *event, const struct tm_log_field *fields,
                   size_t count)
{
    if ((int)level < atomic_load_explicit(&log_level, memory_order_relaxed))
        return;
    struct line l;
    make_line(&l, level, room, event, fields, count);
    tm_log_writer_put(l.text, l.len);
}

static size_t make_lost_line(char line[TM_LOG_LINE_MAX], uint64_t lost)
{
    const struct tm_log_field lines = TM_F_U64("lines", lost);
    struct line l;
    make_line(
        &l, TM_LOG_WARN, "log",
        "lines lost here: stderr did not take them as fast as they came; see to what reads it, or raise log_level",
        &lines, 1);
    memcpy(line, l.text, l.len);
    return l.len;
}

int tm_log_start(struct tm_error *err)
{
    return tm_log_writer_start(RING_BYTES, make_lost_line, err);
}

uint64_t tm_log_lost(void)
{
    return tm_log_writer_lost();
}

bool tm_log_limit_pass(struct tm_log_limit *limit, uint32_t *held_out)
{
    int64_t now = tm_clock_mono_us() / TM_US_PER_S;
    if (atomic_exchange_explicit(&limit->second, now, memory_order_relaxed) != now)
        atomic_store_explicit(&limit->count, 0, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&limit->count, 1, memory_order_relaxed) >= LINES_PER_SECOND) {
        atomic_fetch_add_explicit(&limit->held, 1, memory_order_relaxed);
        return false;
    }
    *held_out = atomic_exchange_explicit(&limit->held, 0, memory_order_relaxed);
    return true;
}
