#include "base/backoff.h"

int64_t tm_backoff_us(uint32_t tries, int64_t base_us, int64_t max_us, double random)
{
    int64_t cap = base_us;
    while (tries-- > 0 && cap < max_us)
        cap = cap > max_us / 2 ? max_us : cap * 2;
    if (cap > max_us)
        cap = max_us;
    return (int64_t)((double)cap * random);
}
