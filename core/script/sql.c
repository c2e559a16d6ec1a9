#include "script/sql.h"
#include "script/config.h"

#include "base/clock.h"
#include "loop/loop.h"
#include "net/resolve.h"
#include "store/async.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_US (100 * TM_US_PER_MS)
#define WAITING_BYTES_MAX ((size_t)64 << 20) /* statements and parameters of all that wait */
#define OWN_TIMEOUT_US (20 * TM_US_PER_S)
#define OWN_ROWS_MAX 1000
#define OWN_BYTES_MAX ((size_t)1 << 20)

enum purpose { STATEMENT, BEGIN, COMMIT, ROLLBACK };

struct request {
    struct request *next; /* in the queue of its database */
    struct database *db;
    struct connection *conn; /* that it runs on, or has to */
    enum purpose purpose;
    uint64_t waiter;
    struct tm_timer timer;
    size_t bytes;
    bool hidden; /* a value is a secret */
    char *sql;
    int count;
    char *values[TM_PG_PARAMETERS_MAX];
};

struct connection {
    struct database *db;
    struct tm_pg_async *pg;
    struct tm_io io;
    bool watching;
    struct tm_timer deadline; /* of connecting to one host */
    bool connecting;          /* also while a name is resolved */
    size_t host;
    struct tm_resolve_query *query;
    struct request *request; /* runs */
    double transaction;      /* its number; 0: none */
    uint64_t holder;
};

struct database {
    struct tm_sql *sql;
    const struct tm_config_sql *config;
    struct connection *connections;
    struct request *first;
};

struct tm_sql {
    struct tm_loop *loop;
    struct tm_sql_owner owner;
    struct tm_resolver *resolver;
    struct tm_timer kick, sweep;
    double transactions; /* counted */
    size_t waiting_bytes;
    size_t count;
    struct tm_config_sql own;    /* the role's */
    struct database databases[]; /* the role's own, then the declared ones */
};

static void pump(struct database *db);

/* ---- requests ---- */

static void free_request(struct request *r)
{
    tm_timer_stop(&r->timer);
    for (int i = 0; i < r->count; i++) {
        if (r->values[i] && r->hidden)
            explicit_bzero(r->values[i], strlen(r->values[i]));
        free(r->values[i]);
    }
    r->db->sql->waiting_bytes -= r->bytes;
    free(r->sql);
    free(r);
}

static void unlink_request(struct request *r)
{
    for (struct request **at = &r->db->first; *at; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            return;
        }
    }
}

/* The end of a request that is in no list any more. */
static void conclude(struct request *r, struct tm_sql_outcome *outcome)
{
    const struct tm_sql_owner *owner = &r->db->sql->owner;
    owner->on_outcome(owner->arg, r->waiter, outcome);
    free_request(r);
}

static void fail(struct request *r, const char *message, const char *sqlstate)
{
    struct tm_sql_outcome o = {.error = message, .sqlstate = sqlstate};
    conclude(r, &o);
}

/* ---- connections ---- */

static void unwatch(struct connection *c)
{
    if (c->watching)
        tm_io_set(&c->io, 0);
    c->watching = false;
}

static void on_ready(void *arg, int events);

/* The descriptor may have changed, even under the same number: so the watcher is made anew. */
static void watch(struct connection *c)
{
    int fd = tm_pg_async_fd(c->pg), wanted = tm_pg_async_events(c->pg);
    unwatch(c);
    if (fd < 0 || !wanted)
        return;
    tm_io_init(&c->io, c->db->sql->loop, fd, on_ready, c);
    tm_io_set(&c->io, (wanted & TM_PG_READ ? EV_READ : 0) | (wanted & TM_PG_WRITE ? EV_WRITE : 0));
    c->watching = true;
}

static void close_connection(struct connection *c)
{
    unwatch(c);
    tm_timer_stop(&c->deadline);
    if (c->query)
        tm_resolver_cancel(c->query);
    c->query = NULL;
    c->connecting = false;
    tm_pg_async_abort(c->pg);
}

static void release(struct connection *c)
{
    c->transaction = 0;
    c->holder = 0;
}

static void kick(struct tm_sql *sql)
{
    tm_timer_start(&sql->kick, 0, 0);
}

/* The oldest request that waits for any connection hears why there is none; the next one tries again. */
static void fail_waiting(struct database *db, const char *message)
{
    struct request *r = db->first;
    while (r && r->conn)
        r = r->next;
    if (!r)
        return;
    unlink_request(r);
    fail(r, message, "08001");
    kick(db->sql);
}

static void connect_host(struct connection *c);

static void host_failed(struct connection *c, const char *message)
{
    close_connection(c);
    if (++c->host < tm_pg_async_hosts(c->pg)) {
        connect_host(c);
        return;
    }
    char text[sizeof((struct tm_error *)0)->message];
    (void)snprintf(text, sizeof text, "cannot connect: %.900s", message);
    fail_waiting(c->db, text);
}

