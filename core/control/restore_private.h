/* What restore-plan and rewind share: production's cursors beside what gatherers hold. */
#ifndef TM_CONTROL_RESTORE_PRIVATE_H
#define TM_CONTROL_RESTORE_PRIVATE_H

#include "base/buf.h"
#include "script/script.h"
#include "store/pg.h"

/* A stream of an epoch of a gatherer. */
struct tm_holding {
    const char *gatherer; /* the script's */
    char epoch[37], stream[64], epoch_no[16];
    int64_t cursor,
        there;     /* seqs: of production's cursor (the least of all shards), of the last row in the gatherer's store */
    int64_t ahead; /* of the shard that is furthest */
    char since[40]; /* when production's cursor was moved last; "": it has none */
    /* rewind: where it goes */
    int64_t target, hash;
    /* of what lies between `from` (the cursor, or the target) and `there` */
    int64_t gone;       /* rows that are not there any more */
    char first[40];     /* arrival of the first that is; "" not known */
    struct tm_buf gaps; /* a tstzmultirange: when what is gone arrived */
};

struct tm_holdings {
    const struct tm_config *config;
    const char *who;    /* the command's name, for messages */
    const char *to;     /* rewind: up to where, as PostgreSQL writes it; NULL: the cursors as they are */
    const char *stream; /* only this one; NULL: all */
    struct tm_stop stop;
    struct tm_pg *production;
    struct tm_holding *items;
    size_t count;
    size_t away; /* gatherers that could not be asked */
};

int tm_holdings_open(struct tm_holdings *h, struct tm_error *err) TM_MUST_CHECK;
void tm_holdings_close(struct tm_holdings *h);

/* Read all of it, and say on stderr who could not be asked. With `to`, targets too. */
int tm_holdings_look(struct tm_holdings *h, struct tm_error *err) TM_MUST_CHECK;

/* Rows that are polled again from where the cursors are or will be. */
int64_t tm_holding_from(const struct tm_holdings *h, const struct tm_holding *one);
int64_t tm_holding_rows(const struct tm_holdings *h, const struct tm_holding *one);

/* Print the table, and what nobody holds; *gone: whether there is such a thing. */
int tm_holdings_print(struct tm_holdings *h, long long rows_per_s, bool *gone, struct tm_error *err) TM_MUST_CHECK;

#endif
