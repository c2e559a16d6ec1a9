#include "store/async.h"
#include "store/pg_private.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define FRAMES_PER_BYTES 3 /* what a row costs on the wire, over what it costs here, at most */
#define FRAMES_SLACK ((size_t)1 << 20)
#define SETTINGS                                                                                                       \
    "SET timezone = 'UTC'; SET extra_float_digits = 3; SET client_min_messages = warning; SET datestyle = 'ISO'"

struct tm_pg_async {
    struct tm_pg pg;
    struct tm_pg_settings settings;
    char *application_name;
    size_t rows_max, bytes_max, received;
    enum tm_pg_async_state state;
    PostgresPollingStatusType polling; /* while connecting */
    bool setting_up;                   /* connected; SETTINGS runs */
    bool flushing, hidden;
    struct tm_pg_column *columns;
    struct tm_pg_answer answer;
};

static void free_columns(struct tm_pg_async *a)
{
    for (size_t i = 0; i < a->answer.column_count; i++)
        free(a->columns[i].name);
    free(a->columns);
    a->columns = NULL;
    a->answer.columns = NULL;
    a->answer.column_count = 0;
}

static void clear_answer(struct tm_pg_async *a)
{
    struct tm_buf cells = a->answer.cells;
    free_columns(a);
    tm_buf_clear(&cells);
    a->answer = (struct tm_pg_answer){.affected = -1, .cells = cells};
    a->received = 0;
}

int tm_pg_async_create(const struct tm_pg_async_options *options, struct tm_pg_async **out, struct tm_error *err)
{
    struct tm_pg_async *a = calloc(1, sizeof *a);
    TM_FATAL_UNLESS(a);
    a->application_name = strdup(options->application_name);
    TM_FATAL_UNLESS(a->application_name);
    struct tm_pg_options pg = {.conninfo = options->conninfo, .application_name = a->application_name};
    int rc = tm_pg_settings_init(&a->settings, &pg, err);
    if (rc) {
        free(a->application_name);
        free(a);
        return rc;
    }
    a->rows_max = options->rows_max;
    a->bytes_max = options->bytes_max;
    *out = a;
    return TM_OK;
}

void tm_pg_async_destroy(struct tm_pg_async *a)
{
    if (!a)
        return;
    tm_pg_async_abort(a);
    free_columns(a);
    tm_buf_fini(&a->answer.cells);
    tm_pg_settings_fini(&a->settings);
    free(a->application_name);
    free(a);
}

/* ---- connecting ---- */

size_t tm_pg_async_hosts(const struct tm_pg_async *a)
{
    return tm_pg_attempts(&a->settings);
}

