#include "engine/health.h"
#include "base/clock.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Heartbeats are records too, five a second: when none has become durable for so long, the disk is sick or the threads
 * that hear and write hang. */
#define DURABLE_LATE_US (3 * TM_US_PER_S)
/* Nothing could be written for so long: more than a deadlock. */
#define STALLED_US (2 * TM_US_PER_S)
/* A store or production that lags more than this is worth a look; collection goes on. */
#define LAG_LATE_US (60 * TM_US_PER_S)
/* With rows that wait, a production that has taken nothing for so long is connected only by name. */
#define COMMIT_LATE_US (60 * TM_US_PER_S)

enum status { HEALTHY, DEGRADED, UNHEALTHY };

static const char *status_name(enum status s)
{
    static const char *const names[] = {"healthy", "degraded", "unhealthy"};
    return names[s];
}

const char *tm_policy_state_name(enum tm_policy_state state)
{
    static const char *const names[] = {"starting", "running", "stuck"};
    return names[state];
}

static enum status judge_policy(enum tm_policy_state policy, enum status status, const char **reason)
{
    if (status != HEALTHY || policy != TM_POLICY_STUCK)
        return status;
    *reason = "the policy thread hangs: handlers and timers do not run; the feed goes on";
    return DEGRADED;
}

static int http_status(enum status s)
{
    return s == UNHEALTHY ? 503 : 200;
}

/*
 * unhealthy  it hears nothing (no connection), or what it hears does not become durable
 * degraded   some connections or the store are away, or the store lags: nothing is lost, but somebody should
 * look
 */
static enum status judge_gatherer(const struct tm_gatherer_stats *s, int64_t now_us, const char **reason)
{
    *reason = "";
    if (s->discarding || s->journal.stalled || s->last_durable_age_us > DURABLE_LATE_US) {
        *reason = "records do not become durable: look at the journal's disk";
        return UNHEALTHY;
    }
    if (!s->links_up) {
        *reason = "no connection to the exchange";
        return UNHEALTHY;
    }
    if (!s->store.connected)
        *reason = "the local store is away; the journal keeps the records";
    else if (s->store.journal_lag_bytes && s->store.last_commit_us && now_us - s->store.last_commit_us > LAG_LATE_US)
        *reason = "the local store takes no rows; the journal keeps them";
    else if (s->links_up < s->links)
        *reason = "some connections to the exchange are down";
    return **reason ? DEGRADED : HEALTHY;
}

int tm_health_of_gatherer(const struct tm_gatherer_stats *s, int64_t now_us, enum tm_policy_state policy,
                          struct tm_buf *out)
{
    const char *reason;
    enum status status = judge_policy(policy, judge_gatherer(s, now_us, &reason), &reason);
    int rc =
        tm_buf_printf(out,
                      "{\"status\":\"%s\",\"ws_connections\":%zu,\"db\":\"%s\",\"ws_connections_wanted\":%zu,"
                      "\"last_durable_age_ms\":%" PRId64 ",\"last_message_age_ms\":%" PRId64 ",\"rows\":%" PRIu64
                      ",\"durable\":%" PRIu64 ",\"stored\":%" PRIu64 ",\"journal_lag_bytes\":%" PRIu64
                      ",\"policy\":\"%s\",\"reason\":",
                      status_name(status), s->links_up, s->store.connected ? "connected" : "disconnected", s->links,
                      s->last_durable_age_us / TM_US_PER_MS, s->last_message_age_us / TM_US_PER_MS, s->rows,
                      s->journal.durable, s->store.rows, s->store.journal_lag_bytes, tm_policy_state_name(policy));
    rc = rc ? rc : tm_json_put_string(out, reason);
    rc = rc ? rc : tm_buf_append(out, "}\n", 2);
    return rc ? 503 : http_status(status);
}

int tm_health_gatherer(struct tm_gatherer *g, enum tm_policy_state policy, struct tm_buf *out)
{
    struct tm_gatherer_stats s = tm_gatherer_stats(g);
    return tm_health_of_gatherer(&s, tm_clock_mono_us(), policy, out);
}

struct fleet {
    size_t connected, stopped;
};

static int put_gatherers(const struct tm_deduplicator_gatherer_stats *peers, size_t count, struct fleet *fleet,
                         struct tm_buf *out)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < count; i++) {
        fleet->connected += peers[i].state == TM_PEER_CONNECTED;
        fleet->stopped += peers[i].state == TM_PEER_STOPPED;
        rc = tm_buf_append(out, ",", i ? 1 : 0);
        rc = rc ? rc : tm_json_put_string(out, peers[i].id);
        rc = rc ? rc : tm_buf_printf(out, ":\"%s\"", tm_peer_state_name(peers[i].state));
    }
    return rc;
}

