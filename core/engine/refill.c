#include "engine/refill.h"
#include "archive/restore.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct asked {
    char manifest[TM_ARCHIVE_KEY];
    bool approved;
    char why[260]; /* of the last gap; "": none */
};

static int next(struct tm_pg *pg, struct asked *a, struct tm_error *err)
{
    PGresult *r;
    int rc =
        tm_pg_query(pg,
                    "SELECT manifest, state = 'approved' FROM tidemill.restores WHERE state IN ('wanted', 'approved') "
                    "ORDER BY state, asked_at, manifest LIMIT 1",
                    0, NULL, &r, err);
    if (rc)
        return rc;
    int found = PQntuples(r);
    if (found) {
        (void)snprintf(a->manifest, sizeof a->manifest, "%s", PQgetvalue(r, 0, 0));
        a->approved = PQgetvalue(r, 0, 1)[0] == 't';
    }
    PQclear(r);
    return found;
}

static void note_gap(void *arg, const struct tm_restore_gap *gap)
{
    struct asked *a = arg;
    (void)snprintf(a->why, sizeof a->why, "%s", gap->why);
}

static int answer(struct tm_pg *pg, const struct asked *a, const struct tm_restore_counts *c, struct tm_error *err)
{
    char numbers[4][24];
    const char *values[] = {a->manifest,
                            *a->why       ? "failed"
                            : a->approved ? "done"
                                          : "looked",
                            numbers[0],
                            numbers[1],
                            a->approved ? numbers[2] : NULL,
                            a->approved ? numbers[3] : NULL,
                            *a->why ? a->why : NULL};
    const uint64_t what[] = {c->rows, c->bytes, c->stored, c->duplicate};
    for (size_t i = 0; i < 4; i++)
        (void)snprintf(numbers[i], sizeof numbers[i], "%" PRIu64, what[i]);
    return tm_pg_run(pg,
                     "UPDATE tidemill.restores SET state = $2, rows = $3, bytes = $4, stored = $5, duplicate = $6, "
                     "detail = $7, changed_at = now() WHERE manifest = $1",
                     7, values, NULL, err);
}

/* Is it the request that can never be met? */
static bool is_hopeless(int rc)
{
    return rc == TM_ENOENT || rc == TM_ECORRUPT || rc == TM_EINVAL;
}

int tm_refill_step(const struct tm_export_sink *sink, const struct tm_plan *plan, struct tm_error *err)
{
    struct asked a = {0};
    struct tm_restore_counts counts = {0};
    int rc = next(sink->pg, &a, err);
    if (rc <= 0)
        return rc;
    struct tm_restore_options options = {.pg = sink->pg,
                                         .target = sink->target,
                                         .plan = plan,
                                         .side = TM_COPY_PRODUCTION,
                                         .since_us = INT64_MIN,
                                         .until_us = INT64_MAX,
                                         .manifest = a.manifest,
                                         .dry_run = !a.approved,
                                         .gap = note_gap,
                                         .arg = &a};
    rc = tm_restore(&options, &counts, err);
    if (!rc && options.dry_run && *a.why) { /* nothing will come of it but a gap that has a name */
        options.dry_run = false;
        rc = tm_restore(&options, &counts, err);
    }
    if (is_hopeless(rc)) {
        (void)snprintf(a.why, sizeof a.why, "%.259s", err->message);
        rc = TM_OK;
    }
    if (!rc && counts.refused && !*a.why)
        (void)snprintf(a.why, sizeof a.why, "%" PRIu64 " rows were refused; they are in tidemill.quarantine",
                       counts.refused);
    if (!rc && (a.approved || *a.why))
        tm_log(*a.why ? TM_LOG_ERROR : TM_LOG_INFO, "archive",
               *a.why ? "what was asked for cannot be restored from the archive" : "restored from the archive",
               TM_F_STR("manifest", a.manifest), TM_F_U64("rows", counts.rows), TM_F_U64("stored", counts.stored),
               TM_F_STR("why", a.why));
    rc = rc ? rc : answer(sink->pg, &a, &counts, err);
    return rc ? rc : 1;
}
