#include "base/clock.h"
#include "base/log.h"
#include "store/pg_private.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_US (10 * TM_US_PER_S)
#define STATEMENT_US (60 * TM_US_PER_S)
/* Used where the conninfo says nothing: a dead peer is noticed in about 10 s, not in the kernel's 15 minutes.
 */
static const struct {
    const char *keyword, *value;
} defaults[] = {
    {"keepalives_idle", "5"},      {"keepalives_interval", "2"}, {"keepalives_count", "3"},
    {"tcp_user_timeout", "10000"}, {"client_encoding", "UTF8"},
};

static size_t split(char *list, char **items)
{
    size_t count = 0;
    for (char *at = list; at && count < TM_PG_HOSTS_MAX;) {
        char *comma = strchr(at, ',');
        if (comma)
            *comma++ = '\0';
        items[count++] = at;
        at = comma;
    }
    return count;
}

static bool is_per_host(const char *keyword)
{
    return strcmp(keyword, "host") == 0 || strcmp(keyword, "hostaddr") == 0 || strcmp(keyword, "port") == 0;
}

static void put(struct tm_pg_settings *s, const char *keyword, const char *value)
{
    if (value && *value && s->count < TM_PG_SETTINGS_MAX) {
        s->keywords[s->count] = keyword;
        s->values[s->count++] = value;
    }
}

static char *list_of(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *o = options; o->keyword; o++)
        if (strcmp(o->keyword, keyword) == 0 && o->val && *o->val)
            return strdup(o->val);
    return NULL;
}

int tm_pg_settings_init(struct tm_pg_settings *s, const struct tm_pg_options *options, struct tm_error *err)
{
    memset(s, 0, sizeof *s);
    char *message = NULL;
    s->options = PQconninfoParse(options->conninfo, &message);
    if (!s->options) {
        /* libpq quotes the part it did not understand, which could be a password: so it is not repeated */
        PQfreemem(message);
        return tm_pg_conninfo_fault(options->conninfo, err);
    }
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        put(s, defaults[i].keyword, defaults[i].value);
    if (options->writes)
        put(s, "target_session_attrs", "read-write");
    put(s, "fallback_application_name", options->application_name);
    for (const PQconninfoOption *o = s->options; o->keyword; o++)
        if (!is_per_host(o->keyword))
            put(s, o->keyword, o->val); /* after the defaults: the later of two wins */
    s->host_count = split(s->lists[0] = list_of(s->options, "host"), s->hosts);
    s->address_count = split(s->lists[1] = list_of(s->options, "hostaddr"), s->addresses);
    s->port_count = split(s->lists[2] = list_of(s->options, "port"), s->ports);
    return TM_OK;
}

void tm_pg_settings_fini(struct tm_pg_settings *s)
{
    PQconninfoFree(s->options);
    for (size_t i = 0; i < 3; i++)
        free(s->lists[i]);
}

size_t tm_pg_attempts(const struct tm_pg_settings *s)
{
    size_t n = s->host_count > s->address_count ? s->host_count : s->address_count;
    return n ? n : 1;
}

static const char *nth(char *const *items, size_t count, size_t i)
{
    return i < count ? items[i] : count == 1 ? items[0] : NULL;
}

/*
 * libpq tells the SQLSTATE of a refused connection only in its verbose text: "FATAL:  28P01: password ...". Without
 * one nobody answered, or not a PostgreSQL server. LOCATION and the lines after it are for the server's developers.
 */
int tm_pg_refused(struct tm_pg *pg, struct tm_error *err)
{
    char sqlstate[6] = "", text[sizeof err->message];
    (void)snprintf(text, sizeof text, "%s", PQerrorMessage(pg->conn));
    for (const char *at = text; (at = strstr(at, ":  ")) && !*sqlstate; at += 3)
        if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && at[8] == ':')
            (void)snprintf(sqlstate, sizeof sqlstate, "%s", at + 3);
    char *location = strstr(text, "\nLOCATION:");
    if (location)
        *location = '\0';
    tm_pg_one_line(text);
    (void)tm_pg_lost(pg, TM_ERETRY, NULL);
    pg->class = tm_pg_classify(sqlstate);
    return tm_error_set(err, tm_pg_code_of(pg->class, sqlstate), "%s", text);
}

static int poll_connection(struct tm_pg *pg, int64_t deadline_us, struct tm_error *err)
{
    for (PostgresPollingStatusType state = PGRES_POLLING_WRITING;;) {
        if (state == PGRES_POLLING_OK)
            return TM_OK;
        if (state == PGRES_POLLING_FAILED)
            return tm_pg_refused(pg, err);
        int rc = tm_pg_wait(pg, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline_us, err);
        if (rc)
            return rc;
        state = PQconnectPoll(pg->conn);
    }
}