/*
 * unhealthy  production is away or takes no rows, or no gatherer can be read: nothing is being written
 * degraded   fewer gatherers than configured (less redundancy), one of them refused, or a lag worth a look
 */
static enum status judge_deduplicator(const struct tm_deduplicator_stats *s, const struct fleet *fleet, int64_t now_us,
                                      const char **reason)
{
    *reason = "";
    if (s->trouble == TM_PG_STOP) {
        *reason = "production refuses what this process does, until a person mends it; see the log";
        return UNHEALTHY;
    }
    if (!s->production_connected) {
        *reason = "production is away; the gatherers keep the records";
        return UNHEALTHY;
    }
    if (s->stalled_us > STALLED_US) {
        *reason = "production takes no rows; the gatherers keep them";
        return UNHEALTHY;
    }
    if (!fleet->connected) {
        *reason = "no gatherer can be read";
        return UNHEALTHY;
    }
    if (s->lease == TM_LEASE_STANDBY)
        return HEALTHY;
    int64_t since_us = s->last_commit_us ? s->last_commit_us : s->started_us;
    if (s->lag_us > LAG_LATE_US && now_us - since_us > COMMIT_LATE_US) {
        *reason = "rows wait and production takes none";
        return UNHEALTHY;
    }
    if (fleet->stopped)
        *reason = "a gatherer's history has a hole or a fork; see the log";
    else if (fleet->connected < s->gatherer_count)
        *reason = "fewer gatherers than configured";
    else if (s->lag_us > LAG_LATE_US)
        *reason = "production lags behind the gatherers";
    else if (s->unreplicated)
        *reason = "production's synchronous standby does not answer: commits are on the primary alone";
    return **reason ? DEGRADED : HEALTHY;
}

int tm_health_of_deduplicator(const struct tm_deduplicator_stats *s, const struct tm_deduplicator_gatherer_stats *peers,
                              int64_t now_us, enum tm_policy_state policy, struct tm_buf *out)
{
    struct fleet fleet = {0};
    struct tm_buf gatherers = {0};
    const char *reason;
    int rc = put_gatherers(peers, s->gatherer_count, &fleet, &gatherers);
    enum status status = judge_policy(policy, judge_deduplicator(s, &fleet, now_us, &reason), &reason);
    rc = rc ? rc
            : tm_buf_printf(out,
                            "{\"status\":\"%s\",\"gatherers\":{%.*s},\"rds\":\"%s\",\"lag_ms\":%" PRId64
                            ",\"transactions\":%" PRIu64 ",\"lease\":\"%s\",\"policy\":\"%s\",\"reason\":",
                            status_name(status), (int)gatherers.len, gatherers.len ? (char *)gatherers.data : "",
                            s->production_connected ? "connected" : "disconnected", s->lag_us / TM_US_PER_MS,
                            s->transactions, tm_lease_state_name(s->lease), tm_policy_state_name(policy));
    rc = rc ? rc : tm_json_put_string(out, reason);
    if (!rc && s->lease == TM_LEASE_STANDBY) {
        rc = tm_buf_printf(out, ",\"holder\":");
        rc = rc ? rc : tm_json_put_string(out, s->lease_holder);
    }
    if (!rc && s->shards > 1)
        rc = tm_buf_printf(out, ",\"shards\":%u,\"shards_held\":%u", s->shards, s->shards_held);
    rc = rc ? rc : tm_buf_append(out, "}\n", 2);
    tm_buf_fini(&gatherers);
    return rc ? 503 : http_status(status);
}

int tm_health_deduplicator(struct tm_deduplicator *d, enum tm_policy_state policy, struct tm_buf *out)
{
    struct tm_deduplicator_stats s = tm_deduplicator_stats(d);
    struct tm_deduplicator_gatherer_stats *peers = calloc(s.gatherer_count + 1, sizeof *peers);
    TM_FATAL_UNLESS(peers);
    for (size_t i = 0; i < s.gatherer_count; i++)
        if (tm_deduplicator_gatherer_stats(d, i, &peers[i]) < 0)
            s.gatherer_count = i; /* a reload came between */
    int status = tm_health_of_deduplicator(&s, peers, tm_clock_mono_us(), policy, out);
    free(peers);
    return status;
}
