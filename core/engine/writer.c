#include "engine/writer_private.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/pace.h"
#include "store/migrate.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BACKOFF_BASE_US (200 * TM_US_PER_MS)
#define BACKOFF_MAX_US (10 * TM_US_PER_S)
#define IDLE_US (1 * TM_US_PER_S) /* housekeeping when nothing comes */
#define COUNT_EVERY_US (5 * TM_US_PER_S)
#define DRAIN_US (5 * TM_US_PER_S)
#define CONNECT_US (5 * TM_US_PER_S)

/* ---- statistics ---- */

static void set_connected(struct tm_writer *w, bool connected)
{
    pthread_mutex_lock(&w->lock);
    w->stats.connected = connected;
    pthread_mutex_unlock(&w->lock);
    tm_metric_set(w->connected, connected);
}

static void note_error(struct tm_writer *w, const struct tm_error *err)
{
    pthread_mutex_lock(&w->lock);
    w->stats.errors++;
    (void)snprintf(w->stats.last_error, sizeof w->stats.last_error, "%.255s", err->message);
    pthread_mutex_unlock(&w->lock);
    tm_metric_add(w->errors, 1);
    TM_LOG_LIMITED(TM_LOG_WARN, "store", "the session with the local store ended; the journal keeps the records",
                   TM_F_ERR(err));
}

/* What is durable and not yet stored: exact within a segment, else what the journal holds at most. */
static uint64_t lag_bytes(struct tm_writer *w)
{
    struct tm_journal_position end = tm_journal_durable(w->journal);
    if (end.segment == w->committed.segment)
        return end.offset > w->committed.offset ? end.offset - w->committed.offset : 0;
    return tm_journal_stats(w->journal).disk_bytes;
}

static void note_lag(struct tm_writer *w)
{
    uint64_t bytes = lag_bytes(w);
    tm_accounts_publish(w->accounts);
    pthread_mutex_lock(&w->lock);
    w->stats.journal_lag_bytes = bytes;
    pthread_mutex_unlock(&w->lock);
    tm_metric_set(w->lag, (double)bytes);
}

struct tm_writer_stats tm_writer_stats(struct tm_writer *w)
{
    pthread_mutex_lock(&w->lock);
    struct tm_writer_stats s = w->stats;
    pthread_mutex_unlock(&w->lock);
    return s;
}

/* ---- releasing the journal ---- */

/* Commits are asynchronous, so a checkpoint may be released only when the server's WAL is known to be on its
 * disk. */
static int release(struct tm_writer *w, struct tm_error *err)
{
    char flushed[8];
    int64_t now_us = tm_clock_mono_us();
    if (now_us - w->release_checked_us < TM_US_PER_S)
        return TM_OK;
    w->release_checked_us = now_us;
    if (*w->release_lsn) {
        const char *lsn = w->release_lsn;
        int rc = tm_pg_query_text(w->pg, "SELECT pg_current_wal_flush_lsn() >= $1::pg_lsn", 1, &lsn, flushed,
                                  sizeof flushed, err);
        if (rc || strcmp(flushed, "t") != 0)
            return rc;
        tm_journal_release(w->journal, w->release);
        w->release_lsn[0] = '\0';
    }
    if (w->release.segment == w->committed.segment && w->release.offset == w->committed.offset)
        return TM_OK;
    w->release = w->committed;
    return tm_pg_query_text(w->pg, "SELECT pg_current_wal_insert_lsn()", 0, NULL, w->release_lsn, sizeof w->release_lsn,
                            err);
}

/* ---- housekeeping ---- */

/* Rows come into quarantine from here and leave it by hand (`tidemill quarantine`). */
static int count_quarantine(struct tm_writer *w, struct tm_error *err)
{
    int64_t count, now_us = tm_clock_mono_us();
    if (now_us - w->counted_us < COUNT_EVERY_US)
        return TM_OK;
    w->counted_us = now_us;
    int rc = tm_pg_query_number(w->pg, "SELECT count(*) FROM tidemill.quarantine", 0, NULL, &count, err);
    if (!rc)
        tm_metric_set(w->quarantine_rows, (double)count);
    return rc;
}

