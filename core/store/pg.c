#include "base/clock.h"
#include "base/log.h"
#include "store/pg_private.h"

#include <inttypes.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- ends and errors ---- */

void tm_pg_close(struct tm_pg *pg)
{
    if (!pg)
        return;
    PQfinish(pg->conn);
    while (pg->prepared_count)
        free(pg->prepared[--pg->prepared_count]);
    free(pg->conninfo);
    free(pg);
}

bool tm_pg_is_open(const struct tm_pg *pg)
{
    return pg->conn && PQstatus(pg->conn) == CONNECTION_OK;
}

bool tm_pg_is_open_by(const struct tm_pg *pg, const char *conninfo)
{
    return pg && tm_pg_is_open(pg) && strcmp(pg->conninfo, conninfo) == 0;
}

enum tm_pg_class tm_pg_class_of(const struct tm_pg *pg)
{
    return pg->class;
}

const char *tm_pg_sqlstate(const struct tm_pg *pg)
{
    return pg->sqlstate;
}

/* libpq ends its messages with a newline and may use several lines; one line is enough for a log. */
void tm_pg_one_line(char *text)
{
    size_t len = strlen(text);
    while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = '\0';
    for (char *at = text; (at = strchr(at, '\n'));)
        *at = ' ';
}

static void *cancel_main(void *arg)
{
    char ignored[256];
    (void)PQcancel(arg, ignored, sizeof ignored);
    PQfreeCancel(arg);
    return NULL;
}

/* Ask the server to stop what it does for us. PQcancel connects anew and may block for as long as the network
 * or a stopped server likes, so it has a thread to itself and nobody waits for it. */
void tm_pg_cancel(PGconn *conn)
{
    PGcancel *request = PQgetCancel(conn);
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, before;
    if (!request)
        return;
    sigfillset(&all); /* signals are for the thread that asks, if it takes any */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, cancel_main, request))
        PQfreeCancel(request);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int tm_pg_lost(struct tm_pg *pg, int code, struct tm_error *err)
{
    pg->class = TM_PG_RECONNECT;
    pg->sqlstate[0] = '\0';
    if (code == TM_ERETRY && err) {
        char text[sizeof err->message];
        (void)snprintf(text, sizeof text, "%s", PQerrorMessage(pg->conn));
        tm_pg_one_line(text);
        (void)tm_error_set(err, code, "%s", *text ? text : "the connection was lost");
    }
    if (PQtransactionStatus(pg->conn) == PQTRANS_ACTIVE)
        tm_pg_cancel(pg->conn);
    PQfinish(pg->conn);
    pg->conn = NULL;
    return code;
}

/* libpq itself may find the connection dead; then it is closed here too. */
static int check_alive(struct tm_pg *pg, struct tm_error *err)
{
    if (pg->conn && PQstatus(pg->conn) == CONNECTION_OK)
        return TM_OK;
    if (pg->conn)
        return tm_pg_lost(pg, TM_ERETRY, err);
    pg->class = TM_PG_RECONNECT;
    pg->sqlstate[0] = '\0';
    return tm_error_set(err, TM_ERETRY, "not connected");
}

/* Classes say what to do; among those where nothing can be done the code still tells people apart what it is. */
int tm_pg_code_of(enum tm_pg_class class, const char *sqlstate)
{
    switch (class) {
    case TM_PG_OK:
        return TM_OK;
    case TM_PG_RECONNECT:
    case TM_PG_RETRY:
        return TM_ERETRY;
    case TM_PG_DATA:
    case TM_PG_UNIQUE:
        return TM_EPOISON;
    case TM_PG_STOP:
        break;
    }
    if (strncmp(sqlstate, "28", 2) == 0 || strcmp(sqlstate, "42501") == 0)
        return TM_EDENIED;
    return strncmp(sqlstate, "XX", 2) == 0 ? TM_ECORRUPT : TM_EINVAL;
}

int tm_pg_failed(struct tm_pg *pg, PGresult *result, struct tm_error *err)
{
    if (!result)
        return tm_pg_lost(pg, TM_ERETRY, err);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    (void)snprintf(pg->sqlstate, sizeof pg->sqlstate, "%s", sqlstate ? sqlstate : "");
    pg->class = tm_pg_classify(sqlstate);
    int code = tm_error_set(err, tm_pg_code_of(pg->class, pg->sqlstate), "%s%s%.500s (SQLSTATE %s) in \"%s\"",
                            primary ? primary : PQresultErrorMessage(result), detail ? ": " : "", detail ? detail : "",
                            sqlstate ? sqlstate : "none", pg->statement);
    if (err)
        tm_pg_one_line(err->message);
    PQclear(result);
    return code;
}

