/*
 * Changing a key while processes that share it learn of the change at different times (DESIGN 4, FAILURES T32).
 *
 * A key belongs to a span of exchange time (struct tm_key_def). Whether a record is of the old key or of the new is
 * decided by its time alone, so gatherers and deduplicator may be reloaded in any order and hours apart, provided that
 * each knows the new key before it takes the first record of it. That is the rule which is checked here: a key may be
 * added only later than everything that was taken, and what has begun stays as it is.
 *
 *     taken so far ------------------------|  margin  |
 *     ====== history: must stay as it is ==============[ from here on keys may be added and taken back
 *                                                     floor = max(newest exchange time taken, now) + margin
 *
 * A list of keys is what a plan declares or what a store remembers (tidemill.keys). Streams whose rows are not told
 * apart by a key of their own (observers, within) have none in it. Upsert streams are in it, as the key is their table's
 * primary key.
 */
#ifndef TM_RECORD_KEYS_H
#define TM_RECORD_KEYS_H

#include "base/arena.h"
#include "record/plan.h"

#define TM_KEY_MARGIN_US INT64_C(5000000)

struct tm_key_record {
    const char *stream;
    int64_t from_us;     /* Unix; INT64_MIN: from the beginning */
    const char *columns; /* "a,b,c": of the unique key, with the occurrence; the order means nothing */
    bool occurrence;
};

/* Grouped by stream, rising in from_us. The arena's. */
struct tm_key_list {
    struct tm_key_record *items;
    size_t count;
};

struct tm_key_list tm_plan_keys(const struct tm_plan *plan, struct tm_arena *arena);
struct tm_key_list tm_stream_keys(const struct tm_stream *stream, struct tm_arena *arena);

/* The keys of one stream in a list. */
struct tm_key_list tm_key_list_of(const struct tm_key_list *list, const char *stream);

bool tm_key_list_has(const struct tm_key_list *list, const struct tm_key_record *key);
bool tm_key_lists_equal(const struct tm_key_list *a, const struct tm_key_list *b);

/* What is known of a stream whose keys change. */
struct tm_key_moment {
    int64_t newest_us; /* the newest exchange time taken; 0: taken, but nobody knows of when; INT64_MIN: nothing yet */
    int64_t now_us;    /* wall clock; INT64_MIN: only `newest_us` counts, as for a store that is asked itself */
    int64_t margin_us;
    bool keep_all; /* a key that has not begun may not be taken back either: others may count on it */
};

/* May the keys of a stream become `next`, where records were taken under `known`? TM_ESTATE and what to declare. */
int tm_key_list_change(const struct tm_stream *stream, const struct tm_key_list *known, const struct tm_key_list *next,
                       const struct tm_key_moment *moment, struct tm_error *err) TM_MUST_CHECK;

/*
 * The same for all streams that two plans have in common: what a reload asks before it changes anything.
 * `newest_us` is by index in the old plan, each as in tm_key_moment.
 */
int tm_plan_key_change(const struct tm_plan *old_plan, const struct tm_plan *new_plan, const int64_t *newest_us,
                       int64_t now_us, int64_t margin_us, struct tm_error *err) TM_MUST_CHECK;

/* A Unix time as scripts write it: "2026-11-26T00:00:00Z". */
#define TM_MOMENT_TEXT 32
const char *tm_moment_text(int64_t unix_us, char out[TM_MOMENT_TEXT]);

#endif
