/*
 * What of production is in the archive: its tables, and nothing of the archive itself (archive/export.h).
 *
 *     tidemill.export_cursors   key stream; next_ts: all before it has been exported. Moved by compare-and-swap, in a
 *                               transaction of its own after the objects are there and verified. horizon_ts: rows before it
 *                               that come now come late; committed before a period is read, so never behind next_ts
 *     tidemill.exports          key (stream, from_ts); to_ts, parts, rows (of production, as of the last look),
 *                               archived_rows and bytes of all parts, archive, at
 *     tidemill.export_late      key (stream, from_ts of an hour); at: rows came for it after the horizon
 *
 * Rows that come late. Whoever stores rows in production calls tidemill.note_late(stream, hours) in the same transaction,
 * and holds tidemill.leases in ROW SHARE mode, as the guard of the lease does (store/lease.h). The horizon is committed
 * first; then the exporter waits for all transactions that may not have seen it, by locking that table for a moment; then
 * it reads. So a row is in what is read, or its hour is noted: there is no third case, whoever writes, in whichever process.
 *
 * A session of one thread, autocommit.
 */
#ifndef TM_STORE_EXPORTS_H
#define TM_STORE_EXPORTS_H

#include "store/pg.h"

#define TM_EXPORTS_HOURS_MAX 128

/* Note hours (starts, Unix) that rows of the stream are stored for, inside the caller's transaction. */
int tm_exports_note_late(struct tm_pg *pg, const char *stream, const int64_t *hours, size_t count,
                         struct tm_error *err) TM_MUST_CHECK;

/* What begins a transaction of rows that is not the merger's. */
#define TM_EXPORTS_BEGIN "BEGIN; LOCK TABLE tidemill.leases IN ROW SHARE MODE"

/* Where the stream's export goes on; *next_us INT64_MIN: there are no rows yet. */
int tm_exports_cursor(struct tm_pg *pg, const char *stream, const char *column, int64_t length_us, int64_t *next_us,
                      struct tm_error *err) TM_MUST_CHECK;

/* Now, by production's clock, and up to when production has all that each active gatherer heard of the stream (INT64_MIN:
 * one of them never said so; INT64_MAX: there is none). */
int tm_exports_heard(struct tm_pg *pg, const char *stream, int64_t *now_us, int64_t *heard_us,
                     struct tm_error *err) TM_MUST_CHECK;

/* From here on rows before `until_us` are late, and all that is not noted is there. TM_ERETRY: somebody writes for too long. */
int tm_exports_close(struct tm_pg *pg, const char *stream, int64_t until_us, struct tm_error *err) TM_MUST_CHECK;

/* The oldest hour that was noted at least settle_us ago; 1, or 0: none. */
struct tm_export_late {
    int64_t hour_us, from_us, to_us; /* from and to: of the period that holds it; both INT64_MIN: none does */
    char at[40];
};
int tm_exports_late(struct tm_pg *pg, const char *stream, int64_t settle_us, struct tm_export_late *out,
                    struct tm_error *err) TM_MUST_CHECK;

struct tm_export_done {
    const char *stream, *archive;
    int64_t from_us, to_us,
        next_us; /* next_us: where the cursor was; INT64_MIN: it stays, the period was exported before */
    unsigned parts;
    uint64_t rows, archived_rows, bytes;
    const char *late_until; /* notes of the period up to this `at` are dealt with; NULL: none */
};
/* TM_ECONFLICT: somebody else has moved the cursor. */
int tm_exports_commit(struct tm_pg *pg, const struct tm_export_done *done, struct tm_error *err) TM_MUST_CHECK;

/* A day that is to be dropped: TM_ESTATE unless all of it is in the archive. Where rows are there that are not, their hours
 * are noted. */
int tm_exports_expect_day(struct tm_pg *pg, const char *stream, const char *partition, const char *day,
                          struct tm_error *err) TM_MUST_CHECK;

#endif
