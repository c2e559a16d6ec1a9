#include "store/shards.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_SQL "SELECT coalesce((SELECT value::int8 FROM tidemill.meta WHERE key = 'shards'), 1)"

/* Whose session is no more, in a table with pid and backend_start. */
#define GONE_SQL "NOT EXISTS (SELECT FROM pg_stat_get_activity(x.pid) a WHERE a.backend_start = x.backend_start)"

/* ---- how many ---- */

/* A production that was merged into before anybody spoke of shards has one. */
static int record(struct tm_pg *pg, unsigned shards, struct tm_error *err)
{
    char text[16];
    const char *values[] = {text};
    (void)snprintf(text, sizeof text, "%u", shards);
    return tm_pg_run(
        pg,
        "INSERT INTO tidemill.meta SELECT 'shards', $1 WHERE NOT EXISTS (SELECT FROM tidemill.cursors) AND NOT "
        "EXISTS (SELECT FROM tidemill.leases WHERE NOT released AND expires_at > clock_timestamp()) "
        "ON CONFLICT (key) DO NOTHING",
        1, values, NULL, err);
}

int tm_shards_expect(struct tm_pg *pg, unsigned shards, struct tm_error *err)
{
    int64_t found = 0;
    int rc = tm_pg_query_number(pg, COUNT_SQL, 0, NULL, &found, err);
    if (!rc && found == 1 && shards > 1) {
        rc = record(pg, shards, err);
        rc = rc ? rc : tm_pg_query_number(pg, COUNT_SQL, 0, NULL, &found, err);
    }
    if (rc || found == (int64_t)shards)
        return rc;
    return tm_error_set(
        err, TM_ESTATE,
        "production is shared in %" PRId64 " shards and this script says %u: expected the same in the "
        "scripts of all its deduplicators. To change it, stop them all and run `tidemill reshard SCRIPT`",
        found, shards);
}

/* Whoever comes while we are at it waits for these locks, and then finds another number. */
#define LOCK_SQL                                                                                                       \
    "BEGIN; SET LOCAL lock_timeout = '10s'; LOCK tidemill.cursors IN SHARE ROW EXCLUSIVE MODE; "                       \
    "LOCK tidemill.leases IN SHARE ROW EXCLUSIVE MODE"

static int refuse_while_held(struct tm_pg *pg, struct tm_error *err)
{
    char holders[256];
    int rc = tm_pg_query_text(pg,
                              "SELECT string_agg(DISTINCT holder, ', ') FROM tidemill.leases WHERE NOT released AND "
                              "expires_at > clock_timestamp()",
                              0, NULL, holders, sizeof holders, err);
    if (rc || !*holders)
        return rc;
    return tm_error_set(err, TM_ESTATE, "expected no deduplicator at work, found %s: stop them all first", holders);
}

/* $1: how many, $2: the streams that are spread. One whose definition is gone stays as it was. */
static const struct {
    int values;
    const char *sql;
} changes[] = {
    {0, "UPDATE tidemill.cursors c SET seq = low.seq, hash = low.hash, updated_at = now() FROM (SELECT DISTINCT ON "
        "(gatherer, epoch, stream) gatherer, epoch, stream, seq, hash FROM tidemill.cursors ORDER BY gatherer, epoch, "
        "stream, seq) low WHERE c.gatherer = low.gatherer AND c.epoch = low.epoch AND c.stream = low.stream AND "
        "c.seq > low.seq"},
    {2,
     "INSERT INTO tidemill.cursors (gatherer, epoch, stream, shard, seq, hash) SELECT gatherer, epoch, stream, k, "
     "min(seq), min(hash) FROM tidemill.cursors c, generate_series(0, $1::int4 - 1) k WHERE stream = ANY ($2::text[]) "
     "OR EXISTS (SELECT FROM tidemill.cursors o WHERE o.stream = c.stream AND o.shard > 0) GROUP BY 1, 2, 3, 4 ON "
     "CONFLICT DO NOTHING"},
    {1, "DELETE FROM tidemill.cursors WHERE shard >= $1::int4"},
    {1, "DELETE FROM tidemill.leases WHERE shard >= $1::int4"},
    {1, "INSERT INTO tidemill.meta VALUES ('shards', $1::int4) ON CONFLICT (key) DO UPDATE SET value = excluded.value"},
};

