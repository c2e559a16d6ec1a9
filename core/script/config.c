#include "script/config.h"
#include "record/scanner.h"
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
    tm_config_read_plan(L, index, arena, out);
    out->signers = tm_table_list(L, index, "signers", sizeof *out->signers, read_signer, arena, &out->signer_count);
    out->feeds = tm_table_list(L, index, "feeds", sizeof *out->feeds, read_feed, arena, &out->feed_count);
    out->rests = tm_table_list(L, index, "rests", sizeof *out->rests, read_rest, arena, &out->rest_count);
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
        tm_auth_destroy(config->signers[i].auth);
    tm_plan_destroy(config->plan);
    config->plan = NULL;
    config->signer_count = 0;
}
