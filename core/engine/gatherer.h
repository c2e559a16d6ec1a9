/*
 * The gatherer: links -> decode -> dedup -> journal -> local store.
 *
 *     policy thread (caller)              io thread                                       journal, store threads
 *                                         (loop, links, decoder, seen-sets, journal append)
 *         commands  -- bounded queue -->
 *         events  <-- bounded queue, wake callback --
 *
 * tm_gatherer_start opens the journal, compiles the plan (it needs the journal's epoch) and starts the
 * threads; from then on it collects whatever its links bring, with or without a living policy thread. All
 * functions below are called from one thread, the policy thread; they hand over to io and return at once.
 * tm_gatherer_stats may be called from any thread (health is answered on the admin thread).
 *
 * What io does with a message: decode; check the sequence of its subscription (a hole opens a row in the gap
 * ledger and raises an event; late frames that fill it are taken; repeated ones are dropped as duplicates);
 * number the repeats of counted keys per link; look in the stream's seen-set; append to the journal; only
 * then remember the key. When the journal refuses (disk full beyond its buffer) records are discarded under a
 * gap row that says so, never in silence.
 *
 * A reload (tm_gatherer_reload) changes what differs and keeps all else: sockets, seen-sets, the journal. The new plan goes
 * to the store writer first, then to io, which takes it over between two messages: so no row of a new stream reaches a
 * writer that does not know it. A definition that says the same keeps the same plan. Rows of the old plan that are still
 * under way (queued by policy, in the journal) are journaled and stored as the old plan meant them.
 *
 * Events are facts for policy: they may be lost when its queue is full (counted), so nothing correct depends
 * on them.
 */
#ifndef TM_ENGINE_GATHERER_H
#define TM_ENGINE_GATHERER_H

#include "engine/gap_log.h"
#include "engine/metrics.h"
#include "engine/tap.h"
#include "engine/writer.h"
#include "journal/journal.h"
#include "net/link.h"
#include "record/plan.h"

struct tm_gatherer;

#define TM_GATHERER_COMMAND_BYTES                                                                                      \
    ((size_t)256 << 20) /* of the queues, at most; opening frames of a million markets are 30 MB */
#define TM_GATHERER_EVENT_BYTES ((size_t)64 << 20)

struct tm_gatherer_options {
    const char *id;
    const char *store;                 /* conninfo */
    struct tm_plan_def plan;           /* gatherer and epoch are filled in here */
    struct tm_journal_options journal; /* dir is the data directory */
    struct tm_metrics *metrics;
    const int64_t *reconnect_codes; /* error codes after which a subscription is dead: the link starts anew */
    size_t reconnect_code_count;
    int64_t sequence_start;     /* the number a subscription's frames begin with; 0: whatever comes first */
    double connects_per_second; /* over all links, after a first burst of 200; 0: 20 */
    bool migrate;
    int64_t keep_us; /* these four: engine/writer.h */
    uint64_t store_bytes_max;
    const char *const *expire;
    int64_t partition_rows;
    struct tm_archive_settings archive; /* what has to leave the store unsynced goes there first; `to` NULL: nowhere */
    int64_t key_margin_us;              /* a key may begin so long after what was taken (record/keys.h); 0: 5 s */
    struct tm_taps *taps;               /* engine/tap.h, at the start alone; NULL: none */
};

int tm_gatherer_start(const struct tm_gatherer_options *options, struct tm_gatherer **out,
                      struct tm_error *err) TM_MUST_CHECK;
/* Close the links, make everything durable, store what can be stored (5 s), free. */
void tm_gatherer_stop(struct tm_gatherer *g);

/* Until the next reload; who keeps it, or a stream of it, longer takes it. */
const struct tm_plan *tm_gatherer_plan(const struct tm_gatherer *g);

/* The newest exchange time taken of a stream, by its index in the plan (engine/newest.h). */
int64_t tm_gatherer_newest_us(const struct tm_gatherer *g, size_t stream);

/* ---- reload ---- */

/* Would tm_gatherer_reload take these options? Changes nothing. TM_EINVAL names what cannot change while the process runs
 * (id, data directory, sizes of the journal, a column's type) or does not compile; TM_EFULL: the journal cannot hold more
 * declarations; TM_ENOMEM. */
int tm_gatherer_check_reload(struct tm_gatherer *g, const struct tm_gatherer_options *options,
                             struct tm_error *err) TM_MUST_CHECK;

/* The same checks, and then all of it takes effect, in the order store, io: store (another address is connected to at
 * once), plan, migrate, reconnect_codes, sequence_start, connects_per_second. Returns at once; tm_gatherer_plan is the new
 * plan from here on. `metrics` stays what it was. Nothing has changed when it fails. */
int tm_gatherer_reload(struct tm_gatherer *g, const struct tm_gatherer_options *options,
                       struct tm_error *err) TM_MUST_CHECK;

/* ---- links ---- */

struct tm_gatherer_link {
    const char *name;        /* for logs, gaps and metrics, e.g. "orderbook_delta/17" */
    struct tm_ws_options ws; /* copied; auth is held as long as it is needed */
    int64_t quiet_us;        /* UP but no message for this long: reconnect; 0: never */
    bool listed;             /* what it subscribes to is for chosen markets (tm_feed_set_listed) */
};

