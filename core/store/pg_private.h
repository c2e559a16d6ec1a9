/* Inside the PostgreSQL connection: what pg.c, pg_connect.c and pg_copy.c share. */
#ifndef TM_STORE_PG_PRIVATE_H
#define TM_STORE_PG_PRIVATE_H

#include "record/plan.h"
#include "store/pg.h"

#define TM_PG_PREPARED_MAX 64

struct tm_pg {
    PGconn *conn;
    char *conninfo; /* as it was given */
    struct tm_stop *stop;
    int64_t statement_us;
    enum tm_pg_class class; /* of the last call */
    char sqlstate[6];
    bool warned;                        /* the server sent a warning (01000) since COMMIT */
    char statement[48];                 /* how the last one began, for error texts */
    char *prepared[TM_PG_PREPARED_MAX]; /* texts, in the order of their names */
    size_t prepared_count;
    bool shared;         /* by a pooler: what was prepared may be another server process's */
    struct tm_pg_stage { /* store/copy.c */
        char stream[64];
        size_t rows; /* put into it since it was truncated */
    } stages[TM_STREAMS_MAX];
    size_t stage_count;
};

#define TM_PG_SETTINGS_MAX 64
#define TM_PG_HOSTS_MAX 8

/*
 * A conninfo may name several hosts. libpq tries them in turn, but in its non-blocking mode it leaves the
 * time-out of each to the caller, so a black-holed first host would eat the whole deadline. Each host is
 * therefore an attempt of our own with its share of the time; target_session_attrs still decides whether its
 * server will do.
 */
struct tm_pg_settings {
    const char *keywords[TM_PG_SETTINGS_MAX + 1];
    const char *values[TM_PG_SETTINGS_MAX + 1];
    size_t count;
    PQconninfoOption *options; /* owns the strings */
    char *hosts[TM_PG_HOSTS_MAX], *addresses[TM_PG_HOSTS_MAX], *ports[TM_PG_HOSTS_MAX];
    size_t host_count, address_count, port_count;
    char *lists[3];
};

int tm_pg_settings_init(struct tm_pg_settings *s, const struct tm_pg_options *options,
                        struct tm_error *err) TM_MUST_CHECK;
void tm_pg_settings_fini(struct tm_pg_settings *s);

/* Says what is wrong with a conninfo that libpq does not take (pg_conninfo.c); never a part of a value. TM_EINVAL. */
int tm_pg_conninfo_fault(const char *conninfo, struct tm_error *err);

size_t tm_pg_attempts(const struct tm_pg_settings *s); /* at least 1 */

/* Begin to connect to host i, or to `host` with these numeric addresses (lists with commas) where they are given. */
int tm_pg_start_host(struct tm_pg *pg, struct tm_pg_settings *s, size_t i, const char *host, const char *address,
                     struct tm_error *err) TM_MUST_CHECK;

/* Why PQconnectPoll failed; the connection is closed. Returns the code. */
int tm_pg_refused(struct tm_pg *pg, struct tm_error *err);

/* Ask the server to stop what it does, on a thread that nobody waits for. */
void tm_pg_cancel(PGconn *conn);

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
