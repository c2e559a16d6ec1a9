/* host: documents (REST bodies) to rows: decode, put in a registry, hand to the gatherer; and json_get. */
#include "script/json.h"
#include "script/script_impl.h"

#include <string.h>

#define BATCH "tidemill.batch"

/* Rows that wait for room in the gatherer's queue: those of the kind's stream, and those that were not understood. They
 * may wait through a reload, so the plan is held. */
struct batch {
    const struct tm_stream *stream[2]; /* NULL: none yet */
    struct tm_buf rows[2];
};

struct decode {
    struct batch *batch;
    struct tm_service_registry *registry; /* NULL: every row is submitted */
    uint32_t round;                       /* 0: entries are not marked */
    struct tm_buf changed;                /* entry numbers, uint32 */
    size_t count, unknown;
};

static void set_stream(struct batch *b, int which, const struct tm_stream *stream)
{
    const struct tm_stream *old = b->stream[which];
    if (stream)
        (void)tm_plan_take(stream->plan);
    b->stream[which] = stream;
    if (old)
        tm_plan_put(old->plan);
}

static int batch_gc(lua_State *L)
{
    struct batch *b = luaL_checkudata(L, 1, BATCH);
    set_stream(b, 0, NULL);
    set_stream(b, 1, NULL);
    tm_buf_fini(&b->rows[0]);
    tm_buf_fini(&b->rows[1]);
    return 0;
}

