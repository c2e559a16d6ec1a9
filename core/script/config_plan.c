#include "script/config.h"
#include "script/table.h"

#include <lauxlib.h>
#include <math.h>

static const char *const types[] = {"bool", "int2",        "int4",  "int8",  "float8", "text",
                                    "uuid", "timestamptz", "jsonb", "bytea", NULL};
static const char *const units[] = {"plain", "decimal", "rfc3339", "seconds", "millis", "micros", NULL};
static const char *const origins[] = {"paths", "tag", "const", "raw", "received_at", "occurrence", "null", NULL};
static const char *const modes[] = {"append", "upsert", NULL};
static const char *const partitions[] = {"none", "day", "hash", NULL};
static const char *const roles[] = {"data", "ack", "subscribed", "unsubscribed", "error", NULL};

/* One end may be missing. lua/tidemill/stream.lua has seen to it that they are integers up to 2^53. */
static const struct tm_range *read_range(lua_State *L, int index, struct tm_arena *arena)
{
    double min = tm_table_number(L, index, "min", -HUGE_VAL), max = tm_table_number(L, index, "max", HUGE_VAL);
    if (min == -HUGE_VAL && max == HUGE_VAL)
        return NULL;
    struct tm_range *r = tm_arena_alloc(arena, sizeof *r);
    *r = (struct tm_range){min == -HUGE_VAL ? INT64_MIN : (int64_t)min, max == HUGE_VAL ? INT64_MAX : (int64_t)max};
    return r;
}

static void read_column(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_column_def *c = element;
    c->name = tm_table_string(L, index, "name", arena);
    c->type = (enum tm_type)tm_table_enum(L, index, "type", types, TM_TYPE_TEXT);
    c->not_null = tm_table_bool(L, index, "not_null");
    c->scale = (int)tm_table_int(L, index, "scale", 0);
    c->one_of = tm_table_strings(L, index, "one_of", arena);
    c->range = read_range(L, index, arena);
}

static void read_key(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_key_def *k = element;
    k->from_us = tm_table_int(L, index, "from_us", 0);
    k->key = tm_table_strings(L, index, "key", arena);
    k->occurrence = tm_table_bool(L, index, "occurrence");
}

static void read_stream(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_stream_def *s = element;
    s->name = tm_table_string(L, index, "name", arena);
    s->mode = (enum tm_stream_mode)tm_table_enum(L, index, "mode", modes, TM_STREAM_APPEND);
    s->columns = tm_table_list(L, index, "columns", sizeof *s->columns, read_column, arena, &s->column_count);
    s->key = tm_table_strings(L, index, "key", arena);
    s->occurrence = tm_table_bool(L, index, "occurrence");
    s->later_keys = tm_table_list(L, index, "later_keys", sizeof *s->later_keys, read_key, arena, &s->later_key_count);
    s->observer = tm_table_bool(L, index, "observer");
    s->within_us = tm_table_int(L, index, "within_us", 0);
    s->partition = (enum tm_partition)tm_table_enum(L, index, "partition", partitions, TM_PARTITION_NONE);
    s->partition_column = tm_table_string(L, index, "partition_column", arena);
    s->ticker_column = tm_table_string(L, index, "ticker", arena);
    s->time_column = tm_table_string(L, index, "time", arena);
    s->window_us = tm_table_int(L, index, "window_us", 0);
    s->memory_bytes_max = (size_t)tm_table_int(L, index, "memory_bytes", 0);
}

static void read_path(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_path_def *p = element;
    p->path = tm_table_string(L, index, "path", arena);
    p->unit = (enum tm_unit)tm_table_enum(L, index, "unit", units, TM_UNIT_PLAIN);
    p->scale = (int)tm_table_int(L, index, "scale", 0);
    p->one_minus = tm_table_bool(L, index, "one_minus");
}

