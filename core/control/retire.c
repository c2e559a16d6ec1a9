#include "control/retire.h"
#include "base/clock.h"
#include "base/hash.h"
#include "control/offline.h"
#include "store/migrate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATEMENT_US (30 * TM_US_PER_S)
#define NAME_BYTES 64

const struct tm_cli_option tm_retire_options[] = {
    {"--force", NULL, "although rows are lost with it; production's gaps say which"},
    {0},
};

/* A stream of one of its epochs, as production and the gatherer's store have it. */
struct stream {
    char epoch[37], name[NAME_BYTES], since[40]; /* since: when production last took something of it */
    int64_t taken, there;                        /* seq; there: -1: not known */
};

struct job {
    const char *gatherer, *store; /* store: NULL: the script does not name it */
    struct tm_stop stop;
    struct tm_pg *production;
    struct stream *streams;
    size_t count;
    bool known; /* what the gatherer has */
    char why[256];
};

static struct stream *stream_of(struct job *j, const char *epoch, const char *name)
{
    for (size_t i = 0; i < j->count; i++)
        if (strcmp(j->streams[i].epoch, epoch) == 0 && strcmp(j->streams[i].name, name) == 0)
            return &j->streams[i];
    struct stream *grown = realloc(j->streams, (j->count + 1) * sizeof *grown);
    TM_FATAL_UNLESS(grown);
    j->streams = grown;
    struct stream *s = &grown[j->count++];
    *s = (struct stream){.there = -1};
    (void)snprintf(s->epoch, sizeof s->epoch, "%s", epoch);
    (void)snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

static int open_store(struct job *j, const char *conninfo, struct tm_pg **out, struct tm_error *err)
{
    struct tm_pg_options options = {
        .conninfo = conninfo, .application_name = "tidemill retire", .stop = &j->stop, .statement_us = STATEMENT_US};
    return tm_pg_connect(&options, out, err);
}

/* ---- what there is ---- */

static int read_production(struct job *j, struct tm_error *err)
{
    const char *values[] = {j->gatherer};
    PGresult *r;
    int rc =
        tm_pg_query(j->production,
                    "SELECT c.epoch, c.stream, min(c.seq), max(c.updated_at) FROM tidemill.cursors c WHERE c.gatherer "
                    "= $1 AND NOT EXISTS (SELECT FROM tidemill.gatherers g WHERE g.gatherer = c.gatherer AND g.epoch "
                    "= c.epoch AND g.state = 'retired') GROUP BY 1, 2",
                    1, values, &r, err);
    if (rc)
        return rc;
    for (int i = 0; i < PQntuples(r); i++) {
        struct stream *s = stream_of(j, PQgetvalue(r, i, 0), PQgetvalue(r, i, 1));
        s->taken = strtoll(PQgetvalue(r, i, 2), NULL, 10);
        (void)snprintf(s->since, sizeof s->since, "%s", PQgetvalue(r, i, 3));
    }
    PQclear(r);
    return TM_OK;
}

/* Only the epochs that are not retired already; one that production has never heard of counts too. */
static int read_gatherer(struct job *j, struct tm_error *err)
{
    struct tm_pg *pg;
    PGresult *r = NULL;
    int rc = open_store(j, j->store, &pg, err);
    if (rc)
        return rc;
    rc = tm_pg_query(
        pg,
        "SELECT e.epoch, s.stream, s.seq, e.created_at FROM tidemill.streams s JOIN tidemill.epochs e USING "
        "(epoch_no)",
        0, NULL, &r, err);
    for (int i = 0; !rc && i < PQntuples(r); i++) {
        struct stream *s = stream_of(j, PQgetvalue(r, i, 0), PQgetvalue(r, i, 1));
        s->there = strtoll(PQgetvalue(r, i, 2), NULL, 10);
        if (!*s->since)
            (void)snprintf(s->since, sizeof s->since, "%s", PQgetvalue(r, i, 3));
    }
    PQclear(r);
    tm_pg_close(pg);
    return rc;
}

static int drop_retired(struct job *j, struct tm_error *err)
{
    const char *values[] = {j->gatherer};
    PGresult *r;
    int rc =
        tm_pg_query(j->production, "SELECT epoch FROM tidemill.gatherers WHERE gatherer = $1 AND state = 'retired'", 1,
                    values, &r, err);
    if (rc)
        return rc;
    for (int i = 0; i < PQntuples(r); i++)
        for (size_t k = j->count; k-- > 0;)
            if (strcmp(j->streams[k].epoch, PQgetvalue(r, i, 0)) == 0)
                j->streams[k] = j->streams[--j->count];
    PQclear(r);
    return TM_OK;
}

static int look(struct job *j, struct tm_error *err)
{
    struct tm_error away;
    int rc = read_production(j, err);
    if (rc)
        return rc;
    j->known = j->store && read_gatherer(j, &away) == TM_OK;
    if (!j->known)
        (void)snprintf(j->why, sizeof j->why, "%.200s", j->store ? away.message : "the script does not name it");
    return drop_retired(j, err);
}

static bool is_unsynced(const struct job *j, const struct stream *s)
{
    return j->known ? s->there > s->taken : true;
}

/* An epoch that the store has no more was taken whole, or is gone: there is nothing that could be taken from it. */
static size_t report(const struct job *j)
{
    size_t unsynced = 0;
    if (!j->known)
        fprintf(stderr, "tidemill retire: what %s still has is not known: %s\n", j->gatherer, j->why);
    for (size_t i = 0; i < j->count; i++) {
        const struct stream *s = &j->streams[i];
        if (!is_unsynced(j, s))
            continue;
        unsynced++;
        if (j->known)
            fprintf(stderr,
                    "tidemill retire: %s of epoch %s: %" PRId64 " rows are not in production (seq %" PRId64
                    " to %" PRId64 ")\n",
                    s->name, s->epoch, s->there - s->taken, s->taken + 1, s->there);
    }
    return unsynced;
}

/* ---- doing it ---- */

/* seq is negative: the gatherer's own gaps count upwards from 1. */
static int put_gap(struct job *j, const struct stream *s, size_t number, struct tm_error *err)
{
    char id[37], first[24], last[24], seq[24];
    uint8_t uuid[16];
    const char *values[] = {id, s->name, s->since, first, s->there < 0 ? NULL : last, j->gatherer, s->epoch, seq};
    tm_random_bytes(uuid, sizeof uuid);
    tm_uuid_format(uuid, id);
    (void)snprintf(first, sizeof first, "%" PRId64, s->taken + 1);
    (void)snprintf(last, sizeof last, "%" PRId64, s->there);
    (void)snprintf(seq, sizeof seq, "%" PRId64, -(int64_t)(tm_clock_wall_us() + (int64_t)number));
    return tm_pg_run(
        j->production,
        "INSERT INTO gaps (gap_id, stream, from_ts, to_ts, reason, first_seq, last_seq, detail, "
        "received_at, gatherer, epoch, seq) VALUES ($1, $2, $3, now(), 'retired', $4, $5, 'the gatherer was "
        "retired while rows were not in production', now(), $6, $7, $8)",
        8, values, NULL, err);
}

static int put_gaps(struct job *j, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < j->count; i++)
        if (is_unsynced(j, &j->streams[i]))
            rc = put_gap(j, &j->streams[i], i, err);
    return rc;
}

