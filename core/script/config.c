#include "script/config.h"

#include "record/scanner.h"
#include "script/script.h"
#include "script/secret.h"
#include "script/table.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const config_roles[] = {"none", "gatherer", "deduplicator", NULL};
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_formats[] = {"logfmt", "json", NULL};

/* Scripts may hold any bytes, and terminals obey some of them. */
static char *printable(struct tm_arena *arena, const char *text)
{
    char *copy = tm_arena_strdup(arena, text);
    bool utf8 = tm_text_storable(copy, strlen(copy));
    for (char *c = copy; *c; c++)
        if ((unsigned char)*c < 0x20 ? *c != '\n' && *c != '\t' : *c == 0x7f || ((unsigned char)*c >= 0x80 && !utf8))
            *c = '?';
    return copy;
}

void tm_problem_add(struct tm_problems *p, const char *where, const char *message)
{
    if (p->count < TM_PROBLEMS_MAX) {
        p->list[p->count].where = printable(p->arena, where);
        p->list[p->count].message = printable(p->arena, message);
    }
    p->count++;
}

static void read_schedule(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_archive_schedule *s = element;
    s->stream = tm_table_string(L, index, "stream", arena);
    s->length_us = tm_table_int(L, index, "length_us", 0);
}

static void read_archive(lua_State *L, int index, struct tm_arena *arena, struct tm_archive_settings *out)
{
    if (!tm_table_push(L, index, "archive"))
        return;
    int at = lua_gettop(L);
    out->to = tm_table_string(L, at, "to", arena);
    out->credentials = tm_table_string(L, at, "credentials", arena);
    out->lag_us = tm_table_int(L, at, "lag_us", TM_ARCHIVE_LAG_US);
    out->wait_us = tm_table_int(L, at, "wait_us", TM_ARCHIVE_WAIT_US);
    out->schedule = tm_table_list(L, at, "schedule", sizeof *out->schedule, read_schedule, arena, &out->schedule_count);
    lua_pop(L, 1);
}

static void read_gatherer(lua_State *L, int index, struct tm_arena *arena, struct tm_config *out)
{
    struct tm_gatherer_options *g = &out->gatherer;
    g->id = out->id;
    g->store = tm_secret_field(L, index, "store", arena);
    g->connects_per_second = tm_table_number(L, index, "connects_per_second", 0);
    g->migrate = tm_table_bool(L, index, "migrate");
    g->key_margin_us = tm_table_int(L, index, "key_margin_us", 0);
    g->keep_us = tm_table_int(L, index, "keep_us", 0);
    g->store_bytes_max = (uint64_t)tm_table_int(L, index, "store_bytes", 0);
    g->expire = tm_table_strings(L, index, "expire", arena);
    g->partition_rows = tm_table_int(L, index, "partition_rows", 0);
    read_archive(L, index, arena, &g->archive);
    g->journal.dir = tm_table_string(L, index, "data", arena);
    g->journal.bytes_max = (uint64_t)tm_table_int(L, index, "journal_bytes", 0);
    g->journal.segment_bytes = (size_t)tm_table_int(L, index, "segment_bytes", 0);
    g->journal.buffer_bytes_max = (size_t)tm_table_int(L, index, "buffer_bytes", 0);
}

static void read_peer(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_deduplicator_gatherer *g = element;
    g->id = tm_table_string(L, index, "id", arena);
    g->conninfo = tm_secret_field(L, index, "conninfo", arena);
}

static void read_retain(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_deduplicator_retain *r = element;
    r->stream = tm_table_string(L, index, "stream", arena);
    r->keep_us = tm_table_int(L, index, "keep_us", 0);
}

