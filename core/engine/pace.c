#include "engine/pace.h"
#include "base/clock.h"

#define SLOW_US (5 * TM_US_PER_S)
#define FAST_US (1 * TM_US_PER_S)
#define COMMITS_MIN_US (25 * TM_US_PER_MS)
#define COMMITS_MAX_US (150 * TM_US_PER_MS)
#define ROWS_FREE ((size_t)1 << 20) /* a bound above this is none */

size_t tm_pace_rows(const struct tm_pace *p, size_t wanted)
{
    size_t max = atomic_load_explicit(&p->rows_max, memory_order_relaxed);
    return max && max < wanted ? max : wanted;
}

static void set(struct tm_pace *p, size_t rows)
{
    rows = rows < TM_PACE_ROWS_MIN ? TM_PACE_ROWS_MIN : rows;
    atomic_store_explicit(&p->rows_max, rows > ROWS_FREE ? 0 : rows, memory_order_relaxed);
}

void tm_pace_took(struct tm_pace *p, size_t rows, int64_t us)
{
    size_t max = atomic_load_explicit(&p->rows_max, memory_order_relaxed);
    if (us > SLOW_US)
        set(p, (size_t)((double)rows * ((double)SLOW_US / (double)us)));
    else if (us < FAST_US && max)
        set(p, max * 2);
}

void tm_pace_failed(struct tm_pace *p, size_t rows)
{
    set(p, rows / 10);
}

int64_t tm_pace_commits_us(int64_t took_us)
{
    int64_t us = took_us < COMMITS_MAX_US / 3 ? took_us * 3 : COMMITS_MAX_US;
    return us > COMMITS_MIN_US ? us : COMMITS_MIN_US;
}
