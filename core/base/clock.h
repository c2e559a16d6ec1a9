/*
 * Clocks. Wall time is for people and for stored timestamps; monotonic time is for every interval, deadline and
 * backoff. Code that can be tested takes the time as a parameter and does not call these. Any thread.
 */
#ifndef TM_BASE_CLOCK_H
#define TM_BASE_CLOCK_H

#include <stdint.h>

#define TM_US_PER_MS INT64_C(1000)
#define TM_US_PER_S INT64_C(1000000)

/* Seconds from the Unix epoch to the PostgreSQL epoch, 2000-01-01 00:00:00 UTC. */
#define TM_PG_EPOCH_S INT64_C(946684800)

/* Microseconds since 1970-01-01 UTC. */
int64_t tm_clock_wall_us(void);

/* Microseconds of CLOCK_MONOTONIC. */
int64_t tm_clock_mono_us(void);

/* Microseconds of CPU time that the calling thread has used. */
int64_t tm_clock_thread_us(void);

/* Unix microseconds to the microseconds of a PostgreSQL timestamptz, and back. */
static inline int64_t tm_pg_time_us(int64_t unix_us)
{
    return unix_us - TM_PG_EPOCH_S * TM_US_PER_S;
}

static inline int64_t tm_unix_time_us(int64_t pg_us)
{
    return pg_us + TM_PG_EPOCH_S * TM_US_PER_S;
}

#endif
