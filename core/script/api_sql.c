/*
 * host: sql(database, transaction?, text, ...) -> rows, affected | nil, {message, sqlstate?}
 *       sql_begin(database) -> transaction | nil, error
 *       sql_end(transaction, commit) -> true | nil, error
 *
 * Run time, in tasks, which wait. `database` counts the declared ones (tm.sql) from 1; 0 is the role's own: the store of a
 * gatherer, production of a deduplicator. Each has a few connections, opened
 * when they are needed; a statement takes a free one or waits for it, within its deadline. A transaction keeps its
 * connection; when its task dies the connection is closed, which rolls back. Everything happens from the loop, never
 * inside the call, because a task can be woken only when it waits. Values: see push_value.
 */
#include "script/script_impl.h"
#include "script/secret.h"

#include "base/clock.h"
#include "net/resolve.h"
#include "store/async.h"

#include <math.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SWEEP_US (100 * TM_US_PER_MS)
#define SQL_BYTES_MAX ((size_t)1 << 20)
#define WAITING_BYTES_MAX ((size_t)64 << 20) /* statements and parameters of all that wait */
#define EXACT_MAX 9007199254740992.0         /* 2^53 */
#define OWN_TIMEOUT_US (20 * TM_US_PER_S)
#define OWN_ROWS_MAX 1000
#define OWN_BYTES_MAX ((size_t)1 << 20)
#define EXACT_DIGITS 15 /* every decimal of so many digits survives a double */

enum purpose { STATEMENT, BEGIN, COMMIT, ROLLBACK };

struct request {
    struct request *next; /* in the queue of its database */
    struct database *db;
    struct connection *conn; /* that it runs on, or has to */
    enum purpose purpose;
    tm_task_handle task;
    struct tm_timer timer;
    size_t bytes;
    bool hidden; /* a parameter is a secret */
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
    tm_task_handle holder;
};

struct database {
    struct tm_sql *sql;
    const struct tm_config_sql *config;
    struct connection *connections;
    struct request *first;
};

struct tm_sql {
    struct tm_script *script;
    struct tm_loop *loop;
    struct tm_resolver *resolver;
    struct tm_timer kick, sweep;
    double transactions; /* counted */
    size_t waiting_bytes;
    size_t count;
    struct tm_config_sql own;    /* the role's */
    struct database databases[]; /* the role's own, then the declared ones */
};

static void pump(struct database *db);

/* ---- answers in Lua ---- */

/* An integer that a double holds, or its digits. */
static void push_integer(lua_State *L, const char *text, size_t len)
{
    double v = strtod(text, NULL);
    if (fabs(v) < EXACT_MAX)
        lua_pushnumber(L, v);
    else
        lua_pushlstring(L, text, len);
}

/* A number when the double stands for exactly these digits, or else the text. */
static void push_numeric(lua_State *L, const char *text, size_t len)
{
    size_t digits = strspn(text + (*text == '-'), "0123456789."), significant = 0;
    bool integer = !strchr(text, '.'), leading = true;
    for (const char *c = text; *c; c++) {
        leading = leading && (*c == '0' || *c == '.' || *c == '-');
        significant += *c >= '0' && *c <= '9' && !leading;
    }
    if (digits + (*text == '-') != len)
        lua_pushlstring(L, text, len); /* NaN, Infinity */
    else if (integer)
        push_integer(L, text, len);
    else if (significant <= EXACT_DIGITS)
        lua_pushnumber(L, strtod(text, NULL));
    else
        lua_pushlstring(L, text, len);
}

