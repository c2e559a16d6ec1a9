#include "engine/tenure.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/shards.h"

#include <stdio.h>

#define LOOK_ON_US (1 * TM_US_PER_S)

void tm_tenure_note(struct tm_tenure *t, enum tm_lease_state state, const char *holder)
{
    struct tm_deduplicator *d = t->d;
    pthread_mutex_lock(&d->lock);
    bool changed = d->stats.lease != state;
    d->stats.lease = state;
    (void)snprintf(d->stats.lease_holder, sizeof d->stats.lease_holder, "%s", holder);
    pthread_mutex_unlock(&d->lock);
    tm_metric_set(d->lease_held, state == TM_LEASE_HELD);
    tm_metric_set(d->standby, state == TM_LEASE_STANDBY);
    if (changed)
        tm_metric_set(d->lease_since, (double)tm_clock_wall_us() / 1e6);
}

static void note_taken(struct tm_tenure *t, const struct tm_lease_found *found)
{
    struct tm_deduplicator *d = t->d;
    t->told = false;
    if (!found->took_over) {
        if (!found->resumed)
            tm_log(TM_LOG_INFO, "merger", "took the lease", TM_F_I64("generation", found->generation));
        return;
    }
    pthread_mutex_lock(&d->lock);
    d->stats.takeovers++;
    pthread_mutex_unlock(&d->lock);
    tm_metric_add(d->takeovers, 1);
    tm_metric_observe_us(d->takeover_seconds, found->overdue_us);
    tm_log(TM_LOG_WARN, "merger", "its holder is gone or silent; this process takes the lease",
           TM_F_STR("from", found->other), TM_F_I64("generation", found->generation),
           TM_F_I64("overdue_ms", found->overdue_us / TM_US_PER_MS));
}

static void note_waiting(struct tm_tenure *t, const struct tm_lease_found *found)
{
    bool had = *t->lease.token;
    *t->lease.token = '\0';
    tm_tenure_note(t, TM_LEASE_STANDBY, found->other);
    if (had) {
        tm_metric_add(t->d->leases_lost, 1);
        tm_log(TM_LOG_WARN, "merger", "another deduplicator has taken over; standing by",
               TM_F_STR("holder", found->other));
    } else if (!t->told) {
        tm_log(TM_LOG_INFO, "merger", "another deduplicator is at work; standing by", TM_F_STR("holder", found->other));
    }
    t->told = true;
}

int tm_tenure_keep(struct tm_tenure *t, const struct tm_deduplicator_options *options, struct tm_error *err)
{
    t->lease.length_us = options->lease_us;
    int rc = tm_keeper_hold(t->d->keeper, &t->lease, options->production);
    return rc ? tm_error_set(err, rc, "out of memory for the lease") : TM_OK;
}

/* Production is still asked now and then whether it is there. */
static int look_on(struct tm_tenure *t, struct tm_pg *pg, struct tm_error *err)
{
    int64_t now_us = tm_clock_mono_us();
    tm_tenure_note(t, TM_LEASE_STANDBY, "");
    if (now_us - t->looked_us < LOOK_ON_US)
        return 0;
    t->looked_us = now_us;
    return tm_pg_exec(pg, "SELECT 1", err);
}

int tm_tenure_expect_shards(struct tm_tenure *t, struct tm_pg *pg, struct tm_error *err)
{
    int rc = tm_shards_expect(pg, t->d->shard_count, err);
    if (rc == TM_ESTATE)
        tm_tenure_give_back(t, pg);
    return rc;
}

int tm_tenure_take(struct tm_tenure *t, struct tm_pg *pg, const struct tm_deduplicator_options *options,
                   struct tm_error *err)
{
    struct tm_lease_found found;
    t->lost = false;
    if (!atomic_load(&t->d->wanted))
        return look_on(t, pg, err);
    t->lease.shard = (int)t->d->shard;
    (void)snprintf(t->lease.member, sizeof t->lease.member, "%s", t->d->member);
    t->lease.length_us = options->lease_us;
    (void)snprintf(t->lease.holder, sizeof t->lease.holder, "%.63s", t->d->id);
    int rc = tm_lease_take(&t->lease, pg, &found, err);
    if (rc)
        return rc;
    if (!found.taken) {
        note_waiting(t, &found);
        return 0;
    }
    note_taken(t, &found);
    rc = tm_tenure_keep(t, options, err);
    return rc ? rc : 1;
}

/* The keeper may be late, or have been told that the lease is gone. */
int tm_tenure_check(struct tm_tenure *t, struct tm_pg *pg, struct tm_error *err)
{
    bool held = !tm_keeper_has_lost(t->d->keeper);
    if (held && tm_keeper_is_late(t->d->keeper)) {
        int rc = tm_lease_renew(&t->lease, pg, &held, err);
        if (rc)
            return rc;
        tm_keeper_renewed(t->d->keeper);
    }
    t->lost = !held;
    return held ? TM_OK : tm_error_set(err, TM_ERETRY, "the lease is another deduplicator's");
}

void tm_tenure_give_back(struct tm_tenure *t, struct tm_pg *pg)
{
    struct tm_error err;
    tm_keeper_rest(t->d->keeper);
    if (!*t->lease.token || !pg || !tm_pg_is_open(pg))
        return;
    if (tm_pg_exec(pg, "ROLLBACK", &err) || tm_lease_release(&t->lease, pg, &err))
        tm_log(TM_LOG_WARN, "merger", "the lease could not be given back; it runs out", TM_F_ERR(&err));
    *t->lease.token = '\0';
}
