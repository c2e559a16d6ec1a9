/* What a script says about its archive, and what follows from it. */
#ifndef TM_ARCHIVE_SETTINGS_H
#define TM_ARCHIVE_SETTINGS_H

#include "archive/period.h"
#include "base/arena.h"

#define TM_ARCHIVE_LAG_US TM_PERIOD_HOUR_US        /* default of lag_us */
#define TM_ARCHIVE_WAIT_US (6 * TM_PERIOD_HOUR_US) /* default of wait_us */

struct tm_archive_schedule {
    const char *stream;
    int64_t length_us; /* an hour, a day; 0: this stream is not archived */
};

struct tm_archive_settings {
    const char *to;          /* the target's URL (archive/target.h); NULL: there is no archive */
    const char *credentials; /* of S3; NULL: see there */
    int64_t lag_us;          /* a period is exported so long after its end; negative: TM_ARCHIVE_LAG_US */
    int64_t wait_us; /* and at most so much later, while a gatherer still has something of it; negative: the default */
    const struct tm_archive_schedule *schedule; /* what is not named goes by what it is */
    size_t schedule_count;
};

/* The length of the stream's periods; 0: it is not archived. Without a word in the schedule: hours; days for observations;
 * nothing for records that are replaced, have no time, or are heartbeats. */
int64_t tm_archive_length_us(const struct tm_archive_settings *s, const struct tm_stream *stream);

/* With the defaults, in the arena. */
struct tm_archive_settings tm_archive_settings_copy(const struct tm_archive_settings *from, struct tm_arena *arena);

/* Is it what can be archived? TM_EINVAL names what is not. Opens nothing. */
int tm_archive_settings_check(const struct tm_archive_settings *s, const struct tm_plan *plan,
                              struct tm_error *err) TM_MUST_CHECK;

#endif
