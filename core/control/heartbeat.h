/*
 * Whether the policy thread turns: a counter that it writes and another thread reads (admin.h).
 *
 * Lua may hang in a C function where no hook stops it, or a granted library may block. The policy loop beats at the end of
 * each turn, and turns at least every TM_HEARTBEAT_US. The watching side counts only time in which it looked itself: a
 * machine or process that was suspended is not a policy thread that hangs.
 */
#ifndef TM_CONTROL_HEARTBEAT_H
#define TM_CONTROL_HEARTBEAT_H

#include "engine/health.h"
#include "loop/loop.h"

#include <stdatomic.h>

#define TM_HEARTBEAT_US INT64_C(500000)

struct tm_heartbeat {
    _Atomic uint64_t beats; /* 0: not begun, or over */
    struct tm_prepare turn;
    struct tm_timer timer;
};

/* On the policy thread. Stop before the loop ends; a heartbeat that is over is not missed. */
void tm_heartbeat_start(struct tm_heartbeat *h, struct tm_loop *loop);
void tm_heartbeat_stop(struct tm_heartbeat *h);

/* The other side, one thread's. */
struct tm_heartbeat_watch {
    uint64_t beats;
    int64_t looked_us; /* 0: never */
    int64_t missing_us;
};

/* Looks at the count, at least once a second. Returns TM_POLICY_STUCK once it has not moved for `stuck_us`. */
enum tm_policy_state tm_heartbeat_look(struct tm_heartbeat_watch *w, uint64_t beats, int64_t now_us, int64_t stuck_us);

#endif
