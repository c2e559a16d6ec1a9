/*
 * Rows of the gap ledger (DESIGN 6, columns in record/builtin.h): written when a reason to have missed
 * something begins, and again under the same id when it ends. Builds the tuple only; the caller appends it to
 * the journal. One thread.
 *
 * What coverage() in production makes of them (store/coverage.h), in the order of their seq within an epoch:
 *
 *     reason 'whole'                    from to_ts on the connection brings all records of a stream, of a market or of all
 *     a connection, no numbers          that ends at from_ts, for all that the connection brings, or for ticker
 *     a connection and first_seq        not whole from from_ts to to_ts; nothing was missing if 'late frames' closed it
 *     no connection, 'stopped'          the process was away: all ends at from_ts
 *     no connection, else               not whole from from_ts to to_ts, on no connection
 */
#ifndef TM_ENGINE_GAP_H
#define TM_ENGINE_GAP_H

#include "record/row.h"

struct tm_gap {
    uint8_t id[16];
    bool open;
    const char *reason;     /* "disconnected", "sequence", "start", "journal full", ... */
    const char *connection; /* the link's name */
    int64_t from_us;        /* Unix */
    int64_t sid;            /* -1: the whole connection */
    int64_t first, last;    /* missing sequence numbers; 0, 0: unknown */
    char detail[160];
};

/* The words that are more than words. */
#define TM_GAP_WHOLE "whole"
#define TM_GAP_UNSUBSCRIBED "unsubscribed"
#define TM_GAP_STOPPED "stopped"
#define TM_GAP_LATE_FRAMES "late frames"
#define TM_GAP_WENT_BACK "sequence went back"

/* What a row is about; NULL: all streams, all markets. */
struct tm_gap_scope {
    const char *stream, *ticker;
    size_t ticker_len;
};

/* Give the gap a new id and open it. */
void tm_gap_open(struct tm_gap *gap, const char *reason, const char *connection, int64_t from_us);

/* How it ended: `to_us` 0 for one that is still open. */
struct tm_gap_end {
    int64_t to_us;
    const char *closed_by;
};

/* Append the ledger row to `buf`. `scope` NULL: all. */
int tm_gap_row(const struct tm_gap *gap, const struct tm_plan *plan, const struct tm_gap_scope *scope,
               struct tm_gap_end end, int64_t now_us, struct tm_buf *buf, struct tm_row *row) TM_MUST_CHECK;

#endif
