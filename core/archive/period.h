/*
 * Which part of a stream is one object of the archive: an hour or a day (UTC) of one column of time, and what it is called.
 *
 *     raw/trades/year=2026/month=11/day=26/hour=05/trades-20261126T05-0000.parquet
 *     raw/orderbook_snapshots/year=2026/month=11/day=26/orderbook_snapshots-20261126-0000.parquet
 *     manifest/raw/trades/year=2026/month=11/day=26/hour=05/trades-20261126T05-0000.json
 *     unsynced/gatherer=g1/trades/EPOCH-000000000001-000000004000.parquet      rows that a gatherer had to let go
 *     manifest/unsynced/gatherer=g1/trades/EPOCH-000000000001-000000004000.json
 *
 * The last number is the part: 0 is what was there when the period was exported, later ones what came late. Manifests stand
 * in a tree of their own, so that who queries raw/ finds nothing but Parquet. Names of production's objects sort by time.
 *
 * The column is the exchange's time where records have one, because it is the same on all gatherers and never changes;
 * observations, which have none, go by the time of their arrival. It is where production keeps them, too.
 */
#ifndef TM_ARCHIVE_PERIOD_H
#define TM_ARCHIVE_PERIOD_H

#include "record/plan.h"

#define TM_PERIOD_HOUR_US (INT64_C(3600) * 1000000)
#define TM_PERIOD_DAY_US (INT64_C(86400) * 1000000)
#define TM_ARCHIVE_KEY 320    /* room for a name */
#define TM_ARCHIVE_PARTS 9999 /* the highest part */

struct tm_period {
    int64_t from_us, to_us; /* Unix; an hour or a day, to_us exclusive */
};

/* The column that decides; -1: the stream cannot be archived by periods (records that are replaced, no time). */
int tm_archive_column(const struct tm_stream *stream);

/* The period of `length_us` (an hour or a day) that holds the moment. */
struct tm_period tm_period_at(int64_t us, int64_t length_us);

enum tm_archive_kind { TM_ARCHIVE_OBJECT, TM_ARCHIVE_MANIFEST };

/* The folder of a period, with a slash at its end; of a whole stream; the name of a part. */
void tm_period_folder(enum tm_archive_kind kind, const char *stream, struct tm_period p, char out[TM_ARCHIVE_KEY]);
void tm_period_stream_folder(enum tm_archive_kind kind, const char *stream, char out[TM_ARCHIVE_KEY]);
void tm_period_key(enum tm_archive_kind kind, const char *stream, struct tm_period p, unsigned part,
                   char out[TM_ARCHIVE_KEY]);

/* What a name of that stream says; false: it is not one. */
bool tm_period_of_key(enum tm_archive_kind kind, const char *stream, const char *key, struct tm_period *p,
                      unsigned *part);

/* "2026-11-26T05:00:00Z"; whole seconds. */
#define TM_PERIOD_TEXT 32
const char *tm_period_text(int64_t us, char out[TM_PERIOD_TEXT]);

#endif
