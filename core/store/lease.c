#include "store/lease.h"
#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row as one look found it. */
struct standing {
    char holder[TM_LEASE_HOLDER], token[TM_LEASE_TOKEN], pid[16], backend_start[40];
    int64_t overdue_us; /* negative: so long it still lasts */
    bool released;
    bool gone; /* the writing session is no more */
};

/* Of a row of tidemill.leases. */
#define GONE_SQL "NOT EXISTS (SELECT FROM pg_stat_get_activity(pid) a WHERE a.backend_start = leases.backend_start)"

static void copy(char *to, size_t size, const PGresult *result, int column)
{
    (void)snprintf(to, size, "%s", PQgetvalue(result, 0, column));
}

/* The row, made where there is none: as one that was released long ago. */
static int look(const struct tm_lease *lease, struct tm_pg *pg, struct standing *s, struct tm_error *err)
{
    char shard[12];
    const char *values[] = {shard};
    PGresult *result;
    (void)snprintf(shard, sizeof shard, "%d", lease->shard);
    for (int attempt = 0;; attempt++) {
        int rc = tm_pg_query(pg,
                             "SELECT holder, token, pid, backend_start, released, greatest(least((extract(epoch FROM "
                             "clock_timestamp() - expires_at) * 1000000), 1e15), -1e15)::int8, " GONE_SQL
                             " FROM tidemill.leases WHERE shard = $1",
                             1, values, &result, err);
        if (rc)
            return rc;
        if (PQntuples(result) == 1 || attempt)
            break;
        PQclear(result);
        rc = tm_pg_run(pg, "INSERT INTO tidemill.leases (shard) VALUES ($1) ON CONFLICT DO NOTHING", 1, values, NULL,
                       err);
        if (rc)
            return rc;
    }
    if (PQntuples(result) != 1) {
        PQclear(result);
        return tm_error_set(err, TM_ERETRY, "the row of shard %d in tidemill.leases goes away", lease->shard);
    }
    copy(s->holder, sizeof s->holder, result, 0);
    copy(s->token, sizeof s->token, result, 1);
    copy(s->pid, sizeof s->pid, result, 2);
    copy(s->backend_start, sizeof s->backend_start, result, 3);
    s->released = strcmp(PQgetvalue(result, 0, 4), "t") == 0;
    s->overdue_us = strtoll(PQgetvalue(result, 0, 5), NULL, 10);
    s->gone = strcmp(PQgetvalue(result, 0, 6), "t") == 0;
    PQclear(result);
    return TM_OK;
}

/* A backend that ended, or that we may not end, is none of our concern; its number may be another's by now. */
static int evict(struct tm_pg *pg, const struct standing *s, struct tm_error *err)
{
    const char *values[] = {s->pid, s->backend_start};
    return tm_pg_run(pg, "SELECT tidemill.end_backend($1, $2)", 2, values, NULL, err);
}

/* 1: ours now, 0: somebody else was first, or an open transaction of the holder's has the row. */
static int swap(const struct tm_lease *lease, struct tm_pg *pg, const char *token, const struct standing *s,
                int64_t *generation, struct tm_error *err)
{
    char shard[12], length[24];
    const char *values[] = {shard, s->token, lease->holder, token, length};
    (void)snprintf(shard, sizeof shard, "%d", lease->shard);
    (void)snprintf(length, sizeof length, "%" PRId64, lease->length_us);
    int rc = tm_pg_query_number(
        pg,
        "UPDATE tidemill.leases l SET holder = $3, token = $4, generation = l.generation + 1, released = false, "
        "pid = pg_backend_pid(), backend_start = a.backend_start, taken_at = clock_timestamp(), "
        "expires_at = clock_timestamp() + $5::int8 * interval '1 microsecond' "
        "FROM (SELECT shard FROM tidemill.leases WHERE shard = $1 AND token = $2 AND "
        "(released OR expires_at <= clock_timestamp() OR (" GONE_SQL
        " AND (holder = $3 OR expires_at <= clock_timestamp() + $5::int8 / 2 * interval '1 microsecond'))) FOR UPDATE SKIP LOCKED) free, "
        "(SELECT coalesce(max(backend_start), '-infinity') AS backend_start FROM pg_stat_get_activity(pg_backend_pid())) a "
        "WHERE l.shard = free.shard RETURNING l.generation",
        5, values, generation, err);
    return rc ? rc : *generation > 0;
}