static int start_overflow(struct tm_writer *w, struct tm_error *err)
{
    if (w->overflow || !w->settings->archive.to)
        return TM_OK;
    return tm_overflow_start(w->retain.metrics, w->gatherer, &w->overflow, err);
}

static int keep_house(struct tm_writer *w, struct tm_error *err)
{
    const struct tm_writer_settings *s = w->settings;
    int rc = start_overflow(w, err);
    struct tm_retain_context c = {.pg = w->pg,
                                  .plan = s->plan,
                                  .gatherer = w->gatherer,
                                  .epoch_no = w->epoch_no,
                                  .partition_rows = w->partition_rows,
                                  .keep_us = s->keep_us,
                                  .bytes_max = s->store_bytes_max,
                                  .expire = (const char *const *)s->expire,
                                  .overflow = s->archive.to ? w->overflow : NULL,
                                  .archive = &s->archive,
                                  .conninfo = s->conninfo,
                                  .submit = s->submit,
                                  .arg = s->submit_arg};
    rc = rc ? rc : release(w, err);
    rc = rc ? rc : count_quarantine(w, err);
    return rc ? rc : tm_retain_step(&w->retain, &c, err);
}

/* ---- a session: from connect to the first error ---- */

static void tell_rebuilt(struct tm_writer *w, bool is_new, const char *what)
{
    pthread_mutex_lock(&w->lock);
    w->stats.rebuilds++;
    w->stats.rebuilt_is_new = is_new;
    pthread_mutex_unlock(&w->lock);
    tm_log(is_new ? TM_LOG_INFO : TM_LOG_WARN, "store", what);
}

/* Whether a table whose rows are replaced is not there. Its rows are in no journal for long: policy has to ask the
 * exchange for them again. To be asked before tables are made. */
static int lacks_reference(struct tm_writer *w, bool *lacks, struct tm_error *err)
{
    *lacks = false;
    for (size_t i = 0; !*lacks && i < tm_plan_stream_count(w->settings->plan); i++) {
        const struct tm_stream *stream = tm_plan_stream(w->settings->plan, i);
        char missing[8];
        if (stream->mode != TM_STREAM_UPSERT)
            continue;
        int rc = tm_pg_query_text(w->pg, "SELECT to_regclass(quote_ident($1)) IS NULL", 1, &stream->name, missing,
                                  sizeof missing, err);
        if (rc)
            return rc;
        *lacks = strcmp(missing, "t") == 0;
    }
    return TM_OK;
}

/* A store without any checkpoint is a new one, or one that was made anew: policy may want to fill it. */
static int note_rebuilt(struct tm_writer *w, struct tm_error *err)
{
    char empty[8];
    int rc = tm_pg_query_text(w->pg, "SELECT NOT EXISTS (SELECT FROM tidemill.checkpoint)", 0, NULL, empty,
                              sizeof empty, err);
    if (rc || strcmp(empty, "t") != 0)
        return rc;
    bool is_new = tm_journal_oldest(w->journal).segment <= 1 && !w->stats.batches;
    tell_rebuilt(w, is_new,
                 is_new ? "the store is new" : "the store is empty although rows were stored before: it was made anew");
    return TM_OK;
}

static int load_checkpoint(struct tm_writer *w, bool lacks_reference_rows, struct tm_error *err)
{
    char number[16];
    const char *values[] = {number};
    PGresult *result;
    (void)snprintf(number, sizeof number, "%d", w->epoch_no);
    w->committed = (struct tm_journal_position){0, 0};
    int rc = tm_pg_query(w->pg, "SELECT segment, journal_offset FROM tidemill.checkpoint WHERE epoch_no = $1", 1,
                         values, &result, err);
    if (rc)
        return rc;
    bool known = PQntuples(result) > 0;
    if (known) {
        w->committed.segment = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
        w->committed.offset = strtoull(PQgetvalue(result, 0, 1), NULL, 10);
    }
    PQclear(result);
    rc = known ? TM_OK : note_rebuilt(w, err);
    if (known && lacks_reference_rows)
        tell_rebuilt(w, false, "tables of reference data were not there and were made anew");
    if (rc)
        return rc;
    rc = tm_pg_query(w->pg, "SELECT stream, seq, hash FROM tidemill.streams WHERE epoch_no = $1", 1, values, &result,
                     err);
    if (rc)
        return rc;
    tm_lanes_reset(w->lanes);
    for (int i = 0; i < PQntuples(result); i++)
        tm_lanes_restore(w->lanes, PQgetvalue(result, i, 0), strtoll(PQgetvalue(result, i, 1), NULL, 10),
                         (uint64_t)strtoll(PQgetvalue(result, i, 2), NULL, 10));
    PQclear(result);
    tm_accounts_loaded(w->accounts, w->lanes);
    return TM_OK;
}

