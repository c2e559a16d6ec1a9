/*
 * The state of the process as one document, the only place where it is put together: the console page, `tidemill status`,
 * `tidemill top` and GET /state all show this.
 *
 *     policy thread                        admin thread, each second
 *     tm_state_take_policy: what only      tm_state_sample: counters into rates, figures into the history
 *     it may read, as text, each second
 *               \                          any thread
 *                +-----------------------> tm_state_put: the engine as it is now, with rates and policy's part
 *
 * A policy thread that hangs leaves its part as it was; "policy_age_ms" says how old that is. No secret is in it: no
 * conninfo, no header, no value of a script.
 *
 * Lights: "green" fine; "amber" somebody should look, nothing is lost; "red" this part does not do its work; "grey" not known
 * from here, or not its turn. "why" goes with each but green. A deduplicator knows a gatherer by its store and by how old
 * the newest row is that came from it: gatherers write heartbeats, so silence is no quiet market.
 *
 * The document is JSON; its members are drawn in state_gatherer.c and state_deduplicator.c.
 */
#ifndef TM_CONTROL_STATE_H
#define TM_CONTROL_STATE_H

#include "base/buf.h"

#define TM_STATE_LINKS_MAX 200   /* told one by one, those that are not up first */
#define TM_STATE_EPISODES_MAX 60 /* of gaps, the newest */

struct tm_daemon;
struct tm_state;

/* Before the threads start; the engine is looked up in the daemon when it is needed. */
struct tm_state *tm_state_create(struct tm_daemon *d);
void tm_state_destroy(struct tm_state *s); /* NULL is fine */

void tm_state_take_policy(struct tm_state *s); /* policy thread */
void tm_state_sample(struct tm_state *s);      /* one thread, once a second */

/* Append the document, with the last ten minutes of its figures if that is wanted. Any thread. */
int tm_state_put(struct tm_state *s, bool with_history, struct tm_buf *out) TM_MUST_CHECK;

#endif
