/*
 * The watch: statistics in, events for policy out (DESIGN 7, "Scripted recovery"). A pure state machine: it reads no
 * clock and asks nobody; the caller gives a snapshot every 200 ms or so and gets the edges.
 *
 *     snapshot -> [ edge with hysteresis per link, store, production, gatherer, disk, lag ] -> emit(event)
 *
 * An edge is told when its state has lasted: bad for `down_us`, good again for `up_us`. What is bad from the start is
 * told after `grace_us`, so that a start is no outage. The times in an event are those of the change, not of the
 * telling: `from_us` is when it was last known to be good, `to_us` when it was first good again, Unix microseconds.
 *
 * An *outage* of a link is the time over which it may have missed something: a disconnection, a hole in its sequence
 * numbers, or the life before this process (`born_us`). OUTAGE_OVER comes when data flows again and nothing has gone
 * wrong for `settle_us`, so that a burst of losses is one outage; what reads the past again needs from_us and to_us and
 * an overlap of a second on each side.
 *
 * Facts may come late or, when the policy thread hangs, all at once; none is lost, as counters are compared and not
 * states alone: a link that went and came back between two snapshots has had an outage.
 *
 * One thread. Memory: a few hundred bytes a link, at most TM_WATCH_LINKS_MAX.
 */
#ifndef TM_ENGINE_WATCH_H
#define TM_ENGINE_WATCH_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TM_WATCH_LINKS_MAX 1000
#define TM_WATCH_GATHERERS_MAX 64
#define TM_WATCH_LAGS 2 /* levels: worth a look, critical */

enum tm_watch_type {
    TM_WATCH_CONNECTION_DOWN,
    TM_WATCH_CONNECTION_UP,
    TM_WATCH_ALL_CONNECTIONS_DOWN,
    TM_WATCH_CONNECTIONS_BACK,
    TM_WATCH_OUTAGE_OVER, /* text: "disconnected", "gap", "start" */
    TM_WATCH_STORE_DOWN,
    TM_WATCH_STORE_BACK,
    TM_WATCH_STORE_REBUILT, /* text: "new" (the journal is new too), "lost" (it is not) */
    TM_WATCH_PRODUCTION_DOWN,
    TM_WATCH_PRODUCTION_BACK,
    TM_WATCH_FAILOVER, /* name: what production is now; text: what it was */
    TM_WATCH_GATHERER_DOWN,
    TM_WATCH_GATHERER_BACK,
    TM_WATCH_LAG,      /* value, limit: seconds; level 1 or 2 */
    TM_WATCH_LAG_OVER, /* value: seconds at the worst */
    TM_WATCH_DISK_LOW, /* name: "disk" or "journal"; value, limit: bytes that are free */
    TM_WATCH_DISK_FINE,
    TM_WATCH_UNKNOWN_FRAMES, /* value, limit: a minute */
    TM_WATCH_TYPES
};
const char *tm_watch_type_name(enum tm_watch_type type);

struct tm_watch_event {
    enum tm_watch_type type;
    int link;               /* number; -1: none */
    const char *name;       /* of the link, the gatherer, the disk; NULL */
    const char *text;       /* why, or NULL */
    int64_t from_us, to_us; /* Unix; 0: not said */
    double value, limit;
    int level;
};

struct tm_watch_limits {
    int64_t down_us;               /* 0: 1 s */
    int64_t up_us;                 /* 0: 1 s */
    int64_t settle_us;             /* 0: 1 s */
    int64_t grace_us;              /* 0: 15 s */
    int64_t lag_us[TM_WATCH_LAGS]; /* 0: 30 s, 300 s */
    uint64_t disk_bytes;           /* free; 0: 2 GiB */
    double journal_fill;           /* of its bound; 0: 0.8 */
    double unknown_per_minute;     /* 0: 60 */
};

struct tm_watch_link {
    int number;
    const char *name;
    bool up;
    uint64_t ups, messages, gaps;
    int64_t last_message_us; /* Unix; 0: none yet */
};

struct tm_watch_peer {
    const char *id;
    bool connected;
    const char *why;
};

/* What the process knows of itself at one moment. Strings are borrowed for the call. */
struct tm_watch_snapshot {
    int64_t now_us;  /* monotonic */
    int64_t wall_us; /* Unix */
    int64_t lag_us;

    bool is_gatherer; /* these are a gatherer's */
    const struct tm_watch_link *links;
    size_t link_count;
    bool store_connected;
    uint64_t store_rebuilds; /* how often the store was found to know nothing of the journal */
    bool store_is_new;       /* of the last of them: the journal knew nothing either */
    const char *store_error;
    uint64_t journal_bytes, journal_bytes_max;
    bool disk_known;
    uint64_t disk_free_bytes;
    uint64_t unknown; /* frames, unknown or malformed, since start */

    bool production_connected;       /* these a deduplicator's */
    const char *production_identity; /* "" while unknown */
    const char *production_error;
    const struct tm_watch_peer *peers;
    size_t peer_count;
};

struct tm_watch;

/* `born_us`: until when an earlier life of this gatherer is known to have heard something, Unix; 0: none. */
struct tm_watch *tm_watch_create(int64_t now_us, int64_t born_us);
void tm_watch_destroy(struct tm_watch *w);

/* Compare with what was, and tell the edges in order. Limits may differ from call to call (reload). */
void tm_watch_step(struct tm_watch *w, const struct tm_watch_snapshot *s, const struct tm_watch_limits *limits,
                   void (*emit)(void *arg, const struct tm_watch_event *event), void *arg);

#endif
