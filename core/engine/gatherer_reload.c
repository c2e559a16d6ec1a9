#include "base/clock.h"
#include "base/log.h"
#include "engine/gatherer_private.h"
#include "record/keys.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- what stays as it was at the start ---- */

void tm_gatherer_keep_fixed(struct tm_gatherer *g, const struct tm_gatherer_options *options)
{
    g->id = strdup(options->id);
    g->journal_options = options->journal;
    g->journal_options.dir = options->journal.dir ? strdup(options->journal.dir) : NULL;
    TM_FATAL_UNLESS(g->id && (g->journal_options.dir || !options->journal.dir));
}

/* The same directory under another name, such as a relative one, is the same. */
static bool is_same_directory(const char *a, const char *b)
{
    struct stat x, y;
    if (!a || !b)
        return a == b;
    return strcmp(a, b) == 0 || (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

static uint64_t or_default(uint64_t given, uint64_t fallback)
{
    return given ? given : fallback;
}

static int check_size(const char *what, uint64_t now, uint64_t wanted, uint64_t fallback, struct tm_error *err)
{
    now = or_default(now, fallback);
    wanted = or_default(wanted, fallback);
    if (now == wanted)
        return TM_OK;
    return tm_error_set(err, TM_EINVAL,
                        "%s cannot change while the process runs (it is %llu bytes, wanted are %llu): restart", what,
                        (unsigned long long)now, (unsigned long long)wanted);
}

static int check_fixed(const struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_error *err)
{
    const struct tm_journal_options *now = &g->journal_options, *wanted = &options->journal;
    if (strcmp(g->id, options->id) != 0)
        return tm_error_set(err, TM_EINVAL,
                            "id cannot change while the process runs (it is \"%s\", wanted is \"%s\"): restart", g->id,
                            options->id);
    if (!is_same_directory(now->dir, wanted->dir))
        return tm_error_set(err, TM_EINVAL,
                            "the data directory cannot change while the process runs (it is %s, wanted is %s): restart",
                            now->dir, wanted->dir ? wanted->dir : "none");
    int rc = check_size("the journal's size on disk", now->bytes_max, wanted->bytes_max, TM_JOURNAL_BYTES, err);
    rc = rc ? rc
            : check_size("the size of the journal's segments", now->segment_bytes, wanted->segment_bytes,
                         TM_JOURNAL_SEGMENT_BYTES, err);
    return rc ? rc
              : check_size("the journal's buffer", now->buffer_bytes_max, wanted->buffer_bytes_max,
                           TM_JOURNAL_BUFFER_BYTES, err);
}

/* ---- the plan ---- */

int tm_gatherer_compile(struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_plan **out,
                        struct tm_error *err)
{
    struct tm_plan_def def = options->plan;
    def.gatherer = options->id;
    memcpy(def.epoch, tm_journal_epoch(g->journal), sizeof def.epoch);
    int rc = tm_plan_compile(&def, out, err);
    if (rc || !g->plan || !tm_plan_equal(*out, g->plan))
        return rc;
    tm_plan_put(*out); /* it says the same: the plan that all threads have stays */
    *out = tm_plan_take(g->plan);
    return TM_OK;
}

static int check_keys(const struct tm_gatherer *g, const struct tm_plan *plan, int64_t margin_us, struct tm_error *err)
{
    int64_t newest_us[TM_STREAMS_MAX];
    tm_newest_of_plan(tm_intake_newest(g->intake), g->plan, newest_us);
    return tm_plan_key_change(g->plan, plan, newest_us, tm_clock_wall_us(), margin_us ? margin_us : TM_KEY_MARGIN_US,
                              err);
}

static int check_journal_room(struct tm_gatherer *g, const struct tm_plan *plan, struct tm_error *err)
{
    struct tm_journal_stream_def streams[TM_STREAMS_MAX];
    size_t count = tm_plan_stream_count(plan);
    for (size_t i = 0; i < count; i++)
        streams[i] = (struct tm_journal_stream_def){.name = tm_plan_stream(plan, i)->name,
                                                    .columns = tm_plan_stream(plan, i)->copy_columns};
    return tm_journal_check_streams(g->journal, streams, count, err);
}

/* The queue of commands has many producers: the store writer's thread is one. */
static int submit_rows(void *arg, const struct tm_stream *stream, struct tm_buf *bytes)
{
    return tm_gatherer_submit(arg, stream, bytes);
}

struct tm_writer_options tm_gatherer_writer_options(const struct tm_gatherer *g,
                                                    const struct tm_gatherer_options *options)
{
    return (struct tm_writer_options){.conninfo = options->store,
                                      .gatherer = g->id,
                                      .journal = g->journal,
                                      .plan = g->plan,
                                      .metrics = g->metrics,
                                      .migrate = options->migrate,
                                      .keep_us = options->keep_us,
                                      .store_bytes_max = options->store_bytes_max,
                                      .expire = options->expire,
                                      .partition_rows = options->partition_rows,
                                      .archive = options->archive,
                                      .submit = submit_rows,
                                      .submit_arg = (void *)(uintptr_t)g};
}

/* ---- a change ---- */

void tm_gatherer_change_destroy(struct tm_gatherer_change *c)
{
    if (!c)
        return;
    tm_intake_change_destroy(c->intake);
    free(c->reconnect_codes);
    free(c);
}

void tm_gatherer_free_spent(struct tm_gatherer *g)
{
    pthread_mutex_lock(&g->lock);
    struct tm_gatherer_change *spent = g->spent;
    g->spent = NULL;
    pthread_mutex_unlock(&g->lock);
    while (spent) {
        struct tm_gatherer_change *next = spent->next;
        tm_gatherer_change_destroy(spent);
        spent = next;
    }
}

static struct tm_gatherer_change *change_create(const struct tm_gatherer_options *options)
{
    struct tm_gatherer_change *c = calloc(1, sizeof *c);
    TM_FATAL_UNLESS(c);
    size_t bytes = options->reconnect_code_count * sizeof *c->reconnect_codes;
    c->reconnect_codes = malloc(bytes + 1);
    TM_FATAL_UNLESS(c->reconnect_codes);
    if (bytes)
        memcpy(c->reconnect_codes, options->reconnect_codes, bytes);
    c->reconnect_code_count = options->reconnect_code_count;
    c->sequence_start = options->sequence_start;
    c->connects_per_second = options->connects_per_second;
    return c;
}

/* All that can fail, and nothing that anybody would notice. */
static int prepare(struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_plan **plan,
                   struct tm_gatherer_change **out, struct tm_error *err)
{
    struct tm_gatherer_change *c = change_create(options);
    *plan = NULL;
    int rc = check_fixed(g, options, err);
    rc = rc ? rc : tm_gatherer_compile(g, options, plan, err);
    if (!rc && *plan != g->plan) {
        rc = tm_plan_check_reload(g->plan, *plan, err);
        rc = rc ? rc : check_keys(g, *plan, options->key_margin_us, err);
        rc = rc ? rc : check_journal_room(g, *plan, err);
        rc = rc ? rc : tm_intake_change_create(g->plan, *plan, g->metrics, &c->intake, err);
    }
    if (!rc) {
        *out = c;
        return TM_OK;
    }
    tm_gatherer_change_destroy(c);
    tm_plan_put(*plan);
    return rc;
}

int tm_gatherer_check_reload(struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_error *err)
{
    struct tm_gatherer_change *change;
    struct tm_plan *plan;
    int rc = prepare(g, options, &plan, &change, err);
    if (rc)
        return rc;
    tm_gatherer_change_destroy(change);
    tm_plan_put(plan);
    return TM_OK;
}

static void send_change(struct tm_gatherer *g, struct tm_gatherer_change *change)
{
    pthread_mutex_lock(&g->lock);
    struct tm_gatherer_change **at = &g->changes;
    while (*at)
        at = &(*at)->next;
    *at = change;
    pthread_mutex_unlock(&g->lock);
    tm_async_send(&g->commands_ready);
}

int tm_gatherer_reload(struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_error *err)
{
    struct tm_gatherer_change *change;
    struct tm_plan *plan;
    tm_gatherer_free_spent(g);
    int rc = prepare(g, options, &plan, &change, err);
    if (rc)
        return rc;
    rc = change->intake ? tm_intake_change_declare(change->intake, g->journal, err) : TM_OK;
    if (rc) {
        tm_gatherer_change_destroy(change);
        tm_plan_put(plan);
        return rc;
    }
    tm_plan_put(g->plan);
    g->plan = plan;
    struct tm_writer_options writer = tm_gatherer_writer_options(g, options);
    tm_writer_reload(g->writer, &writer); /* before io: no row of a new stream meets a writer that does not know it */
    send_change(g, change);
    return TM_OK;
}
