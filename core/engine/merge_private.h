/* Inside the merge: what merge.c (choosing and storing) and merge_aside.c (rows that do not go into their table) share. */
#ifndef TM_ENGINE_MERGE_PRIVATE_H
#define TM_ENGINE_MERGE_PRIVATE_H

#include "dedup/fpset.h"
#include "dedup/seen.h"
#include "engine/contribution.h"
#include "engine/days.h"
#include "engine/merge.h"
#include "store/copy.h"

/* A row of a batch. */
struct tm_choice {
    struct tm_batch *batch;
    uint32_t row;
    bool refused; /* production refused it: nothing may count as seen for its sake */
};

/* What the transaction does with one stream. The lists are cleared, not freed, between transactions. */
struct tm_work {
    const struct tm_stream *stream;
    struct tm_seen *seen;  /* NULL unless fingerprinted */
    struct tm_buf columns; /* of production, as text */
    struct tm_buf choices; /* struct tm_choice: rows to store */
    struct tm_buf spans;   /* struct tm_span_bytes of the same rows, in the same order */
    struct tm_buf repeats; /* struct tm_choice: left out as equal to one of `choices` */
    struct tm_buf absurd;  /* struct tm_choice */
    struct tm_buf late;    /* struct tm_choice: of days that are sealed */
    struct tm_seen
        *payloads;          /* of streams whose records say more than their key and times: key and the rest together */
    struct tm_buf suspects; /* struct tm_choice: duplicates by their key, and the rest was not seen like this */
    size_t stored;          /* so many of the choices were stored at once */
    uint64_t polled, duplicate, quarantined, written, late_rows, conflicts_found;
    bool conflicts; /* the last COPY of this stream met rows that were there: stage the next one at once */
};

struct tm_merge {
    struct tm_deduplicator *d;
    const struct tm_dedup_settings *settings; /* the merger's */
    struct tm_work *works;                    /* one a stream, by its index */
    size_t work_count;
    struct tm_fpset pending; /* keys that this transaction is about to store */
    struct tm_contribution *contribution;
    struct tm_days days;
    struct tm_pg *pg;        /* during store */
    struct tm_work *storing; /* during a COPY */
    bool looked;             /* in this transaction, whether a refusal is the table's fault */
    struct tm_error drift;
};

static inline struct tm_choice *choices_of(struct tm_buf *list)
{
    return (struct tm_choice *)(void *)list->data;
}

static inline size_t count_of(const struct tm_buf *list)
{
    return list->len / sizeof(struct tm_choice);
}

static inline struct tm_fp fp_of(const struct tm_choice *c)
{
    return c->batch->rows[c->row].fp;
}

/* A key together with all else that a record says. */
static inline struct tm_fp payload_fp_of(const struct tm_choice *c)
{
    const struct tm_batch_row *r = &c->batch->rows[c->row];
    return (struct tm_fp){.lo = r->fp.lo ^ r->payload, .hi = r->fp.hi + r->payload * UINT64_C(0x9e3779b97f4a7c15)};
}

/* ---- merge_aside.c; all in the open transaction ---- */

/* Absurd times, and days that retention has sealed. */
int tm_merge_put_aside(struct tm_merge *m, struct tm_work *w, struct tm_error *err) TM_MUST_CHECK;
/* A row that production refuses (store/copy.h). */
int tm_merge_reject(void *arg, const struct tm_stream *stream, const struct tm_span_bytes *tuple, const char *sqlstate,
                    const char *message) TM_MUST_CHECK;
/* After the stream's rows are stored: those of hours that the archive may have already are noted (store/exports.h). */
int tm_merge_note_late(struct tm_merge *m, struct tm_work *w, struct tm_error *err) TM_MUST_CHECK;
/* After the stream's rows are stored: are the suspects what production has? */
int tm_merge_compare(struct tm_merge *m, struct tm_work *w, struct tm_error *err) TM_MUST_CHECK;

#endif