static void start_connecting(struct connection *c, const char *const *addresses)
{
    struct tm_error err;
    if (tm_pg_async_connect(c->pg, c->host, addresses, &err) < 0)
        host_failed(c, err.message);
    else
        watch(c);
}

static void on_resolved(void *arg, const struct tm_resolved *answer)
{
    struct connection *c = arg;
    char text[TM_RESOLVE_ADDRESSES_MAX][NI_MAXHOST];
    const char *addresses[TM_RESOLVE_ADDRESSES_MAX + 1];
    size_t count = 0;
    c->query = NULL;
    for (size_t i = 0; i < answer->count; i++)
        if (getnameinfo((const struct sockaddr *)&answer->address[i], sizeof answer->address[i], text[count],
                        sizeof text[count], NULL, 0, NI_NUMERICHOST) == 0) {
            addresses[count] = text[count];
            count++;
        }
    addresses[count] = NULL;
    if (count == 0) {
        char why[300];
        (void)snprintf(why, sizeof why, "the name \"%.200s\": %s", tm_pg_async_name(c->pg, c->host),
                       answer->error ? answer->error : "no address");
        host_failed(c, why);
        return;
    }
    start_connecting(c, addresses);
}

static void connect_host(struct connection *c)
{
    struct tm_sql *sql = c->db->sql;
    const char *name = tm_pg_async_name(c->pg, c->host);
    c->connecting = true;
    tm_timer_start(&c->deadline, c->db->config->timeout_us / (int64_t)tm_pg_async_hosts(c->pg), 0);
    if (!name) {
        start_connecting(c, NULL);
        return;
    }
    if (!sql->resolver)
        sql->resolver = tm_resolver_create(sql->loop);
    c->query = tm_resolver_ask(sql->resolver, name, on_resolved, c);
}

static void on_connect_deadline(void *arg)
{
    host_failed(arg, "no answer from the server in time");
}

/* ---- statements ---- */

/* What became of the request that ran; the connection may be closed. */
static void finish_request(struct connection *c, const struct tm_pg_answer *answer, const struct tm_error *err)
{
    struct request *r = c->request;
    struct tm_sql_outcome o = {.answer = answer, .ended = r->purpose == COMMIT || r->purpose == ROLLBACK};
    c->request = NULL;
    if (o.ended)
        release(c);
    if (err) {
        o.error = err->message;
        o.sqlstate = r->purpose == COMMIT && !*answer->sqlstate ? "08007" : answer->sqlstate; /* outcome unknown */
    } else if (answer->code) {
        o.error = answer->error.message;
        o.sqlstate = answer->sqlstate;
    } else if (r->purpose == COMMIT && strcmp(answer->tag, "ROLLBACK") == 0) {
        o.error = "it was rolled back, because a statement in it had failed";
        o.sqlstate = "25P02";
    } else if (r->purpose == BEGIN) {
        o.transaction = c->transaction = ++c->db->sql->transactions;
        c->holder = r->waiter;
        tm_timer_start(&c->db->sql->sweep, SWEEP_US, SWEEP_US);
    }
    conclude(r, &o);
    kick(c->db->sql);
}

static void run(struct connection *c, struct request *r)
{
    struct tm_error err;
    unlink_request(r);
    c->request = r;
    r->conn = c;
    unwatch(c);
    int rc = tm_pg_async_send(c->pg, r->sql, r->count, (const char *const *)r->values, r->hidden, &err);
    watch(c);
    if (rc < 0)
        finish_request(c, tm_pg_async_answer(c->pg), &err);
}

static void on_ready(void *arg, int events)
{
    struct connection *c = arg;
    struct tm_error err = {0};
    (void)events;
    unwatch(c);
    int rc = tm_pg_async_step(c->pg, &err);
    if (c->connecting && rc < 0) {
        host_failed(c, err.message);
        return;
    }
    watch(c);
    if (c->connecting && rc > 0) {
        c->connecting = false;
        tm_timer_stop(&c->deadline);
    } else if (c->request && rc) {
        finish_request(c, tm_pg_async_answer(c->pg), rc < 0 ? &err : NULL);
    }
    if (rc)
        pump(c->db);
}

static void on_deadline(void *arg)
{
    struct request *r = arg;
    struct connection *c = r->conn;
    char text[100];
    if (c && c->request == r) {
        struct tm_error err;
        close_connection(c);
        (void)tm_error_set(&err, TM_ETIMEOUT, "no answer within %.3g s: it was cancelled",
                           (double)r->db->config->timeout_us / 1e6);
        finish_request(c, tm_pg_async_answer(c->pg), &err);
        return;
    }
    unlink_request(r);
    (void)snprintf(text, sizeof text, "no connection was free within %.3g s", (double)r->db->config->timeout_us / 1e6);
    fail(r, text, NULL);
}

