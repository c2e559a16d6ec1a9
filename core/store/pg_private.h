/* Inside the PostgreSQL connection: what pg.c, pg_connect.c and pg_copy.c share. */
#ifndef TM_STORE_PG_PRIVATE_H
#define TM_STORE_PG_PRIVATE_H

#include "store/pg.h"

struct tm_pg {
    PGconn *conn;
    struct tm_stop *stop;
    int64_t statement_us;
    enum tm_pg_class class; /* of the last call */
    char sqlstate[6];
    char statement[48]; /* how the last one began, for error texts */
};

/* Wait until the socket is ready for `events` (POLLIN, POLLOUT), the deadline (monotonic) or a stop. */
int tm_pg_wait(struct tm_pg *pg, short events, int64_t deadline_us, struct tm_error *err) TM_MUST_CHECK;

/* The connection is of no more use; remembers why. Returns `code`. */
int tm_pg_lost(struct tm_pg *pg, int code, struct tm_error *err);

/* Send what is queued. */
int tm_pg_flush(struct tm_pg *pg, int64_t deadline_us, struct tm_error *err) TM_MUST_CHECK;

/* The next result, NULL at the end of the statement. */
int tm_pg_next_result(struct tm_pg *pg, int64_t deadline_us, PGresult **out, struct tm_error *err) TM_MUST_CHECK;

/* Record the failure that a result tells and clear it; NULL: the connection ended. Returns the code. */
int tm_pg_failed(struct tm_pg *pg, PGresult *result, struct tm_error *err);

/* Read results to the end; the first error is kept. *last, if wanted, is the last good one. */
int tm_pg_finish(struct tm_pg *pg, int64_t deadline_us, PGresult **last, struct tm_error *err) TM_MUST_CHECK;

int tm_pg_send(struct tm_pg *pg, const char *sql, int64_t *deadline_us, struct tm_error *err) TM_MUST_CHECK;

enum tm_pg_class tm_pg_classify(const char *sqlstate);
int tm_pg_code_of(enum tm_pg_class class, const char *sqlstate);

/* Newlines become spaces; those at the end go. */
void tm_pg_one_line(char *text);

#endif
