/*
 * A link: a WebSocket connection that stays. It connects, sends the frames it was given for the opening, and
 * when it is lost comes back by itself with full-jitter exponential backoff (1 s to 30 s; the first try is at
 * once, at most one try a second), under a limiter shared by all links of the context (FAILURES T28). The
 * backoff starts anew once the link was up for 10 s, so a peer that accepts and hangs up is not hammered. No
 * Lua is needed for any of that.
 *
 *     DOWN --start/backoff--> CONNECTING --101--> UP --any close--> DOWN          tm_link_stop: --> STOPPED
 *
 * Opening frames are kept in numbered slots, so that one can be replaced, and are sent in the order of their
 * numbers each time the link comes up. One loop's thread. Callbacks may call any function here but
 * tm_link_destroy.
 */
#ifndef TM_NET_LINK_H
#define TM_NET_LINK_H

#include "base/backoff.h"
#include "net/ws.h"

enum tm_link_state { TM_LINK_DOWN, TM_LINK_CONNECTING, TM_LINK_UP, TM_LINK_STOPPED };
const char *tm_link_state_name(enum tm_link_state state);

struct tm_link;

/* Tries a second over all links that share it; a token bucket. */
struct tm_link_limiter;
struct tm_link_limiter *tm_link_limiter_create(double tries_per_second, double burst);
void tm_link_limiter_destroy(struct tm_link_limiter *limiter);
void tm_link_limiter_set_rate(struct tm_link_limiter *limiter, double tries_per_second); /* turns given stay given */

/* Take the next turn: how long to wait until it comes, 0 for now. Turns are given in the order of asking. */
int64_t tm_link_limiter_reserve(struct tm_link_limiter *limiter, int64_t now_us);

struct tm_link_events {
    void (*on_up)(void *arg); /* before the opening frames are sent */
    void (*on_message)(void *arg, const char *bytes, size_t len);
    void (*on_down)(void *arg, enum tm_ws_why why, int status, const char *text); /* also for a failed try */
};

struct tm_link_stats {
    enum tm_link_state state;
    uint64_t tries, ups, messages, bytes;
    int64_t up_since_us, last_message_us, last_byte_us; /* monotonic; 0: never */
    int64_t next_try_us;                                /* monotonic, while DOWN */
};

int tm_link_create(struct tm_ws_context *context, struct tm_link_limiter *limiter, const struct tm_ws_options *options,
                   const struct tm_link_events *events, void *arg, struct tm_link **out,
                   struct tm_error *err) TM_MUST_CHECK;
void tm_link_destroy(struct tm_link *link); /* STOPPED, or never started */

void tm_link_start(struct tm_link *link);
void tm_link_stop(struct tm_link *link);      /* for good; on_down(TM_WS_LOCAL) follows if it was up or connecting */
void tm_link_reconnect(struct tm_link *link); /* drop and come back at once, still under the limiter */

/* Other options. Deadlines of liveness count at once, all else with the next connection. True if the connection that is
 * there was made by what has changed now (URL, signature, trusted authorities): it should be made anew. */
bool tm_link_update(struct tm_link *link, const struct tm_ws_options *options);

/* Set opening frame `slot` (0..999999); len 0 removes it. The bytes are copied. Does not send. */
int tm_link_set_opening(struct tm_link *link, uint32_t slot, const char *bytes, size_t len) TM_MUST_CHECK;

/* Send the frame of `slot` now, unless this connection has had these very bytes. TM_ESTATE unless UP, TM_ENOENT when
 * the slot is empty. */
int tm_link_send_opening(struct tm_link *link, uint32_t slot) TM_MUST_CHECK;

/* Send now: TM_ESTATE unless UP. */
int tm_link_send(struct tm_link *link, const char *bytes, size_t len) TM_MUST_CHECK;

struct tm_link_stats tm_link_stats(const struct tm_link *link);

#endif
