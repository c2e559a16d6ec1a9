#include "net/link.h"

#include <stdlib.h>

struct tm_link_limiter {
    double per_us, burst, tokens; /* tokens below zero are turns already given away */
    int64_t at_us;
};

struct tm_link_limiter *tm_link_limiter_create(double tries_per_second, double burst)
{
    TM_FATAL_UNLESS(tries_per_second > 0 && burst >= 1);
    struct tm_link_limiter *l = calloc(1, sizeof *l);
    TM_FATAL_UNLESS(l);
    *l = (struct tm_link_limiter){.per_us = tries_per_second / 1e6, .burst = burst, .tokens = burst};
    return l;
}

void tm_link_limiter_destroy(struct tm_link_limiter *limiter)
{
    free(limiter);
}

void tm_link_limiter_set_rate(struct tm_link_limiter *l, double tries_per_second)
{
    TM_FATAL_UNLESS(tries_per_second > 0);
    l->per_us = tries_per_second / 1e6;
}

int64_t tm_link_limiter_reserve(struct tm_link_limiter *l, int64_t now_us)
{
    if (l->at_us && now_us > l->at_us)
        l->tokens += (double)(now_us - l->at_us) * l->per_us;
    if (l->tokens > l->burst)
        l->tokens = l->burst;
    l->at_us = now_us;
    l->tokens -= 1;
    return l->tokens >= 0 ? 0 : (int64_t)(-l->tokens / l->per_us);
}
