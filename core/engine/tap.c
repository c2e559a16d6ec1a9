#include "engine/tap.h"

#include "base/endian.h"
#include "base/unset.h"
#include "record/row_json.h"

#include <stdlib.h>
#include <string.h>

struct copy {
    struct copy *next;
    const struct tm_stream *stream; /* its plan is held */
    size_t len, columns_len;        /* columns_len 0: the stream's own */
    uint8_t bytes[];                /* the tuple, then the columns with their NUL */
};

struct tm_tap {
    struct tm_tap *next;
    struct tm_tap_options options;
    char *stream, *ticker;
    size_t ticker_len;
    bool is_prefix;
    struct copy *head, **tail;
    size_t rows, bytes;
    _Atomic uint64_t left_out;
    uint64_t missed_before;
};

struct tm_taps *tm_taps_create(void)
{
    struct tm_taps *taps = calloc(1, sizeof *taps);
    TM_FATAL_UNLESS(taps && pthread_mutex_init(&taps->lock, NULL) == 0);
    return taps;
}

void tm_taps_destroy(struct tm_taps *taps)
{
    if (!taps)
        return;
    TM_FATAL_UNLESS(!taps->first);
    pthread_mutex_destroy(&taps->lock);
    free(taps);
}

static void copy_free(struct copy *c)
{
    tm_plan_put(c->stream->plan);
    free(c);
}

static void tap_free(struct tm_tap *tap)
{
    while (tap->head) {
        struct copy *c = tap->head;
        tap->head = c->next;
        copy_free(c);
    }
    free(tap->stream);
    free(tap->ticker);
    free(tap);
}

static struct tm_tap *tap_create(const struct tm_tap_options *options)
{
    struct tm_tap *tap = calloc(1, sizeof *tap);
    TM_FATAL_UNLESS(tap);
    tap->options = *options;
    tap->tail = &tap->head;
    tap->stream = strdup(options->stream);
    tap->ticker = options->ticker ? strdup(options->ticker) : NULL;
    TM_FATAL_UNLESS(tap->stream && (tap->ticker || !options->ticker));
    tap->ticker_len = tap->ticker ? strlen(tap->ticker) : 0;
    tap->is_prefix = tap->ticker_len && tap->ticker[tap->ticker_len - 1] == '*';
    tap->ticker_len -= tap->is_prefix;
    return tap;
}

int tm_tap_open(struct tm_taps *taps, const struct tm_tap_options *options, struct tm_tap **out, struct tm_error *err)
{
    if (atomic_load(&taps->open) >= TM_TAPS_MAX)
        return tm_error_set(err, TM_EFULL, "%d taps are open already: close one", TM_TAPS_MAX);
    struct tm_tap *tap = tap_create(options);
    tap->missed_before = atomic_load(&taps->missed);
    pthread_mutex_lock(&taps->lock);
    tap->next = taps->first;
    taps->first = tap;
    pthread_mutex_unlock(&taps->lock);
    atomic_fetch_add(&taps->open, 1);
    *out = tap;
    return TM_OK;
}

void tm_tap_close(struct tm_taps *taps, struct tm_tap *tap)
{
    atomic_fetch_sub(&taps->open, 1);
    pthread_mutex_lock(&taps->lock);
    struct tm_tap **at = &taps->first;
    while (*at != tap)
        at = &(*at)->next;
    *at = tap->next;
    pthread_mutex_unlock(&taps->lock);
    tap_free(tap);
}

static struct copy *take(struct tm_taps *taps, struct tm_tap *tap)
{
    pthread_mutex_lock(&taps->lock);
    struct copy *c = tap->head;
    if (c) {
        tap->head = c->next;
        if (!tap->head)
            tap->tail = &tap->head;
        tap->rows--;
        tap->bytes -= c->len;
    }
    pthread_mutex_unlock(&taps->lock);
    return c;
}

int tm_tap_take(struct tm_taps *taps, struct tm_tap *tap, struct tm_buf *out)
{
    struct copy *c = take(taps, tap);
    if (!c)
        return 0;
    int rc = c->columns_len ? tm_row_json_listed(c->stream, (const char *)c->bytes + c->len, c->bytes, c->len, out)
                            : tm_row_json(c->stream, c->bytes, c->len, out);
    copy_free(c);
    return rc ? rc : 1;
}

uint64_t tm_tap_left_out(const struct tm_taps *taps, const struct tm_tap *tap)
{
    return atomic_load_explicit(&tap->left_out, memory_order_relaxed) +
           atomic_load_explicit(&taps->missed, memory_order_relaxed) - tap->missed_before;
}

/* ---- offering ---- */

static bool is_of_market(const struct tm_tap *tap, const struct tm_stream *stream, const uint8_t *tuple, size_t len)
{
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    int column = stream->ticker_column;
    size_t count = len >= 2 ? tm_get_be16(tuple) : 0;
    if (!tap->ticker)
        return true;
    if (column < 0 || (size_t)column >= count || count > TM_COLUMNS_MAX || tm_tuple_split(tuple, len, fields, count))
        return false;
    const struct tm_field *f = &fields[column];
    if (f->len < 0 || (size_t)f->len < tap->ticker_len || (!tap->is_prefix && (size_t)f->len != tap->ticker_len))
        return false;
    return memcmp(f->bytes, tap->ticker, tap->ticker_len) == 0;
}

static void put(struct tm_tap *tap, const struct tm_stream *stream, const char *columns, const uint8_t *tuple,
                size_t len)
{
    size_t columns_len = columns ? strlen(columns) + 1 : 0;
    struct copy *c = NULL;
    if (tap->rows < TM_TAP_ROWS_MAX && tap->bytes + len <= TM_TAP_BYTES_MAX)
        c = malloc(sizeof *c + len + columns_len);
    if (!c) {
        atomic_fetch_add_explicit(&tap->left_out, 1, memory_order_relaxed);
        return;
    }
    *c = (struct copy){.stream = stream, .len = len, .columns_len = columns_len};
    (void)tm_plan_take(stream->plan);
    memcpy(c->bytes, tuple, len);
    if (columns_len)
        memcpy(c->bytes + len, columns, columns_len);
    *tap->tail = c;
    tap->tail = &c->next;
    tap->rows++;
    tap->bytes += len;
    tap->options.wake(tap->options.arg);
}

void tm_taps_offer(struct tm_taps *taps, const struct tm_stream *stream, const char *columns, const uint8_t *tuple,
                   size_t len)
{
    if (pthread_mutex_trylock(&taps->lock)) {
        atomic_fetch_add_explicit(&taps->missed, 1, memory_order_relaxed);
        return;
    }
    for (struct tm_tap *tap = taps->first; tap; tap = tap->next)
        if (strcmp(tap->stream, stream->name) == 0 && is_of_market(tap, stream, tuple, len))
            put(tap, stream, columns, tuple, len);
    pthread_mutex_unlock(&taps->lock);
}
