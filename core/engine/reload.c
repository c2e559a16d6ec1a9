/*
 * What a running deduplicator can take over from a new configuration. For now: the same plan under the same settings; anything
 * else is refused with "not yet".
 */
#include "engine/dedup_private.h"

#include <string.h>

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static int check_plan(const struct tm_plan *a, const struct tm_plan *b, struct tm_error *err)
{
    return tm_plan_equal(a, b)
               ? TM_OK
               : tm_error_set(err, TM_EINVAL, "streams and kinds cannot change while it runs, not yet: restart it");
}

int tm_deduplicator_check_reload(struct tm_deduplicator *d, const struct tm_deduplicator_options *options,
                                 struct tm_error *err)
{
    if (!same_text(d->options.production, options->production) || d->options.gatherer_count != options->gatherer_count)
        return tm_error_set(err, TM_EINVAL, "stores cannot change while it runs, not yet: restart it");
    return check_plan(d->options.plan, options->plan, err);
}

int tm_deduplicator_reload(struct tm_deduplicator *d, const struct tm_deduplicator_options *options,
                           struct tm_error *err)
{
    return tm_deduplicator_check_reload(d, options, err);
}
