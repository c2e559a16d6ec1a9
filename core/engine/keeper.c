#include "engine/keeper.h"
#include "base/clock.h"
#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define RESTING_US (100 * TM_US_PER_MS) /* between looks for something to keep */
#define RENEWALS 4                      /* within a lease */

struct tm_keeper {
    struct tm_stop *stop;
    pthread_t thread;
    struct tm_pg *pg; /* the thread's */

    pthread_mutex_t lock;
    bool active, lost;
    struct tm_lease lease;
    char *conninfo;
    int64_t renewed_us; /* monotonic */
};

/* What there is to do now; false: nothing. The conninfo is the caller's to free. */
static bool take_orders(struct tm_keeper *k, struct tm_lease *lease, char **conninfo)
{
    pthread_mutex_lock(&k->lock);
    bool active = k->active;
    if (active) {
        *lease = k->lease;
        *conninfo = strdup(k->conninfo);
        TM_FATAL_UNLESS(*conninfo);
    }
    pthread_mutex_unlock(&k->lock);
    return active;
}

static void close_session(struct tm_keeper *k)
{
    tm_pg_close(k->pg);
    k->pg = NULL;
}

/* A renewal that a crash of production loses costs nothing: so it waits for no disk and no standby. */
static int open_session(struct tm_keeper *k, const char *conninfo, int64_t length_us, struct tm_error *err)
{
    struct tm_pg_options options = {.conninfo = conninfo,
                                    .application_name = "tidemill lease",
                                    .stop = k->stop,
                                    .connect_us = length_us,
                                    .statement_us = length_us,
                                    .writes = true};
    int rc = tm_pg_connect(&options, &k->pg, err);
    return rc ? rc : tm_pg_exec(k->pg, "SET synchronous_commit = off; SET lock_timeout = 1000", err);
}

static void note_renewal(struct tm_keeper *k, const struct tm_lease *lease, bool held)
{
    pthread_mutex_lock(&k->lock);
    bool same = strcmp(k->lease.token, lease->token) == 0; /* else the merger took another one meanwhile */
    if (same && held)
        k->renewed_us = tm_clock_mono_us();
    if (same && !held)
        k->active = false, k->lost = true;
    pthread_mutex_unlock(&k->lock);
}

static int renew(struct tm_keeper *k, const struct tm_lease *lease, const char *conninfo, struct tm_error *err)
{
    bool held;
    if (!tm_pg_is_open_by(k->pg, conninfo))
        close_session(k);
    int rc = k->pg ? TM_OK : open_session(k, conninfo, lease->length_us, err);
    rc = rc ? rc : tm_lease_renew(lease, k->pg, &held, err);
    if (!rc)
        note_renewal(k, lease, held);
    return rc;
}

static void *keeper_main(void *arg)
{
    struct tm_keeper *k = arg;
    struct tm_error err;
    int64_t wait_us = 0;
    pthread_setname_np(pthread_self(), "keeper");
    while (tm_stop_wait(k->stop, wait_us) == TM_OK) {
        struct tm_lease lease;
        char *conninfo;
        wait_us = RESTING_US;
        if (!take_orders(k, &lease, &conninfo))
            continue;
        int rc = renew(k, &lease, conninfo, &err);
        if (rc && rc != TM_ESTOPPED) {
            TM_LOG_LIMITED(TM_LOG_WARN, "keeper", "the lease could not be renewed", TM_F_ERR(&err));
            close_session(k);
        }
        free(conninfo);
        wait_us = lease.length_us / RENEWALS;
    }
    close_session(k);
    return NULL;
}

int tm_keeper_start(struct tm_stop *stop, struct tm_keeper **out, struct tm_error *err)
{
    struct tm_keeper *k = calloc(1, sizeof *k);
    TM_FATAL_UNLESS(k);
    k->stop = stop;
    pthread_mutex_init(&k->lock, NULL);
    if (pthread_create(&k->thread, NULL, keeper_main, k)) {
        pthread_mutex_destroy(&k->lock);
        free(k);
        return tm_error_set(err, TM_ENOMEM, "cannot start the keeper's thread");
    }
    *out = k;
    return TM_OK;
}

void tm_keeper_join(struct tm_keeper *k)
{
    if (!k)
        return;
    pthread_join(k->thread, NULL);
    pthread_mutex_destroy(&k->lock);
    free(k->conninfo);
    free(k);
}

int tm_keeper_hold(struct tm_keeper *k, const struct tm_lease *lease, const char *conninfo)
{
    char *copy = strdup(conninfo);
    if (!copy)
        return TM_ENOMEM;
    pthread_mutex_lock(&k->lock);
    free(k->conninfo);
    k->conninfo = copy;
    k->lease = *lease;
    k->active = true;
    k->lost = false;
    k->renewed_us = tm_clock_mono_us();
    pthread_mutex_unlock(&k->lock);
    return TM_OK;
}

void tm_keeper_rest(struct tm_keeper *k)
{
    pthread_mutex_lock(&k->lock);
    k->active = k->lost = false;
    pthread_mutex_unlock(&k->lock);
}

bool tm_keeper_has_lost(struct tm_keeper *k)
{
    pthread_mutex_lock(&k->lock);
    bool lost = k->lost;
    pthread_mutex_unlock(&k->lock);
    return lost;
}

bool tm_keeper_is_late(struct tm_keeper *k)
{
    pthread_mutex_lock(&k->lock);
    bool late = k->active && tm_clock_mono_us() - k->renewed_us > k->lease.length_us / 2;
    pthread_mutex_unlock(&k->lock);
    return late;
}

void tm_keeper_renewed(struct tm_keeper *k)
{
    pthread_mutex_lock(&k->lock);
    k->renewed_us = tm_clock_mono_us();
    pthread_mutex_unlock(&k->lock);
}
