/*
 * The merger's side of the lease (store/lease.h, engine/keeper.h): taking it, noticing that it is gone, giving it back; and
 * what statistics, metrics and the log say of it. The merger's thread.
 *
 *     take -> 1: write, with the guard of `lease` at the beginning of each transaction
 *          -> 0: another one writes; look again
 *     check   between two transactions; `lost` after it, or after a refused guard: roll back, rest the keeper, take again
 */
#ifndef TM_ENGINE_TENURE_H
#define TM_ENGINE_TENURE_H

#include "engine/dedup_private.h"

struct tm_tenure {
    struct tm_deduplicator *d;
    struct tm_lease lease;
    bool lost;         /* it is another one's */
    bool told;         /* that we stand by */
    int64_t looked_us; /* monotonic: at production, while the shard is for another process */
};

/* 1: held, 0: another one has it, or the shard is for another process; negative: production. */
int tm_tenure_take(struct tm_tenure *t, struct tm_pg *pg, const struct tm_deduplicator_options *options,
                   struct tm_error *err) TM_MUST_CHECK;
/* TM_ESTATE unless production has as many shards as we say; a lease that is held is given back then, so that it is not kept
 * from those who say the same. While it is held the number cannot change. */
int tm_tenure_expect_shards(struct tm_tenure *t, struct tm_pg *pg, struct tm_error *err) TM_MUST_CHECK;
/* The settings have changed. */
int tm_tenure_keep(struct tm_tenure *t, const struct tm_deduplicator_options *options,
                   struct tm_error *err) TM_MUST_CHECK;
/* TM_ERETRY and `lost`: the keeper was told so. */
int tm_tenure_check(struct tm_tenure *t, struct tm_pg *pg, struct tm_error *err) TM_MUST_CHECK;
/* A clean end. `pg` may be NULL or lost: then it runs out. */
void tm_tenure_give_back(struct tm_tenure *t, struct tm_pg *pg);

void tm_tenure_note(struct tm_tenure *t, enum tm_lease_state state, const char *holder);

#endif
