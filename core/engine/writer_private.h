/* The store writer's own: its state, and a commit (engine/writer.h). The writer's thread, but for what `lock` guards. */
#ifndef TM_ENGINE_WRITER_PRIVATE_H
#define TM_ENGINE_WRITER_PRIVATE_H

#include "engine/account.h"
#include "engine/lanes.h"
#include "engine/writer.h"
#include "engine/writer_settings.h"

#include <pthread.h>

struct tm_writer {
    struct tm_journal *journal;
    char *gatherer, *application_name;
    pthread_t thread;
    struct tm_stop stop;
    int wake_fd;
    _Atomic int64_t drain_until_us;            /* monotonic; 0: not stopping */
    _Atomic(struct tm_writer_settings *) next; /* to be taken; NULL: no news */

    /* the writer's thread */
    struct tm_writer_settings *settings;
    bool moved; /* the session ends because the store is another one now */
    struct tm_pg *pg;
    struct tm_journal_reader *reader;
    int32_t epoch_no;
    struct tm_lanes *lanes;
    struct tm_accounts *accounts;
    struct tm_journal_position committed; /* the checkpoint of the last commit */
    struct tm_journal_position release;   /* may go once `release_lsn` is flushed */
    char release_lsn[32];                 /* "": nothing pending */
    int64_t release_checked_us;
    int64_t partition_rows, counted_us;
    struct tm_retain retain;
    struct tm_overflow *overflow; /* NULL: no archive was ever set */
    struct tm_buf sql;

    struct tm_metric *connected, *errors, *quarantined, *quarantine_rows, *lag, *latency;
    pthread_mutex_t lock; /* guards stats */
    struct tm_writer_stats stats;
};

/* At the beginning of a session, once the schema is there. */
int tm_writer_prepare(struct tm_writer *w, struct tm_error *err) TM_MUST_CHECK;

/* Store what the lanes hold in one transaction, with the holes in it and the checkpoint. After an error the session is to be
 * ended. */
int tm_writer_commit(struct tm_writer *w, struct tm_error *err) TM_MUST_CHECK;

#endif