static void read_deduplicator(lua_State *L, int index, struct tm_arena *arena, struct tm_config *out)
{
    struct tm_deduplicator_options *d = &out->deduplicator;
    d->id = out->id;
    d->production = tm_secret_field(L, index, "production", arena);
    d->gatherers = tm_table_list(L, index, "gatherers", sizeof *d->gatherers, read_peer, arena, &d->gatherer_count);
    d->poll_us = tm_table_int(L, index, "poll_us", 0);
    d->key_margin_us = tm_table_int(L, index, "key_margin_us", 0);
    d->poll_rows_max = (size_t)tm_table_int(L, index, "poll_rows", 0);
    d->batch_rows_max = (size_t)tm_table_int(L, index, "batch_rows", 0);
    d->queue_bytes_max = (size_t)tm_table_int(L, index, "queue_bytes", 0);
    d->accept_past_us = tm_table_int(L, index, "accept_past_us", 0);
    d->lease_us = tm_table_int(L, index, "lease_us", 0);
    d->shards = (unsigned)tm_table_int(L, index, "shards", 0);
    d->retain = tm_table_list(L, index, "retain", sizeof *d->retain, read_retain, arena, &d->retain_count);
    d->compress = tm_table_list(L, index, "compress", sizeof *d->compress, read_retain, arena, &d->compress_count);
    read_archive(L, index, arena, &d->archive);
    d->standby_wait_us = tm_table_int(L, index, "standby_wait_us", 0);
    d->accept_future_us = tm_table_int(L, index, "accept_future_us", 0);
    d->migrate = tm_table_bool(L, index, "migrate");
}

#define MEMORY_BYTES ((int64_t)256 << 20)
#define POLICY_STUCK_US INT64_C(5000000)

void tm_config_init(struct tm_config *config)
{
    config->limits = (struct tm_config_limits){TM_SCRIPT_LOAD_CPU_US, TM_SCRIPT_STEP_CPU_US, TM_SCRIPT_STEP_CPU_US,
                                               TM_SCRIPT_STEP_CPU_US, MEMORY_BYTES};
    config->callback_failures = TM_CALLBACK_FAILURES;
    config->policy_stuck_us = POLICY_STUCK_US;
}

static void read_guards(lua_State *L, int index, struct tm_config *out)
{
    out->callback_failures = (int)tm_table_int(L, index, "callback_failures", TM_CALLBACK_FAILURES);
    out->policy_stuck_us = tm_table_int(L, index, "policy_stuck_us", POLICY_STUCK_US);
    if (!tm_table_push(L, index, "limits"))
        return;
    int at = lua_gettop(L);
    struct tm_config_limits *l = &out->limits;
    l->load_us = tm_table_int(L, at, "load_us", TM_SCRIPT_LOAD_CPU_US);
    l->step_us = tm_table_int(L, at, "step_us", TM_SCRIPT_STEP_CPU_US);
    l->routine_us = tm_table_int(L, at, "routine_us", l->step_us);
    l->event_us = tm_table_int(L, at, "event_us", TM_SCRIPT_STEP_CPU_US);
    l->memory_bytes = (size_t)tm_table_int(L, at, "memory_bytes", MEMORY_BYTES);
    lua_pop(L, 1);
}

static void read_rule(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    static const char *const roles[] = {"read", "operate", "admin", NULL};
    struct tm_config_control_rule *r = element;
    r->role = tm_table_enum(L, index, "role", roles, 0);
    r->name = tm_table_string(L, index, "name", arena);
    if (!r->name)
        luaL_error(L, "declaration field 'name' is missing");
}

static void read_control(lua_State *L, int index, struct tm_arena *arena, struct tm_config_control *out)
{
    if (!tm_table_push(L, index, "control"))
        return;
    int at = lua_gettop(L);
    out->rules = tm_table_list(L, at, "rules", sizeof *out->rules, read_rule, arena, &out->rule_count);
    out->group = tm_table_string(L, at, "group", arena);
    out->sessions_max = (size_t)tm_table_int(L, at, "sessions", 0);
    out->memory_bytes = (size_t)tm_table_int(L, at, "memory_bytes", 0);
    out->cpu_us = tm_table_int(L, at, "cpu_us", 0);
    lua_pop(L, 1);
}

