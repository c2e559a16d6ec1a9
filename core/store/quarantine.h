/*
 * The quarantine: rows that a store can never take, kept whole with the reason (DESIGN 6), inside the
 * caller's transaction. Table tidemill.quarantine, store/migrate.h.
 */
#ifndef TM_STORE_QUARANTINE_H
#define TM_STORE_QUARANTINE_H

#include "store/pg.h"

struct tm_quarantine {
    const char *stream, *gatherer, *epoch, *seq; /* as text */
    const char *sqlstate;                        /* "" when it was not the server who refused */
    const char *error, *columns;
    struct tm_span_bytes tuple;
};

int tm_quarantine_put(struct tm_pg *pg, const struct tm_quarantine *q, struct tm_error *err) TM_MUST_CHECK;

#endif
