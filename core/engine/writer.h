/*
 * The store writer of a gatherer: journal -> local PostgreSQL, on a thread of its own ("store").
 *
 * It tails the journal from the checkpoint, in order, one transaction per group: COPY of each stream's rows
 * (in seq order), tidemill.streams, tidemill.marks, tidemill.checkpoint, NOTIFY, COMMIT. One ordered writer,
 * so `seq > cursor`, ordered by seq, is exact for whoever polls. The checkpoint is in the same transaction, so
 * replay after a crash stores nothing twice (FAILURES T18). The commit is asynchronous (synchronous_commit
 * off: the journal is the durable copy); the journal is released only up to a checkpoint whose WAL is known
 * to be flushed.
 *
 * A store that is down, slow or full costs nothing but lag: reconnect with backoff, the journal keeps
 * collecting. Rows the store can never take (class 22/23) go to tidemill.quarantine of the local store with
 * their error.
 *
 * Between commits it lets go what production has acknowledged (engine/retain.h), and counts the quarantine, so that
 * received = stored + quarantined + pending can be checked from outside.
 *
 * A reload hands over other options. The thread takes the newest ones after it has read records and before it commits
 * them, never inside a transaction: so rows of a new stream never meet a writer that does not know it, as long as it is
 * told before anybody appends such rows. Rows of a stream that the new plan lacks are stored as the old plan had them
 * (engine/lanes.h). Tables and columns are made where `migrate` says so. Another conninfo ends the session, and the next
 * begins at once there, from the checkpoint that is there.
 */
#ifndef TM_ENGINE_WRITER_H
#define TM_ENGINE_WRITER_H

#include "engine/retain.h"
#include "journal/journal.h"
#include "record/plan.h"

struct tm_writer;

#define TM_WRITER_BATCH_BYTES ((size_t)8 << 20) /* of a transaction, about */

struct tm_writer_options {
    const char *conninfo;
    const char *gatherer;
    struct tm_journal *journal;
    const struct tm_plan *plan; /* streams by name; held */
    struct tm_metrics *metrics;
    size_t batch_rows_max;     /* 0: 20000 */
    size_t batch_bytes_max;    /* 0: 8 MiB */
    bool migrate;              /* create the schema at start if it is not there */
    int64_t keep_us;           /* acknowledged rows stay for so long (engine/retain.h); 0: 7 days */
    uint64_t store_bytes_max;  /* of the local store; 0: no bound */
    const char *const *expire; /* streams whose unacknowledged rows may go at the bound; NULL-terminated; NULL: none */
    int64_t partition_rows;    /* of a new store's partitions; 0: TM_PARTITION_ROWS */
    struct tm_archive_settings archive; /* `to` NULL: none */
    tm_retain_submit *submit;           /* rows for the journal; NULL: nothing expires */
    void *submit_arg;
};

struct tm_writer_stats {
    bool connected;
    uint64_t rows, quarantined, batches, errors;
    int64_t last_commit_us;       /* monotonic; 0: none since start */
    int64_t last_row_received_us; /* Unix time of arrival of the newest row committed; 0: none */
    uint64_t journal_lag_bytes;   /* durable but not yet stored */
    uint64_t rebuilds;            /* sessions that found a store which knows nothing of any journal, or without tables
                                     of reference data */
    bool rebuilt_is_new;          /* at the last of them the journal held all that it ever had */
    char last_error[256];
};

int tm_writer_start(const struct tm_writer_options *options, struct tm_writer **out,
                    struct tm_error *err) TM_MUST_CHECK;
/* Something became durable: called from the journal's wake callback. Any thread. */
void tm_writer_wake(struct tm_writer *w);
/* Other conninfo, plan, migrate and batch sizes; gatherer, journal and metrics stay as they were. Returns at once. Any
 * thread. */
void tm_writer_reload(struct tm_writer *w, const struct tm_writer_options *options);
/* Store what is durable (bounded by 5 s), then stop and free. */
void tm_writer_stop(struct tm_writer *w);
struct tm_writer_stats tm_writer_stats(struct tm_writer *w);

#endif
