#include "store/absent.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a gatherer's store ---- */

/* When a row of the stream arrived, as an expression; stream and column are plain words. */
static int arrival(char *out, size_t size, const struct tm_absent_hole *h, int64_t seq)
{
    int n = h->received_column ? snprintf(out, size, "(SELECT %s FROM %s WHERE epoch_no = %d AND seq = %" PRId64 ")",
                                          h->received_column, h->stream, h->epoch_no, seq)
                               : snprintf(out, size, "NULL::timestamptz");
    return n > 0 && (size_t)n < size ? TM_OK : TM_EINVAL;
}

int tm_absent_note(struct tm_pg *pg, const struct tm_absent_hole *h, struct tm_error *err)
{
    char before[320], after[320], sql[2048];
    struct tm_pg_number first, last, epoch_no;
    const char *values[] = {h->gatherer,
                            h->epoch,
                            h->stream,
                            tm_pg_number(&first, h->first),
                            tm_pg_number(&last, h->last),
                            tm_pg_number(&epoch_no, h->epoch_no)};
    if (arrival(before, sizeof before, h, h->first - 1) || arrival(after, sizeof after, h, h->last + 1))
        return tm_error_set(err, TM_EINVAL, "%s: the name of the stream is too long", h->stream);
    int n =
        snprintf(sql, sizeof sql,
                 "INSERT INTO tidemill.absent (gatherer, epoch, stream, first_seq, last_seq, rows, reason, from_ts, "
                 "to_ts) SELECT $1, $2::uuid, $3, $4::int8, $5::int8, $5::int8 - $4::int8 + 1, 'missing', "
                 "coalesce(greatest(%s, (SELECT heard_until FROM heartbeats WHERE epoch_no = $6::int4 AND "
                 "coalesce((seqs ->> $3)::int8, 0) < $4::int8 ORDER BY seq DESC LIMIT 1)), '-infinity'), "
                 "least(%s, (SELECT received_at FROM heartbeats WHERE epoch_no = $6::int4 AND "
                 "(seqs ->> $3)::int8 >= $5::int8 ORDER BY seq LIMIT 1), now())",
                 before, after);
    if (n < 0 || (size_t)n >= sizeof sql)
        return tm_error_set(err, TM_EINVAL, "%s: the name of the stream is too long", h->stream);
    return tm_pg_run(pg, sql, 6, values, NULL, err);
}

/* ---- polling it ---- */

enum { FIRST, LAST, REASON, AT, WHO, DETAIL, FROM_TS, TO_TS };

int tm_absent_load(struct tm_absent *a, struct tm_pg *pg, const char *epoch, const char *stream, int64_t from,
                   int64_t to, struct tm_error *err)
{
    struct tm_pg_number after, until;
    const char *values[] = {epoch, stream, tm_pg_number(&after, from), tm_pg_number(&until, to)};
    tm_absent_fini(a);
    int rc = tm_pg_query(pg,
                         "SELECT first_seq, last_seq, reason, at, who, detail, from_ts, to_ts FROM tidemill.absent "
                         "WHERE epoch = $1 AND stream = $2 AND last_seq > $3 AND first_seq <= $4 "
                         "ORDER BY first_seq, last_seq",
                         4, values, &a->lines, err);
    if (rc)
        return rc;
    a->steps = calloc((size_t)PQntuples(a->lines) + 1, sizeof *a->steps);
    TM_FATAL_UNLESS(a->steps);
    return PQntuples(a->lines);
}

void tm_absent_fini(struct tm_absent *a)
{
    PQclear(a->lines);
    free(a->steps);
    *a = (struct tm_absent){0};
}

void tm_absent_rewind(struct tm_absent *a)
{
    a->step_count = 0;
}

static int64_t number_at(const struct tm_absent *a, size_t line, int column)
{
    return strtoll(PQgetvalue(a->lines, (int)line, column), NULL, 10);
}

/* Lines are in order, and each is stepped over at most once. */
int64_t tm_absent_skip(struct tm_absent *a, int64_t expected, int64_t to)
{
    size_t line = a->step_count ? a->steps[a->step_count - 1].line + 1 : 0;
    for (; a->lines && line < (size_t)PQntuples(a->lines) && expected <= to; line++) {
        int64_t last = number_at(a, line, LAST);
        if (number_at(a, line, FIRST) > expected)
            break;
        if (last < expected)
            continue;
        last = last < to ? last : to;
        a->steps[a->step_count++] = (struct tm_absent_step){.line = line, .first = expected, .last = last};
        expected = last + 1;
    }
    return expected;
}

static bool is_lost(const struct tm_absent *a, const struct tm_absent_step *step)
{
    return strcmp(PQgetvalue(a->lines, (int)step->line, REASON), "released") != 0;
}

struct tm_absent_count tm_absent_stepped(const struct tm_absent *a)
{
    struct tm_absent_count count = {0};
    for (size_t i = 0; i < a->step_count; i++)
        *(is_lost(a, &a->steps[i]) ? &count.lost : &count.released) +=
            (uint64_t)(a->steps[i].last - a->steps[i].first + 1);
    return count;
}

/* ---- production ---- */

static const char *text_at(const struct tm_absent *a, size_t line, int column)
{
    return PQgetisnull(a->lines, (int)line, column) ? NULL : PQgetvalue(a->lines, (int)line, column);
}

int tm_absent_copy(const struct tm_absent *a, struct tm_pg *pg, const char *gatherer, const char *epoch,
                   const char *stream, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < a->step_count; i++) {
        const struct tm_absent_step *s = &a->steps[i];
        struct tm_pg_number first, last;
        const char *values[] = {text_at(a, s->line, AT),
                                text_at(a, s->line, WHO),
                                gatherer,
                                epoch,
                                stream,
                                tm_pg_number(&first, s->first),
                                tm_pg_number(&last, s->last),
                                text_at(a, s->line, REASON),
                                text_at(a, s->line, DETAIL),
                                text_at(a, s->line, FROM_TS),
                                text_at(a, s->line, TO_TS)};
        if (is_lost(a, s))
            rc = tm_pg_run(
                pg,
                "INSERT INTO tidemill.absent (at, who, gatherer, epoch, stream, first_seq, last_seq, rows, reason, "
                "detail, from_ts, to_ts) SELECT $1::timestamptz, $2, $3, $4::uuid, $5, $6::int8, $7::int8, "
                "$7::int8 - $6::int8 + 1, $8, $9, $10::timestamptz, $11::timestamptz WHERE NOT EXISTS (SELECT "
                "FROM tidemill.absent WHERE epoch = $4::uuid AND stream = $5 AND last_seq >= $7::int8 AND first_seq "
                "<= $6::int8)",
                11, values, NULL, err);
    }
    return rc;
}
