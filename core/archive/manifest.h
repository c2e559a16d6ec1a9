/*
 * Manifests: what an object of the archive must be, and what it stands for. An object counts as archived when its manifest
 * is there, which is written last, after the object was verified. JSON, one document:
 *
 *     {"version":1,"kind":"production","stream":"trades","from":"...","to":"...","part":0,
 *      "object":"raw/trades/...parquet","bytes":1,"sha256":"64 hex digits","rows":1,
 *      "schema":"16 hex digits","columns":["trade_id",...],"first":{key of the first row},"last":{...},
 *      "seq":{"first":1,"last":9},                    where rows carry one: observations, rows of a gatherer
 *      "gatherer":"g1","epoch":"uuid",                kind "gatherer": rows that left its store before production had them
 *      "coverage":{"cursors":[...],"gaps":[...],"gaps_left_out":0,"absent":[...]},
 *      "production":"system/timeline/database","written_at":"...","written_by":"tidemill"}
 *
 * A period without rows has a manifest without object: nothing is there, and that is known. `coverage` says what may be
 * missing: up to where each gatherer had been merged, the gaps of the ledger and the absent rows that touch the period.
 */
#ifndef TM_ARCHIVE_MANIFEST_H
#define TM_ARCHIVE_MANIFEST_H

#include "archive/period.h"
#include "archive/target.h"

#define TM_MANIFEST_BYTES_MAX ((size_t)4 << 20)

struct tm_manifest {
    bool of_gatherer;
    char stream[64], object[TM_ARCHIVE_KEY]; /* object "": there are no rows */
    int64_t from_us, to_us; /* of the rows' column; of a gatherer: of their arrival, 0 where not known */
    unsigned part;
    uint64_t rows;
    struct tm_put_result what; /* size and hash of the object */
    char schema[17];
    bool has_seq;
    int64_t first_seq, last_seq;
    char gatherer[64], epoch[37]; /* of a gatherer */
};

/* What a manifest says beside that, as JSON; NULL: nothing. */
struct tm_manifest_more {
    const char *columns; /* "a,b,c" */
    const char *first, *last, *coverage, *production;
};

int tm_manifest_put(const struct tm_manifest *m, const struct tm_manifest_more *more, int64_t now_us,
                    struct tm_buf *out) TM_MUST_CHECK;

/* TM_ECORRUPT says what was expected where; a key that leads out of the archive is no key. */
int tm_manifest_read(const struct tm_buf *text, struct tm_manifest *out, struct tm_error *err) TM_MUST_CHECK;

/* Of a stream's columns: names, types and scales. */
void tm_manifest_schema(const struct tm_stream *stream, char out[17]);

#endif
