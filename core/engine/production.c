#include "engine/production.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/drift.h"
#include "store/keys.h"
#include "store/migrate.h"

#include <stdio.h>
#include <string.h>

#define CONNECT_US (5 * TM_US_PER_S)
#define STATEMENT_US (60 * TM_US_PER_S)
#define PROBE_US (2 * TM_US_PER_S)

/*
 * Whoever takes over ends the session of a holder that stopped in mid-transaction (store/lease.h); where it may not, the
 * server drops it for being idle, or for its client having vanished without a word.
 */
#define SESSION_SQL                                                                                                    \
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;"                      \
    "SET tcp_user_timeout = 10000; SET idle_in_transaction_session_timeout = 5000; SET lock_timeout = 10000;"          \
    "SET synchronous_commit = local"

/* A role or database that is set to commit asynchronously would lose rows that cursors say are there (FAILURES T21). */
#define DURABILITY_SQL "SELECT replace(current_setting('synchronous_commit'), 'off', 'on')"

int tm_production_open(struct tm_production *p, const struct tm_dedup_settings *settings, struct tm_error *err)
{
    struct tm_pg_options options = {.conninfo = settings->options.production,
                                    .application_name = "tidemill deduplicator",
                                    .stop = &p->d->merger_stop,
                                    .connect_us = CONNECT_US,
                                    .statement_us = STATEMENT_US,
                                    .writes = true,
                                    .refusal = &p->refusal};
    int rc = tm_pg_connect(&options, &p->pg, err);
    rc = rc ? rc : tm_pg_query_text(p->pg, DURABILITY_SQL, 0, NULL, p->durability, sizeof p->durability, err);
    return rc ? rc : tm_pg_exec(p->pg, SESSION_SQL, err);
}

void tm_production_close(struct tm_production *p)
{
    tm_pg_close(p->pg);
    p->pg = NULL;
    p->refusal = TM_PG_RECONNECT;
}

int tm_production_prepare(struct tm_production *p, const struct tm_plan *plan, bool migrate, struct tm_error *err)
{
    char lost[300];
    int rc = tm_drift_lost_tables(p->pg, plan, lost, sizeof lost, err);
    if (!rc && *lost)
        tm_log(
            TM_LOG_ERROR, "merger",
            "tables of production are gone, and what they held; `tidemill rewind` brings back what gatherers still have",
            TM_F_STR("tables", lost));
    if (!rc && migrate)
        rc = tm_migrate_production(p->pg, plan, err);
    return rc ? rc : tm_drift_check(p->pg, plan, err);
}

/* ---- who it is ---- */

/* The timeline stands in the name of the WAL file; a server that may not be asked for the identifier is known by its
 * timeline alone. */
static int read_identity(struct tm_production *p, struct tm_error *err)
{
    char identity[64], system[40] = "?";
    PGresult *r;
    int rc = tm_pg_query(p->pg,
                         "SELECT has_function_privilege('pg_control_system()', 'EXECUTE'), "
                         "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), pg_postmaster_start_time()",
                         0, NULL, &r, err);
    if (rc)
        return rc;
    (void)snprintf(p->started, sizeof p->started, "%s", PQgetvalue(r, 0, 2));
    if (strcmp(PQgetvalue(r, 0, 0), "t") == 0)
        rc = tm_pg_query_text(p->pg, "SELECT system_identifier FROM pg_control_system()", 0, NULL, system,
                              sizeof system, err);
    (void)snprintf(identity, sizeof identity, "%.32s/%.16s", system, PQgetvalue(r, 0, 1));
    PQclear(r);
    if (rc)
        return rc;
    pthread_mutex_lock(&p->d->lock);
    bool other = p->d->stats.identity[0] && strcmp(p->d->stats.identity, identity) != 0;
    (void)snprintf(p->d->stats.identity, sizeof p->d->stats.identity, "%s", identity);
    pthread_mutex_unlock(&p->d->lock);
    if (other)
        tm_log(TM_LOG_WARN, "merger", "production is another one than before: a failover or a restore",
               TM_F_STR("identity", identity));
    return TM_OK;
}

/* ---- transactions ---- */

int tm_production_expect(struct tm_production *p, const struct tm_lease *lease, const struct tm_plan *plan,
                         struct tm_error *err)
{
    char digest[TM_KEYS_DIGEST];
    struct tm_buf guard = {0};
    int rc = tm_keys_expect(p->pg, plan, digest, err);
    rc = rc ? rc : read_identity(p, err);
    if (!rc && (tm_lease_guard(lease, &guard) || !tm_buf_cstr(&guard)))
        rc = tm_error_set(err, TM_ENOMEM, "out of memory for a transaction");
    if (!rc)
        (void)snprintf(p->expect, sizeof p->expect, "%s; SELECT tidemill.expect_server('%s')%s%s%s",
                       (const char *)guard.data, p->started, *digest ? "; SELECT tidemill.expect_keys('" : "", digest,
                       *digest ? "')" : "");
    tm_buf_fini(&guard);
    return rc;
}

struct tm_production_opening tm_production_opening(const struct tm_production *p)
{
    struct tm_production_opening opening;
    bool alone = atomic_load(&p->d->unreplicated);
    (void)snprintf(opening.sql, sizeof opening.sql, "BEGIN; SET LOCAL synchronous_commit = %s; %s",
                   alone ? "local" : p->durability, p->expect);
    return opening;
}

int tm_production_begin(struct tm_production *p, struct tm_error *err)
{
    return tm_pg_exec(p->pg, tm_production_opening(p).sql, err);
}

static void note_replicated(struct tm_deduplicator *d, bool replicated)
{
    if (atomic_exchange(&d->unreplicated, !replicated) == !replicated)
        return;
    tm_metric_set(d->replicated, replicated);
    if (replicated)
        tm_log(TM_LOG_INFO, "merger", "production's standby answers again");
    else
        tm_log(
            TM_LOG_ERROR, "merger",
            "production's synchronous standby does not answer: commits are on the primary alone until it does; what a "
            "failover would lose is polled again");
}

int tm_production_commit(struct tm_production *p, int64_t standby_us, struct tm_error *err)
{
    bool alone;
    int rc = tm_pg_commit(p->pg, standby_us, &alone, err);
    if (!rc && alone)
        note_replicated(p->d, false);
    return rc;
}

enum tm_pg_class tm_production_class(const struct tm_production *p)
{
    if (!p->pg)
        return p->refusal;
    enum tm_pg_class class = tm_pg_class_of(p->pg);
    /* it was not the server who refused, or a row's fault that costs a transaction */
    return class == TM_PG_RETRY || class == TM_PG_RECONNECT ? class : TM_PG_STOP;
}

int tm_replication_probe(struct tm_deduplicator *d, struct tm_pg *pg, struct tm_error *err)
{
    bool alone = true;
    if (!atomic_load(&d->unreplicated))
        return TM_OK;
    int rc = tm_pg_exec(pg,
                        "BEGIN; SET LOCAL synchronous_commit = on; INSERT INTO tidemill.meta VALUES ('standby', now()) "
                        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                        err);
    rc = rc ? rc : tm_pg_commit(pg, PROBE_US, &alone, err);
    if (!rc && !alone)
        note_replicated(d, true);
    return rc;
}
