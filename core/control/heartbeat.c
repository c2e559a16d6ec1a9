#include "control/heartbeat.h"

#include "base/clock.h"

static void beat(void *arg)
{
    struct tm_heartbeat *h = arg;
    atomic_fetch_add_explicit(&h->beats, 1, memory_order_relaxed);
}

void tm_heartbeat_start(struct tm_heartbeat *h, struct tm_loop *loop)
{
    beat(h);
    tm_prepare_init(&h->turn, loop, beat, h);
    tm_timer_init(&h->timer, loop, beat, h); /* it is enough that the loop turns */
    tm_timer_start(&h->timer, TM_HEARTBEAT_US, TM_HEARTBEAT_US);
}

void tm_heartbeat_stop(struct tm_heartbeat *h)
{
    tm_prepare_fini(&h->turn);
    tm_timer_stop(&h->timer);
    atomic_store_explicit(&h->beats, 0, memory_order_relaxed);
}

enum tm_policy_state tm_heartbeat_look(struct tm_heartbeat_watch *w, uint64_t beats, int64_t now_us, int64_t stuck_us)
{
    int64_t passed_us = w->looked_us ? now_us - w->looked_us : 0;
    if (passed_us > TM_US_PER_S)
        passed_us = TM_US_PER_S; /* nobody looked, so nobody knows */
    w->looked_us = now_us;
    w->missing_us = beats == w->beats && beats ? w->missing_us + passed_us : 0;
    w->beats = beats;
    if (!beats)
        return TM_POLICY_STARTING;
    return w->missing_us >= stuck_us ? TM_POLICY_STUCK : TM_POLICY_RUNNING;
}