/* ---- waiting ---- */

/* TM_OK: ready, TM_ETIMEOUT: not by then, TM_ESTOPPED. */
static int poll_until(const struct tm_pg *pg, short events, int64_t deadline_us)
{
    struct pollfd fds[2] = {{.fd = PQsocket(pg->conn), .events = events}, {.fd = -1, .events = POLLIN}};
    if (pg->stop)
        fds[1].fd = pg->stop->fd;
    for (;;) {
        int64_t left_us = deadline_us - tm_clock_mono_us();
        left_us = left_us > 0 ? left_us : 0;
        struct timespec ts = {.tv_sec = left_us / TM_US_PER_S, .tv_nsec = left_us % TM_US_PER_S * 1000};
        int n = ppoll(fds, 2, &ts, NULL);
        if (n < 0 && errno == EINTR)
            continue;
        if (fds[1].revents)
            return TM_ESTOPPED;
        return n > 0 ? TM_OK : TM_ETIMEOUT;
    }
}

int tm_pg_wait(struct tm_pg *pg, short events, int64_t deadline_us, struct tm_error *err)
{
    int rc = poll_until(pg, events, deadline_us);
    if (rc == TM_ESTOPPED)
        (void)tm_error_set(err, rc, "asked to stop");
    else if (rc)
        (void)tm_error_set(err, rc, "no answer from the server within the deadline to \"%s\"", pg->statement);
    return rc ? tm_pg_lost(pg, rc, err) : TM_OK;
}

int tm_pg_flush(struct tm_pg *pg, int64_t deadline_us, struct tm_error *err)
{
    for (;;) {
        int pending = PQflush(pg->conn);
        if (pending == 0)
            return TM_OK;
        if (pending < 0)
            return tm_pg_lost(pg, TM_ERETRY, err);
        /* the server may have to be heard before it takes more (libpq manual, PQflush) */
        int rc = tm_pg_wait(pg, POLLIN | POLLOUT, deadline_us, err);
        if (rc)
            return rc;
        if (!PQconsumeInput(pg->conn))
            return tm_pg_lost(pg, TM_ERETRY, err);
    }
}

int tm_pg_next_result(struct tm_pg *pg, int64_t deadline_us, PGresult **out, struct tm_error *err)
{
    while (PQisBusy(pg->conn)) {
        int rc = tm_pg_wait(pg, POLLIN, deadline_us, err);
        if (rc)
            return rc;
        if (!PQconsumeInput(pg->conn))
            return tm_pg_lost(pg, TM_ERETRY, err);
    }
    *out = PQgetResult(pg->conn);
    return TM_OK;
}