int tm_shards_change(struct tm_pg *pg, unsigned shards, const char *spread, unsigned *before, struct tm_error *err)
{
    char count[16];
    const char *values[] = {count, spread};
    int64_t found = 0;
    (void)snprintf(count, sizeof count, "%u", shards);
    int rc = tm_pg_exec(pg, LOCK_SQL, err);
    rc = rc ? rc : refuse_while_held(pg, err);
    rc = rc ? rc : tm_pg_query_number(pg, COUNT_SQL, 0, NULL, &found, err);
    for (size_t i = 0; !rc && i < sizeof changes / sizeof *changes; i++)
        rc = tm_pg_run(pg, changes[i].sql, changes[i].values, values, NULL, err);
    /* a process that was stopped while it held one and wakes up later is refused */
    rc = rc ? rc : tm_pg_exec(pg, "UPDATE tidemill.leases SET token = '', released = true; COMMIT", err);
    *before = (unsigned)found;
    if (rc)
        tm_pg_rollback(pg);
    return rc;
}

/* ---- who ---- */

int tm_members_beat(struct tm_pg *pg, const char *id, const char *name, int64_t length_us, struct tm_error *err)
{
    char length[24];
    const char *values[] = {id, name, length};
    (void)snprintf(length, sizeof length, "%" PRId64, length_us);
    return tm_pg_run(
        pg,
        "WITH gone AS (DELETE FROM tidemill.members WHERE expires_at < clock_timestamp() - interval '1 minute') "
        "INSERT INTO tidemill.members AS m (member, name, expires_at, pid, backend_start) SELECT $1, $2, "
        "clock_timestamp() + $3::int8 * interval '1 microsecond', pg_backend_pid(), "
        "coalesce(max(backend_start), '-infinity') FROM pg_stat_get_activity(pg_backend_pid()) "
        "ON CONFLICT (member) DO UPDATE SET expires_at = excluded.expires_at, pid = excluded.pid, "
        "backend_start = excluded.backend_start, started_at = CASE WHEN m.expires_at < clock_timestamp() THEN "
        "clock_timestamp() ELSE m.started_at END",
        3, values, NULL, err);
}

int tm_members_leave(struct tm_pg *pg, const char *id, struct tm_error *err)
{
    const char *values[] = {id};
    return tm_pg_run(pg, "DELETE FROM tidemill.members WHERE member = $1", 1, values, NULL, err);
}

/* $1: the length of a lease. A member is alive while it says so; one whose session is gone for half of that. */
#define MEMBERS_SQL                                                                                                    \
    "SELECT member, name, started_at < clock_timestamp() - $1::int8 * interval '1 microsecond' FROM "                  \
    "tidemill.members x WHERE expires_at > clock_timestamp() AND NOT (" GONE_SQL " AND expires_at <= "                 \
    "clock_timestamp() + $1::int8 / 2 * interval '1 microsecond') ORDER BY member COLLATE \"C\""

#define LEASES_SQL                                                                                                     \
    "SELECT shard, left(token, 16), holder FROM tidemill.leases WHERE NOT released AND expires_at > clock_timestamp()"

static void read_members(const PGresult *r, struct tm_shards_view *v)
{
    v->member_count = (size_t)PQntuples(r) < v->members_max ? (size_t)PQntuples(r) : v->members_max;
    for (size_t i = 0; i < v->member_count; i++) {
        struct tm_member *m = &v->members[i];
        (void)snprintf(m->id, sizeof m->id, "%s", PQgetvalue(r, (int)i, 0));
        (void)snprintf(m->name, sizeof m->name, "%s", PQgetvalue(r, (int)i, 1));
        m->ripe = PQgetvalue(r, (int)i, 2)[0] == 't';
    }
}

static int member_of(const struct tm_shards_view *v, const char *id)
{
    for (size_t i = 0; i < v->member_count; i++)
        if (strcmp(v->members[i].id, id) == 0)
            return (int)i;
    return -1;
}

static void read_leases(const PGresult *r, struct tm_shards_view *v)
{
    for (unsigned i = 0; i < v->shard_count; i++)
        v->shards[i] = (struct tm_shard_standing){.member = -1};
    for (int i = 0; i < PQntuples(r); i++) {
        unsigned long shard = strtoul(PQgetvalue(r, i, 0), NULL, 10);
        if (shard >= v->shard_count)
            continue;
        v->shards[shard].member = member_of(v, PQgetvalue(r, i, 1));
        (void)snprintf(v->shards[shard].holder, TM_LEASE_HOLDER, "%s", PQgetvalue(r, i, 2));
    }
}

int tm_members_look(struct tm_pg *pg, int64_t length_us, struct tm_shards_view *view, struct tm_error *err)
{
    char length[24];
    const char *values[] = {length};
    PGresult *members, *leases;
    (void)snprintf(length, sizeof length, "%" PRId64, length_us);
    int rc = tm_pg_query(pg, MEMBERS_SQL, 1, values, &members, err);
    if (rc)
        return rc;
    read_members(members, view);
    PQclear(members);
    rc = tm_pg_query(pg, LEASES_SQL, 0, NULL, &leases, err);
    if (rc)
        return rc;
    read_leases(leases, view);
    PQclear(leases);
    return TM_OK;
}
