/* What state.c shares with the two roles' halves. All of it under the state's lock. */
#ifndef TM_CONTROL_STATE_PRIVATE_H
#define TM_CONTROL_STATE_PRIVATE_H

#include "base/json.h"
#include "control/daemon_private.h"
#include "control/history.h"
#include "engine/gap_log.h"

#include <pthread.h>

#define TM_STATE_RATE_S 3    /* a rate's window: transactions and published statistics come in lumps */
#define TM_STATE_COPIES_S 10 /* copies of a record come at different times */

enum tm_state_light { TM_LIGHT_GREEN, TM_LIGHT_AMBER, TM_LIGHT_RED, TM_LIGHT_GREY };

struct tm_state {
    struct tm_daemon *d;
    char *id, *path;
    pthread_mutex_t lock;
    struct tm_history *history;
    struct tm_buf policy, policy_next; /* members, each with its comma */
    int64_t policy_us;                 /* monotonic */
    struct tm_gap_note gaps[TM_GAP_LOG_MAX];
    struct tm_gap_episode episodes[TM_STATE_EPISODES_MAX]; /* of them */
    size_t episode_count;
    struct tm_gatherer_link_view links[1000];
};

/* ,"light":"amber","why":"..." */
void tm_state_add_light(struct tm_json *j, enum tm_state_light light, const char *why);
/* ,"NAME":12.3 from the counter of that name */
void tm_state_add_rate(struct tm_json *j, const struct tm_state *s, const char *name, const char *counter);
/* The first `count` of s->gaps as s->episodes. */
void tm_state_take_episodes(struct tm_state *s, size_t count);
/* ,"gaps":[...] from these */
void tm_state_add_gaps(struct tm_json *j, const struct tm_state *s);
/* The sum of a metric's series. */
double tm_state_metric(const struct tm_state *s, const char *name);

void tm_state_sample_gatherer(struct tm_state *s, int64_t now_us);
void tm_state_put_gatherer(struct tm_state *s, struct tm_json *j);
void tm_state_sample_deduplicator(struct tm_state *s, int64_t now_us);
void tm_state_put_deduplicator(struct tm_state *s, struct tm_json *j);

#endif
