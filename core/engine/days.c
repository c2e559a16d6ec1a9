#include "engine/days.h"
#include "base/clock.h"
#include "store/migrate.h"

#include <string.h>

#define DAY_US (INT64_C(86400) * TM_US_PER_S)
#define DAYS_BEHIND 2
#define DAYS_AHEAD 7

void tm_days_forget(struct tm_days *days)
{
    memset(days, 0, sizeof *days);
}

int tm_days_make(struct tm_days *days, struct tm_pg *pg, const struct tm_plan *plan, int64_t unix_us,
                 struct tm_error *err)
{
    int64_t day = unix_us / DAY_US;
    if (unix_us < 0 || day >= TM_DAYS_MAX || (days->known[day / 8] >> (day % 8) & 1))
        return TM_OK;
    int rc = tm_migrate_production_days(pg, plan, day * DAY_US, day * DAY_US, err);
    if (!rc)
        days->known[day / 8] |= (uint8_t)(1u << (day % 8));
    return rc;
}

int tm_days_ahead(struct tm_days *days, struct tm_pg *pg, const struct tm_plan *plan, int64_t now_us,
                  struct tm_error *err)
{
    int64_t today = now_us / DAY_US;
    if (today == days->ahead_of)
        return TM_OK;
    int64_t first = today - DAYS_BEHIND, last = today + DAYS_AHEAD;
    int rc = tm_migrate_production_days(pg, plan, first * DAY_US, last * DAY_US, err);
    for (int64_t day = first; !rc && day <= last; day++)
        days->known[day / 8] |= (uint8_t)(1u << (day % 8));
    if (!rc)
        days->ahead_of = today;
    return rc;
}
