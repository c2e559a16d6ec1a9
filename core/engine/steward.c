#include "engine/steward.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/together.h"
#include "store/shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define LOOKS 6 /* within a lease */
#define DEADLINE_US (2 * TM_US_PER_S)

struct tm_steward {
    struct tm_deduplicator *head;
    struct tm_stop stop, never; /* `never` is asked for: a look takes at most as long as its deadlines */
    pthread_t thread;
    bool ready;
    struct tm_pg *pg;
    struct tm_member members[TM_SHARE_MEMBERS_MAX];
    struct tm_shard_standing shards[TM_SHARDS_MAX]; /* written by the thread, under the lock */
    struct tm_metric *processes, *free;
    pthread_mutex_t lock;
};

static void disconnect(struct tm_steward *s)
{
    tm_pg_close(s->pg);
    s->pg = NULL;
}

static int connect_to(struct tm_steward *s, const char *conninfo, struct tm_error *err)
{
    struct tm_pg_options options = {.conninfo = conninfo,
                                    .application_name = "tidemill shards",
                                    .stop = &s->never,
                                    .connect_us = DEADLINE_US,
                                    .statement_us = DEADLINE_US,
                                    .writes = true};
    if (tm_pg_is_open_by(s->pg, conninfo))
        return TM_OK;
    disconnect(s);
    int rc = tm_pg_connect(&options, &s->pg, err);
    /* what a crash of production loses of it is said again at once */
    return rc ? rc : tm_pg_exec(s->pg, "SET synchronous_commit = off; SET lock_timeout = 1000", err);
}

static void want(struct tm_deduplicator *d, bool wanted)
{
    if (atomic_exchange(&d->wanted, wanted) == wanted)
        return;
    tm_log(TM_LOG_INFO, "steward", wanted ? "a shard is for this process" : "a shard is for another process",
           TM_F_U64("shard", d->shard));
    (void)eventfd_write(d->ready_fd, 1);
}

static void follow(struct tm_steward *s, const struct tm_shards_view *v)
{
    struct tm_share_view share = {.shards = v->shard_count, .members = v->member_count};
    int owner[TM_SHARDS_MAX], self = -1;
    for (size_t i = 0; i < v->member_count; i++) {
        share.ripe[i] = v->members[i].ripe;
        if (strcmp(v->members[i].id, s->head->member) == 0)
            self = (int)i;
    }
    if (self < 0)
        return; /* one that slept while it looked; the next beat says that it is alive */
    for (unsigned i = 0; i < v->shard_count; i++)
        share.holder[i] = v->shards[i].member;
    tm_share(&share, owner);
    for (unsigned i = 0; i < v->shard_count; i++)
        want(s->head->shards[i], owner[i] == self);
}

/* Until the tables are there and are what the script says, which the mergers see to, there is nothing to look at. */
static bool is_ready(struct tm_steward *s)
{
    for (unsigned k = 0; !s->ready && k < s->head->shard_count; k++)
        s->ready = tm_dedup_own_stats(s->head->shards[k]).production_connected;
    return s->ready;
}

static double count_free(const struct tm_shards_view *v)
{
    unsigned count = 0;
    for (unsigned i = 0; i < v->shard_count; i++)
        count += !*v->shards[i].holder;
    return count;
}

static int look(struct tm_steward *s, const struct tm_dedup_settings *settings, struct tm_error *err)
{
    const struct tm_deduplicator_options *o = &settings->options;
    struct tm_shard_standing shards[TM_SHARDS_MAX] = {0};
    struct tm_shards_view v = {.members = s->members,
                               .members_max = TM_SHARE_MEMBERS_MAX,
                               .shards = shards,
                               .shard_count = s->head->shard_count};
    int rc = connect_to(s, o->production, err);
    rc = rc ? rc : tm_shards_expect(s->pg, s->head->shard_count, err); /* one with another number has no share */
    rc = rc ? rc : tm_members_beat(s->pg, s->head->member, s->head->id, o->lease_us, err);
    rc = rc ? rc : tm_members_look(s->pg, o->lease_us, &v, err);
    if (rc)
        return rc;
    pthread_mutex_lock(&s->lock);
    memcpy(s->shards, shards, sizeof s->shards);
    pthread_mutex_unlock(&s->lock);
    tm_metric_set(s->processes, (double)v.member_count);
    tm_metric_set(s->free, count_free(&v));
    follow(s, &v);
    return TM_OK;
}

static void leave(struct tm_steward *s)
{
    struct tm_error err;
    if (s->pg && tm_pg_is_open(s->pg) && tm_members_leave(s->pg, s->head->member, &err))
        tm_log(TM_LOG_WARN, "steward", "others will find out late that this process is gone", TM_F_ERR(&err));
    disconnect(s);
}

static void *steward_main(void *arg)
{
    struct tm_steward *s = arg;
    struct tm_error err;
    int64_t pause_us = 0;
    pthread_setname_np(pthread_self(), "steward");
    while (tm_stop_wait(&s->stop, pause_us) == TM_OK) {
        struct tm_dedup_settings *settings = tm_dedup_settings_newest(s->head);
        int rc = is_ready(s) ? look(s, settings, &err) : TM_OK;
        pause_us = settings->options.lease_us / LOOKS;
        tm_dedup_settings_put(settings);
        tm_together_tell(s->head);
        if (!rc)
            continue;
        TM_LOG_LIMITED(TM_LOG_WARN, "steward",
                       "which shards are for this process is not known now; it goes on with those it has",
                       TM_F_ERR(&err));
        disconnect(s);
    }
    leave(s);
    return NULL;
}

int tm_steward_start(struct tm_deduplicator *head, struct tm_error *err)
{
    struct tm_steward *s = calloc(1, sizeof *s);
    TM_FATAL_UNLESS(s && tm_stop_init(&s->stop) == TM_OK && tm_stop_init(&s->never) == TM_OK);
    s->head = head;
    s->processes = tm_metrics_gauge(head->metrics, "dedup_shard_processes",
                                    "Processes that share production's shards, this one among them.", NULL);
    s->free =
        tm_metrics_gauge(head->metrics, "dedup_shards_free", "Shards of production that no process merges.", NULL);
    pthread_mutex_init(&s->lock, NULL);
    if (pthread_create(&s->thread, NULL, steward_main, s)) {
        pthread_mutex_destroy(&s->lock);
        tm_stop_fini(&s->stop);
        tm_stop_fini(&s->never);
        free(s);
        return tm_error_set(err, TM_ENOMEM, "cannot start the steward's thread");
    }
    head->steward = s;
    return TM_OK;
}

void tm_steward_stop(struct tm_steward *s)
{
    if (!s)
        return;
    tm_stop_request(&s->stop);
    pthread_join(s->thread, NULL);
    pthread_mutex_destroy(&s->lock);
    tm_stop_fini(&s->stop);
    tm_stop_fini(&s->never);
    free(s);
}

void tm_steward_holder(struct tm_steward *s, unsigned shard, char out[TM_LEASE_HOLDER])
{
    pthread_mutex_lock(&s->lock);
    (void)snprintf(out, TM_LEASE_HOLDER, "%s", s->shards[shard].holder);
    pthread_mutex_unlock(&s->lock);
}
