/*
 * What the gap ledger said lately, for people who look: the newest gaps in memory, and many gaps told as few *episodes*.
 * The ledger itself is the rows (engine/gap.h); nothing depends on this copy of it.
 *
 *     gatherer: intake notes each gap as it opens and closes             tm_gap_log_gap
 *     deduplicator: the clerk reads production's newest ones             tm_gap_log_replace
 *     who shows them: tm_gap_log_read, tm_gap_episodes
 *
 * An outage of the exchange is a gap of each connection; seen from further away it is one thing. Gaps of one lane (a
 * gatherer, or a kind of connections) and one reason are one episode when no second lies between them.
 *
 * A log is locked for the time of a copy; at most TM_GAP_LOG_MAX gaps, the oldest go.
 */
#ifndef TM_ENGINE_GAP_LOG_H
#define TM_ENGINE_GAP_LOG_H

#include "engine/gap.h"

#define TM_GAP_LOG_MAX 1000

struct tm_gap_note {
    uint8_t id[16];         /* of what is noted singly; else zeros */
    int64_t from_us, to_us; /* Unix; to 0: still open */
    int64_t records;        /* that are known to be missing; 0: unknown */
    bool filled;            /* late frames have brought them all */
    char lane[64], reason[32], connection[96];
};

struct tm_gap_log;

struct tm_gap_log *tm_gap_log_create(void);
void tm_gap_log_destroy(struct tm_gap_log *log); /* NULL is fine */

/* A gap of the same id is replaced. NULL log: nothing. */
void tm_gap_log_note(struct tm_gap_log *log, const struct tm_gap_note *note);
/* A row of the ledger as a note; the lane of "orderbook_delta/17" is what comes before the stroke. */
void tm_gap_log_gap(struct tm_gap_log *log, const struct tm_gap *gap, int64_t to_us, const char *closed_by);
/* All of it, in the order in which they were noted. */
void tm_gap_log_replace(struct tm_gap_log *log, const struct tm_gap_note *notes, size_t count);
size_t tm_gap_log_read(struct tm_gap_log *log, struct tm_gap_note *out, size_t max);

struct tm_gap_episode {
    const char *lane, *reason; /* in the notes */
    int64_t from_us, to_us;    /* to 0: not over */
    int64_t records;
    size_t gaps;
};

/* Sorts the notes. An open gap of a connection that has a later one ended with that: its process was killed before it could
 * say so. The newest episodes, at most `max`, newest first. Filled gaps are left out: nothing is missing. */
size_t tm_gap_episodes(struct tm_gap_note *notes, size_t count, struct tm_gap_episode *out, size_t max);

#endif
