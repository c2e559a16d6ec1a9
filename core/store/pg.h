/*
 * PostgreSQL connections with deadlines: straight-line calls for a thread that may wait, which the io thread
 * never is.
 *
 * libpq is used in non-blocking mode underneath: each call waits in poll() for the socket, its own deadline
 * and the stop signal, so that a hung server, a half-open connection or a shutdown never holds the thread
 * longer than that. (One thing can: resolving a host's name. Where that matters, give hostaddr.) When a
 * deadline passes or a stop is asked for while a statement runs, it is cancelled, by a thread of its own that
 * nobody waits for, and the connection is closed: its state is unknown. A connection belongs to one thread at
 * a time.
 *
 * Errors carry a class (what to do), not only a text; tm_pg_class_of gives it for the last call. The text
 * never contains the conninfo. Sessions have timezone UTC and client_encoding UTF8.
 */
#ifndef TM_STORE_PG_H
#define TM_STORE_PG_H

#include "base/buf.h"

#include <libpq-fe.h>
#include <stdatomic.h>

/* Set by any thread to end all waiting, for good; `fd` is an eventfd that becomes readable. Shared by all
 * connections of a thread. */
struct tm_stop {
    atomic_bool stopped;
    int fd;
};
int tm_stop_init(struct tm_stop *stop) TM_MUST_CHECK;
void tm_stop_request(struct tm_stop *stop);
void tm_stop_fini(struct tm_stop *stop);
/* Sleep; TM_OK after the time, TM_ESTOPPED when asked to stop. */
int tm_stop_wait(struct tm_stop *stop, int64_t us);

/* What to do about a failure. One table says which SQLSTATE is of which class (pg_class.c). */
enum tm_pg_class {
    TM_PG_OK,
    TM_PG_RECONNECT, /* lost, starting, shutting down, read-only (08*, 57P*, 25006): connect again, with
                        backoff */
    TM_PG_RETRY,     /* deadlock, cancelled, disk full, too many connections (40*, 53*, 55P03, 57014) */
    TM_PG_DATA,      /* this row can never be stored (22*, 23*, 54*): bisect and quarantine */
    TM_PG_UNIQUE,    /* 23505 */
    TM_PG_STOP,      /* schema, rights, corruption (42*, 28*, XX*, ...): retrying soon gains nothing; alarm */
};
const char *tm_pg_class_name(enum tm_pg_class class); /* "reconnect", "retry", ... */

struct tm_pg;

/* Whole tuples laid end to end somewhere. */
struct tm_span_bytes {
    const uint8_t *bytes;
    size_t len;
};

struct tm_pg_options {
    const char *conninfo;         /* multi-host allowed; keepalives and tcp_user_timeout are added where absent */
    const char *application_name; /* "tidemill g1 store" */
    struct tm_stop *stop;
    int64_t connect_us;        /* 0: 10 s */
    int64_t statement_us;      /* deadline of each call; 0: 60 s */
    bool writes;               /* only a server that takes writes will do, unless the conninfo says otherwise */
    enum tm_pg_class *refusal; /* where it fails: why the last host did not do; NULL: not wanted */
};

/* TM_ERETRY, TM_ETIMEOUT: nobody answered, or not now; TM_EDENIED: rights; TM_EINVAL: the conninfo, the
 * database. */
int tm_pg_connect(const struct tm_pg_options *options, struct tm_pg **out, struct tm_error *err) TM_MUST_CHECK;
void tm_pg_close(struct tm_pg *pg);
bool tm_pg_is_open(const struct tm_pg *pg); /* false once the connection is known to be lost */
/* Open, and made by this conninfo: a session that follows its settings is closed and made anew when not. NULL is not. */
bool tm_pg_is_open_by(const struct tm_pg *pg, const char *conninfo);

/* A conninfo as people may see it: passwords and free options are "***". */
int tm_pg_mask(const char *conninfo, struct tm_buf *out) TM_MUST_CHECK;

/* Whether libpq understands it; nothing is connected. The error names a keyword that is unknown, never a value. */
int tm_pg_check_conninfo(const char *conninfo, struct tm_error *err) TM_MUST_CHECK;

/* The class and SQLSTATE ("" if none) of the last failed call. */
enum tm_pg_class tm_pg_class_of(const struct tm_pg *pg);
const char *tm_pg_sqlstate(const struct tm_pg *pg);

/* Run one statement or several, without a result. Here and below: TM_ERETRY for the first two classes (but
 * TM_ETIMEOUT and TM_ESTOPPED for what they say), TM_EPOISON for the next two, for the last TM_EDENIED,
 * TM_ECORRUPT or TM_EINVAL. */
