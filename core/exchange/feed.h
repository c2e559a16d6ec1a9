/*
 * The feed: clients, their subscriptions, and the delivery of events to them.
 *
 * An event's body is written once; a subscriber costs a frame head with its sid and seq, one copy, and nothing else.
 * Events touch only who listens: each market has a list of subscriptions, and each channel a list of those that take
 * all markets. Frames gather in the client's output buffer; tm_feed_flush hands them to the sockets.
 *
 * Limits and what happens at them: a client whose backlog passes --client-buffer loses that subscription with error 25;
 * a subscription takes --subscription-limit markets (error 26); a client may send 10,000 commands a second (error 27).
 * First snapshots of a large subscription are put out as the client takes them, and a market's deltas begin after its
 * snapshot.
 *
 * Order of calls: init; open a client after its upgrade, give it messages, close it; begin a batch, publish events,
 * flush. Faults (fault_apply.c) reach into clients and subscriptions. Loop's thread.
 */
#ifndef TM_EXCHANGE_FEED_H
#define TM_EXCHANGE_FEED_H

#include "exchange/body.h"
#include "exchange/conn.h"
#include "exchange/ledger.h"
#include "exchange/options.h"
#include "exchange/tape.h"
#include "exchange/ws.h"

#define TM_LISTENER_WAITS 0x80000000u /* in a market's list: the first snapshot is due */
#define TM_SUBSCRIPTIONS_MAX 0x7fffffffu

/* Faults that a subscription has yet to meet, counted in frames, and frames that are held back. */
struct tm_trouble {
    uint32_t gap, duplicate, reorder, late, fragment;
    int64_t late_us;
    struct tm_buf kept;       /* reorder: one whole frame */
    struct tm_fact kept_fact; /* its line in the ledger, should it never leave */
};

/* A request for a snapshot, or for a first ticker. */
struct tm_wish {
    uint32_t market;
    int64_t id;
};

struct tm_sub {
    struct tm_client *client;
    struct tm_trouble *trouble;
    uint64_t seq;
    uint32_t id, sid;
    uint8_t channel;
    bool all, use_yes;
    bool skip_ack;  /* `ok` does not list the markets */
    bool sequenced; /* data frames and errors carry seq */
    bool slow_path; /* trouble, or the client drops data */
    uint32_t *markets, market_count, market_capacity;
    uint32_t announced; /* markets before this one have had their snapshot */
    struct tm_wish *wishes;
    uint32_t wish_count, wish_capacity, wish_next;
    uint32_t all_place;  /* in the channel's list of those who take all */
    struct tm_buf names; /* from TM_CHANNEL_INDEX on: those that the client chose, as the text of an array */
};

/* A frame that leaves later than those after it. */
struct tm_late {
    int64_t due_us;
    struct tm_fact fact; /* its line in the ledger, should it never leave */
    struct tm_buf frame;
};

struct tm_client {
    struct tm_feed *feed;
    struct tm_conn *conn;
    struct tm_buf *data; /* where data frames go: conn->out, or held */
    struct tm_buf held;  /* during a stall that keeps them */
    struct tm_ws_reader reader;
    struct tm_timer ping, late_timer;
    struct tm_late *late;
    uint32_t late_count;
    struct tm_sub *subs[TM_CHANNELS_MAX];
    uint32_t number, next_sid, place;
    bool dirty, dropping, subscribed;
    uint64_t frames, bytes, frames_at_ping;
    int64_t command_second;
    uint32_t commands;
    char label[80], key[80], agent[160];
};

struct tm_sub_list {
    struct tm_sub **at;
    uint32_t count, capacity;
};