/* Our own lease, on another session than before. */
static int resume(const struct tm_lease *lease, struct tm_pg *pg, int64_t *generation, struct tm_error *err)
{
    char shard[12], length[24];
    const char *values[] = {shard, lease->token, length};
    (void)snprintf(shard, sizeof shard, "%d", lease->shard);
    (void)snprintf(length, sizeof length, "%" PRId64, lease->length_us);
    return tm_pg_query_number(
        pg,
        "UPDATE tidemill.leases SET pid = pg_backend_pid(), backend_start = (SELECT coalesce(max(backend_start), '-infinity') FROM "
        "pg_stat_get_activity(pg_backend_pid())), expires_at = clock_timestamp() + $3::int8 * interval "
        "'1 microsecond' WHERE shard = $1 AND token = $2 AND NOT released RETURNING generation",
        3, values, generation, err);
}

static void make_token(const char *member, char token[TM_LEASE_TOKEN])
{
    uint64_t random[2];
    tm_random_bytes(random, sizeof random);
    if (*member)
        (void)snprintf(token, TM_LEASE_TOKEN, "%.16s%016" PRIx64, member, random[1]);
    else
        (void)snprintf(token, TM_LEASE_TOKEN, "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
}

static bool is_own_past(const struct tm_lease *lease, const struct standing *s)
{
    return s->gone && strcmp(lease->holder, s->holder) == 0;
}

/* What died with its session and was started again under its name need not wait for itself; others give it the time to
 * come back on another session. */
static bool is_abandoned(const struct tm_lease *lease, const struct standing *s)
{
    return is_own_past(lease, s) || (s->gone && s->overdue_us >= -lease->length_us / 2);
}

static int take_free(struct tm_lease *lease, struct tm_pg *pg, const struct standing *s, struct tm_lease_found *found,
                     struct tm_error *err)
{
    char token[TM_LEASE_TOKEN];
    make_token(lease->member, token);
    int rc = swap(lease, pg, token, s, &found->generation, err);
    if (rc == 0 && !s->released) {
        rc = evict(pg, s, err);
        return rc;
    }
    if (rc <= 0)
        return rc;
    (void)snprintf(lease->token, sizeof lease->token, "%s", token);
    found->taken = true;
    found->took_over = !s->released && !is_own_past(lease, s);
    found->overdue_us = found->took_over && s->overdue_us > 0 ? s->overdue_us : 0;
    return s->released ? TM_OK : evict(pg, s, err);
}

int tm_lease_take(struct tm_lease *lease, struct tm_pg *pg, struct tm_lease_found *found, struct tm_error *err)
{
    struct standing s;
    *found = (struct tm_lease_found){0};
    int rc = look(lease, pg, &s, err);
    if (rc)
        return rc;
    (void)snprintf(found->other, sizeof found->other, "%s", s.holder);
    if (*lease->token && strcmp(lease->token, s.token) == 0 && !s.released) {
        rc = evict(pg, &s, err); /* our session before this one may still hold locks */
        rc = rc ? rc : resume(lease, pg, &found->generation, err);
        found->taken = found->resumed = !rc && found->generation > 0;
        return rc;
    }
    return s.released || s.overdue_us >= 0 || is_abandoned(lease, &s) ? take_free(lease, pg, &s, found, err) : TM_OK;
}

int tm_lease_renew(const struct tm_lease *lease, struct tm_pg *pg, bool *held, struct tm_error *err)
{
    char shard[12], length[24];
    const char *values[] = {shard, lease->token, length};
    int64_t generation = 0;
    (void)snprintf(shard, sizeof shard, "%d", lease->shard);
    (void)snprintf(length, sizeof length, "%" PRId64, lease->length_us);
    int rc = tm_pg_query_number(
        pg,
        "UPDATE tidemill.leases SET expires_at = clock_timestamp() + $3::int8 * interval '1 microsecond' "
        "WHERE shard = $1 AND token = $2 AND NOT released RETURNING generation",
        3, values, &generation, err);
    *held = !rc && generation > 0;
    return rc;
}

int tm_lease_release(const struct tm_lease *lease, struct tm_pg *pg, struct tm_error *err)
{
    char shard[12];
    const char *values[] = {shard, lease->token};
    (void)snprintf(shard, sizeof shard, "%d", lease->shard);
    return tm_pg_run(pg, "UPDATE tidemill.leases SET released = true WHERE shard = $1 AND token = $2", 2, values, NULL,
                     err);
}

int tm_lease_guard(const struct tm_lease *lease, struct tm_buf *out)
{
    return tm_buf_printf(out, "SELECT tidemill.guard_lease(%d, '%s')", lease->shard, lease->token);
}
