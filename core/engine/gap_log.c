#include "engine/gap_log.h"

#include "base/clock.h"
#include "base/error.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tm_gap_log {
    pthread_mutex_t lock;
    size_t first, count; /* a ring */
    struct tm_gap_note notes[TM_GAP_LOG_MAX];
};

struct tm_gap_log *tm_gap_log_create(void)
{
    struct tm_gap_log *log = calloc(1, sizeof *log);
    TM_FATAL_UNLESS(log);
    pthread_mutex_init(&log->lock, NULL);
    return log;
}

void tm_gap_log_destroy(struct tm_gap_log *log)
{
    if (!log)
        return;
    pthread_mutex_destroy(&log->lock);
    free(log);
}

static struct tm_gap_note *at(struct tm_gap_log *log, size_t i)
{
    return &log->notes[(log->first + i) % TM_GAP_LOG_MAX];
}

/* From the newest on, as what closes has mostly opened a moment ago. */
static struct tm_gap_note *find(struct tm_gap_log *log, const uint8_t *id)
{
    for (size_t i = log->count; i-- > 0;)
        if (memcmp(at(log, i)->id, id, sizeof log->notes[0].id) == 0)
            return at(log, i);
    return NULL;
}

static struct tm_gap_note *place(struct tm_gap_log *log)
{
    if (log->count < TM_GAP_LOG_MAX)
        return at(log, log->count++);
    log->first = (log->first + 1) % TM_GAP_LOG_MAX;
    return at(log, TM_GAP_LOG_MAX - 1);
}

void tm_gap_log_note(struct tm_gap_log *log, const struct tm_gap_note *note)
{
    if (!log)
        return;
    pthread_mutex_lock(&log->lock);
    struct tm_gap_note *known = find(log, note->id);
    *(known ? known : place(log)) = *note;
    pthread_mutex_unlock(&log->lock);
}

void tm_gap_log_gap(struct tm_gap_log *log, const struct tm_gap *gap, int64_t to_us, const char *closed_by)
{
    struct tm_gap_note n = {.from_us = gap->from_us, .to_us = to_us};
    const char *connection = gap->connection ? gap->connection : "";
    memcpy(n.id, gap->id, sizeof n.id);
    n.records = gap->last ? gap->last - gap->first + 1 : 0;
    n.filled = closed_by && strcmp(closed_by, TM_GAP_LATE_FRAMES) == 0;
    (void)snprintf(n.lane, sizeof n.lane, "%.*s", (int)strcspn(connection, "/"), connection);
    (void)snprintf(n.reason, sizeof n.reason, "%s", gap->reason);
    (void)snprintf(n.connection, sizeof n.connection, "%s", connection);
    tm_gap_log_note(log, &n);
}

void tm_gap_log_replace(struct tm_gap_log *log, const struct tm_gap_note *notes, size_t count)
{
    pthread_mutex_lock(&log->lock);
    log->first = log->count = 0;
    for (size_t i = 0; i < count; i++)
        *place(log) = notes[i];
    pthread_mutex_unlock(&log->lock);
}

size_t tm_gap_log_read(struct tm_gap_log *log, struct tm_gap_note *out, size_t max)
{
    pthread_mutex_lock(&log->lock);
    size_t count = log->count < max ? log->count : max;
    for (size_t i = 0; i < count; i++)
        out[i] = *at(log, log->count - count + i);
    pthread_mutex_unlock(&log->lock);
    return count;
}

/* ---- episodes ---- */

static int by_connection(const void *a, const void *b)
{
    const struct tm_gap_note *x = a, *y = b;
    int order = strcmp(x->lane, y->lane);
    order = order ? order : strcmp(x->connection, y->connection);
    return order ? order : (x->from_us > y->from_us) - (x->from_us < y->from_us);
}

static int by_reason(const void *a, const void *b)
{
    const struct tm_gap_note *x = a, *y = b;
    int order = strcmp(x->lane, y->lane);
    order = order ? order : strcmp(x->reason, y->reason);
    return order ? order : (x->from_us > y->from_us) - (x->from_us < y->from_us);
}

static int newest_first(const void *a, const void *b)
{
    const struct tm_gap_episode *x = a, *y = b;
    if (!x->to_us != !y->to_us)
        return x->to_us ? 1 : -1;
    return (y->from_us > x->from_us) - (y->from_us < x->from_us);
}

static void end_abandoned(struct tm_gap_note *notes, size_t count)
{
    qsort(notes, count, sizeof *notes, by_connection);
    for (size_t i = 0; i + 1 < count; i++)
        if (!notes[i].to_us && strcmp(notes[i].lane, notes[i + 1].lane) == 0 &&
            strcmp(notes[i].connection, notes[i + 1].connection) == 0)
            notes[i].to_us = notes[i + 1].from_us > notes[i].from_us ? notes[i + 1].from_us : notes[i].from_us;
}

static bool belongs(const struct tm_gap_episode *e, const struct tm_gap_note *n)
{
    return strcmp(e->lane, n->lane) == 0 && strcmp(e->reason, n->reason) == 0 &&
           (!e->to_us || n->from_us <= e->to_us + TM_US_PER_S);
}

static void join(struct tm_gap_episode *e, const struct tm_gap_note *n)
{
    if (!n->to_us || (e->to_us && n->to_us > e->to_us))
        e->to_us = n->to_us;
    e->records += n->records;
    e->gaps++;
}

size_t tm_gap_episodes(struct tm_gap_note *notes, size_t count, struct tm_gap_episode *out, size_t max)
{
    struct tm_gap_episode *all = calloc(count + 1, sizeof *all), *last = NULL;
    size_t found = 0;
    TM_FATAL_UNLESS(all);
    end_abandoned(notes, count);
    qsort(notes, count, sizeof *notes, by_reason);
    for (size_t i = 0; i < count; i++) {
        const struct tm_gap_note *n = &notes[i];
        if (n->filled)
            continue;
        if (!last || !belongs(last, n)) {
            last = &all[found++];
            *last = (struct tm_gap_episode){
                .lane = n->lane, .reason = n->reason, .from_us = n->from_us, .to_us = n->from_us};
        }
        join(last, n);
    }
    qsort(all, found, sizeof *all, newest_first);
    size_t told = found < max ? found : max;
    memcpy(out, all, told * sizeof *all);
    free(all);
    return told;
}