static int open_reader(struct tm_writer *w, struct tm_error *err)
{
    int rc = tm_journal_reader_open(w->journal, w->committed, &w->reader, err);
    if (rc != TM_ENOENT)
        return rc;
    /* the store is older than what was released (restored from a backup): what is left goes in, and the hole
     * in seq that this makes is seen by whoever polls */
    tm_log(TM_LOG_ERROR, "store", "the store's checkpoint is older than the journal; rows in between are not here",
           TM_F_U64("segment", w->committed.segment), TM_F_ERR(err));
    return tm_journal_reader_open(w->journal, (struct tm_journal_position){0, 0}, &w->reader, err);
}

/*
 * Rows are numbered under the epoch that the tables have as their default, so two writers in one store would
 * write under each other's. The lock ends with the session.
 */
static int lock_store(struct tm_writer *w, struct tm_error *err)
{
    char got[8];
    int rc = tm_pg_query_text(w->pg, "SELECT pg_try_advisory_lock(hashtext('tidemill writer'))", 0, NULL, got,
                              sizeof got, err);
    if (rc || strcmp(got, "t") == 0)
        return rc;
    return tm_error_set(err, TM_ERETRY,
                        "another gatherer writes to this store, or the server has not noticed its end yet; each "
                        "gatherer needs a store of its own");
}

/* A table that is new needs the epoch's number as its default, whoever made it. */
static int make_schema(struct tm_writer *w, struct tm_error *err)
{
    int rc = w->settings->migrate ? tm_migrate_local(w->pg, w->settings->plan, err) : TM_OK;
    return rc ? rc
              : tm_migrate_epoch(w->pg, w->settings->plan, tm_journal_epoch(w->journal), w->gatherer, &w->epoch_no,
                                 err);
}

/* The newest options, between two transactions or two sessions. TM_ERETRY with `moved`: the store is another one. */
static int take_settings(struct tm_writer *w, struct tm_error *err)
{
    struct tm_writer_settings *s = atomic_exchange(&w->next, NULL), *old = w->settings;
    if (!s)
        return TM_OK;
    bool moved = strcmp(s->conninfo, old->conninfo) != 0;
    bool schema = s->plan != old->plan || s->migrate != old->migrate;
    w->settings = s;
    if (s->plan != old->plan)
        tm_lanes_set_plan(w->lanes, s->plan);
    tm_writer_settings_destroy(old);
    if (!w->pg)
        return TM_OK;
    w->moved = moved;
    if (moved)
        return tm_error_set(err, TM_ERETRY, "the store has another address now");
    return schema ? make_schema(w, err) : TM_OK;
}

/* A full disk refuses every commit, so room is made before the first. */
static int make_room(struct tm_writer *w, struct tm_error *err)
{
    return w->retain.full ? keep_house(w, err) : TM_OK;
}

static int open_session(struct tm_writer *w, struct tm_error *err)
{
    struct tm_pg_options options = {.conninfo = w->settings->conninfo,
                                    .application_name = w->application_name,
                                    .stop = &w->stop,
                                    .connect_us = CONNECT_US};
    int rc = tm_pg_connect(&options, &w->pg, err);
    rc = rc ? rc : tm_pg_exec(w->pg, "SET synchronous_commit = off", err);
    rc = rc ? rc : lock_store(w, err);
    bool lacks = false;
    rc = rc ? rc : lacks_reference(w, &lacks, err);
    rc = rc ? rc : make_schema(w, err);
    rc = rc ? rc : tm_writer_prepare(w, err);
    rc = rc ? rc : tm_migrate_partition_rows(w->pg, w->settings->partition_rows, &w->partition_rows, err);
    rc = rc ? rc : make_room(w, err);
    rc = rc ? rc : load_checkpoint(w, lacks, err);
    return rc ? rc : open_reader(w, err);
}