/* 01000 is what a COMMIT comes with that was told to wait for its standby no longer. */
static void on_notice(void *arg, const PGresult *result)
{
    struct tm_pg *pg = arg;
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    pg->warned |= sqlstate && strcmp(sqlstate, "01000") == 0;
    tm_log(TM_LOG_DEBUG, "store", "notice from the server",
           TM_F_STR("text", PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)));
}

int tm_pg_start_host(struct tm_pg *pg, struct tm_pg_settings *s, size_t i, const char *host, const char *address,
                     struct tm_error *err)
{
    size_t common = s->count;
    put(s, "host", host ? host : nth(s->hosts, s->host_count, i));
    put(s, "hostaddr", address ? address : nth(s->addresses, s->address_count, i));
    put(s, "port", nth(s->ports, s->port_count, i));
    s->keywords[s->count] = NULL;
    pg->conn = PQconnectStartParams(s->keywords, s->values, 0);
    s->count = common;
    if (!pg->conn)
        return tm_error_set(err, TM_ENOMEM, "out of memory for a connection");
    if (PQstatus(pg->conn) == CONNECTION_BAD)
        return tm_pg_refused(pg, err);
    PQsetNoticeReceiver(pg->conn, on_notice, pg);
    (void)PQsetErrorVerbosity(pg->conn, PQERRORS_VERBOSE);
    (void)snprintf(pg->statement, sizeof pg->statement, "connect");
    return TM_OK;
}

static int try_host(struct tm_pg *pg, struct tm_pg_settings *s, size_t i, int64_t us, struct tm_error *err)
{
    int rc = tm_pg_start_host(pg, s, i, NULL, NULL, err);
    if (!rc)
        rc = poll_connection(pg, tm_clock_mono_us() + us, err);
    if (rc)
        return rc;
    (void)PQsetErrorVerbosity(pg->conn, PQERRORS_DEFAULT);
    if (PQsetnonblocking(pg->conn, 1))
        return tm_pg_lost(pg, TM_ERETRY, err);
    return tm_pg_exec(pg, "SET timezone = 'UTC'; SET extra_float_digits = 3; SET client_min_messages = warning", err);
}

int tm_pg_connect(const struct tm_pg_options *options, struct tm_pg **out, struct tm_error *err)
{
    struct tm_pg_settings s;
    int rc = tm_pg_settings_init(&s, options, err);
    if (rc)
        return rc;
    struct tm_pg *pg = calloc(1, sizeof *pg);
    TM_FATAL_UNLESS(pg);
    pg->conninfo = strdup(options->conninfo);
    TM_FATAL_UNLESS(pg->conninfo);
    pg->stop = options->stop;
    pg->statement_us = options->statement_us ? options->statement_us : STATEMENT_US;
    int64_t each_us = (options->connect_us ? options->connect_us : CONNECT_US) / (int64_t)tm_pg_attempts(&s);
    for (size_t i = 0; i < tm_pg_attempts(&s); i++) {
        rc = try_host(pg, &s, i, each_us, err);
        if (!rc || rc == TM_ESTOPPED)
            break;
        PQfinish(pg->conn);
        pg->conn = NULL;
    }
    tm_pg_settings_fini(&s);
    if (rc) {
        (void)tm_error_wrap(err, "cannot connect");
        if (options->refusal)
            *options->refusal = pg->class;
        tm_pg_close(pg);
        return rc;
    }
    *out = pg;
    return TM_OK;
}

/* ---- for people ---- */

static bool is_hidden(const PQconninfoOption *o)
{
    return *o->dispchar == '*' || strstr(o->keyword, "password") || strcmp(o->keyword, "options") == 0;
}

int tm_pg_mask(const char *conninfo, struct tm_buf *out)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    int rc = options ? TM_OK : tm_buf_printf(out, "***");
    bool first = true;
    for (const PQconninfoOption *o = options; o && o->keyword && !rc; o++) {
        if (!o->val || !*o->val)
            continue;
        rc = tm_buf_printf(out, "%s%s=%s", first ? "" : " ", o->keyword, is_hidden(o) ? "***" : o->val);
        first = false;
    }
    PQconninfoFree(options);
    return rc;
}

int tm_pg_check_conninfo(const char *conninfo, struct tm_error *err)
{
    struct tm_pg_options options = {.conninfo = conninfo};
    struct tm_pg_settings s;
    int rc = tm_pg_settings_init(&s, &options, err);
    if (!rc)
        tm_pg_settings_fini(&s);
    return rc;
}