/* COPY belongs to tm_pg_copy_in and _out; in any other call libpq would report it for ever. */
static bool is_copy(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

static bool is_good(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY;
}

int tm_pg_finish(struct tm_pg *pg, int64_t deadline_us, PGresult **last, struct tm_error *err)
{
    PGresult *kept = NULL;
    int failed = TM_OK;
    for (;;) {
        PGresult *result;
        int rc = tm_pg_next_result(pg, deadline_us, &result, failed ? NULL : err);
        if (rc) {
            PQclear(kept);
            return failed ? failed : rc;
        }
        if (!result)
            break;
        if (is_copy(result)) {
            PQclear(result);
            PQclear(kept);
            (void)tm_error_set(err, TM_EINVAL, "COPY is not allowed here: \"%s\"", pg->statement);
            return tm_pg_lost(pg, TM_EINVAL, err);
        }
        if (!is_good(result)) {
            rc = tm_pg_failed(pg, result, failed ? NULL : err);
            failed = failed ? failed : rc;
        } else if (last) {
            PQclear(kept);
            kept = result;
        } else {
            PQclear(result);
        }
    }
    if (failed) {
        PQclear(kept);
        kept = NULL;
        if (PQstatus(pg->conn) != CONNECTION_OK)
            (void)tm_pg_lost(pg, failed, NULL);
    }
    if (last)
        *last = kept;
    return failed;
}

/* ---- statements ---- */

static int begin_statement(struct tm_pg *pg, const char *sql, int64_t *deadline_us, struct tm_error *err)
{
    pg->class = TM_PG_OK;
    pg->sqlstate[0] = '\0';
    (void)snprintf(pg->statement, sizeof pg->statement, "%s", sql);
    *deadline_us = tm_clock_mono_us() + pg->statement_us;
    return check_alive(pg, err);
}

int tm_pg_send(struct tm_pg *pg, const char *sql, int64_t *deadline_us, struct tm_error *err)
{
    int rc = begin_statement(pg, sql, deadline_us, err);
    if (rc)
        return rc;
    if (!PQsendQuery(pg->conn, sql))
        return tm_pg_lost(pg, TM_ERETRY, err);
    return tm_pg_flush(pg, *deadline_us, err);
}

int tm_pg_exec(struct tm_pg *pg, const char *sql, struct tm_error *err)
{
    int64_t deadline_us;
    int rc = tm_pg_send(pg, sql, &deadline_us, err);
    return rc ? rc : tm_pg_finish(pg, deadline_us, NULL, err);
}

void tm_pg_rollback(struct tm_pg *pg)
{
    struct tm_error ignored;
    enum tm_pg_class class = pg->class;
    char sqlstate[sizeof pg->sqlstate];
    memcpy(sqlstate, pg->sqlstate, sizeof sqlstate);
    if (!tm_pg_is_open(pg) || tm_pg_exec(pg, "ROLLBACK", &ignored))
        return; /* lost: that ended it too */
    pg->class = class;
    memcpy(pg->sqlstate, sqlstate, sizeof sqlstate);
}

/* TM_ETIMEOUT: no answer by then; the connection is as it was. */
static int wait_answer(struct tm_pg *pg, int64_t until_us, struct tm_error *err)
{
    while (PQisBusy(pg->conn)) {
        int rc = poll_until(pg, POLLIN, until_us);
        if (rc == TM_ETIMEOUT)
            return rc;
        if (rc) {
            (void)tm_error_set(err, rc, "asked to stop");
            return tm_pg_lost(pg, rc, err);
        }
        if (!PQconsumeInput(pg->conn))
            return tm_pg_lost(pg, TM_ERETRY, err);
    }
    return TM_OK;
}

int tm_pg_commit(struct tm_pg *pg, int64_t standby_us, bool *alone, struct tm_error *err)
{
    int64_t deadline_us;
    *alone = pg->warned = false;
    int rc = tm_pg_send(pg, "COMMIT", &deadline_us, err);
    rc = rc ? rc : wait_answer(pg, tm_clock_mono_us() + standby_us, err);
    bool asked = rc == TM_ETIMEOUT && pg->conn;
    if (asked)
        tm_pg_cancel(pg->conn);
    else if (rc)
        return rc;
    rc = tm_pg_finish(pg, deadline_us, NULL, err);
    *alone = !rc && asked && pg->warned;
    return rc;
}

/* `sent`: what a function of libpq said that queues a statement; then it is sent, and answered. */
static int answer_to(struct tm_pg *pg, int sent, int64_t deadline_us, PGresult **out, struct tm_error *err)
{
    int rc = sent ? tm_pg_flush(pg, deadline_us, err) : tm_pg_lost(pg, TM_ERETRY, err);
    return rc ? rc : tm_pg_finish(pg, deadline_us, out, err);
}

int tm_pg_query(struct tm_pg *pg, const char *sql, int count, const char *const *values, PGresult **out,
                struct tm_error *err)
{
    int64_t deadline_us;
    *out = NULL;
    int rc = begin_statement(pg, sql, &deadline_us, err);
    return rc ? rc
              : answer_to(pg, PQsendQueryParams(pg->conn, sql, count, NULL, values, NULL, NULL, 0), deadline_us, out,
                          err);
}

struct prepared_name {
    char text[16];
};

static struct prepared_name name_of(size_t number)
{
    struct prepared_name name;
    (void)snprintf(name.text, sizeof name.text, "tm_%zu", number);
    return name;
}

static size_t find_prepared(const struct tm_pg *pg, const char *sql)
{
    size_t i = 0;
    while (i < pg->prepared_count && strcmp(pg->prepared[i], sql) != 0)
        i++;
    return i;
}

static int prepare(struct tm_pg *pg, const char *sql, int64_t deadline_us, struct tm_error *err)
{
    struct prepared_name name = name_of(pg->prepared_count);
    int rc = answer_to(pg, PQsendPrepare(pg->conn, name.text, sql, 0, NULL), deadline_us, NULL, err);
    char *copy = rc ? NULL : strdup(sql);
    if (rc)
        return rc;
    TM_FATAL_UNLESS(copy);
    pg->prepared[pg->prepared_count++] = copy;
    return TM_OK;
}

static int run_prepared(struct tm_pg *pg, const char *sql, size_t number, int count, const char *const *values,
                        PGresult **out, struct tm_error *err)
{
    int64_t deadline_us;
    *out = NULL;
    int rc = begin_statement(pg, sql, &deadline_us, err);
    if (!rc && number == pg->prepared_count)
        rc = prepare(pg, sql, deadline_us, err);
    return rc ? rc
              : answer_to(pg, PQsendQueryPrepared(pg->conn, name_of(number).text, count, values, NULL, NULL, 0),
                          deadline_us, out, err);
}

/* Behind a pooler another server process may stand than the one that was told: it does not know the name, or by it another
 * statement. Nothing is prepared in this session any more. */
static bool is_forgotten(const struct tm_pg *pg)
{
    return tm_pg_is_open(pg) && (strcmp(pg->sqlstate, "26000") == 0 || strcmp(pg->sqlstate, "42P05") == 0);
}

int tm_pg_query_prepared(struct tm_pg *pg, const char *sql, int count, const char *const *values, PGresult **out,
                         struct tm_error *err)
{
    size_t number = find_prepared(pg, sql);
    if (number == TM_PG_PREPARED_MAX || pg->shared)
        return tm_pg_query(pg, sql, count, values, out, err);
    int rc = run_prepared(pg, sql, number, count, values, out, err);
    if (!rc || !is_forgotten(pg))
        return rc;
    pg->shared = true;
    if (PQtransactionStatus(pg->conn) == PQTRANS_IDLE)
        return tm_pg_query(pg, sql, count, values, out, err);
    pg->class = TM_PG_RETRY;
    if (err)
        err->code = TM_ERETRY;
    return TM_ERETRY;
}

int tm_pg_run(struct tm_pg *pg, const char *sql, int count, const char *const *values, int64_t *affected,
              struct tm_error *err)
{
    PGresult *result;
    int rc = tm_pg_query(pg, sql, count, values, &result, err);
    if (!rc && affected)
        *affected = strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    return rc;
}

const char *tm_pg_number(struct tm_pg_number *n, int64_t value)
{
    (void)snprintf(n->text, sizeof n->text, "%" PRId64, value);
    return n->text;
}

int tm_pg_query_text(struct tm_pg *pg, const char *sql, int count, const char *const *values, char *out, size_t size,
                     struct tm_error *err)
{
    PGresult *result;
    int rc = tm_pg_query(pg, sql, count, values, &result, err);
    if (rc)
        return rc;
    (void)snprintf(out, size, "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return TM_OK;
}

int tm_pg_query_number(struct tm_pg *pg, const char *sql, int count, const char *const *values, int64_t *out,
                       struct tm_error *err)
{
    char text[24];
    int rc = tm_pg_query_text(pg, sql, count, values, text, sizeof text, err);
    if (!rc)
        *out = strtoll(text, NULL, 10);
    return rc;
}

/* ---- notifications ---- */

static int take_notifications(struct tm_pg *pg)
{
    int count = 0;
    for (PGnotify *n; (n = PQnotifies(pg->conn)); count++)
        PQfreemem(n);
    return count;
}

int tm_pg_wait_notify(struct tm_pg *pg, int64_t timeout_us, struct tm_error *err)
{
    int rc = check_alive(pg, err);
    if (rc)
        return rc;
    int64_t until_us = tm_clock_mono_us() + timeout_us;
    for (;;) {
        if (!PQconsumeInput(pg->conn))
            return tm_pg_lost(pg, TM_ERETRY, err);
        if (take_notifications(pg))
            return 1;
        struct pollfd fds[2] = {{.fd = PQsocket(pg->conn), .events = POLLIN}, {.fd = -1, .events = POLLIN}};
        if (pg->stop)
            fds[1].fd = pg->stop->fd;
        int64_t left_us = until_us - tm_clock_mono_us();
        if (left_us <= 0)
            return 0;
        struct timespec ts = {.tv_sec = left_us / TM_US_PER_S, .tv_nsec = left_us % TM_US_PER_S * 1000};
        int n = ppoll(fds, 2, &ts, NULL);
        if (fds[1].revents)
            return tm_error_set(err, TM_ESTOPPED, "asked to stop");
        if (n == 0)
            return 0;
    }
}
