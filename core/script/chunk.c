#include "script/chunk.h"

#include "base/buf.h"

#include <lauxlib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct chunk {
    char *name;
    uint64_t hash;
    struct tm_buf code;
} kept[TM_CHUNKS_MAX];

/* The place of a file, or a free one; NULL: all are taken. */
static struct chunk *place_of(const char *name)
{
    for (size_t i = 0; i < TM_CHUNKS_MAX; i++)
        if (!kept[i].name || strcmp(kept[i].name, name) == 0)
            return &kept[i];
    return NULL;
}

static int append(lua_State *L, const void *bytes, size_t size, void *out)
{
    (void)L;
    return tm_buf_append(out, bytes, size);
}

/* Not being able to keep it costs the next load some time. */
static void keep(lua_State *L, const char *name, uint64_t hash)
{
    struct tm_buf code = {0};
    pthread_mutex_lock(&lock);
    struct chunk *c = lua_dump(L, append, &code) ? NULL : place_of(name);
    if (c && (c->name || (c->name = strdup(name)))) {
        struct tm_buf last = c->code;
        c->code = code;
        c->hash = hash;
        code = last;
    }
    pthread_mutex_unlock(&lock);
    tm_buf_fini(&code);
}

/* Lua may raise for want of memory, so nothing is locked while it loads. */
static bool load_kept(lua_State *L, const char *name, uint64_t hash)
{
    struct tm_buf code = {0};
    pthread_mutex_lock(&lock);
    const struct chunk *c = place_of(name);
    if (c && c->name && c->hash == hash && tm_buf_append(&code, c->code.data, c->code.len))
        tm_buf_clear(&code);
    pthread_mutex_unlock(&lock);
    bool loaded = code.len && luaL_loadbufferx(L, (const char *)code.data, code.len, name, "b") == 0;
    if (code.len && !loaded)
        lua_pop(L, 1);
    tm_buf_fini(&code);
    return loaded;
}

void tm_chunk_load(lua_State *L, const char *source, size_t len, const char *name, uint64_t hash)
{
    if (load_kept(L, name, hash))
        return;
    if (luaL_loadbufferx(L, source, len, name, "t"))
        lua_error(L);
    keep(L, name, hash);
}
