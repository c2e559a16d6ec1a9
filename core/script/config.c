#include "script/config.h"
#include "net/url.h"
#include "script/table.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const config_roles[] = {"none", "gatherer", "deduplicator", NULL};
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_formats[] = {"logfmt", "json", NULL};

void tm_problem_add(struct tm_problems *p, const char *where, const char *message)
{
    if (p->count < TM_PROBLEMS_MAX) {
        p->list[p->count].where = tm_arena_strdup(p->arena, where);
        p->list[p->count].message = tm_arena_strdup(p->arena, message);
    }
    p->count++;
}

static void read_gatherer(lua_State *L, int index, struct tm_arena *arena, struct tm_config *out)
{
    struct tm_gatherer_options *g = &out->gatherer;
    g->id = out->id;
    g->store = tm_table_string(L, index, "store", arena);
    g->connects_per_second = tm_table_number(L, index, "connects_per_second", 0);
    g->migrate = tm_table_bool(L, index, "migrate");
    g->journal.dir = tm_table_string(L, index, "data", arena);
    g->journal.bytes_max = (uint64_t)tm_table_int(L, index, "journal_bytes", 0);
    g->journal.segment_bytes = (size_t)tm_table_int(L, index, "segment_bytes", 0);
    g->journal.buffer_bytes_max = (size_t)tm_table_int(L, index, "buffer_bytes", 0);
}

static void read_peer(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_deduplicator_gatherer *g = element;
    g->id = tm_table_string(L, index, "id", arena);
    g->conninfo = tm_table_string(L, index, "conninfo", arena);
}

static void read_deduplicator(lua_State *L, int index, struct tm_arena *arena, struct tm_config *out)
{
    struct tm_deduplicator_options *d = &out->deduplicator;
    d->id = out->id;
    d->production = tm_table_string(L, index, "production", arena);
    d->gatherers = tm_table_list(L, index, "gatherers", sizeof *d->gatherers, read_peer, arena, &d->gatherer_count);
    d->poll_us = tm_table_int(L, index, "poll_us", 0);
    d->poll_rows_max = (size_t)tm_table_int(L, index, "poll_rows", 0);
    d->batch_rows_max = (size_t)tm_table_int(L, index, "batch_rows", 0);
    d->queue_bytes_max = (size_t)tm_table_int(L, index, "queue_bytes", 0);
    d->accept_past_us = tm_table_int(L, index, "accept_past_us", 0);
    d->accept_future_us = tm_table_int(L, index, "accept_future_us", 0);
    d->migrate = tm_table_bool(L, index, "migrate");
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
    out->socket = tm_table_string(L, at, "socket", arena);
    out->log_level = (enum tm_log_level)tm_table_enum(L, at, "log_level", log_levels, TM_LOG_INFO);
    out->log_format = (enum tm_log_format)tm_table_enum(L, at, "log_format", log_formats, TM_LOG_LOGFMT);
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
    h->value = tm_table_string(L, index, "value", arena);
}

static void read_signer(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_config_signer *s = element;
    s->where = tm_table_string(L, index, "at", arena);
    s->def.key_id = tm_table_string(L, index, "key_id", arena);
    s->def.key_file = tm_table_string(L, index, "key_file", arena);
    s->def.message = tm_table_string(L, index, "message", arena);
    s->def.headers =
        tm_table_list(L, index, "headers", sizeof *s->def.headers, read_header, arena, &s->def.header_count);
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
    for (size_t i = 0; i < out->feed_count; i++)
        if (out->feeds[i].signer >= (int)out->signer_count)
            luaL_error(L, "feed %d names a signer that is not declared", (int)i + 1);
}

/* ---- verify ---- */

int tm_config_check_address(const char *address, struct tm_error *err)
{
    const char *colon = strrchr(address, ':');
    const char *host_end = colon;
    if (colon && address[0] == '[')
        host_end = colon > address && colon[-1] == ']' ? colon : NULL;
    else if (colon && memchr(address, ':', (size_t)(colon - address)))
        host_end = NULL; /* IPv6 without brackets */
    char *rest = NULL;
    long port = host_end && colon[1] >= '0' && colon[1] <= '9' ? strtol(colon + 1, &rest, 10) : -1;
    if (!host_end || host_end == address || port < 0 || port > 65535 || *rest)
        return tm_error_set(err, TM_EINVAL,
                            "expected \"address:port\" like \"127.0.0.1:8080\" or \"[::1]:0\", got \"%s\"", address);
    return TM_OK;
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

static void verify_addresses(struct tm_config *config, struct tm_problems *problems)
{
    const char *const addresses[] = {config->health, config->metrics};
    struct tm_error err;
    for (size_t i = 0; i < 2; i++)
        if (addresses[i] && tm_config_check_address(addresses[i], &err) < 0)
            tm_problem_add(problems, config->where, err.message);
    if (config->socket && strlen(config->socket) > 100)
        tm_problem_add(problems, config->where,
                       "socket: expected a path of at most 100 bytes (a limit of unix sockets)");
}

static void verify_network(struct tm_config *config, struct tm_problems *problems)
{
    struct tm_error err;
    for (size_t i = 0; i < config->signer_count; i++)
        if (tm_auth_create(&config->signers[i].def, &config->signers[i].auth, &err) < 0)
            tm_problem_add(problems, config->signers[i].where, err.message);
    for (size_t i = 0; i < config->feed_count; i++)
        if (tm_ws_check_url(config->feeds[i].ws.url, &err) < 0)
            tm_problem_add(problems, config->feeds[i].where, err.message);
    for (size_t i = 0; i < config->rest_count; i++)
        if (check_rest_url(config->rests[i].url, &err) < 0)
            tm_problem_add(problems, config->rests[i].where, err.message);
}

void tm_config_verify(struct tm_config *config, struct tm_problems *problems)
{
    struct tm_error err;
    config->plan_def.gatherer = config->role == TM_CONFIG_GATHERER ? config->id : "";
    verify_addresses(config, problems);
    verify_network(config, problems);
    if (problems->count == 0 && tm_plan_compile(&config->plan_def, &config->plan, &err) < 0)
        tm_problem_add(problems, config->where, err.message);
    config->gatherer.plan = config->plan_def;
    config->deduplicator.plan = config->plan;
}

void tm_config_fini(struct tm_config *config)
{
    for (size_t i = 0; i < config->signer_count; i++)
        tm_auth_destroy(config->signers[i].auth);
    tm_plan_destroy(config->plan);
    config->plan = NULL;
    config->signer_count = 0;
}
