/*
 * /health as the world sees it (DESIGN 8): the JSON and the status code, from the engine's own counters.
 *
 * gatherer      {"status":"healthy|degraded|unhealthy","ws_connections":N,"db":"connected|disconnected", ...}
 * deduplicator  {"status":..., "gatherers":{"g1":"connected",...},"rds":"connected|disconnected", ...}
 * A deduplicator says "lease":"held", "standby" (healthy: another one writes) or "none" (production is away).
 * 200 for healthy and degraded, 503 for unhealthy. "Connected" is not "writing": health is the age of the
 * last durable record (FAILURES T30), and of a deduplicator the age of its last transaction while rows wait. The rules
 * stand beside the code.
 */
#ifndef TM_ENGINE_HEALTH_H
#define TM_ENGINE_HEALTH_H

#include "base/buf.h"
#include "engine/deduplicator.h"
#include "engine/gatherer.h"

/* Of the thread that runs the scripts. Stuck: degraded, because the feed goes on without it. */
enum tm_policy_state { TM_POLICY_STARTING, TM_POLICY_RUNNING, TM_POLICY_STUCK };
const char *tm_policy_state_name(enum tm_policy_state state);

/* Appends the JSON to `out` and returns the HTTP status. Any thread. */
int tm_health_gatherer(struct tm_gatherer *g, enum tm_policy_state policy, struct tm_buf *out);
int tm_health_deduplicator(struct tm_deduplicator *d, enum tm_policy_state policy, struct tm_buf *out);

/* The same of statistics at hand; `now_us` is monotonic. Peers: stats->gatherer_count of them. */
int tm_health_of_gatherer(const struct tm_gatherer_stats *stats, int64_t now_us, enum tm_policy_state policy,
                          struct tm_buf *out);
int tm_health_of_deduplicator(const struct tm_deduplicator_stats *stats,
                              const struct tm_deduplicator_gatherer_stats *peers, int64_t now_us,
                              enum tm_policy_state policy, struct tm_buf *out);

#endif
