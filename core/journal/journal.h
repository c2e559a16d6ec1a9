/*
 * The journal: a segmented, checksummed log on local disk. A record counts as received once it is durable here.
 *
 *     io thread                         journal thread                       store thread
 *     tm_journal_append() -> buffer ->  write + fdatasync (group commit)  -> tm_journal_reader_next()
 *                                       publishes the durable position       (only durable bytes)
 *
 * Appending never blocks and never makes a system call: records collect in a buffer that tm_journal_flush (end of the
 * loop turn) hands to the journal's own thread, which writes all that has come meanwhile with one fdatasync.
 *
 * Files: DIR/epoch (the random 128-bit id of this journal's history), DIR/NNNNNNNNNNNNNNNN.seg (16 hex digits). A
 * segment is a header (epoch, segment number, salt, the table of streams with their next seqs), twice, and then frames
 * of records, each with CRC32Cs that cover its place, so that stale, moved or swapped bytes never pass. segment.h draws
 * it. Every open and every new declaration begins a new segment, so any segment can be read alone and no offset of a
 * segment is ever written twice. A segment appears under its name only with its header durable.
 *
 * Every record of a stream gets the next seq, gapless from 1, one counter per stream. A stream is declared by name and
 * column list; another column list is another declaration with the same name and the same counter, so old rows keep
 * the list they were written with. Declarations live as long as the directory.
 *
 * Recovery at open: the newest segment is scanned. A frame says up to where the segment was durable when it was written;
 * what fails its check behind all of those marks is a torn tail and is cut (ftruncate + fsync of file and directory),
 * as it was never reported durable. Anything else that fails its check was durable once: it is stepped over to the next
 * good frame, counted (damaged_frames, damaged_bytes) and logged, never taken for the end (FAILURES T19, T20), and the
 * seqs it may have held are not given out again. Where no segment can be read there is nothing to continue, and the
 * epoch is a new one.
 *
 * A group is what was flushed since the one before it began to be written, and groups are at least group_us apart: where
 * fdatasync is quick, a sync for every few records would cost more processor time than the records.
 *
 * Errors while running: a failed or short write (ENOSPC, EIO) is cut back and tried again, with everything kept in
 * memory, bounded by buffer_bytes_max; at the bound append returns TM_EFULL and the caller applies its policy. A failed
 * sync is never tried again: it aborts the process, and the restart reads what is really on disk (T22).
 *
 * Space: bytes_max bounds the segments on disk; at the bound writing stops (stalled) until something is released.
 * Segments with a number below the released position's are deleted by the journal thread.
 *
 * Usual order: open, stream for each stream, then in each loop turn append... flush; readers start from the checkpoint
 * that the store holds, and release what the store has committed. Close the readers before the journal.
 *
 * Threads: open, append, flush, close: one thread (io). Readers: one thread each. stream, check_streams, release, stats,
 * wait: any.
 */
#ifndef TM_JOURNAL_JOURNAL_H
#define TM_JOURNAL_JOURNAL_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct tm_fs;
struct tm_journal;
struct tm_journal_reader;

#define TM_JOURNAL_SEGMENT_BYTES ((size_t)64 << 20) /* defaults */
#define TM_JOURNAL_BYTES (UINT64_C(8) << 30)
#define TM_JOURNAL_BUFFER_BYTES ((size_t)64 << 20)

struct tm_journal_options {
    const char *dir;         /* created 0700 if missing; locked against a second process */
    size_t segment_bytes;    /* at most this, 4 KiB to 1 GiB; 0: 64 MiB */
    uint64_t bytes_max;      /* on disk, at least two segments; 0: 8 GiB */
    size_t buffer_bytes_max; /* in memory, not yet durable; 0: 64 MiB */
    int64_t group_us;        /* from one group to the next, unless somebody waits or memory is half full; 0: no pause */
    const struct tm_fs *fs;  /* NULL: the real file system; tests give another */
};

/* A place between two frames. Ordered by (segment, offset). */
struct tm_journal_position {
    uint64_t segment;
    uint64_t offset;
};

struct tm_journal_stats {
    uint64_t appended, durable; /* records since open */
    uint64_t appended_bytes, syncs;
    uint64_t buffered_bytes, disk_bytes, disk_bytes_max;
    uint64_t damaged_frames, damaged_bytes, torn_bytes; /* found at open and by readers */
    uint64_t write_errors;
    int64_t last_sync_us; /* monotonic time of the last successful fdatasync; 0: none yet */
    int64_t sync_us_max;  /* slowest fdatasync since open */
    bool stalled;         /* nothing can be written now: an error that is retried, or bytes_max */
};

/* What open and the first declarations of these streams would refuse in a new directory, without touching a disk. */
struct tm_journal_declaration {
    const char *name, *columns;
};
int tm_journal_check(const struct tm_journal_options *options, const struct tm_journal_declaration *streams,
                     size_t count, struct tm_error *err) TM_MUST_CHECK;