int tm_pg_exec(struct tm_pg *pg, const char *sql, struct tm_error *err) TM_MUST_CHECK;

/* End a transaction that failed. The class and SQLSTATE of why it did stay, unless the session is lost. */
void tm_pg_rollback(struct tm_pg *pg);

/*
 * COMMIT, which waits for the answer of a synchronous standby for `standby_us` and not for ever (MEASURED.md): then the
 * server is asked to wait no longer, and keeps the transaction. *alone: it did, and the transaction is there, but perhaps
 * nowhere else.
 */
int tm_pg_commit(struct tm_pg *pg, int64_t standby_us, bool *alone, struct tm_error *err) TM_MUST_CHECK;

/* Run one statement with text parameters (NULL is SQL NULL). The result is the caller's to PQclear; text format. */
int tm_pg_query(struct tm_pg *pg, const char *sql, int count, const char *const *values, PGresult **out,
                struct tm_error *err) TM_MUST_CHECK;

/*
 * The same of a statement that a session runs over and over: the server parses it once, and plans it once where it sees
 * that this does as well (PREPARE). The text has to be the same each time; of more than 64 texts the others are parsed
 * each time, and all of them once a pooler is seen to have changed the server process: in a transaction that costs the
 * transaction, as TM_ERETRY of class RETRY.
 */
int tm_pg_query_prepared(struct tm_pg *pg, const char *sql, int count, const char *const *values, PGresult **out,
                         struct tm_error *err) TM_MUST_CHECK;

/* The same where no rows are wanted; *affected: how many the statement touched, NULL: no matter. */
int tm_pg_run(struct tm_pg *pg, const char *sql, int count, const char *const *values, int64_t *affected,
              struct tm_error *err) TM_MUST_CHECK;

/* A whole number as a parameter. */
struct tm_pg_number {
    char text[24];
};
const char *tm_pg_number(struct tm_pg_number *n, int64_t value);

/* The first value of the first row: as text, cut to `size`, "" for no row or NULL; or as a whole number, 0 for those. */
int tm_pg_query_text(struct tm_pg *pg, const char *sql, int count, const char *const *values, char *out, size_t size,
                     struct tm_error *err) TM_MUST_CHECK;
int tm_pg_query_number(struct tm_pg *pg, const char *sql, int count, const char *const *values, int64_t *out,
                       struct tm_error *err) TM_MUST_CHECK;

/* COPY ... FROM STDIN (FORMAT binary): the header and trailer are added here; `tuples` are whole tuples.
 * Other statements without result may stand before and after COPY, and share its round trip. */
int tm_pg_copy_in(struct tm_pg *pg, const char *copy_sql, const struct tm_span_bytes *tuples, size_t count,
                  struct tm_error *err) TM_MUST_CHECK;

/* The same with several COPY among the statements, one for each part, in order: one message, answered step by step. */
struct tm_pg_part {
    const struct tm_span_bytes *tuples;
    size_t count;
};
int tm_pg_copy_in_parts(struct tm_pg *pg, const char *sql, const struct tm_pg_part *parts, size_t count,
                        struct tm_error *err) TM_MUST_CHECK;

/* COPY ... TO STDOUT (FORMAT binary): appends whole tuples to `out` (header and trailer taken off); nothing
 * when it fails. */
int tm_pg_copy_out(struct tm_pg *pg, const char *copy_sql, struct tm_buf *out, struct tm_error *err) TM_MUST_CHECK;

/* The same with several of them, separated by ";": each appends to its own; when it fails, nobody knows how much. TM_EFULL:
 * there is more than `bytes_max` of them together; they have the tuples up to the one that was too much, and the connection
 * is closed, as all the rest would have to be read. */
int tm_pg_copy_out_parts(struct tm_pg *pg, const char *sql, struct tm_buf *const *outs, size_t count, size_t bytes_max,
                         struct tm_error *err) TM_MUST_CHECK;

/* The same a tuple at a time, for what does not fit into memory. Not 0 from `take` ends it, and with it the connection. */
typedef int tm_pg_copy_row(void *arg, const uint8_t *tuple, size_t len, struct tm_error *err);
int tm_pg_copy_each(struct tm_pg *pg, const char *copy_sql, tm_pg_copy_row *take, void *arg,
                    struct tm_error *err) TM_MUST_CHECK;

/* LISTEN was executed before: wait for a notification or the timeout. 1: notified, 0: timeout, negative: error. */
int tm_pg_wait_notify(struct tm_pg *pg, int64_t timeout_us, struct tm_error *err) TM_MUST_CHECK;

#endif