struct tm_feed {
    const struct tm_options *opt;
    struct tm_loop *loop;
    struct tm_markets *markets;
    struct tm_ledger *ledger;
    struct tm_tape tape;
    struct tm_body body, mirrored;
    struct tm_buf scratch, frame;
    struct tm_client **clients, **dirty;
    uint32_t client_count, client_capacity, dirty_count, dirty_capacity, next_number, subscribed;
    struct tm_sub **subs; /* by id */
    uint32_t sub_count, sub_capacity, *free_ids, free_count, free_capacity;
    struct tm_sub_list all[TM_CHANNELS_MAX];
    uint64_t emitted[TM_STREAM_COUNT], emitted_total, frames, bytes, withheld, injected;
    int64_t wall_us;
};

/* Setting up */
void tm_feed_init(struct tm_feed *f, const struct tm_options *o, struct tm_loop *loop, struct tm_markets *markets,
                  struct tm_ledger *ledger);
void tm_feed_fini(struct tm_feed *f);

/* Clients (client.c). The label, key and agent are copied. */
struct tm_identity {
    const char *label, *key, *agent;
};
struct tm_client *tm_client_open(struct tm_feed *f, struct tm_conn *conn, const struct tm_identity *who);
void tm_client_close(struct tm_client *c, const char *reason); /* the socket is gone: leaves all lists */
void tm_client_free(struct tm_client *c);                      /* after the turn in which it was closed */
void tm_client_on_data(struct tm_client *c);                   /* conn->in has grown */
void tm_client_on_drained(struct tm_client *c);
void tm_client_send_close(struct tm_client *c, int code, const char *reason);

/* Batches (feed.c) */
void tm_feed_begin(struct tm_feed *f);              /* what follows happens now, for the ledger */
void tm_feed_reckon(struct tm_feed *f, int64_t us); /* with --start-time: "now" is this, not the wall clock's */
void tm_feed_publish(struct tm_feed *f, const struct tm_event *e);
void tm_feed_pass_on(struct tm_feed *f, const struct tm_event *e); /* a frame that is no event */
void tm_feed_cleared(struct tm_feed *f, uint32_t market);
void tm_feed_flush(struct tm_feed *f);

/* The largest backlog of a client that still takes part: what a flat-out generator waits for. */
size_t tm_feed_backlog(const struct tm_feed *f);

/* Subscriptions (subscription.c) */
struct tm_sub *tm_sub_open(struct tm_client *c, uint8_t channel, bool all);
void tm_sub_close(struct tm_sub *s, const char *reason);
void tm_sub_take_all(struct tm_sub *s);
bool tm_sub_has(const struct tm_sub *s, uint32_t market);
void tm_sub_add(struct tm_sub *s, uint32_t market);
void tm_sub_remove(struct tm_sub *s, const uint32_t *markets, uint32_t count);
void tm_sub_wish(struct tm_sub *s, uint32_t market, int64_t id);
void tm_client_pump(struct tm_client *c); /* put out due snapshots while the backlog is low */
const char *tm_channel_name(uint8_t channel);
int tm_channel_find(struct tm_slice name); /* -1 */

/* Frames (deliver.c) */
void tm_deliver(struct tm_sub *s, const struct tm_event *e, struct tm_slice suffix);
void tm_deliver_raw(struct tm_sub *s, const struct tm_event *e); /* and its line in the ledger */
void tm_deliver_snapshot(struct tm_sub *s, uint32_t market, int64_t id);
void tm_client_send_text(struct tm_client *c, const struct tm_buf *text); /* a reply; the newline is added */
void tm_client_mark(struct tm_client *c);                                 /* flush it at the end of the turn */
void tm_sub_fail(struct tm_sub *s, int code);                             /* error on the sid, then silence */
void tm_client_stop_late(struct tm_client *c); /* late frames will not leave any more: say so */
void tm_sub_drop_kept(struct tm_sub *s);       /* nor will the one kept for a swap */
int tm_sub_release_kept(struct tm_sub *s);     /* it leaves without a neighbour to follow */

/* Commands (command.c) */
void tm_command_run(struct tm_client *c, struct tm_slice message);
const char *tm_error_text(int code);

#endif