/* The bytes that a tuple takes in a segment, its share of the frame's head left out. */
size_t tm_journal_record_bytes(size_t tuple_len);

int tm_journal_open(const struct tm_journal_options *options, struct tm_journal **out,
                    struct tm_error *err) TM_MUST_CHECK;

/* Flush, make durable, stop the thread. TM_EIO (or TM_EFULL at bytes_max) if the last bytes could not be written; the
 * journal is closed all the same. NULL is allowed. */
int tm_journal_close(struct tm_journal *j, struct tm_error *err);

const uint8_t *tm_journal_epoch(const struct tm_journal *j); /* 16 bytes */

/* Declare a stream; returns its id (>= 0) or an error. The same name and columns return the same id. */
int tm_journal_stream(struct tm_journal *j, const char *name, const char *columns, struct tm_error *err) TM_MUST_CHECK;

/* Whether these streams could all be declared, without declaring them: TM_EFULL says that there is no room. */
struct tm_journal_stream_def {
    const char *name, *columns;
};
int tm_journal_check_streams(struct tm_journal *j, const struct tm_journal_stream_def *streams, size_t count,
                             struct tm_error *err) TM_MUST_CHECK;

/* The last seq given out for a stream name; 0: none yet. */
int64_t tm_journal_last_seq(const struct tm_journal *j, const char *name);

/* Append a tuple; its last 8 bytes are overwritten with its seq, which is returned (> 0). Nothing is given out or kept
 * when it fails: TM_EFULL at the memory bound, TM_EPOISON for a tuple larger than 16 MiB, half a segment or half the
 * buffer, TM_EINVAL for one shorter than 8 bytes or an unknown stream, TM_ENOMEM. */
int64_t tm_journal_append(struct tm_journal *j, int stream, uint8_t *tuple, size_t len) TM_MUST_CHECK;

/* Whether an eighth of the buffer is free. Whoever was refused begins again only then: else, between the rows that fit and those
 * that do not, the journal would be full and not full a thousand times a second. Thread: the appending one. */
bool tm_journal_has_room(const struct tm_journal *j);

/* Hand what was appended to the journal thread. Cheap when there is nothing. */
void tm_journal_flush(struct tm_journal *j);

/* Wait until all that was flushed so far is durable: TM_OK or TM_ETIMEOUT. For tests and orderly ends. */
int tm_journal_wait(struct tm_journal *j, int64_t timeout_us) TM_MUST_CHECK;

/* Called on the journal thread after each durable group, whose oldest record was appended at the monotonic time
 * `oldest_us`; keep it short (an eventfd write, an ev_async send). Once another one is set, the one before is not called
 * any more. */
typedef void tm_journal_wake_fn(void *arg, int64_t oldest_us);
void tm_journal_set_wake(struct tm_journal *j, tm_journal_wake_fn *wake, void *arg);

/* Everything before this position may be deleted: the store has it, durably. Goes only forward. */
void tm_journal_release(struct tm_journal *j, struct tm_journal_position position);

/* The oldest position that is still there, and the end of what is durable. */
struct tm_journal_position tm_journal_oldest(struct tm_journal *j);
struct tm_journal_position tm_journal_durable(struct tm_journal *j);

struct tm_journal_stats tm_journal_stats(struct tm_journal *j);

/* ---- reading ---- */

struct tm_journal_record {
    const char *stream;  /* name; lives as long as the reader */
    const char *columns; /* column list of this record's declaration; likewise */
    int stream_id;
    int64_t seq;
    const uint8_t *tuple; /* inside the reader's frame; valid until the next call */
    uint32_t len;
};

/* From a position given by this journal before, or {0,0} for the oldest. TM_ENOENT: that position was deleted.
 * TM_ECORRUPT: the journal ends before it, so it has lost what a store already took, and would give out the same seqs
 * again (a fork, FAILURES T4b): start a new directory. */
int tm_journal_reader_open(struct tm_journal *j, struct tm_journal_position from, struct tm_journal_reader **out,
                           struct tm_error *err) TM_MUST_CHECK;
void tm_journal_reader_close(struct tm_journal_reader *r);

/* 1: *record is the next one. 0: nothing more is durable now. Negative: an I/O error (the same call may succeed later),
 * or TM_ENOENT: the segment to read next was released and is gone. Damage is skipped and counted. */
int tm_journal_reader_next(struct tm_journal_reader *r, struct tm_journal_record *record,
                           struct tm_error *err) TM_MUST_CHECK;

/* The position after the last record returned; exact only when the frame it came from is used up (at_frame_end), which
 * is where a checkpoint may stand. */
struct tm_journal_position tm_journal_reader_position(const struct tm_journal_reader *r);
bool tm_journal_reader_at_frame_end(const struct tm_journal_reader *r);

#endif