static struct connection *find_connection(struct database *db, enum tm_pg_async_state state)
{
    for (size_t i = 0; i < db->config->connections; i++) {
        struct connection *c = &db->connections[i];
        if (tm_pg_async_state(c->pg) == state && !c->connecting && !c->request && c->transaction == 0)
            return c;
    }
    return NULL;
}

/* Start what can be started. False: it waits for a connection. */
static bool try_start(struct database *db, struct request *r)
{
    struct connection *c = r->conn ? r->conn : find_connection(db, TM_PG_READY);
    if (!c)
        return false;
    if (tm_pg_async_state(c->pg) == TM_PG_READY) {
        run(c, r);
    } else {
        unlink_request(r);
        release(c);
        fail(r, "the connection was lost, and the transaction with it", "08006");
    }
    return true;
}

static void pump(struct database *db)
{
    size_t waiting = 0, connecting = 0;
    for (struct request *r = db->first, *next; r; r = next) {
        next = r->next;
        waiting += !try_start(db, r);
    }
    for (size_t i = 0; i < db->config->connections; i++)
        connecting += db->connections[i].connecting;
    struct connection *c;
    while (waiting > connecting && (c = find_connection(db, TM_PG_CLOSED))) {
        c->host = 0;
        connect_host(c);
        connecting++;
        if (!c->connecting)
            return; /* it failed at once, and a request with it */
    }
}

static void on_kick(void *arg)
{
    struct tm_sql *sql = arg;
    for (size_t i = 0; i < sql->count; i++)
        pump(&sql->databases[i]);
}

/* A transaction whose waiter is gone is rolled back by the end of its connection. */
static void on_sweep(void *arg)
{
    struct tm_sql *sql = arg;
    size_t held = 0;
    for (size_t i = 0; i < sql->count; i++) {
        struct database *db = &sql->databases[i];
        for (size_t k = 0; k < db->config->connections; k++) {
            struct connection *c = &db->connections[k];
            held += c->transaction > 0;
            if (c->transaction == 0 || sql->owner.is_live(sql->owner.arg, c->holder))
                continue;
            close_connection(c);
            release(c);
            if (c->request) {
                struct tm_error err;
                (void)tm_error_set(&err, TM_ESTOPPED, "the task that began the transaction has ended");
                finish_request(c, tm_pg_async_answer(c->pg), &err);
            }
            kick(sql);
        }
    }
    if (held == 0)
        tm_timer_stop(&sql->sweep);
}

/* ---- opening and closing ---- */

static int open_database(struct tm_sql *sql, struct database *db, const struct tm_config_sql *config,
                         struct tm_error *err)
{
    struct tm_pg_async_options options = {.conninfo = config->conninfo,
                                          .application_name = "tidemill policy",
                                          .rows_max = config->rows_max,
                                          .bytes_max = config->bytes_max};
    db->sql = sql;
    db->config = config;
    db->connections = calloc(config->connections, sizeof *db->connections);
    TM_FATAL_UNLESS(db->connections);
    for (size_t i = 0; i < config->connections; i++) {
        struct connection *c = &db->connections[i];
        c->db = db;
        tm_timer_init(&c->deadline, sql->loop, on_connect_deadline, c);
        int rc = tm_pg_async_create(&options, &c->pg, err);
        if (rc)
            return rc;
    }
    return TM_OK;
}

/* For people who look, so it is small. */
static struct tm_config_sql own_database(const struct tm_config *config)
{
    bool is_gatherer = config->role == TM_CONFIG_GATHERER;
    return (struct tm_config_sql){.where = config->where,
                                  .conninfo = is_gatherer ? config->gatherer.store : config->deduplicator.production,
                                  .timeout_us = OWN_TIMEOUT_US,
                                  .connections = 1,
                                  .rows_max = OWN_ROWS_MAX,
                                  .bytes_max = OWN_BYTES_MAX};
}

int tm_sql_create(struct tm_loop *loop, const struct tm_config *config, const struct tm_sql_owner *owner,
                  struct tm_sql **out, struct tm_error *err)
{
    struct tm_sql *sql = calloc(1, sizeof *sql + (config->sql_count + 1) * sizeof sql->databases[0]);
    TM_FATAL_UNLESS(sql);
    sql->own = own_database(config);
    sql->loop = loop;
    sql->owner = *owner;
    tm_timer_init(&sql->kick, loop, on_kick, sql);
    tm_timer_init(&sql->sweep, loop, on_sweep, sql);
    int rc = TM_OK;
    for (size_t i = 0; i <= config->sql_count && !rc; i++) {
        sql->count++;
        rc = open_database(sql, &sql->databases[i], i ? &config->sqls[i - 1] : &sql->own, err);
    }
    if (rc)
        tm_sql_destroy(sql);
    else
        *out = sql;
    return rc;
}