static bool is_numeric(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

const char *tm_pg_async_name(const struct tm_pg_async *a, size_t host)
{
    const struct tm_pg_settings *s = &a->settings;
    if (s->address_count > host || (s->address_count == 0 && getenv("PGHOSTADDR")))
        return NULL;
    const char *name = host < s->host_count ? s->hosts[host] : s->host_count == 0 ? getenv("PGHOST") : NULL;
    bool socket = !name || !*name || name[0] == '/' || name[0] == '@';
    return socket || strchr(name, ',') || is_numeric(name) ? NULL : name;
}

/* "a,b" and, because libpq wants as many names as addresses, "host,host". */
static int join_addresses(const char *name, const char *const *addresses, struct tm_buf *names, struct tm_buf *list)
{
    int rc = TM_OK;
    for (size_t i = 0; addresses[i] && !rc; i++) {
        rc = tm_buf_printf(names, "%s%s", i ? "," : "", name);
        if (!rc)
            rc = tm_buf_printf(list, "%s%s", i ? "," : "", addresses[i]);
    }
    return rc || (tm_buf_cstr(names) && tm_buf_cstr(list)) ? rc : TM_ENOMEM;
}

static int closed(struct tm_pg_async *a, int code)
{
    a->state = TM_PG_CLOSED;
    a->answer.code = code;
    return code;
}

int tm_pg_async_connect(struct tm_pg_async *a, size_t host, const char *const *addresses, struct tm_error *err)
{
    struct tm_buf names = {0}, list = {0};
    const char *name = tm_pg_async_name(a, host);
    if (a->state != TM_PG_CLOSED)
        return tm_error_set(err, TM_ESTATE, "the connection is open already");
    clear_answer(a);
    int rc = name && addresses ? join_addresses(name, addresses, &names, &list) : TM_OK;
    if (rc)
        (void)tm_error_set(err, rc, "out of memory for a connection");
    else
        rc = tm_pg_start_host(&a->pg, &a->settings, host, list.len ? (const char *)names.data : NULL,
                              list.len ? (const char *)list.data : NULL, err);
    tm_buf_fini(&names);
    tm_buf_fini(&list);
    if (rc) {
        PQfinish(a->pg.conn);
        a->pg.conn = NULL;
        return closed(a, rc);
    }
    a->state = TM_PG_CONNECTING;
    a->polling = PGRES_POLLING_WRITING;
    a->setting_up = false;
    return TM_OK;
}

enum tm_pg_async_state tm_pg_async_state(const struct tm_pg_async *a)
{
    return a->state;
}

int tm_pg_async_fd(const struct tm_pg_async *a)
{
    return a->pg.conn ? PQsocket(a->pg.conn) : -1;
}

int tm_pg_async_events(const struct tm_pg_async *a)
{
    if (a->state == TM_PG_CLOSED)
        return 0;
    if (a->state == TM_PG_CONNECTING && !a->setting_up)
        return a->polling == PGRES_POLLING_READING ? TM_PG_READ : TM_PG_WRITE;
    return TM_PG_READ | (a->flushing ? TM_PG_WRITE : 0);
}

void tm_pg_async_abort(struct tm_pg_async *a)
{
    if (a->pg.conn)
        (void)tm_pg_lost(&a->pg, TM_ESTOPPED, NULL);
    a->state = TM_PG_CLOSED;
}

bool tm_pg_async_in_transaction(const struct tm_pg_async *a)
{
    return a->pg.conn && PQtransactionStatus(a->pg.conn) != PQTRANS_IDLE;
}

const struct tm_pg_answer *tm_pg_async_answer(const struct tm_pg_async *a)
{
    return &a->answer;
}

/* ---- statements ---- */

static int lost(struct tm_pg_async *a, struct tm_error *err)
{
    return closed(a, tm_pg_lost(&a->pg, TM_ERETRY, err));
}

/* What was queued is sent, as far as the socket takes it. */
static int flush(struct tm_pg_async *a, struct tm_error *err)
{
    int pending = PQflush(a->pg.conn);
    if (pending < 0)
        return lost(a, err);
    a->flushing = pending > 0;
    return TM_OK;
}

int tm_pg_async_send(struct tm_pg_async *a, const char *sql, int count, const char *const *values, bool hidden,
                     struct tm_error *err)
{
    if (a->state != TM_PG_READY)
        return tm_error_set(err, TM_ESTATE, "the connection is not ready for a statement");
    clear_answer(a);
    a->hidden = hidden;
    (void)snprintf(a->pg.statement, sizeof a->pg.statement, "%s", hidden ? "" : sql);
    if (!PQsendQueryParams(a->pg.conn, sql, count, NULL, values, NULL, NULL, 0))
        return lost(a, err);
    (void)PQsetSingleRowMode(a->pg.conn);
    a->state = TM_PG_BUSY;
    return flush(a, err);
}

/* ---- answers ---- */

static int too_large(struct tm_pg_async *a, const char *what, size_t limit, struct tm_error *err)
{
    (void)tm_error_set(err, TM_EFULL, "the answer has more than %zu %s, which is the limit: use LIMIT, or select less",
                       limit, what);
    return closed(a, tm_pg_lost(&a->pg, TM_EFULL, err));
}

static int no_memory(struct tm_pg_async *a, struct tm_error *err)
{
    (void)tm_error_set(err, TM_ENOMEM, "no memory for the answer");
    return closed(a, tm_pg_lost(&a->pg, TM_ENOMEM, err));
}

static void take_columns(struct tm_pg_async *a, const PGresult *r)
{
    int count = PQnfields(r);
    if (a->columns || count <= 0)
        return;
    a->columns = calloc((size_t)count, sizeof *a->columns);
    TM_FATAL_UNLESS(a->columns);
    for (int i = 0; i < count; i++) {
        a->columns[i] = (struct tm_pg_column){strdup(PQfname(r, i)), PQftype(r, i)};
        TM_FATAL_UNLESS(a->columns[i].name);
    }
    a->answer.columns = a->columns;
    a->answer.column_count = (size_t)count;
}

static int put_cell(struct tm_buf *cells, const PGresult *r, int row, int column)
{
    int32_t len = PQgetisnull(r, row, column) ? -1 : PQgetlength(r, row, column);
    int rc = tm_buf_append(cells, &len, sizeof len);
    return rc || len < 0 ? rc : tm_buf_append(cells, PQgetvalue(r, row, column), (size_t)len + 1);
}

static int take_rows(struct tm_pg_async *a, const PGresult *r, struct tm_error *err)
{
    take_columns(a, r);
    int columns = PQnfields(r);
    for (int row = 0; row < PQntuples(r); row++) {
        if (a->answer.row_count == a->rows_max)
            return too_large(a, "rows", a->rows_max, err);
        for (int i = 0; i < columns; i++) {
            if (a->answer.cells.len + (size_t)PQgetlength(r, row, i) > a->bytes_max) /* libpq has it; not twice */
                return too_large(a, "bytes", a->bytes_max, err);
            if (put_cell(&a->answer.cells, r, row, i))
                return no_memory(a, err);
        }
        a->answer.row_count++;
    }
    return TM_OK;
}

static void take_tag(struct tm_pg_async *a, PGresult *r)
{
    const char *tuples = PQcmdTuples(r), *tag = PQcmdStatus(r);
    if (*tuples)
        a->answer.affected = strtoll(tuples, NULL, 10);
    (void)snprintf(a->answer.tag, sizeof a->answer.tag, "%.*s", (int)strcspn(tag, " "), tag);
}

static void take_failure(struct tm_pg_async *a, const PGresult *r)
{
    struct tm_pg_answer *answer = &a->answer;
    const char *sqlstate = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(r, PG_DIAG_MESSAGE_DETAIL);
    if (answer->code)
        return;
    (void)snprintf(answer->sqlstate, sizeof answer->sqlstate, "%s", sqlstate ? sqlstate : "");
    int code = tm_pg_code_of(tm_pg_classify(sqlstate), answer->sqlstate);
    if (a->hidden)
        answer->code = tm_error_set(&answer->error, code, "the statement failed; it has a secret, so no more is said");
    else
        answer->code = tm_error_set(&answer->error, code, "%s%s%.400s", primary ? primary : PQresultErrorMessage(r),
                                    detail ? ": " : "", detail ? detail : "");
    tm_pg_one_line(answer->error.message);
}

static int take_result(struct tm_pg_async *a, PGresult *r, struct tm_error *err)
{
    switch (PQresultStatus(r)) {
    case PGRES_SINGLE_TUPLE:
        return take_rows(a, r, err);
    case PGRES_TUPLES_OK:
        take_tag(a, r);
        return take_rows(a, r, err);
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        take_tag(a, r);
        return TM_OK;
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        (void)tm_error_set(err, TM_EINVAL, "COPY is not possible here");
        return closed(a, tm_pg_lost(&a->pg, TM_EINVAL, err));
    default:
        take_failure(a, r);
        return TM_OK;
    }
}

/* The server's own words are better than "the connection was lost". */
static int close_failed(struct tm_pg_async *a, struct tm_error *err)
{
    if (err)
        *err = a->answer.error;
    return closed(a, tm_pg_lost(&a->pg, a->answer.code, NULL));
}

static int finish(struct tm_pg_async *a, struct tm_error *err)
{
    if (a->answer.code && (a->setting_up || PQstatus(a->pg.conn) != CONNECTION_OK))
        return close_failed(a, err);
    if (PQstatus(a->pg.conn) != CONNECTION_OK)
        return lost(a, err);
    a->setting_up = false;
    a->state = TM_PG_READY;
    return 1;
}

static int consume(struct tm_pg_async *a, struct tm_error *err)
{
    int waiting = 0;
    int rc = a->flushing ? flush(a, err) : TM_OK;
    if (rc)
        return rc;
    /* a single value may be larger than all memory: libpq gathers it before it shows it */
    if (ioctl(PQsocket(a->pg.conn), FIONREAD, &waiting) == 0 && waiting > 0)
        a->received += (size_t)waiting;
    if (a->state == TM_PG_BUSY && a->received > a->bytes_max * FRAMES_PER_BYTES + FRAMES_SLACK)
        return too_large(a, "bytes", a->bytes_max, err);
    return PQconsumeInput(a->pg.conn) ? TM_OK : lost(a, err);
}

static int step_statement(struct tm_pg_async *a, struct tm_error *err)
{
    int rc = consume(a, err);
    while (!rc && !PQisBusy(a->pg.conn)) {
        PGresult *r = PQgetResult(a->pg.conn);
        if (!r)
            return finish(a, err);
        rc = take_result(a, r, err);
        PQclear(r);
    }
    return rc;
}

/* Something came while nothing runs: a notice or notification, or the end. */
static int step_ready(struct tm_pg_async *a, struct tm_error *err)
{
    if (!PQconsumeInput(a->pg.conn) || PQstatus(a->pg.conn) != CONNECTION_OK)
        return lost(a, err);
    for (PGnotify *n; (n = PQnotifies(a->pg.conn));)
        PQfreemem(n);
    return TM_OK;
}

static int start_settings(struct tm_pg_async *a, struct tm_error *err)
{
    (void)PQsetErrorVerbosity(a->pg.conn, PQERRORS_DEFAULT);
    if (PQsetnonblocking(a->pg.conn, 1) || !PQsendQuery(a->pg.conn, SETTINGS))
        return lost(a, err);
    a->setting_up = true;
    a->hidden = false;
    return flush(a, err);
}

static int step_connecting(struct tm_pg_async *a, struct tm_error *err)
{
    a->polling = PQconnectPoll(a->pg.conn);
    if (a->polling == PGRES_POLLING_OK)
        return start_settings(a, err);
    if (a->polling == PGRES_POLLING_FAILED)
        return closed(a, tm_pg_refused(&a->pg, err));
    return TM_OK;
}

int tm_pg_async_step(struct tm_pg_async *a, struct tm_error *err)
{
    switch (a->state) {
    case TM_PG_CONNECTING:
        return a->setting_up ? step_statement(a, err) : step_connecting(a, err);
    case TM_PG_BUSY:
        return step_statement(a, err);
    case TM_PG_READY:
        return step_ready(a, err);
    case TM_PG_CLOSED:
        break;
    }
    return tm_error_set(err, TM_ESTATE, "not connected");
}

const char *tm_pg_answer_next(const struct tm_pg_answer *answer, size_t *at, size_t *len)
{
    int32_t n;
    TM_FATAL_UNLESS(*at + sizeof n <= answer->cells.len);
    memcpy(&n, answer->cells.data + *at, sizeof n);
    *at += sizeof n;
    *len = n < 0 ? 0 : (size_t)n;
    if (n < 0)
        return NULL;
    const char *value = (const char *)answer->cells.data + *at;
    *at += (size_t)n + 1;
    return value;
}