static void close_session(struct tm_writer *w)
{
    set_connected(w, false);
    tm_lanes_reset(w->lanes); /* they name their columns by the reader's */
    tm_journal_reader_close(w->reader);
    w->reader = NULL;
    tm_pg_close(w->pg);
    w->pg = NULL;
    w->release_lsn[0] = '\0';
}

/* Read on until the batch is full or nothing more is durable; 1: there may be more, 0: that was all. */
static int fill(struct tm_writer *w, struct tm_error *err)
{
    for (;;) {
        struct tm_journal_record record;
        int rc = tm_journal_reader_next(w->reader, &record, err);
        if (rc <= 0)
            return rc;
        rc = tm_lanes_add(w->lanes, &record, err);
        if (rc)
            return rc;
        bool full = tm_lanes_rows(w->lanes) >= w->settings->batch_rows_max ||
                    tm_lanes_bytes(w->lanes) >= w->settings->batch_bytes_max;
        if (full && tm_journal_reader_at_frame_end(w->reader))
            return 1; /* a checkpoint may stand only between frames */
    }
}

static void wait_for_more(struct tm_writer *w)
{
    struct pollfd fds[2] = {{.fd = w->wake_fd, .events = POLLIN}, {.fd = w->stop.fd, .events = POLLIN}};
    eventfd_t ignored;
    if (poll(fds, 2, (int)(IDLE_US / TM_US_PER_MS)) > 0 && fds[0].revents)
        (void)eventfd_read(w->wake_fd, &ignored);
}

static bool is_draining(struct tm_writer *w)
{
    return atomic_load(&w->drain_until_us) != 0;
}

static int run_session(struct tm_writer *w, struct tm_error *err)
{
    int rc = open_session(w, err);
    if (rc)
        return rc;
    set_connected(w, true);
    tm_log(TM_LOG_INFO, "store", "connected to the local store", TM_F_I64("epoch_no", w->epoch_no));
    for (;;) {
        int64_t started_us = tm_clock_mono_us();
        bool last = is_draining(w); /* asked before reading: what was durable by then is stored */
        int more = fill(w, err);
        if (more < 0)
            return more;
        rc = take_settings(w, err);
        if (!rc && tm_lanes_rows(w->lanes))
            rc = tm_writer_commit(w, err);
        rc = rc ? rc : keep_house(w, err);
        if (rc)
            return rc;
        note_lag(w);
        if (!more && last)
            return TM_OK;
        int64_t every_us = tm_pace_commits_us(tm_clock_mono_us() - started_us);
        if (!more)
            wait_for_more(w);
        int64_t early_us = started_us + every_us - tm_clock_mono_us();
        if (!more && early_us > 0 && tm_stop_wait(&w->stop, early_us))
            return TM_ESTOPPED;
    }
}

/* Other options may be what it takes to get on, so they end the pause. */
static int pause_before_retry(struct tm_writer *w, int64_t us)
{
    int64_t until_us = tm_clock_mono_us() + us, left_us;
    eventfd_t ignored;
    while ((left_us = until_us - tm_clock_mono_us()) > 0 && !atomic_load(&w->next)) {
        struct pollfd fds[2] = {{.fd = w->stop.fd, .events = POLLIN}, {.fd = w->wake_fd, .events = POLLIN}};
        if (poll(fds, 2, (int)(left_us / TM_US_PER_MS) + 1) > 0 && fds[0].revents)
            return TM_ESTOPPED;
        (void)eventfd_read(w->wake_fd, &ignored);
    }
    return TM_OK;
}