static void close_database(struct database *db)
{
    for (size_t i = 0; i < db->config->connections; i++) {
        struct connection *c = &db->connections[i];
        if (c->pg)
            close_connection(c);
        if (c->request)
            free_request(c->request);
        tm_pg_async_destroy(c->pg);
    }
    while (db->first) {
        struct request *r = db->first;
        db->first = r->next;
        free_request(r);
    }
    free(db->connections);
}

void tm_sql_destroy(struct tm_sql *sql)
{
    if (!sql)
        return;
    for (size_t i = 0; i < sql->count; i++)
        close_database(&sql->databases[i]);
    tm_resolver_destroy(sql->resolver);
    tm_timer_stop(&sql->kick);
    tm_timer_stop(&sql->sweep);
    free(sql);
}

size_t tm_sql_count(const struct tm_sql *sql)
{
    return sql->count;
}

/* ---- what is asked for ---- */

/* The connection of the transaction, or NULL when it is over. */
static struct connection *find_transaction(struct tm_sql *sql, double number)
{
    for (size_t i = 0; i < sql->count; i++) {
        struct database *db = &sql->databases[i];
        for (size_t k = 0; k < db->config->connections && number > 0; k++)
            if (db->connections[k].transaction == number)
                return &db->connections[k];
    }
    return NULL;
}

static bool is_busy(const struct connection *c)
{
    for (const struct request *r = c->db->first; r; r = r->next)
        if (r->conn == c)
            return true;
    return c->request != NULL;
}

static char *copy(const char *text)
{
    char *s = strdup(text);
    TM_FATAL_UNLESS(s);
    return s;
}

static size_t measure(const struct tm_sql_statement *statement)
{
    size_t bytes = 0;
    for (int i = 0; i < statement->count; i++)
        bytes += statement->values[i] ? strlen(statement->values[i]) + 1 : 0;
    return bytes;
}

static struct request *new_request(struct database *db, struct connection *conn, enum purpose purpose, const char *text,
                                   uint64_t waiter)
{
    struct request *r = calloc(1, sizeof *r);
    TM_FATAL_UNLESS(r);
    r->db = db;
    r->conn = conn;
    r->purpose = purpose;
    r->waiter = waiter;
    r->sql = copy(text);
    r->bytes = strlen(text);
    return r;
}

static void enqueue(struct request *r)
{
    struct database *db = r->db;
    struct request **at = &db->first;
    while (*at)
        at = &(*at)->next;
    *at = r;
    db->sql->waiting_bytes += r->bytes;
    tm_timer_init(&r->timer, db->sql->loop, on_deadline, r);
    tm_timer_start(&r->timer, db->config->timeout_us, 0);
    kick(db->sql);
}

int tm_sql_run(struct tm_sql *sql, uint64_t waiter, const struct tm_sql_statement *statement, struct tm_error *err)
{
    struct database *db = &sql->databases[statement->database];
    struct connection *conn = statement->in_transaction ? find_transaction(sql, statement->transaction) : NULL;
    size_t bytes = measure(statement);
    if (statement->in_transaction && (!conn || conn->db != db))
        return tm_error_set(err, TM_ENOENT, "the transaction is over");
    if (conn && is_busy(conn))
        return tm_error_set(err, TM_ESTATE, "a statement of this transaction runs already");
    if (sql->waiting_bytes + bytes > WAITING_BYTES_MAX)
        return tm_error_set(err, TM_EFULL, "too much waits for the database already");
    struct request *r = new_request(db, conn, STATEMENT, statement->text, waiter);
    for (int i = 0; i < statement->count; i++)
        r->values[i] = statement->values[i] ? copy(statement->values[i]) : NULL;
    r->count = statement->count;
    r->hidden = statement->hidden;
    r->bytes += bytes;
    enqueue(r);
    return TM_OK;
}

void tm_sql_begin(struct tm_sql *sql, uint64_t waiter, size_t database)
{
    enqueue(new_request(&sql->databases[database], NULL, BEGIN, "BEGIN", waiter));
}

int tm_sql_end(struct tm_sql *sql, uint64_t waiter, double transaction, bool commit, struct tm_error *err)
{
    struct connection *c = find_transaction(sql, transaction);
    if (!c)
        return tm_error_set(err, TM_ENOENT, "the transaction is over");
    if (is_busy(c))
        return tm_error_set(err, TM_ESTATE, "a statement of this transaction runs still");
    enqueue(new_request(c->db, c, commit ? COMMIT : ROLLBACK, commit ? "COMMIT" : "ROLLBACK", waiter));
    return TM_OK;
}