static int mark_epochs(struct job *j, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < j->count; i++) {
        const char *values[] = {j->gatherer, j->streams[i].epoch};
        rc = tm_pg_run(j->production,
                       "INSERT INTO tidemill.gatherers (gatherer, epoch, state) VALUES ($1, $2, 'retired') ON CONFLICT "
                       "(gatherer, epoch) DO UPDATE SET state = 'retired', changed_at = now()",
                       2, values, NULL, err);
    }
    return rc;
}

/* Cursors are locked first: what is being merged now is in production before we say what is not. */
static int retire(struct job *j, bool force, struct tm_error *err)
{
    int rc = tm_pg_exec(j->production, "BEGIN; LOCK tidemill.cursors IN SHARE ROW EXCLUSIVE MODE", err);
    rc = rc ? rc : look(j, err);
    if (!rc && !j->count)
        return tm_error_set(err, TM_ENOENT, "%s has no epoch in production that is not retired already", j->gatherer);
    if (!rc && report(j) && !force)
        return tm_error_set(err, TM_ESTATE, "refused: wait until they are merged, or give --force");
    rc = rc ? rc : put_gaps(j, err);
    rc = rc ? rc : mark_epochs(j, err);
    return rc ? rc : tm_pg_exec(j->production, "COMMIT", err);
}

static const char *store_of(const struct tm_config *config, const char *gatherer)
{
    for (size_t i = 0; i < config->deduplicator.gatherer_count; i++)
        if (strcmp(config->deduplicator.gatherers[i].id, gatherer) == 0)
            return config->deduplicator.gatherers[i].conninfo;
    return NULL;
}

static int run(const struct tm_config *config, const char *gatherer, bool force, struct tm_error *err)
{
    struct job j = {.gatherer = gatherer, .store = store_of(config, gatherer)};
    int rc = tm_stop_init(&j.stop);
    if (rc)
        return tm_error_set(err, rc, "out of descriptors");
    rc = open_store(&j, config->deduplicator.production, &j.production, err);
    rc = rc ? rc : tm_migrate_production(j.production, config->plan, err);
    rc = rc ? rc : retire(&j, force, err);
    if (!rc)
        printf("%s is retired: %zu streams of it are not looked at any more%s\n", gatherer, j.count,
               j.store ? "; take it out of the script, or give it a new journal and store" : "");
    tm_pg_close(j.production);
    tm_stop_fini(&j.stop);
    free(j.streams);
    return rc;
}

int tm_retire_command(const struct tm_cli *cli)
{
    struct tm_error err = {0};
    struct tm_script *script = tm_offline_load(cli->files[0]);
    if (!script)
        return TM_EXIT_CONFIG;
    const struct tm_config *config = tm_script_config(script);
    int rc = config->role == TM_CONFIG_DEDUPLICATOR
                 ? run(config, cli->files[1], tm_cli_given(cli, "--force"), &err)
                 : tm_error_set(&err, TM_EINVAL, "%s declares a gatherer; expected the deduplicator's script",
                                cli->files[0]);
    if (rc)
        fprintf(stderr, "tidemill retire: %s\n", err.message[0] ? err.message : tm_code_name(rc));
    tm_script_destroy(script);
    return rc ? TM_EXIT_FAILED : TM_EXIT_OK;
}
