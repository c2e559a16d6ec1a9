/*
 * The pacer: when events happen. It asks the generator (or the replay) for as many steps as are due, a batch each tick,
 * and hands every batch to the sockets at once.
 *
 * At a rate, what is due follows the monotonic clock; a pacer that fell behind catches up, but never more than a
 * second's worth. Flat out, it makes events while every client keeps its backlog small; a client that has not read for
 * a second is not waited for any longer (and meets error 25 in the end). Nothing happens before enough clients have
 * subscribed, while it is held, or during maintenance; after --events or --seconds it ends. Loop's thread.
 */
#ifndef TM_EXCHANGE_PACER_H
#define TM_EXCHANGE_PACER_H

#include "exchange/faults.h"
#include "exchange/replay.h"

struct tm_pacer {
    const struct tm_options *opt;
    struct tm_feed *feed;
    struct tm_faults *faults;
    struct tm_generator *generator; /* one of these two */
    struct tm_replay *replay;
    struct tm_timer timer;
    enum { TM_PACE_RATE, TM_PACE_FLAT, TM_PACE_RECORDED } pace;
    double rate;
    uint64_t events_max; /* 0: no limit */
    bool held, begun, ended;
    int64_t begun_mono_us;  /* of generation, for --seconds */
    int64_t anchor_mono_us; /* since when the rate is reckoned; 0: not running */
    uint64_t anchor_count;
    int64_t anchor_recorded_us; /* of the replay */
    int64_t blocked_mono_us;    /* flat out: since when clients are behind; 0: they are not */
};

/* Exactly one of generator and replay is given. TM_EINVAL if --replay-pace is not understood. */
int tm_pacer_init(struct tm_pacer *p, struct tm_feed *feed, struct tm_faults *faults, struct tm_generator *generator,
                  struct tm_replay *replay, struct tm_error *err) TM_MUST_CHECK;
void tm_pacer_run(struct tm_pacer *p, struct tm_loop *loop); /* start ticking */
void tm_pacer_fini(struct tm_pacer *p);

void tm_pacer_start(struct tm_pacer *p); /* by control: clients or not */
void tm_pacer_stop(struct tm_pacer *p);  /* may be started again */

/* waiting, running, held, maintenance or ended. */
const char *tm_pacer_state(const struct tm_pacer *p);
uint64_t tm_pacer_count(const struct tm_pacer *p);

#endif