static void read_role(lua_State *L, int index, struct tm_arena *arena, struct tm_config *out)
{
    if (!tm_table_push(L, index, "role"))
        return;
    int at = lua_gettop(L);
    out->role = (enum tm_config_role)tm_table_enum(L, at, "role", config_roles, TM_CONFIG_NONE);
    out->where = tm_table_string(L, at, "at", arena);
    out->id = tm_table_string(L, at, "id", arena);
    out->health = tm_table_string(L, at, "health", arena);
    out->metrics = tm_table_string(L, at, "metrics", arena);
    out->console_names = tm_table_string(L, at, "console_names", arena);
    out->socket = tm_table_string(L, at, "socket", arena);
    out->alert_state = tm_table_string(L, at, "alert_state", arena);
    out->log_level = (enum tm_log_level)tm_table_enum(L, at, "log_level", log_levels, TM_LOG_INFO);
    out->log_format = (enum tm_log_format)tm_table_enum(L, at, "log_format", log_formats, TM_LOG_LOGFMT);
    read_guards(L, at, out);
    read_control(L, at, arena, &out->control);
    if (out->role == TM_CONFIG_GATHERER)
        read_gatherer(L, at, arena, out);
    else if (out->role == TM_CONFIG_DEDUPLICATOR)
        read_deduplicator(L, at, arena, out);
    lua_pop(L, 1);
}

static void read_watch(lua_State *L, int index, struct tm_watch_limits *out)
{
    if (!tm_table_push(L, index, "watch"))
        return;
    int at = lua_gettop(L);
    out->down_us = tm_table_int(L, at, "down_us", 0);
    out->up_us = tm_table_int(L, at, "up_us", 0);
    out->settle_us = tm_table_int(L, at, "settle_us", 0);
    out->grace_us = tm_table_int(L, at, "grace_us", 0);
    out->lag_us[0] = tm_table_int(L, at, "lag_us", 0);
    out->lag_us[1] = tm_table_int(L, at, "lag_critical_us", 0);
    out->disk_bytes = (uint64_t)tm_table_int(L, at, "disk_free_bytes", 0);
    out->journal_fill = tm_table_number(L, at, "journal_fill", 0);
    out->unknown_per_minute = tm_table_number(L, at, "unknown_frames", 0);
    lua_pop(L, 1);
}

static void read_header(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_auth_header_def *h = element;
    h->name = tm_table_string(L, index, "name", arena);
    h->value = tm_secret_field(L, index, "value", arena);
}

static void read_signer(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_config_signer *s = element;
    s->where = tm_table_string(L, index, "at", arena);
    s->def.key_id = tm_secret_field(L, index, "key_id", arena);
    s->def.key = tm_secret_field(L, index, "key", arena);
    s->def.key_file = tm_table_string(L, index, "key_file", arena);
    s->def.message = tm_table_string(L, index, "message", arena);
    s->def.headers =
        tm_table_list(L, index, "headers", sizeof *s->def.headers, read_header, arena, &s->def.header_count);
    s->def.secrets =
        tm_table_list(L, index, "secrets", sizeof *s->def.secrets, read_header, arena, &s->def.secret_count);
}

static void read_feed(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_config_feed *f = element;
    f->where = tm_table_string(L, index, "at", arena);
    f->ws.url = tm_table_string(L, index, "url", arena);
    f->ws.ca_file = tm_table_string(L, index, "ca_file", arena);
    f->ws.connect_us = tm_table_int(L, index, "connect_us", 0);
    f->ws.ping_idle_us = tm_table_int(L, index, "ping_idle_us", 0);
    f->ws.silence_us = tm_table_int(L, index, "silence_us", 0);
    f->ws.message_bytes_max = (size_t)tm_table_int(L, index, "message_bytes", 0);
    f->quiet_us = tm_table_int(L, index, "quiet_us", 0);
    f->signer = (int)tm_table_int(L, index, "signer", 0) - 1; /* Lua counts from 1 */
}

static void read_rest(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_config_rest *r = element;
    r->where = tm_table_string(L, index, "at", arena);
    r->url = tm_table_string(L, index, "url", arena);
}

static int64_t bounded(lua_State *L, int index, const char *field, int64_t low, int64_t high)
{
    int64_t v = tm_table_int(L, index, field, low);
    return v < low ? low : v > high ? high : v;
}

static const char *required(lua_State *L, const char *value, const char *field)
{
    if (!value)
        luaL_error(L, "declaration field '%s' is missing", field);
    return value;
}