/* "2026-11-05 00:00:00.5+00" -> microseconds since 1970; what is no such time (infinity, BC) stays text. */
static void push_time(lua_State *L, const char *text, size_t len)
{
    struct tm t = {0};
    char fraction[7] = "000000";
    int used = 0, more = 0;
    if (sscanf(text, "%d-%d-%d %d:%d:%d%n", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour, &t.tm_min, &t.tm_sec,
               &used) == 6) {
        if (text[used] == '.' && sscanf(text + used + 1, "%6[0-9]%n", fraction, &more) == 1)
            used += 1 + more;
        for (size_t i = strlen(fraction); i < 6; i++)
            fraction[i] = '0';
        fraction[6] = '\0';
        t.tm_year -= 1900;
        t.tm_mon -= 1;
        double us = (double)timegm(&t) * 1e6 + strtod(fraction, NULL);
        if (strcmp(text + used, "+00") == 0 && fabs(us) < EXACT_MAX) {
            lua_pushnumber(L, us);
            return;
        }
    }
    lua_pushlstring(L, text, len);
}

/* The numbers are rows of pg_type and never change. All other types are text as PostgreSQL writes them. */
static void push_value(lua_State *L, unsigned type, const char *text, size_t len)
{
    switch (type) {
    case 16: /* bool */
        lua_pushboolean(L, *text == 't');
        return;
    case 20: /* int8 */
        push_integer(L, text, len);
        return;
    case 21:  /* int2 */
    case 23:  /* int4 */
    case 26:  /* oid */
    case 700: /* float4 */
    case 701: /* float8 */
        lua_pushnumber(L, strtod(text, NULL));
        return;
    case 1700: /* numeric */
        push_numeric(L, text, len);
        return;
    case 1184: /* timestamptz */
        push_time(L, text, len);
        return;
    default:
        lua_pushlstring(L, text, len);
    }
}

struct outcome {
    const struct tm_pg_answer *answer; /* NULL: `error` alone */
    double transaction;                /* that was begun; 0: rows */
    bool ended;
    const char *error, *sqlstate;
};

static void push_rows(lua_State *L, const struct tm_pg_answer *answer)
{
    size_t at = 0, len;
    lua_createtable(L, (int)answer->column_count, 0);
    int names = lua_gettop(L);
    for (size_t i = 0; i < answer->column_count; i++) {
        lua_pushstring(L, answer->columns[i].name);
        lua_rawseti(L, names, (int)i + 1);
    }
    lua_createtable(L, (int)answer->row_count, 0);
    for (size_t row = 0; row < answer->row_count; row++) {
        lua_createtable(L, 0, (int)answer->column_count);
        for (size_t i = 0; i < answer->column_count; i++) {
            const char *cell = tm_pg_answer_next(answer, &at, &len);
            if (!cell)
                continue;
            lua_rawgeti(L, names, (int)i + 1);
            push_value(L, answer->columns[i].type, cell, len);
            lua_rawset(L, -3);
        }
        lua_rawseti(L, -2, (int)row + 1);
    }
}

static int push_error(lua_State *L, const char *message, const char *sqlstate)
{
    lua_pushnil(L);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, message);
    lua_setfield(L, -2, "message");
    if (sqlstate && *sqlstate) {
        lua_pushstring(L, sqlstate);
        lua_setfield(L, -2, "sqlstate");
    }
    return 2;
}

static int push_outcome(lua_State *L, void *arg)
{
    const struct outcome *o = arg;
    luaL_checkstack(L, 16, "an answer");
    if (o->error)
        return push_error(L, o->error, o->sqlstate);
    if (o->ended) {
        lua_pushboolean(L, true);
        return 1;
    }
    if (o->transaction > 0) {
        lua_pushnumber(L, o->transaction);
        return 1;
    }
    push_rows(L, o->answer);
    lua_pushnumber(L, (lua_Number)(o->answer->affected < 0 ? 0 : o->answer->affected));
    return 2;
}

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

/* The end of a request that is in no list any more: its task goes on. */
static void conclude(struct request *r, struct outcome *outcome)
{
    tm_task_wake(r->db->sql->script, r->task, push_outcome, outcome);
    free_request(r);
}

