/*
 * How many rows a transaction with production may have, so that its rows take seconds and not minutes on a link or server
 * that is slow: what takes longer than its deadline would be begun again for ever, and holds locks meanwhile. Time that
 * COMMIT takes does not count, as it costs the same for few rows.
 *
 *     a transaction took longer than 5 s     as many as would have taken that
 *     less than 1 s                          twice as many, up to no bound
 *     its session ended in it                a tenth: a deadline, or a server that is up for a moment only
 *
 * The merger measures; pollers read no more rows at once than the bound, as what they read cannot be divided.
 *
 * And how often a gatherer's store commits what comes in bit by bit: a commit costs about the same for one row as for a
 * thousand, so not more often than every 25 ms; and where one takes long, the server or the machine is busy, and fewer and
 * larger ones are what relieves it: every 3 times what the last took, up to 150 ms. (Production commits as soon as it may:
 * it is on everybody's way, and there is one of it.)
 */
#ifndef TM_ENGINE_PACE_H
#define TM_ENGINE_PACE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define TM_PACE_ROWS_MIN 200

struct tm_pace {
    _Atomic size_t rows_max; /* 0: no bound */
};

/* Any thread: the smaller of `wanted` and the bound. */
size_t tm_pace_rows(const struct tm_pace *p, size_t wanted);
/* The merger: `rows` took so long, COMMIT aside. */
void tm_pace_took(struct tm_pace *p, size_t rows, int64_t us);
void tm_pace_failed(struct tm_pace *p, size_t rows);

/* From the start of a commit that took so long to the start of the next, where nothing waits that has to. */
int64_t tm_pace_commits_us(int64_t took_us);

#endif
