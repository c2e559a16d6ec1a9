/* What start would refuse, found without starting anything. */
#include "script/config.h"

#include "record/builtin.h"

#include "dedup/seen.h"
#include "engine/intake.h"
#include "engine/registry.h"
#include "net/httpd.h"
#include "net/url.h"
#include "store/pg.h"

#include <stdio.h>
#include <string.h>

#define SOCKET_PATH_MAX 100

/* ---- addresses ---- */

static void verify_address(const char *where, const char *what, const char *address, struct tm_problems *problems)
{
    struct tm_error err;
    if (address && tm_httpd_check_address(address, &err) < 0) {
        (void)tm_error_wrap(&err, "%s", what);
        tm_problem_add(problems, where, err.message);
    }
}

static void verify_addresses(struct tm_config *config, struct tm_problems *problems)
{
    verify_address(config->where, "health", config->health, problems);
    verify_address(config->where, "metrics", config->metrics, problems);
    if (config->health && config->metrics && tm_httpd_addresses_clash(config->health, config->metrics))
        tm_problem_add(problems, config->where,
                       "metrics: is the same port as health, written differently: expected the same text (one listener "
                       "serves both) or another port");
    if (config->socket && strlen(config->socket) > SOCKET_PATH_MAX)
        tm_problem_add(problems, config->where,
                       "socket: expected a path of at most 100 bytes (a limit of unix sockets)");
}

/* A base that paths are appended to, so nothing may follow its path. */
static int check_rest_url(const char *url, struct tm_error *err)
{
    struct tm_url parsed;
    int rc = tm_url_parse(url, "http", "https", &parsed, err);
    if (!rc && strchr(parsed.path, '?'))
        rc = tm_error_set(err, TM_EINVAL, "expected a base URL without query, got \"%s\"", url);
    return rc;
}

static void verify_network(struct tm_config *config, struct tm_problems *problems)
{
    struct tm_error err;
    for (size_t i = 0; i < config->signer_count; i++)
        if (tm_auth_create(&config->signers[i].def, &config->signers[i].auth, &err) < 0)
            tm_problem_add(problems, config->signers[i].where, err.message);
    for (size_t i = 0; i < config->feed_count; i++) {
        const struct tm_ws_options *ws = &config->feeds[i].ws;
        int rc = tm_ws_check_url(ws->url, &err);
        if (!rc && ws->ca_file)
            rc = tm_ws_check_ca_file(ws->ca_file, &err);
        if (rc < 0)
            tm_problem_add(problems, config->feeds[i].where, err.message);
    }
    for (size_t i = 0; i < config->rest_count; i++)
        if (check_rest_url(config->rests[i].url, &err) < 0)
            tm_problem_add(problems, config->rests[i].where, err.message);
}

static void verify_expression(const struct tm_alert_def *a, const char *field, const char *text,
                              struct tm_problems *problems)
{
    struct tm_alert_expr *expr;
    struct tm_error err;
    if (!text)
        return;
    if (tm_alert_parse(text, &expr, &err) < 0) {
        (void)tm_error_wrap(&err, "tm.alert %s: %s", a->name, field);
        tm_problem_add(problems, a->where, err.message);
        return;
    }
    tm_alert_expr_destroy(expr);
}

static void verify_alerts(struct tm_config *config, struct tm_problems *problems)
{
    for (size_t i = 0; i < config->alert_count; i++) {
        verify_expression(&config->alerts[i], "when", config->alerts[i].when, problems);
        verify_expression(&config->alerts[i], "clear", config->alerts[i].clear, problems);
    }
    if (config->alert_count > TM_ALERTS_MAX)
        tm_problem_add(problems, config->alerts[TM_ALERTS_MAX].where, "tm.alert: expected at most 200 alerts");
}

/* ---- the plan, piece by piece, so that each fault is told at its own place ---- */

struct pieces {
    struct tm_config *config;
    struct tm_problems *problems;
    bool protocol_good;
    bool stream_good[TM_STREAMS_MAX]; /* of those declared; more than fit are told by the whole plan */
};

static bool compiles(struct pieces *p, const struct tm_plan_def *def, const char *where)
{
    struct tm_plan *plan = NULL;
    struct tm_error err;
    int rc = tm_plan_compile(def, &plan, &err);
    if (rc)
        tm_problem_add(p->problems, where ? where : p->config->where, err.message);
    else
        tm_plan_put(plan);
    return rc == TM_OK;
}

