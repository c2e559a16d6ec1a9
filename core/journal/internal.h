/*
 * What the files of this room share. Not for others.
 *
 *     journal.c   open, close, declare, append, flush, release, figures         (io thread, any)
 *     writer.c    the journal thread: segments, frames, sync, trimming
 *     recover.c   what open finds: epoch, segments, last seqs, torn tail
 *     inspect.c   looking at the files of a journal that may be somebody else's
 *     repair.c    making a damaged one whole again
 *     reader.c    readers                                                       (one thread each)
 *
 * A record's way: append puts it behind an open frame in the io thread's block; flush closes the frame and queues the
 * block; the journal thread gives each frame its offset, seals and writes it, syncs, and publishes `durable`.
 *
 * One lock guards what is marked so. io: only the io thread (and open, before the journal thread starts). writer: only
 * the journal thread (likewise).
 */
#ifndef TM_JOURNAL_INTERNAL_H
#define TM_JOURNAL_INTERNAL_H

#include "journal/fs.h"
#include "journal/journal.h"
#include "journal/segment.h"

#include <pthread.h>
#include <stdatomic.h>

#define TM_JOURNAL_STREAMS_MAX 1024
#define TM_BLOCK_BYTES (1u << 20)        /* a block is queued when it has grown to this, flushed or not */
#define TM_BLOCK_JOINED_BYTES (1u << 16) /* small ones that wait together become one of at most this */

/* Frames on their way to the disk. */
struct tm_block {
    struct tm_block *next;
    struct tm_buf bytes; /* whole frames, heads not sealed yet */
    size_t frame;        /* io: where the open frame's head is */
    uint32_t count;      /* io: its items; 0: no frame is open */
    size_t written;      /* writer: up to here it is on file */
    int64_t oldest_us;   /* monotonic time of its first append */
};

/* A declaration: written under the lock once, then constant. */
struct tm_decl {
    char *name, *columns;
    int family; /* the first declaration with this name; the seq counter is its */
};

struct tm_segment_file {
    uint64_t number;
    uint64_t end; /* bytes that count; for the segment being written see `durable` */
};

/* The segment being written. */
struct tm_tail {
    int fd; /* -1: none yet */
    uint64_t number;
    uint32_t key;
    uint64_t offset, synced, data_offset;
    int decls;                       /* how many its header holds */
    bool dirty;                      /* written or truncated since the last sync */
    bool cut_needed;                 /* a failed write may have left bytes behind offset */
    uint64_t records, payload_bytes; /* written since the last sync */
    int64_t oldest_us;               /* the first append among them; 0: none */
};

struct tm_journal {
    struct tm_fs fs;
    int dir;
    char *dir_name;
    size_t segment_bytes, frame_bytes, record_bytes_max, buffer_bytes_max, header_bytes_max;
    uint64_t bytes_max;
    int64_t group_us;
    uint8_t epoch[16];

    struct tm_decl decls[TM_JOURNAL_STREAMS_MAX]; /* lock to add; read up to decl_count */
    _Atomic int decl_count;
    size_t table_bytes;                        /* lock: of the declarations in a header */
    int64_t next_seq[TM_JOURNAL_STREAMS_MAX];  /* io, by family */
    int64_t filed_seq[TM_JOURNAL_STREAMS_MAX]; /* writer, by family: the next after all that was written */
    struct tm_block *block;                    /* io */
    _Atomic uint64_t buffered_bytes, appended, appended_bytes;

    pthread_mutex_t lock;
    pthread_cond_t work;                          /* lock: for the journal thread */
    pthread_cond_t synced;                        /* lock: broadcast after each group */
    struct tm_block *queue, *queue_last, *spare;  /* lock */
    unsigned spares;                              /* lock */
    uint64_t queued_records;                      /* lock */
    bool stopping;                                /* lock */
    bool resting, urgent;                         /* lock: until the next group is due; somebody waits for it */
    struct tm_segment_file *segments;             /* lock; written by the journal thread; oldest first */
    size_t segment_count, segment_cap;            /* lock */
    struct tm_journal_position durable, released; /* lock */
    uint64_t trimmed;                             /* lock: the released segment that was last acted on */
    struct tm_journal_stats stats;                /* lock; some fields are filled by tm_journal_stats */
    pthread_mutex_t wake_lock; /* held during a call of `wake`, so that one that was replaced is not called any more */
    tm_journal_wake_fn *wake;  /* wake_lock */
    void *wake_arg;            /* wake_lock */

    struct tm_tail tail;         /* writer */
    uint64_t next_segment;       /* writer */
    uint64_t disk_bytes;         /* writer */
    struct tm_block *group;      /* writer: taken from the queue, not yet durable */
    int64_t taken_us;            /* writer: when; monotonic */
    struct tm_buf header;        /* writer */
    int close_code;              /* writer; read after it was joined */
    struct tm_error close_error; /* writer; likewise */
    pthread_t thread;
};

/* recover.c: lock the directory and find out what is there. Fills epoch, decls, seqs, segments, durable, next_segment. */
int tm_journal_recover(struct tm_journal *j, struct tm_error *err) TM_MUST_CHECK;

/* journal.c: open and close but for the thread: everything recovery does, and nothing is written behind it. */
int tm_journal_load(const struct tm_journal_options *options, struct tm_journal **out,
                    struct tm_error *err) TM_MUST_CHECK;
void tm_journal_unload(struct tm_journal *j);

/* journal.c: declare without asking the journal thread; the id or an error. */
int tm_journal_declare(struct tm_journal *j, const struct tm_segment_stream *s, struct tm_error *err) TM_MUST_CHECK;
struct tm_block *tm_block_get(struct tm_journal *j);
void tm_block_put(struct tm_journal *j, struct tm_block *b); /* with the lock held */
void tm_block_destroy(struct tm_block *b);
bool tm_journal_memory_is_short(struct tm_journal *j); /* the next group is due at once */
void tm_journal_count_damage(struct tm_journal *j, uint64_t frames, uint64_t bytes);

/* Make room for one more segment in the list, then add it. With the lock held. */
int tm_journal_segment_reserve(struct tm_journal *j) TM_MUST_CHECK;
void tm_journal_segment_add(struct tm_journal *j, uint64_t number, uint64_t end);

/* writer.c: the journal thread. */
void *tm_journal_run(void *journal);

/* writer.c: begin the next segment now; for a journal without its thread. */
int tm_journal_roll(struct tm_journal *j, struct tm_error *err) TM_MUST_CHECK;

#endif
