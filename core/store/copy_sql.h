/* The statements by which store/copy.c stores a stream's rows; text only. */
#ifndef TM_STORE_COPY_SQL_H
#define TM_STORE_COPY_SQL_H

#include "store/copy.h"

/* How rows that went to the stage get into the table. */
enum tm_copy_merge {
    TM_COPY_MERGE_UNIQUE, /* what the unique index knows already is left out */
    TM_COPY_MERGE_WITHIN, /* what was received close to an equal key is left out */
    TM_COPY_MERGE_UPSERT, /* the newest of equal keys stays */
};

struct tm_copy_sql {
    enum tm_copy_merge how;
    struct tm_buf straight; /* COPY into the table */
    struct tm_buf prepare;  /* the stage is there */
    struct tm_buf stage;    /* COPY into the stage alone */
    struct tm_buf pick;     /* WITHIN: order, group of equal keys, time of arrival of the rows not in the table */
    struct tm_buf
        compare; /* UNIQUE in production: what is staged against what is there, into tidemill.conflicts; or empty */
    struct tm_buf merge; /* from the stage into the table; WITHIN: $1 is the array of orders to take */
};

/* NUL-terminates all of them. `truncate` the stage before it is used. TM_ENOMEM: call fini all the same. */
int tm_copy_sql_init(struct tm_copy_sql *sql, const struct tm_copy_batch *batch, bool truncate) TM_MUST_CHECK;
void tm_copy_sql_fini(struct tm_copy_sql *sql);

#endif
