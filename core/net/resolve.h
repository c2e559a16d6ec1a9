/*
 * Names to addresses without blocking a loop: getaddrinfo on a thread of its own, answers delivered on the
 * loop's thread. Questions for the same host that wait at the same time share one lookup. The thread starts
 * with the first question; a lookup that still runs when the resolver is destroyed is left to end by itself,
 * its answer is dropped.
 */
#ifndef TM_NET_RESOLVE_H
#define TM_NET_RESOLVE_H

#include "base/error.h"
#include "loop/loop.h"

#include <sys/socket.h>

#define TM_RESOLVE_ADDRESSES_MAX 8

struct tm_resolver;
struct tm_resolve_query;

struct tm_resolved {
    size_t count;                                              /* 0: failed, error says why */
    const char *error;                                         /* static text */
    struct sockaddr_storage address[TM_RESOLVE_ADDRESSES_MAX]; /* without port */
};

typedef void tm_resolve_done(void *arg, const struct tm_resolved *answer);

struct tm_resolver *tm_resolver_create(struct tm_loop *loop);
void tm_resolver_destroy(struct tm_resolver *resolver); /* no callback follows */

/* Ask for stream addresses of `host`; on_done is called once from the loop, unless the query is cancelled
 * before. */
struct tm_resolve_query *tm_resolver_ask(struct tm_resolver *resolver, const char *host, tm_resolve_done *on_done,
                                         void *arg);
void tm_resolver_cancel(struct tm_resolve_query *query);

#endif
