/*
 * Faults on purpose. Each is one line, given with --fault or POSTed to /control/fault:
 *
 *     at=10s,kind=gap,count=3,channel=orderbook_delta,fraction=0.3
 *
 * `at` is reckoned from the start of generation; without it the fault begins at once. `for` ends lasting ones (without
 * it they last until POST /control/clear; those that shut the listener, and /control with it, need an end). Which
 * connections: client=NUMBER, label=, key=, agent= (part of the name), fraction=0..1 of those (drawn from the seed); all
 * if none is given. Which subscriptions: channel=, sid=; all if none.
 *
 * Which kinds there are, what each does and which parameters it takes: fault_table.c, from which --help prints it.
 *
 * Loop's thread.
 */
#ifndef TM_EXCHANGE_FAULTS_H
#define TM_EXCHANGE_FAULTS_H

#include "exchange/feed.h"
#include "exchange/http.h"

enum tm_fault_kind {
    TM_FAULT_GAP,
    TM_FAULT_DUPLICATE,
    TM_FAULT_REORDER,
    TM_FAULT_LATE,
    TM_FAULT_FRAGMENT,
    TM_FAULT_UNKNOWN,
    TM_FAULT_MALFORMED,
    TM_FAULT_POISON,
    TM_FAULT_PROTOCOL,
    TM_FAULT_RENUMBER,
    TM_FAULT_ERROR,
    TM_FAULT_STALL,
    TM_FAULT_SLOW,
    TM_FAULT_DISCONNECT,
    TM_FAULT_CLOSE,
    TM_FAULT_HANDSHAKE,
    TM_FAULT_REST,
    TM_FAULT_REFUSE,
    TM_FAULT_SILENCE,
    TM_FAULT_MAINTENANCE,
    TM_FAULT_KINDS,
};

struct tm_fault {
    enum tm_fault_kind kind;
    bool has_at, has_count, has_whom, pings, keep, fin, disconnect;
    bool whole; /* maintenance: of the exchange, not of trading alone */
    int64_t at_us, for_us, delay_us;
    uint32_t count, client, sid;
    int channel; /* -1: all */
    double fraction;
    int code, status;
    char label[64], key[64], agent[64], what[64], path[128], shape[16];
    char text[256]; /* as it was given */

    struct tm_faults *all; /* from here on: while it is armed or lasts */
    struct tm_fault *next;
    struct tm_timer begin, end;
    uint64_t serial;
    bool lasting;
    int64_t ends_us; /* wall time; 0: nobody knows */
};

struct tm_faults {
    struct tm_feed *feed;
    struct tm_fault *list; /* armed or lasting */
    uint64_t serial;
    bool started;
};

/* Read a fault's text. Unknown kinds, keys and values, and those a kind has no use for, are refused with what was
 * expected. */
int tm_fault_parse(const char *text, struct tm_fault *out, struct tm_error *err) TM_MUST_CHECK;
const char *tm_fault_name(enum tm_fault_kind kind);

void tm_faults_init(struct tm_faults *all, struct tm_feed *feed);
void tm_faults_fini(struct tm_faults *all);

/* Arm a copy: now, or `at` after the start of generation. */
void tm_faults_add(struct tm_faults *all, const struct tm_fault *fault);
void tm_faults_on_start(struct tm_faults *all);

/* End all that last, and disarm what is to come. */
void tm_faults_clear(struct tm_faults *all);

/* The lasting fault of a kind that concerns this client or path, or NULL; spends one of its count. */
struct tm_fault *tm_faults_meet(struct tm_faults *all, enum tm_fault_kind kind, const struct tm_identity *who,
                                struct tm_slice path);

/* True while a fault of the kind lasts. */
bool tm_faults_last(const struct tm_faults *all, enum tm_fault_kind kind);

/* What lasting maintenance says of itself: is the whole exchange paused, and until when (wall time; 0: unknown)? False
 * when there is none. */
bool tm_faults_pause(const struct tm_faults *all, bool *whole, int64_t *until_us);

/* The answer that a handshake or rest fault gives. */
void tm_fault_reply(const struct tm_fault *fault, struct tm_reply *reply);

/* 429 in one of its two shapes. */
void tm_reply_too_many(struct tm_reply *reply, bool flat);

/* Faults that count frames end too: the frame kept for a swap is sent (fault_apply.c). */
void tm_faults_forgive(struct tm_feed *feed);

/* What a fault does to clients and subscriptions (fault_apply.c): how many it met; and its end. */
uint32_t tm_fault_begin(struct tm_fault *fault);
void tm_fault_end(struct tm_fault *fault);

/* An extra frame into a subscription (inject.c). `round` counts within one fault. */
void tm_inject(struct tm_sub *s, const struct tm_fault *fault, uint32_t round);
size_t tm_poison_count(void);

#endif
