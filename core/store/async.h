/*
 * PostgreSQL for a thread that must never wait: one connection as a state machine that its owner drives from a loop.
 *
 *     CLOSED --connect--> CONNECTING --> READY --send--> BUSY --> READY
 *        ^-------------------+---------------------------+  (lost, refused, too large, aborted)
 *
 * The owner watches tm_pg_async_fd for tm_pg_async_events and calls tm_pg_async_step when it is ready. The descriptor
 * may be another one after each step and after each call that changes the state: stop watching before, look again after.
 * Deadlines are the owner's: tm_pg_async_abort cancels what runs (on a thread of its own) and closes.
 *
 * Names are not resolved here, because libpq would wait for it: ask tm_pg_async_name what to resolve for a host, and
 * give its addresses to tm_pg_async_connect. (A conninfo that takes its host from a service file or from PGHOST's
 * default search is the exception: libpq resolves that by itself.)
 *
 * Rows are fetched one by one and copied into the answer, which is bounded in rows and bytes; a larger one closes the
 * connection with TM_EFULL. Sessions have timezone UTC, datestyle ISO and client_encoding UTF8. One thread at a time.
 */
#ifndef TM_STORE_ASYNC_H
#define TM_STORE_ASYNC_H

#include "base/buf.h"

#include <stdbool.h>

#define TM_PG_READ 1
#define TM_PG_WRITE 2
#define TM_PG_PARAMETERS_MAX 100

enum tm_pg_async_state { TM_PG_CLOSED, TM_PG_CONNECTING, TM_PG_READY, TM_PG_BUSY };

struct tm_pg_async;

struct tm_pg_async_options {
    const char *conninfo; /* copied */
    const char *application_name;
    size_t rows_max, bytes_max; /* of an answer */
};

struct tm_pg_column {
    char *name;
    unsigned type; /* the OID of pg_type */
};

/* Of the last statement; valid until the next one. */
struct tm_pg_answer {
    int code; /* TM_OK, or what went wrong as in store/pg.h; error says it in words */
    struct tm_error error;
    char sqlstate[6];
    char tag[32];     /* "INSERT", "ROLLBACK": the first word of the command tag */
    int64_t affected; /* rows, as the command tag tells; -1 if it does not */
    const struct tm_pg_column *columns;
    size_t column_count, row_count;
    struct tm_buf cells; /* see tm_pg_answer_next */
};

int tm_pg_async_create(const struct tm_pg_async_options *options, struct tm_pg_async **out,
                       struct tm_error *err) TM_MUST_CHECK;
void tm_pg_async_destroy(struct tm_pg_async *a); /* aborts; NULL is fine */

/* The hosts of the conninfo, to be tried in turn. The name that has to be resolved for one; NULL: none has. */
size_t tm_pg_async_hosts(const struct tm_pg_async *a);
const char *tm_pg_async_name(const struct tm_pg_async *a, size_t host);

/* Begin to connect; `addresses` are numeric, NULL-terminated, or NULL where no name had to be resolved. */
int tm_pg_async_connect(struct tm_pg_async *a, size_t host, const char *const *addresses,
                        struct tm_error *err) TM_MUST_CHECK;

enum tm_pg_async_state tm_pg_async_state(const struct tm_pg_async *a);
int tm_pg_async_fd(const struct tm_pg_async *a);     /* -1: none */
int tm_pg_async_events(const struct tm_pg_async *a); /* what to wait for */

/*
 * READY only: one statement with text parameters (NULL is SQL NULL). With `hidden`, errors repeat nothing of it, because
 * a parameter is a secret that the server might quote.
 */
int tm_pg_async_send(struct tm_pg_async *a, const char *sql, int count, const char *const *values, bool hidden,
                     struct tm_error *err) TM_MUST_CHECK;

/* 0: go on; 1: what was begun is done, the state is READY; negative: the connection is closed, err says why. */
int tm_pg_async_step(struct tm_pg_async *a, struct tm_error *err) TM_MUST_CHECK;

/* Cancel what runs and close. */
void tm_pg_async_abort(struct tm_pg_async *a);

bool tm_pg_async_in_transaction(const struct tm_pg_async *a);

const struct tm_pg_answer *tm_pg_async_answer(const struct tm_pg_async *a);

/* The next cell, row by row; NULL with *len 0 is SQL NULL. *at starts at 0. Cells end with a NUL of their own. */
const char *tm_pg_answer_next(const struct tm_pg_answer *answer, size_t *at, size_t *len);

#endif
