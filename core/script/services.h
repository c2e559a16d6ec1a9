/*
 * What a running script may use: the loop, HTTP, the gatherer with its links by name, what those are subscribed to, the
 * registries by stream, the spreads by name. They outlive a script: a new generation of it (reload) finds the same
 * links, subscriptions, registries and spreads under the same names.
 *
 * Filled by the daemon: loop, metrics, http, gatherer or deduplicator (NULL where the role has none). The rest is the
 * script room's. One thread, the policy thread.
 */
#ifndef TM_SCRIPT_SERVICES_H
#define TM_SCRIPT_SERVICES_H

#include "engine/alert.h"
#include "engine/deduplicator.h"
#include "engine/gatherer.h"
#include "engine/registry.h"
#include "engine/spread.h"
#include "loop/loop.h"
#include "net/http.h"
#include "record/decode.h"

#define TM_LINKS_MAX 1000
#define TM_SPREADS_MAX 100
#define TM_LINK_SUBSCRIPTIONS_MAX 32 /* of one link; what is confirmed beyond that is logged and not kept */

struct tm_script;

struct tm_routines; /* script/routines.h */
struct tm_sessions;
struct tm_changes; /* script/changes.h */

/* A registry with the round in which each entry was last shown by a document, so that a sweep can tell what is gone. */
struct tm_service_registry {
    struct tm_registry *registry;   /* NULL: not open */
    const struct tm_stream *stream; /* the registry holds it */
    uint64_t generation;            /* that opened it last */
    uint32_t *seen;                 /* by entry; 0: never */
    size_t seen_count;
};

/* TM_ENOMEM when the marks cannot grow. */
int tm_service_registry_mark(struct tm_service_registry *r, uint32_t entry, uint32_t round) TM_MUST_CHECK;
void tm_service_registry_close(struct tm_service_registry *r);

/* What the other side has confirmed on a link. */
struct tm_subscription {
    char channel[64];
    int64_t sid;
};

struct tm_service_subscriptions {
    struct tm_subscription *list;
    size_t count;
};

struct tm_service_spread {
    char *name; /* NULL: not open */
    struct tm_spread *spread;
};

struct tm_services {
    struct tm_loop *loop;
    struct tm_metrics *metrics;
    struct tm_http *http;
    struct tm_gatherer *gatherer;
    struct tm_deduplicator *deduplicator;
    const struct tm_plan *plan;   /* of the running generation: set with tm_services_set_plan */
    struct tm_taps *taps;         /* NULL: none */
    struct tm_sessions *sessions; /* script/session.h; NULL: none */
    struct tm_changes *changes;   /* NULL: they are not kept */
    int64_t simulated_us;         /* the time of a simulated world (script/test.h); 0: the real clock counts */

    uint64_t generation; /* the newest */
    char *state;         /* JSON that tm.state kept for the next generation; NULL: none */
    struct tm_plan *own_plan;
    struct tm_alerts *alerts; /* by name, with their states */
    struct tm_timer alert_timer;
    struct tm_script *alert_script; /* who hears of them; NULL: nobody */

    struct tm_decoder *decoder;
    struct tm_routines *routines;            /* made with the first use */
    char *links[TM_LINKS_MAX];               /* names; the index is the gatherer's number of the link */
    uint64_t link_generations[TM_LINKS_MAX]; /* that opened the link last */
    struct tm_service_subscriptions subscriptions[TM_LINKS_MAX];
    struct tm_service_registry registries[TM_STREAMS_MAX];
    struct tm_service_spread spreads[TM_SPREADS_MAX];
    struct tm_buf scratch; /* of one host function at a time: what is pushed from here may raise, and nothing leaks */
};

void tm_services_fini(struct tm_services *s); /* the script room's part */

/* Decode by this plan from now on (a reference is taken). Registries whose key or columns are not what they were are
 * closed. NULL: none. */
void tm_services_set_plan(struct tm_services *s, const struct tm_plan *plan);

/* The clocks that scripts live by: the real ones, or that of a simulated world, which has one. */
int64_t tm_services_wall_us(const struct tm_services *s);
int64_t tm_services_mono_us(const struct tm_services *s);

/* The registry of that stream, or NULL when none is open. */
struct tm_service_registry *tm_services_find_registry(struct tm_services *s, const char *stream);

void tm_services_close_link(struct tm_services *s, int link);

/* The number of the link of that name, or -1. */
int tm_services_find_link(const struct tm_services *s, const char *name);

/* On the policy thread, before scripts hear of it: keep what the event says of a link's subscriptions. Saying the same
 * twice changes nothing. */
void tm_services_note_event(struct tm_services *s, const struct tm_event *event);

/* The link is gone, and its subscriptions with it. */
void tm_services_forget_link(struct tm_services *s, int link);

/* The index of the spread of that name, or -1. */
int tm_services_find_spread(const struct tm_services *s, const char *name);

#endif
