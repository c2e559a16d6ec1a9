/*
 * Rows that came for days which production has sealed: their partitions may be gone by now, and what is left of them may
 * not be whole, so nothing can tell whether they are records of their own. They are kept whole in tidemill.late
 * (FAILURES T13), each once by its gatherer's place, inside the caller's transaction.
 */
#ifndef TM_STORE_LATE_H
#define TM_STORE_LATE_H

#include "store/pg.h"

#define TM_LATE_ROWS 256 /* of one statement */

struct tm_late_row {
    const char *gatherer, *epoch; /* plain words: ids and uuids */
    int64_t seq;
    struct tm_span_bytes tuple; /* of `columns` */
};

int tm_late_put(struct tm_pg *pg, const char *stream, const char *columns, const struct tm_late_row *rows, size_t count,
                struct tm_error *err) TM_MUST_CHECK;

#endif
