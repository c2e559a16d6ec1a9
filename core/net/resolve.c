#include "net/resolve.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* One lookup in hand. It belongs to the thread between `pending` and `done`, to the loop otherwise. */
struct lookup {
    struct lookup *next;
    char *host;
    struct tm_resolved answer;
};

/* Lives on the loop's thread alone. */
struct tm_resolve_query {
    struct tm_resolve_query *next;
    char *host;
    tm_resolve_done *on_done; /* NULL: cancelled */
    void *arg;
};

/* What both threads see; freed by the last one that leaves. */
struct shared {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct lookup *pending, *done;
    struct tm_async *async; /* NULL: the resolver is gone */
};

struct tm_resolver {
    struct shared *shared;
    struct tm_async async;
    struct tm_resolve_query *queries;
    bool running;
};

static void free_lookups(struct lookup *l)
{
    while (l) {
        struct lookup *next = l->next;
        free(l->host);
        free(l);
        l = next;
    }
}

static void free_shared(struct shared *s)
{
    free_lookups(s->pending);
    free_lookups(s->done);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
    free(s);
}

static void look_up(struct lookup *l)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
    int rc = getaddrinfo(l->host, NULL, &hints, &list);
    l->answer.error = rc ? gai_strerror(rc) : "no address";
    for (struct addrinfo *a = list; a && l->answer.count < TM_RESOLVE_ADDRESSES_MAX; a = a->ai_next)
        if (a->ai_addrlen <= sizeof l->answer.address[0])
            memcpy(&l->answer.address[l->answer.count++], a->ai_addr, a->ai_addrlen);
    if (list)
        freeaddrinfo(list);
}

static void *run(void *arg)
{
    struct shared *s = arg;
    pthread_mutex_lock(&s->lock);
    while (s->async) {
        struct lookup *l = s->pending;
        if (!l) {
            pthread_cond_wait(&s->wake, &s->lock);
            continue;
        }
        s->pending = l->next;
        pthread_mutex_unlock(&s->lock);
        look_up(l);
        pthread_mutex_lock(&s->lock);
        l->next = s->done;
        s->done = l;
        if (s->async)
            tm_async_send(s->async);
    }
    pthread_mutex_unlock(&s->lock);
    free_shared(s);
    return NULL;
}

/* Give the answer to every question for that host; a callback may ask and cancel. */
static void deliver(struct tm_resolver *r, const struct lookup *l)
{
    for (struct tm_resolve_query **at = &r->queries, *q; (q = *at);) {
        if (strcmp(q->host, l->host)) {
            at = &q->next;
            continue;
        }
        *at = q->next;
        if (q->on_done)
            q->on_done(q->arg, &l->answer);
        free(q->host);
        free(q);
        at = &r->queries;
    }
}

static void on_done(void *arg)
{
    struct tm_resolver *r = arg;
    pthread_mutex_lock(&r->shared->lock);
    struct lookup *list = r->shared->done;
    r->shared->done = NULL;
    pthread_mutex_unlock(&r->shared->lock);
    for (struct lookup *l = list; l; l = l->next)
        deliver(r, l);
    free_lookups(list);
}

struct tm_resolver *tm_resolver_create(struct tm_loop *loop)
{
    struct tm_resolver *r = calloc(1, sizeof *r);
    struct shared *s = calloc(1, sizeof *s);
    TM_FATAL_UNLESS(r && s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    tm_async_init(&r->async, loop, on_done, r);
    s->async = &r->async;
    r->shared = s;
    return r;
}

void tm_resolver_destroy(struct tm_resolver *r)
{
    if (!r)
        return;
    struct shared *s = r->shared;
    pthread_mutex_lock(&s->lock);
    s->async = NULL;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    if (!r->running)
        free_shared(s);
    tm_async_fini(&r->async);
    while (r->queries) {
        struct tm_resolve_query *q = r->queries;
        r->queries = q->next;
        free(q->host);
        free(q);
    }
    free(r);
}

/* Signals are the policy thread's business: the new thread is born with all of them blocked. */
static void start_thread(struct tm_resolver *r)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    TM_FATAL_UNLESS(!pthread_create(&thread, NULL, run, r->shared));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_setname_np(thread, "resolver");
    pthread_detach(thread);
    r->running = true;
}

static bool is_asked(const struct tm_resolver *r, const char *host)
{
    for (const struct tm_resolve_query *q = r->queries; q; q = q->next)
        if (!strcmp(q->host, host))
            return true;
    return false;
}

static void put_lookup(struct tm_resolver *r, const char *host)
{
    struct lookup *l = calloc(1, sizeof *l);
    TM_FATAL_UNLESS(l && (l->host = strdup(host)));
    pthread_mutex_lock(&r->shared->lock);
    struct lookup **at = &r->shared->pending;
    while (*at)
        at = &(*at)->next;
    *at = l;
    pthread_cond_signal(&r->shared->wake);
    pthread_mutex_unlock(&r->shared->lock);
}

struct tm_resolve_query *tm_resolver_ask(struct tm_resolver *r, const char *host, tm_resolve_done *done, void *arg)
{
    if (!r->running)
        start_thread(r);
    if (!is_asked(r, host))
        put_lookup(r, host);
    struct tm_resolve_query *q = calloc(1, sizeof *q);
    TM_FATAL_UNLESS(q && (q->host = strdup(host)));
    q->on_done = done;
    q->arg = arg;
    q->next = r->queries;
    r->queries = q;
    return q;
}

void tm_resolver_cancel(struct tm_resolve_query *q)
{
    q->on_done = NULL;
}