static struct tm_plan_def piece(const struct pieces *p)
{
    return (struct tm_plan_def){.gatherer = p->config->plan_def.gatherer, .protocol = p->config->plan_def.protocol};
}

/* Which column counts the occurrences is said by the kinds, so a stream alone is compiled without counting. */
static void verify_stream(struct pieces *p, size_t i)
{
    struct tm_stream_def stream = p->config->plan_def.streams[i];
    struct tm_plan_def def = piece(p);
    def.protocol = (struct tm_protocol_def){0};
    def.streams = &stream;
    def.stream_count = 1;
    stream.occurrence = false;
    p->stream_good[i] = p->config->stream_good[i] && compiles(p, &def, p->config->stream_where[i]);
}

static const struct tm_stream_def *stream_of(const struct pieces *p, const struct tm_kind_def *kind, bool *good)
{
    const struct tm_plan_def *def = &p->config->plan_def;
    for (size_t i = 0; kind->stream && i < def->stream_count && i < TM_STREAMS_MAX; i++)
        if (strcmp(def->streams[i].name, kind->stream) == 0) {
            *good = p->stream_good[i];
            return &def->streams[i];
        }
    *good = kind->role != TM_ROLE_DATA;
    return NULL;
}

static void verify_kind(struct pieces *p, size_t i)
{
    const struct tm_kind_def *kind = &p->config->plan_def.kinds[i];
    bool good;
    const struct tm_stream_def *stream = stream_of(p, kind, &good);
    struct tm_plan_def def = piece(p);
    def.streams = stream;
    def.stream_count = stream ? 1 : 0;
    struct tm_kind_def alone = *kind;
    alone.opens = NULL; /* a stream that is not in this piece */
    def.kinds = &alone;
    def.kind_count = 1;
    if (good && p->config->kind_good[i] && (p->protocol_good || kind->document))
        (void)compiles(p, &def, p->config->kind_where[i]);
}

static void verify_pieces(struct tm_config *config, struct tm_problems *problems)
{
    struct pieces p = {.config = config, .problems = problems};
    struct tm_plan_def protocol = piece(&p);
    p.protocol_good = config->protocol_where && compiles(&p, &protocol, config->protocol_where);
    for (size_t i = 0; i < config->plan_def.stream_count && i < TM_STREAMS_MAX; i++)
        verify_stream(&p, i);
    for (size_t i = 0; i < config->plan_def.kind_count && i < TM_KINDS_MAX; i++)
        verify_kind(&p, i);
}

/* ---- what the engine makes of it ---- */

static const char *where_of_stream(const struct tm_config *config, const char *name)
{
    for (size_t i = 0; i < config->plan_def.stream_count; i++)
        if (strcmp(config->plan_def.streams[i].name, name) == 0)
            return config->stream_where[i];
    return config->where;
}

static void verify_seen(struct tm_config *config, struct tm_problems *problems)
{
    for (size_t i = 0; i < tm_plan_stream_count(config->plan); i++) {
        const struct tm_stream *stream = tm_plan_stream(config->plan, i);
        struct tm_seen *seen = NULL;
        struct tm_error err;
        if (tm_stream_has_seen(stream) && tm_stream_seen_create(stream, &seen, &err) < 0)
            tm_problem_add(problems, where_of_stream(config, stream->name), err.message);
        tm_seen_destroy(seen);
    }
}

static void verify_registries(struct tm_config *config, struct tm_problems *problems)
{
    for (size_t i = 0; i < config->registry_count; i++) {
        const struct tm_config_registry *r = &config->registries[i];
        const struct tm_stream *stream = tm_plan_stream_by_name(config->plan, r->stream);
        struct tm_registry *registry = NULL;
        struct tm_error err;
        if (!stream)
            (void)tm_error_set(&err, TM_EINVAL, "tm.registry: there is no stream \"%s\"", r->stream);
        if (!stream || tm_registry_create(stream, r->columns, &registry, &err) < 0)
            tm_problem_add(problems, r->where, err.message);
        tm_registry_destroy(registry);
    }
}

static void verify_journal(struct tm_config *config, struct tm_problems *problems)
{
    struct tm_journal_declaration streams[TM_STREAMS_MAX];
    size_t count = tm_plan_stream_count(config->plan);
    struct tm_error err;
    for (size_t i = 0; i < count; i++)
        streams[i] = (struct tm_journal_declaration){.name = tm_plan_stream(config->plan, i)->name,
                                                     .columns = tm_plan_stream(config->plan, i)->copy_columns};
    if (tm_journal_check(&config->gatherer.journal, streams, count, &err) < 0)
        tm_problem_add(problems, config->where, err.message);
}

