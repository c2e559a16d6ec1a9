#include "engine/acknowledge.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/retention.h"

#include <inttypes.h>
#include <string.h>

#define EVERY_US (2 * TM_US_PER_S)
#define LEAST_EVERY_US (1 * TM_US_PER_S)

/* What production has committed of this gatherer, as three arrays; the sum tells whether anything moved. */
struct acknowledgement {
    struct tm_buf epochs, streams, seqs;
    int64_t sum;
    char production[128];
};

static int put_cursor(struct acknowledgement *a, const struct tm_cursor *c)
{
    const char *comma = a->seqs.len > 1 ? "," : "";
    int rc = tm_buf_printf(&a->epochs, "%s%s", comma, c->epoch);
    rc = rc ? rc : tm_buf_printf(&a->streams, "%s%s", comma, c->stream);
    rc = rc ? rc : tm_buf_printf(&a->seqs, "%s%" PRId64, comma, c->seq);
    a->sum += c->seq;
    return rc;
}

/* Where there are several shards, shard 0 tells what all of them have; NULL: that is not known (yet), or not its turn. */
static const struct tm_cursors *committed(const struct tm_deduplicator *d)
{
    if (d->shard_count == 1)
        return &d->cursors;
    return d->shard == 0 && d->least_generation == d->generation ? &d->least : NULL;
}

/* Under the lock: the published cursors move only after COMMIT. */
static int collect(const struct tm_peer *peer, const struct tm_dedup_orders *orders, struct acknowledgement *a)
{
    const struct tm_deduplicator *d = peer->d;
    struct tm_buf *all[] = {&a->epochs, &a->streams, &a->seqs};
    const struct tm_cursors *cursors = committed(d);
    int rc = TM_OK;
    if (!cursors || !d->stats.identity[0] || !orders->settings || d->generation != orders->generation)
        return TM_ESTATE;
    rc = tm_retention_production(d->stats.identity, orders->settings->options.production, a->production);
    for (size_t i = 0; !rc && i < 3; i++)
        rc = tm_buf_append(all[i], "{", 1);
    for (size_t i = 0; !rc && i < cursors->count; i++)
        if (strcmp(cursors->items[i].gatherer, peer->id) == 0 && cursors->items[i].seq > 0)
            rc = put_cursor(a, &cursors->items[i]);
    for (size_t i = 0; !rc && i < 3; i++)
        rc = tm_buf_append(all[i], "}", 1) || !tm_buf_cstr(all[i]) ? TM_ENOMEM : TM_OK;
    return rc;
}

static int send(struct tm_acknowledging *k, const struct tm_peer *peer, const struct acknowledgement *a,
                struct tm_pg *pg, struct tm_error *err)
{
    int rc = tm_retention_acknowledge(pg, a->production, (const char *)a->epochs.data, (const char *)a->streams.data,
                                      (const char *)a->seqs.data, err);
    if (!rc) {
        k->sum = a->sum;
        return TM_OK;
    }
    if (!tm_pg_is_open(pg))
        return rc;
    k->at_us = INT64_MAX; /* of this session */
    if (!k->told)
        tm_log(
            TM_LOG_WARN, "poller",
            "what production has cannot be acknowledged to the gatherer, so its store deletes nothing; may this role "
            "write tidemill.acknowledged there?",
            TM_F_STR("gatherer", peer->id), TM_F_ERR(err));
    k->told = true;
    return TM_OK;
}

void tm_acknowledge_session(struct tm_acknowledging *k)
{
    k->at_us = k->sum = 0;
}

int tm_acknowledge(struct tm_acknowledging *k, const struct tm_peer *peer, const struct tm_dedup_orders *orders,
                   struct tm_pg *pg, struct tm_error *err)
{
    struct acknowledgement a = {0};
    int64_t now_us = tm_clock_mono_us();
    if (now_us < k->at_us)
        return TM_OK;
    k->at_us = now_us + EVERY_US;
    pthread_mutex_lock(&peer->d->lock);
    int rc = collect(peer, orders, &a);
    pthread_mutex_unlock(&peer->d->lock);
    rc = rc || a.seqs.len <= 2 || a.sum == k->sum ? TM_OK : send(k, peer, &a, pg, err);
    tm_buf_fini(&a.epochs);
    tm_buf_fini(&a.streams);
    tm_buf_fini(&a.seqs);
    return rc;
}

int tm_acknowledge_least(struct tm_deduplicator *d, struct tm_pg *pg, const struct tm_deduplicator_options *options,
                         struct tm_error *err)
{
    struct tm_cursors least = {0}, before;
    int64_t now_us = tm_clock_mono_us();
    if (d->shard_count == 1 || d->shard || now_us - d->least_us < LEAST_EVERY_US)
        return TM_OK;
    d->least_us = now_us;
    int rc = tm_cursors_load_least(&least, pg, options, err);
    if (rc) {
        tm_cursors_fini(&least);
        return rc;
    }
    pthread_mutex_lock(&d->lock);
    before = d->least;
    d->least = least;
    d->least_generation = d->generation;
    pthread_mutex_unlock(&d->lock);
    tm_cursors_fini(&before);
    return TM_OK;
}
