/*
 * What a running engine can take over from a new configuration. For now: the same plan under the same settings; anything
 * else is refused with "not yet".
 */
#include "engine/dedup_private.h"
#include "engine/gatherer_private.h"

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

int tm_gatherer_check_reload(struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_error *err)
{
    struct tm_plan_def def = options->plan;
    struct tm_plan *plan;
    def.gatherer = options->id;
    memcpy(def.epoch, tm_journal_epoch(g->journal), sizeof def.epoch);
    int rc = tm_plan_compile(&def, &plan, err);
    if (rc)
        return rc;
    rc = check_plan(g->plan, plan, err);
    tm_plan_put(plan);
    return rc;
}

int tm_gatherer_reload(struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_error *err)
{
    return tm_gatherer_check_reload(g, options, err);
}

int tm_gatherer_link_update(struct tm_gatherer *g, int link, const struct tm_gatherer_link *wanted,
                            struct tm_error *err)
{
    (void)g;
    (void)link;
    return tm_ws_check_url(wanted->ws.url, err);
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