static void read_source(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_source_def *s = element;
    size_t count;
    s->column = tm_table_string(L, index, "column", arena);
    s->from = (enum tm_from)tm_table_enum(L, index, "from", origins, TM_FROM_PATHS);
    s->text = tm_table_string(L, index, "text", arena);
    struct tm_path_def *paths = tm_table_list(L, index, "paths", sizeof *paths, read_path, arena, &count);
    if (count > TM_PATHS_MAX)
        luaL_error(L, "source of '%s': expected at most %d paths, got %d", s->column, TM_PATHS_MAX, (int)count);
    for (size_t i = 0; i < count; i++)
        s->paths[i] = paths[i];
    s->path_count = count;
}

static void read_kind(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    struct tm_kind_def *k = element;
    k->tag = tm_table_string(L, index, "tag", arena);
    k->role = (enum tm_role)tm_table_enum(L, index, "role", roles, TM_ROLE_DATA);
    k->document = tm_table_bool(L, index, "document");
    k->stream = tm_table_string(L, index, "stream", arena);
    k->each = tm_table_string(L, index, "each", arena);
    k->sources = tm_table_list(L, index, "sources", sizeof *k->sources, read_source, arena, &k->source_count);
    k->opens = tm_table_string(L, index, "opens", arena);
    k->forward = tm_table_bool(L, index, "forward");
    k->channel_path = tm_table_string(L, index, "channel", arena);
    k->subscription_path = tm_table_string(L, index, "subscription", arena);
    k->code_path = tm_table_string(L, index, "code", arena);
    k->text_path = tm_table_string(L, index, "text", arena);
}

static void read_where(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    const char *where = tm_table_string(L, index, "at", arena);
    *(const char **)element = where ? where : "?";
}

static void read_good(lua_State *L, int index, struct tm_arena *arena, void *element)
{
    (void)arena;
    *(bool *)element = tm_table_bool(L, index, "ok");
}

static int64_t *read_codes(lua_State *L, int index, struct tm_arena *arena, size_t *count)
{
    *count = 0;
    if (!tm_table_push(L, index, "reconnect_codes"))
        return NULL;
    size_t n = lua_objlen(L, -1);
    int64_t *codes = tm_arena_alloc(arena, (n + 1) * sizeof *codes);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        codes[i] = lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    *count = n;
    return codes;
}

static void read_protocol(lua_State *L, int index, struct tm_arena *arena, struct tm_config *out)
{
    if (!tm_table_push(L, index, "protocol"))
        return;
    int at = lua_gettop(L);
    struct tm_protocol_def *p = &out->plan_def.protocol;
    out->protocol_where = tm_table_string(L, at, "at", arena);
    p->tag_path = tm_table_string(L, at, "tag", arena);
    p->subscription_path = tm_table_string(L, at, "subscription", arena);
    p->sequence_path = tm_table_string(L, at, "sequence", arena);
    out->gatherer.reconnect_codes = read_codes(L, at, arena, &out->gatherer.reconnect_code_count);
    lua_pop(L, 1);
}

void tm_config_read_plan(lua_State *L, int index, struct tm_arena *arena, struct tm_config *out)
{
    struct tm_plan_def *plan = &out->plan_def;
    size_t count;
    read_protocol(L, index, arena, out);
    plan->streams = tm_table_list(L, index, "streams", sizeof *plan->streams, read_stream, arena, &plan->stream_count);
    plan->kinds = tm_table_list(L, index, "kinds", sizeof *plan->kinds, read_kind, arena, &plan->kind_count);
    out->stream_where = tm_table_list(L, index, "streams", sizeof(char *), read_where, arena, &count);
    out->kind_where = tm_table_list(L, index, "kinds", sizeof(char *), read_where, arena, &count);
    out->stream_good = tm_table_list(L, index, "streams", sizeof(bool), read_good, arena, &count);
    out->kind_good = tm_table_list(L, index, "kinds", sizeof(bool), read_good, arena, &count);
}
