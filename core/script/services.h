/*
 * What a running script may use: the loop, HTTP, the gatherer with its links by name, the registries by stream. They
 * outlive a script: a new generation of it (reload) finds the same links and registries under the same names.
 *
 * Filled by the daemon: loop, metrics, http, gatherer, plan (gatherer and plan NULL where the role has none). The rest
 * is the script room's. One thread, the policy thread.
 */
#ifndef TM_SCRIPT_SERVICES_H
#define TM_SCRIPT_SERVICES_H

#include "engine/gatherer.h"
#include "engine/registry.h"
#include "loop/loop.h"
#include "net/http.h"
#include "record/decode.h"

#define TM_LINKS_MAX 1000

/* A registry with the round in which each entry was last shown by a document, so that a sweep can tell what is gone. */
struct tm_service_registry {
    struct tm_registry *registry; /* NULL: not open */
    uint32_t *seen;               /* by entry; 0: never */
    size_t seen_count;
};

/* TM_ENOMEM when the marks cannot grow. */
int tm_service_registry_mark(struct tm_service_registry *r, uint32_t entry, uint32_t round) TM_MUST_CHECK;

struct tm_services {
    struct tm_loop *loop;
    struct tm_metrics *metrics;
    struct tm_http *http;
    struct tm_gatherer *gatherer;
    const struct tm_plan *plan;
    int64_t simulated_us; /* the time of a simulated world (script/test.h); 0: the real clock counts */

    struct tm_decoder *decoder;
    char *links[TM_LINKS_MAX];                             /* names; the index is the gatherer's number of the link */
    struct tm_service_registry registries[TM_STREAMS_MAX]; /* by index of the stream */
};

void tm_services_fini(struct tm_services *s); /* the script room's part */

/* The number of the link of that name, or -1. */
int tm_services_find_link(const struct tm_services *s, const char *name);

#endif
