/*
 * Who writes the lines of a daemon's log: a bounded ring and one thread, so that nobody who logs ever waits for stderr. A
 * pipe that nobody reads, a terminal that is held, a journald that hangs or a full disk cost lines, which are counted, and
 * nothing else. base/log.h is what everybody calls; this is for it, and for those who end the process.
 *
 *     put, any thread -> [ len, lost before it, text | len, lost before it, text | ... ] -> thread -> one write() a line
 *
 * What does not fit is dropped and counted, and so is what comes after it until a quarter of the ring is free: so a reader
 * that is slow gets runs of whole lines and not one line here and there. A line knows how many were dropped before it, and
 * `lost` makes the line that says so, at the place where they are missing.
 *
 * The lock is held to copy a line in or out, never over a system call on stderr. The thread takes no signals. Not to be
 * called in a signal handler. A child of fork has no such thread, and writes its lines itself.
 */
#ifndef TM_BASE_LOG_WRITER_H
#define TM_BASE_LOG_WRITER_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define TM_LOG_LINE_MAX 4096 /* bytes; a pipe that takes anything takes so many at once (PIPE_BUF) */

/* On the thread, without the lock: make the line that tells of so many lost ones; its length. */
typedef size_t tm_log_writer_lost_line(char line[TM_LOG_LINE_MAX], uint64_t lost);

/*
 * From here on lines go through a ring of so many bytes. Once, before the first thread that logs. A process that returns
 * from main or calls exit stops it, and one that dies of a signal of its own making (abort, a bad address) leaves it 200 ms
 * to write what it has.
 */
int tm_log_writer_start(size_t bytes, tm_log_writer_lost_line *lost, struct tm_error *err) TM_MUST_CHECK;
/* Write what is there, as far as stderr takes it within 200 ms, and end the thread (100 ms more at most). Harmless when it
 * does not run. */
void tm_log_writer_stop(void);

/* A line with its newline, at most TM_LOG_LINE_MAX bytes: into the ring, or without a thread straight to stderr. */
void tm_log_writer_put(const char *line, size_t len);

/* The last line of a process: what is there before it goes first; all of that takes 200 ms at most. */
void tm_log_writer_put_last(const char *line, size_t len);

/* Lines dropped since the start; any thread. */
uint64_t tm_log_writer_lost(void);

#endif