static void *writer_main(void *arg)
{
    struct tm_writer *w = arg;
    struct tm_error err;
    uint32_t failures = 0;
    pthread_setname_np(pthread_self(), "store");
    for (;;) {
        uint64_t batches = w->stats.batches;
        int rc = take_settings(w, &err);
        w->moved = false;
        rc = rc ? rc : run_session(w, &err);
        w->retain.full |= rc && w->pg && strcmp(tm_pg_sqlstate(w->pg), "53100") == 0;
        close_session(w);
        if (!rc || rc == TM_ESTOPPED || (is_draining(w) && failures))
            return NULL;
        if (w->moved) {
            tm_log(TM_LOG_INFO, "store", "the store has another address now; connecting to it");
            failures = 0;
            continue;
        }
        note_error(w, &err);
        note_lag(w);
        failures = w->stats.batches > batches ? 1 : failures + 1;
        if (pause_before_retry(w, tm_backoff_us(failures, BACKOFF_BASE_US, BACKOFF_MAX_US, tm_random_unit())))
            return NULL;
    }
}

/* ---- start and stop ---- */

static void writer_free(struct tm_writer *w)
{
    tm_lanes_destroy(w->lanes);
    tm_accounts_destroy(w->accounts);
    tm_buf_fini(&w->sql);
    tm_writer_settings_destroy(w->settings);
    tm_writer_settings_destroy(w->next);
    tm_overflow_stop(w->overflow);
    free(w->gatherer);
    free(w->application_name);
    tm_stop_fini(&w->stop);
    close(w->wake_fd);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static void make_metrics(struct tm_writer *w, struct tm_metrics *m)
{
    w->connected = tm_metrics_gauge(m, "tidemill_store_connected", "1 while the local store is connected.", NULL);
    w->errors =
        tm_metrics_counter(m, "tidemill_store_errors_total", "Sessions with the local store that failed.", NULL);
    w->quarantined =
        tm_metrics_counter(m, "tidemill_store_quarantined_total", "Rows that the local store can never take.", NULL);
    w->quarantine_rows =
        tm_metrics_gauge(m, "tidemill_store_quarantine_rows", "Rows in the local store's quarantine now.", NULL);
    tm_retain_init(&w->retain, m);
    w->lag =
        tm_metrics_gauge(m, "tidemill_journal_lag_bytes", "Durable in the journal, not yet in the local store.", NULL);
    w->latency = tm_metrics_histogram(m, "tidemill_journal_to_store_seconds",
                                      "From arrival to commit in the local store, newest row of each commit.", NULL);
}

int tm_writer_start(const struct tm_writer_options *options, struct tm_writer **out, struct tm_error *err)
{
    char name[96];
    struct tm_writer *w = calloc(1, sizeof *w);
    TM_FATAL_UNLESS(w);
    w->journal = options->journal;
    w->settings = tm_writer_settings_create(options);
    (void)snprintf(name, sizeof name, "tidemill %s store", options->gatherer);
    w->gatherer = strdup(options->gatherer);
    w->application_name = strdup(name);
    TM_FATAL_UNLESS(w->gatherer && w->application_name);
    w->lanes = tm_lanes_create(options->plan);
    w->accounts = tm_accounts_create(w->journal, options->plan, options->metrics);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    TM_FATAL_UNLESS(w->wake_fd >= 0 && tm_stop_init(&w->stop) == TM_OK);
    pthread_mutex_init(&w->lock, NULL);
    make_metrics(w, options->metrics);
    if (pthread_create(&w->thread, NULL, writer_main, w)) {
        writer_free(w);
        return tm_error_set(err, TM_ENOMEM, "cannot start the store thread");
    }
    *out = w;
    return TM_OK;
}

void tm_writer_reload(struct tm_writer *w, const struct tm_writer_options *options)
{
    tm_writer_settings_destroy(atomic_exchange(&w->next, tm_writer_settings_create(options)));
    tm_writer_wake(w);
}

void tm_writer_wake(struct tm_writer *w)
{
    (void)eventfd_write(w->wake_fd, 1);
}

void tm_writer_stop(struct tm_writer *w)
{
    struct timespec until;
    int64_t until_us = tm_clock_wall_us() + DRAIN_US;
    atomic_store(&w->drain_until_us, until_us);
    tm_writer_wake(w);
    until = (struct timespec){.tv_sec = until_us / TM_US_PER_S, .tv_nsec = until_us % TM_US_PER_S * 1000};
    if (pthread_timedjoin_np(w->thread, NULL, &until)) {
        tm_stop_request(&w->stop);
        pthread_join(w->thread, NULL);
    }
    writer_free(w);
}