/*
 * Returns the link's number (>= 0). The link connects at once. At most 1,000 links, those that are still closing counted.
 * The number of a removed link is used again once its connection has gone (about a second); events of the old link that
 * come after that are not given out.
 */
int tm_gatherer_link_add(struct tm_gatherer *g, const struct tm_gatherer_link *link,
                         struct tm_error *err) TM_MUST_CHECK;
void tm_gatherer_link_remove(struct tm_gatherer *g, int link); /* what is asked of it from here on is TM_ENOENT */
/* Another definition, of the same name. Reconnects only if the URL, the signature or the trusted authorities are not what
 * they were; deadlines count at once, other settings with the next connection. TM_ENOENT, TM_EINVAL (the URL), TM_EFULL. */
int tm_gatherer_link_update(struct tm_gatherer *g, int link, const struct tm_gatherer_link *def) TM_MUST_CHECK;
void tm_gatherer_link_reconnect(struct tm_gatherer *g, int link);
/* Opening frames (net/link.h): set before or after the link is up; `send` also sends it now if the link is
 * up and has not had these very bytes since it came up. */
int tm_gatherer_link_opening(struct tm_gatherer *g, int link, uint32_t slot, const char *bytes, size_t len,
                             bool send) TM_MUST_CHECK;
int tm_gatherer_link_send(struct tm_gatherer *g, int link, const char *bytes, size_t len) TM_MUST_CHECK;

/* These markets, one a line, are about to be taken out of its subscriptions: from here on the ledger does not have them as
 * whole on it. Before the frame that tells the other side so. */
int tm_gatherer_link_drop(struct tm_gatherer *g, int link, const char *tickers, size_t len) TM_MUST_CHECK;

/* While `kind` is set (a kind's tag; NULL ends it), each row of that kind that comes by the link raises TM_EVENT_ROW
 * with its ticker: so policy can wait for what it asked for without any frame being copied. One kind a link. */
int tm_gatherer_link_tell(struct tm_gatherer *g, int link, const char *kind) TM_MUST_CHECK;

struct tm_gatherer_link_stats {
    const char *name;
    struct tm_link_stats link;
    uint64_t rows, gaps;
};
size_t tm_gatherer_link_count(const struct tm_gatherer *g); /* numbers are below this */
/* A recent copy, at most a second old. TM_ENOENT when removed. */
int tm_gatherer_link_stats(struct tm_gatherer *g, int link, struct tm_gatherer_link_stats *out) TM_MUST_CHECK;

/* The links that there are, by their numbers; any thread. */
struct tm_gatherer_link_view {
    char name[96];
    struct tm_gatherer_link_stats stats; /* its name is not to be used: the link may be gone */
};
size_t tm_gatherer_links(struct tm_gatherer *g, struct tm_gatherer_link_view *out, size_t max);

/* The newest gaps of this process; a lane is a kind of links, "orderbook_delta", or "" for all. Any thread. */
size_t tm_gatherer_gaps(struct tm_gatherer *g, struct tm_gap_note *out, size_t max);

/* ---- rows that policy brings (REST) ---- */

/* Whole tuples of one stream, end to end; `bytes` is taken over when TM_OK. TM_EFULL: try again later. They
 * pass the seen-set like any other record. The stream may be of an earlier plan, and is held until they are in. */
int tm_gatherer_submit(struct tm_gatherer *g, const struct tm_stream *stream, struct tm_buf *bytes) TM_MUST_CHECK;

/* ---- events ---- */

enum tm_event_type {
    TM_EVENT_LINK_UP,
    TM_EVENT_LINK_DOWN,    /* text: why; number: status */
    TM_EVENT_SUBSCRIBED,   /* text: channel; sid */
    TM_EVENT_UNSUBSCRIBED, /* sid */
    TM_EVENT_GAP,          /* sid; first and last missing sequence */
    TM_EVENT_ERROR,        /* number: code, text: the exchange's words, sid or -1 */
    TM_EVENT_FRAME,        /* text: a frame of a kind with `forward`; kind: its tag */
    TM_EVENT_UNKNOWN,      /* text: reason (rate-limited) */
    TM_EVENT_ROW,          /* text: the ticker of a row that tm_gatherer_link_tell asked for; kind: its tag */
};
const char *tm_event_type_name(enum tm_event_type type);

struct tm_event {
    enum tm_event_type type;
    int link;
    uint32_t generation; /* which link of this number it was; for the gatherer itself */
    int64_t sid, number, first, last;
    const char *kind; /* NULL but for FRAME; in the event */
    size_t text_len;
    char text[]; /* NUL-terminated */
};

/* `wake` is called on the io thread when events wait. */
void tm_gatherer_set_wake(struct tm_gatherer *g, void (*wake)(void *arg), void *arg);
struct tm_event *tm_gatherer_next_event(struct tm_gatherer *g); /* NULL: none; free() it */

/* ---- state ---- */

struct tm_gatherer_stats {
    size_t links, links_up;
    uint64_t frames, rows, duplicates, unknown, malformed, discarded, gaps;
    bool discarding;             /* the journal is refusing rows now */
    int64_t last_durable_age_us; /* since a record was last made durable, or since start; health is this (T30) */
    int64_t last_message_age_us;
    struct tm_journal_stats journal;
    struct tm_writer_stats store;
};
struct tm_gatherer_stats tm_gatherer_stats(struct tm_gatherer *g);

#endif