/* Whole days are dropped and compressed, so only a table of days can be. */
static void verify_days(struct tm_config *config, const char *what, const struct tm_deduplicator_retain *times,
                        size_t count, struct tm_problems *problems)
{
    char message[160];
    for (size_t i = 0; config->plan && i < count; i++) {
        const char *name = times[i].stream;
        const struct tm_stream *s = tm_plan_stream_by_name(config->plan, name);
        if (s && s->partition == TM_PARTITION_DAY)
            continue;
        (void)snprintf(message, sizeof message, "%s: expected streams that are partitioned by day, got \"%.64s\"%s",
                       what, name, s ? "" : ", which is not declared");
        tm_problem_add(problems, config->where, message);
    }
}

static void verify_archive(struct tm_config *config, const struct tm_archive_settings *archive,
                           struct tm_problems *problems)
{
    struct tm_error err;
    if (tm_archive_settings_check(archive, config->plan, &err) < 0) {
        (void)tm_error_wrap(&err, "archive");
        tm_problem_add(problems, config->where, err.message);
    }
}

/* Only rows of streams can expire, and the ledger that explains it never does. */
static void verify_expire(struct tm_config *config, struct tm_problems *problems)
{
    char message[256];
    for (const char *const *name = config->gatherer.expire; name && *name; name++) {
        const struct tm_stream *s = tm_plan_stream_by_name(config->plan, *name);
        if (s && s->mode == TM_STREAM_APPEND && strcmp(*name, TM_STREAM_GAPS) != 0)
            continue;
        (void)snprintf(message, sizeof message, "expire: expected streams that are appended to, got \"%.64s\"%s", *name,
                       s ? "" : ", which no stream is called");
        tm_problem_add(problems, config->where, message);
    }
}

static void verify_conninfo(const char *where, const char *what, const char *conninfo, struct tm_problems *problems)
{
    struct tm_error err;
    if (conninfo && tm_pg_check_conninfo(conninfo, &err) < 0) {
        (void)tm_error_wrap(&err, "%s", what);
        tm_problem_add(problems, where, err.message);
    }
}

static void verify_role(struct tm_config *config, struct tm_problems *problems)
{
    const struct tm_deduplicator_options *d = &config->deduplicator;
    struct tm_error err;
    verify_conninfo(config->where, "store", config->gatherer.store, problems);
    verify_conninfo(config->where, "production", d->production, problems);
    for (size_t i = 0; i < d->gatherer_count; i++)
        verify_conninfo(config->where, d->gatherers[i].id, d->gatherers[i].conninfo, problems);
    for (size_t i = 0; i < config->sql_count; i++)
        verify_conninfo(config->sqls[i].where, "tm.sql", config->sqls[i].conninfo, problems);
    if (config->role == TM_CONFIG_DEDUPLICATOR && d->gatherer_count && tm_deduplicator_check(d, &err) < 0)
        tm_problem_add(problems, config->where, err.message);
}

void tm_config_verify(struct tm_config *config, struct tm_problems *problems)
{
    struct tm_error err;
    config->plan_def.gatherer = config->role == TM_CONFIG_GATHERER ? config->id : "";
    verify_addresses(config, problems);
    verify_network(config, problems);
    verify_role(config, problems);
    verify_alerts(config, problems);
    verify_pieces(config, problems);
    if (problems->count == 0 && tm_plan_compile(&config->plan_def, &config->plan, &err) < 0)
        tm_problem_add(problems, config->where, err.message);
    if (config->plan) {
        verify_seen(config, problems);
        verify_registries(config, problems);
        if (config->role == TM_CONFIG_GATHERER) {
            verify_journal(config, problems);
            verify_expire(config, problems);
            verify_archive(config, &config->gatherer.archive, problems);
        } else {
            const struct tm_deduplicator_options *d = &config->deduplicator;
            verify_days(config, "retain", d->retain, d->retain_count, problems);
            verify_days(config, "compress", d->compress, d->compress_count, problems);
            verify_archive(config, &config->deduplicator.archive, problems);
        }
    }
    config->gatherer.plan = config->plan_def;
    config->deduplicator.plan = config->plan;
}