static void read_sql(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_config_sql *q = element;
    q->where = required(L, tm_table_string(L, index, "at", arena), "at");
    q->conninfo = required(L, tm_secret_field(L, index, "conninfo", arena), "conninfo");
    q->timeout_us = bounded(L, index, "timeout_us", 1000, INT64_C(3600000000));
    q->connections = (size_t)bounded(L, index, "connections", 1, 16);
    q->rows_max = (size_t)bounded(L, index, "rows_max", 1, 1000000);
    q->bytes_max = (size_t)bounded(L, index, "bytes_max", 1, INT64_C(256) << 20);
}

static void read_label(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_alert_label *l = element;
    l->name = required(L, tm_table_string(L, index, "name", arena), "name");
    l->value = required(L, tm_table_string(L, index, "value", arena), "value");
}

void tm_config_read_alert(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    static const char *const severities[] = {"info", "warning", "critical", NULL};
    struct tm_alert_def *a = element;
    a->where = required(L, tm_table_string(L, index, "at", arena), "at");
    a->name = required(L, tm_table_string(L, index, "name", arena), "name");
    a->when = required(L, tm_table_string(L, index, "when", arena), "when");
    if (!tm_metric_is_label_name(a->name) || strlen(a->name) > 63)
        luaL_error(L, "declaration field 'name': expected a word of at most 63 letters, digits and '_'");
    a->clear = tm_table_string(L, index, "clear", arena);
    a->summary = tm_table_string(L, index, "summary", arena);
    a->description = tm_table_string(L, index, "description", arena);
    a->runbook = tm_table_string(L, index, "runbook", arena);
    a->severity = (enum tm_alert_severity)tm_table_enum(L, index, "severity", severities, TM_ALERT_WARNING);
    a->hold_us = tm_table_int(L, index, "hold_us", 0);
    a->every_us = tm_table_int(L, index, "every_us", 0);
    a->labels = tm_table_list(L, index, "labels", sizeof *a->labels, read_label, arena, &a->label_count);
}

static void read_registry(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_config_registry *r = element;
    r->where = tm_table_string(L, index, "at", arena);
    r->stream = tm_table_string(L, index, "stream", arena);
    r->columns = tm_table_strings(L, index, "columns", arena);
}

static void read_connections(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_config_connections *c = element;
    c->name = tm_table_string(L, index, "name", arena);
    c->markets = tm_table_string(L, index, "markets", arena);
    c->count = (size_t)tm_table_int(L, index, "count", 1);
    c->feed = (size_t)tm_table_int(L, index, "feed", 1) - 1; /* Lua counts from 1 */
}

void tm_config_read(lua_State *L, struct tm_arena *arena, struct tm_config *out)
{
    int index = lua_gettop(L);
    out->log_level = TM_LOG_INFO;
    read_role(L, index, arena, out);
    read_watch(L, index, &out->watch);
    tm_config_read_plan(L, index, arena, out);
    out->signers = tm_table_list(L, index, "signers", sizeof *out->signers, read_signer, arena, &out->signer_count);
    out->feeds = tm_table_list(L, index, "feeds", sizeof *out->feeds, read_feed, arena, &out->feed_count);
    out->rests = tm_table_list(L, index, "rests", sizeof *out->rests, read_rest, arena, &out->rest_count);
    out->sqls = tm_table_list(L, index, "sqls", sizeof *out->sqls, read_sql, arena, &out->sql_count);
    out->alerts =
        tm_table_list(L, index, "alerts", sizeof *out->alerts, tm_config_read_alert, arena, &out->alert_count);
    out->connections = tm_table_list(L, index, "connections", sizeof *out->connections, read_connections, arena,
                                     &out->connections_count);
    out->registries =
        tm_table_list(L, index, "registries", sizeof *out->registries, read_registry, arena, &out->registry_count);
    for (size_t i = 0; i < out->feed_count; i++)
        if (out->feeds[i].signer >= (int)out->signer_count)
            luaL_error(L, "feed %d names a signer that is not declared", (int)i + 1);
}

void tm_config_fini(struct tm_config *config)
{
    for (size_t i = 0; i < config->signer_count; i++)
        tm_auth_put(config->signers[i].auth);
    tm_plan_put(config->plan);
    config->plan = NULL;
    config->signer_count = 0;
}