static void fail(struct request *r, const char *message, const char *sqlstate)
{
    struct outcome o = {.error = message, .sqlstate = sqlstate};
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
    struct outcome o = {.answer = answer, .ended = r->purpose == COMMIT || r->purpose == ROLLBACK};
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
        c->holder = r->task;
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

/* A transaction whose task has died is rolled back by the end of its connection. */
static void on_sweep(void *arg)
{
    struct tm_sql *sql = arg;
    size_t held = 0;
    for (size_t i = 0; i < sql->count; i++) {
        struct database *db = &sql->databases[i];
        for (size_t k = 0; k < db->config->connections; k++) {
            struct connection *c = &db->connections[k];
            held += c->transaction > 0;
            if (c->transaction == 0 || tm_task_is_live(&sql->script->tasks, c->holder))
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

static int open_sql(struct tm_script *script, struct tm_error *err)
{
    const struct tm_config *config = &script->config;
    struct tm_sql *sql = calloc(1, sizeof *sql + (config->sql_count + 1) * sizeof sql->databases[0]);
    TM_FATAL_UNLESS(sql);
    sql->own = own_database(config);
    sql->script = script;
    sql->loop = script->services->loop;
    tm_timer_init(&sql->kick, sql->loop, on_kick, sql);
    tm_timer_init(&sql->sweep, sql->loop, on_sweep, sql);
    script->sql = sql;
    int rc = TM_OK;
    for (size_t i = 0; i <= config->sql_count && !rc; i++) {
        sql->count++;
        rc = open_database(sql, &sql->databases[i], i ? &config->sqls[i - 1] : &sql->own, err);
    }
    if (rc)
        tm_api_sql_close(script);
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

void tm_api_sql_close(struct tm_script *script)
{
    struct tm_sql *sql = script->sql;
    if (!sql)
        return;
    for (size_t i = 0; i < sql->count; i++)
        close_database(&sql->databases[i]);
    tm_resolver_destroy(sql->resolver);
    tm_timer_stop(&sql->kick);
    tm_timer_stop(&sql->sweep);
    free(sql);
    script->sql = NULL;
}

/* ---- the functions ---- */

static struct tm_sql *check_sql(lua_State *L, const char *what)
{
    struct tm_script *script = tm_script_of(L);
    struct tm_error err;
    (void)tm_script_services(L, what);
    if (!script->sql && open_sql(script, &err) < 0)
        luaL_error(L, "sql: %s", err.message);
    return script->sql;
}

static struct database *check_database(lua_State *L, struct tm_sql *sql, int index)
{
    lua_Number n = luaL_checknumber(L, index);
    if (!(n >= 0 && n < (double)sql->count && n == floor(n)))
        luaL_error(L, "sql: there is no such database: expected what tm.sql returns");
    return &sql->databases[(size_t)n];
}

/* The connection of the transaction, or NULL when it is over. One statement at a time runs in it. */
static struct connection *find_transaction(lua_State *L, struct tm_sql *sql, int index)
{
    lua_Number n = luaL_checknumber(L, index);
    for (size_t i = 0; i < sql->count; i++) {
        struct database *db = &sql->databases[i];
        for (size_t k = 0; k < db->config->connections && n > 0; k++)
            if (db->connections[k].transaction == n)
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

/* Text of a parameter: NULL is SQL NULL. `number` is room for one. Raises for what cannot be one. */
static const char *parameter(lua_State *L, int index, int n, char number[40])
{
    size_t len;
    double v;
    const char *text;
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return NULL;
    case LUA_TBOOLEAN:
        return lua_toboolean(L, index) ? "t" : "f";
    case LUA_TNUMBER:
        v = lua_tonumber(L, index);
        if (fabs(v) >= EXACT_MAX && v == floor(v) && fabs(v) < 1e19)
            luaL_error(L, "sql: parameter %d: integers of 2^53 and more are not exact: pass their digits as text", n);
        (void)snprintf(number, 40, "%.17g", v);
        return isnan(v) ? "NaN" : isinf(v) ? (v > 0 ? "Infinity" : "-Infinity") : number;
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(L, index))
            return NULL; /* tm.null */
        break;
    default:
        text = tm_secret_or_text(L, index, &len);
        if (text && strlen(text) != len)
            luaL_error(L, "sql: parameter %d: PostgreSQL's text holds no NUL bytes", n);
        if (text)
            return text;
    }
    luaL_error(L,
               "sql: parameter %d: expected text, a number, a boolean, nil or a secret, got a %s: tm.json.encode makes "
               "text of a table",
               n, luaL_typename(L, index));
    return NULL;
}

static char *copy(const char *text)
{
    char *s = strdup(text);
    TM_FATAL_UNLESS(s);
    return s;
}

/* The parameters are checked before anything is allocated, so that an error leaves nothing behind. */
static size_t measure(lua_State *L, int first, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++) {
        char number[40];
        const char *text = parameter(L, first + i, i + 1, number);
        bytes += text ? strlen(text) + 1 : 0;
    }
    return bytes;
}

static struct request *new_request(lua_State *L, struct database *db, struct connection *conn, enum purpose purpose,
                                   const char *text)
{
    tm_task_handle self = tm_task_self(L);
    struct request *r = calloc(1, sizeof *r);
    TM_FATAL_UNLESS(r);
    r->db = db;
    r->conn = conn;
    r->purpose = purpose;
    r->task = self;
    r->sql = copy(text);
    r->bytes = strlen(text);
    return r;
}

static int wait_for(lua_State *L, struct request *r)
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
    return tm_task_yield(L);
}

static const char *check_text(lua_State *L, int index)
{
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);
    if (strlen(text) != len || len > SQL_BYTES_MAX || !len)
        luaL_error(L, "sql: expected a statement of at most 1 MiB without NUL bytes");
    return text;
}

static int sql_statement(lua_State *L)
{
    struct tm_sql *sql = check_sql(L, "a statement");
    struct database *db = check_database(L, sql, 1);
    struct connection *conn = lua_isnil(L, 2) ? NULL : find_transaction(L, sql, 2);
    const char *text = check_text(L, 3);
    int count = lua_gettop(L) - 3;
    if (count > TM_PG_PARAMETERS_MAX)
        return luaL_error(L, "sql: expected at most %d parameters", TM_PG_PARAMETERS_MAX);
    size_t bytes = measure(L, 4, count);
    (void)tm_task_self(L);
    if (!lua_isnil(L, 2) && (!conn || conn->db != db))
        return push_error(L, "the transaction is over", NULL);
    if (conn && is_busy(conn))
        return luaL_error(L, "sql: a statement of this transaction runs already");
    if (sql->waiting_bytes + bytes > WAITING_BYTES_MAX)
        return push_error(L, "too much waits for the database already", NULL);
    struct request *r = new_request(L, db, conn, STATEMENT, text);
    for (int i = 0; i < count; i++) {
        char number[40];
        const char *value = parameter(L, 4 + i, i + 1, number);
        r->values[i] = value ? copy(value) : NULL;
        r->hidden = r->hidden || tm_secret_at(L, 4 + i);
    }
    r->count = count;
    r->bytes += bytes;
    return wait_for(L, r);
}

static int sql_begin(lua_State *L)
{
    struct tm_sql *sql = check_sql(L, "a transaction");
    struct database *db = check_database(L, sql, 1);
    return wait_for(L, new_request(L, db, NULL, BEGIN, "BEGIN"));
}

static int sql_end(lua_State *L)
{
    struct tm_sql *sql = check_sql(L, "a transaction");
    struct connection *c = find_transaction(L, sql, 1);
    bool commit = lua_toboolean(L, 2);
    if (!c)
        return push_error(L, "the transaction is over", NULL);
    if (is_busy(c))
        return luaL_error(L, "sql: a statement of this transaction runs still");
    return wait_for(L, new_request(L, c->db, c, commit ? COMMIT : ROLLBACK, commit ? "COMMIT" : "ROLLBACK"));
}

void tm_api_sql(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"sql", sql_statement}, {"sql_begin", sql_begin}, {"sql_end", sql_end}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