static struct batch *push_batch(lua_State *L)
{
    struct batch *b = lua_newuserdata(L, sizeof *b);
    memset(b, 0, sizeof *b);
    if (luaL_newmetatable(L, BATCH)) {
        lua_pushcfunction(L, batch_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushliteral(L, "locked");
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
    return b;
}

/* What the registry knows already is not submitted again. Returns enum tm_registry_change or an error. */
static int put_in_registry(struct decode *d, const struct tm_row *row)
{
    uint32_t entry;
    int change = tm_registry_put(d->registry->registry, row->tuple, row->len, &entry);
    if (change < 0)
        return change;
    if (d->round && tm_service_registry_mark(d->registry, entry, d->round) < 0)
        return TM_ENOMEM;
    if (change != TM_REGISTRY_SAME && tm_buf_append(&d->changed, &entry, sizeof entry) < 0)
        return TM_ENOMEM;
    return change;
}

/* No Lua in here: tm_decode_document must not be jumped out of. */
static int keep_row(struct decode *d, struct tm_row *row)
{
    bool known = row->stream == d->batch->stream[0];
    if (known && d->registry) {
        int change = put_in_registry(d, row);
        if (change < 0 || change == TM_REGISTRY_SAME)
            return change < 0 ? change : TM_OK;
    }
    if (!known) {
        set_stream(d->batch, 1, row->stream);
        d->unknown++;
    }
    return tm_buf_append(&d->batch->rows[!known], row->tuple, row->len);
}

static int on_row(void *arg, struct tm_row *row)
{
    struct decode *d = arg;
    d->count++;
    return keep_row(d, row);
}

static const struct tm_kind *check_kind(lua_State *L, const struct tm_services *services, int index)
{
    const char *tag = luaL_checkstring(L, index);
    const struct tm_kind *kind = services->plan ? tm_plan_kind_by_tag(services->plan, tag) : NULL;
    if (!kind || !kind->document)
        luaL_error(L, "decode: expected the name of a document kind, got '%s'", tag);
    return kind;
}

static int decode_body(struct decode *d, struct tm_services *services, const struct tm_kind *kind, const char *path,
                       const char *body, size_t len, struct tm_error *err)
{
    if (!services->decoder && tm_decoder_create(services->plan, &services->decoder) < 0)
        return tm_error_set(err, TM_ENOMEM, "no memory for a decoder");
    struct tm_buf padded = {0}; /* the scanner looks 16 bytes ahead */
    int rc = tm_buf_reserve(&padded, len + 16);
    if (!rc) {
        memcpy(padded.data, body, len);
        memset(padded.data + len, 0, 16);
        struct tm_span document = {(const char *)padded.data, len};
        int64_t now_us = tm_services_wall_us(services);
        rc = tm_decode_document(services->decoder, kind, path, document, now_us, on_row, d, err);
    } else {
        (void)tm_error_set(err, rc, "no memory for the document");
    }
    tm_buf_fini(&padded);
    return rc;
}

static void push_changed(lua_State *L, const struct tm_buf *changed)
{
    size_t count = changed->len / sizeof(uint32_t);
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        uint32_t entry;
        memcpy(&entry, changed->data + i * sizeof entry, sizeof entry);
        lua_pushnumber(L, entry);
        lua_rawseti(L, -2, (int)i + 1);
    }
}

/* decode(kind, path, body, registry?, round?) -> batch, {changed entries}, rows, not understood | nil, why */
static int decode(lua_State *L)
{
    struct tm_services *services = tm_script_services(L, "decoding a document");
    const struct tm_kind *kind = check_kind(L, services, 1);
    const char *path = luaL_checkstring(L, 2);
    size_t len;
    const char *body = luaL_checklstring(L, 3, &len);
    struct decode d = {.registry = lua_isnoneornil(L, 4) ? NULL : tm_api_check_registry(L, 4),
                       .round = (uint32_t)luaL_optinteger(L, 5, 0)};
    if (tm_script_of(L)->draining)
        d.round = 0;                                  /* rounds are those of the newest generation */
    struct tm_buf *changed = &push_batch(L)->rows[0]; /* in a userdata: pushing may raise while it is full */
    d.batch = push_batch(L);
    set_stream(d.batch, 0, kind->stream);
    struct tm_error err = {0};
    int rc = decode_body(&d, services, kind, path, body, len, &err);
    *changed = d.changed;
    if (rc < 0) {
        lua_pushnil(L);
        lua_pushstring(L, err.message[0] ? err.message : tm_code_name(rc));
        return 2;
    }
    push_changed(L, changed);
    lua_pushnumber(L, (lua_Number)d.count);
    lua_pushnumber(L, (lua_Number)d.unknown);
    return 4;
}

bool tm_api_batch(lua_State *L, int index, int part, const struct tm_stream **stream, const struct tm_buf **rows)
{
    const struct batch *b = luaL_checkudata(L, index, BATCH);
    *stream = b->stream[part];
    *rows = &b->rows[part];
    return b->stream[part] && b->rows[part].len > 0;
}

/* submit(batch) -> whether all rows are with the gatherer; false: its queue is full, try again later */
static int submit(lua_State *L)
{
    struct tm_services *services = tm_script_services(L, "submitting rows");
    struct batch *b = luaL_checkudata(L, 1, BATCH);
    if (!services->gatherer)
        return luaL_error(L, "rows are submitted to a gatherer: this script declares a deduplicator");
    for (int i = 0; i < 2; i++) {
        if (b->rows[i].len == 0)
            continue;
        int rc = tm_gatherer_submit(services->gatherer, b->stream[i], &b->rows[i]);
        if (rc == TM_EFULL) {
            lua_pushboolean(L, false);
            return 1;
        }
        if (rc < 0)
            return luaL_error(L, "submit: %s", tm_code_name(rc));
        b->rows[i] = (struct tm_buf){0};
    }
    lua_pushboolean(L, true);
    return 1;
}

/* json_get(body, path) -> the value there | nil: one field of a large document without making tables of all of it */
static int json_get(lua_State *L)
{
    size_t len;
    const char *body = luaL_checklstring(L, 1, &len);
    const char *path = luaL_checkstring(L, 2);
    char *padded = lua_newuserdata(L, len + 16);
    memcpy(padded, body, len);
    memset(padded + len, 0, 16);
    struct tm_span value;
    if (tm_json_get((struct tm_span){padded, len}, path, &value) < 0)
        return 0;
    tm_json_push(L, value.at, value.len);
    return 1;
}

void tm_api_rows(lua_State *L)
{
    static const luaL_Reg functions[] = {{"decode", decode}, {"submit", submit}, {"json_get", json_get}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
