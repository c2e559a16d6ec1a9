/*
 * Structured logs: one line per event on stderr, logfmt by default, JSON by setting. Any thread; a line is one write().
 *
 *     tm_log(TM_LOG_WARN, "journal", "disk is slow", TM_F_I64("sync_ms", ms), TM_F_STR("dir", dir));
 *
 * The event text is a fixed string; everything variable goes into fields. Field values are escaped (control bytes,
 * invalid UTF-8) and cut at 256 bytes (errors at 1000), so feed bytes can be passed as they are. Secrets never go in.
 *
 * A daemon calls tm_log_start: from there on nobody who logs waits for stderr, and what it does not take is dropped, counted,
 * and said (base/log_writer.h). Other programs write each line themselves. Not for signal handlers.
 *
 * Lines that a hostile feed can cause are wrapped in TM_LOG_LIMITED, which lets ten a second through at each site
 * and says how many it held back.
 */
#ifndef TM_BASE_LOG_H
#define TM_BASE_LOG_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum tm_log_level { TM_LOG_DEBUG, TM_LOG_INFO, TM_LOG_WARN, TM_LOG_ERROR };
enum tm_log_format { TM_LOG_LOGFMT, TM_LOG_JSON };

struct tm_log_field {
    const char *name;
    enum { TM_LOG_STR, TM_LOG_BYTES, TM_LOG_INT, TM_LOG_UINT, TM_LOG_FLOAT, TM_LOG_ERR } kind;
    const void *bytes;
    size_t len;
    union {
        int64_t i;
        uint64_t u;
        double f;
    };
};

#define TM_F_STR(n, v) ((struct tm_log_field){.name = (n), .kind = TM_LOG_STR, .bytes = (v)})
#define TM_F_BYTES(n, v, l) ((struct tm_log_field){.name = (n), .kind = TM_LOG_BYTES, .bytes = (v), .len = (l)})
#define TM_F_I64(n, v) ((struct tm_log_field){.name = (n), .kind = TM_LOG_INT, .i = (int64_t)(v)})
#define TM_F_U64(n, v) ((struct tm_log_field){.name = (n), .kind = TM_LOG_UINT, .u = (uint64_t)(v)})
#define TM_F_F64(n, v) ((struct tm_log_field){.name = (n), .kind = TM_LOG_FLOAT, .f = (v)})
#define TM_F_ERR(e) ((struct tm_log_field){.name = "error", .kind = TM_LOG_ERR, .bytes = (e)->message})

/* Before the first thread starts. `id` is put on every line as id=..., NULL for none; it is copied. */
void tm_log_init(enum tm_log_level level, enum tm_log_format format, const char *id);
/* After that, likewise before the first thread: lines are written by a thread of their own, until the process ends. */
int tm_log_start(struct tm_error *err) TM_MUST_CHECK;
/* Lines that stderr did not take; any thread. */
uint64_t tm_log_lost(void);
/* Any time, any thread. */
void tm_log_set_level(enum tm_log_level level);
void tm_log_set_format(enum tm_log_format format);
int tm_log_level_parse(const char *name, enum tm_log_level *out) TM_MUST_CHECK;

void tm_log_fields(enum tm_log_level level, const char *room, const char *event, const struct tm_log_field *fields,
                   size_t count);

#define tm_log(level, room, event, ...)                                                                                \
    tm_log_fields(level, room, event, (const struct tm_log_field[]){{0}, ##__VA_ARGS__} + 1,                           \
                  sizeof((const struct tm_log_field[]){{0}, ##__VA_ARGS__}) / sizeof(struct tm_log_field) - 1)

/* One rate-limited site; a static of the calling function. */
struct tm_log_limit {
    _Atomic int64_t second;
    _Atomic uint32_t count, held;
};
bool tm_log_limit_pass(struct tm_log_limit *limit, uint32_t *held_out);

#define TM_LOG_LIMITED(level, room, event, ...)                                                                        \
    do {                                                                                                               \
        static struct tm_log_limit tm_limit_;                                                                          \
        uint32_t tm_held_;                                                                                             \
        if (tm_log_limit_pass(&tm_limit_, &tm_held_))                                                                  \
            tm_log(level, room, event, ##__VA_ARGS__, TM_F_U64("suppressed", tm_held_));                               \
    } while (0)

#endif
