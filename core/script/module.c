#include "script/module.h"
#include "script/chunk.h"
#include "script/grant.h"
#include "script/place.h"
#include "script/trust.h"
#include "script/vm.h"

#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (4 << 20)
#define PATH_BYTES_MAX 1024

static char loading; /* its address marks a module whose file is still running */

static int read_all(int fd, size_t size, struct tm_buf *out)
{
    tm_buf_clear(out);
    if (tm_buf_reserve(out, size + 1) < 0)
        return ENOMEM;
    while (out->len < size) {
        ssize_t n = read(fd, out->data + out->len, size - out->len);
        if (n < 0 && errno != EINTR)
            return errno;
        if (n == 0)
            break;
        out->len += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Half of a script may be a good script, too. */
static bool is_moving(int fd, const struct stat *before)
{
    struct stat now;
    return fstat(fd, &now) || now.st_size != before->st_size || now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
           now.st_mtim.tv_nsec != before->st_mtim.tv_nsec;
}

static int read_open(int fd, const char *path, struct tm_module_paths *paths, struct tm_error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return tm_error_errno(err, TM_EIO, errno, "cannot stat it");
    if (!S_ISREG(st.st_mode))
        return tm_error_set(err, TM_EINVAL, "is not a regular file");
    if (st.st_size > FILE_BYTES_MAX)
        return tm_error_set(err, TM_EINVAL, "is larger than 4 MiB");
    int rc = tm_trust_file(path, &st, paths->library, err);
    if (rc)
        return rc;
    int error = read_all(fd, (size_t)st.st_size, &paths->source);
    if (error)
        return tm_error_errno(err, TM_EIO, error, "cannot read it");
    return is_moving(fd, &st) ? tm_error_set(err, TM_ERETRY, "is being written: try again when it is whole") : TM_OK;
}

/* No Lua in here, so nothing can jump away from the open descriptor. O_NONBLOCK: a FIFO must not hang the load. */
static int read_source(const char *path, struct tm_module_paths *paths, struct tm_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return tm_error_set(err, TM_ENOENT, "%s", strerror(errno));
    int rc = read_open(fd, path, paths, err);
    close(fd);
    return rc;
}

static void note_file(struct tm_module_paths *paths, const char *name, uint64_t hash)
{
    if (!paths->arena)
        return;
    struct tm_module_file *file = tm_arena_alloc(paths->arena, sizeof *file);
    file->next = paths->files;
    file->name = tm_arena_strdup(paths->arena, name);
    file->hash = hash;
    paths->files = file;
}

void tm_module_load(lua_State *L, struct tm_module_paths *paths, const char *path, const char *name)
{
    struct tm_error err;
    if (read_source(path, paths, &err))
        luaL_error(L, "%s: %s", path, err.message);
    const char *source = (const char *)paths->source.data;
    size_t len = paths->source.len;
    uint64_t hash = tm_hash64(source, len, 0);
    note_file(paths, name, hash);
    if (len > 0 && source[0] == '\x1b')
        luaL_error(L, "%s: is bytecode: expected source text", path);
    if (len > 1 && source[0] == '#' && source[1] == '!') {
        const char *line_end = memchr(source, '\n', len); /* kept, so that line numbers stay right */
        size_t skip = line_end ? (size_t)(line_end - source) : len;
        source += skip;
        len -= skip;
    }
    lua_pushfstring(L, "@%s", name);
    tm_place_learn(L, lua_tostring(L, -1));
    tm_chunk_load(L, source, len, lua_tostring(L, -1), hash);
    lua_remove(L, -2);
    if (paths->environment) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, paths->environment);
        lua_setfenv(L, -2);
    }
}

static bool is_module_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > 128 || name[0] == '.' || name[len - 1] == '.' || strstr(name, ".."))
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == len;
}

/* "a.b" under `dir` -> the file that exists, in `path`; `name` is what messages call it. */
static bool find_module(const char *dir, const char *module, bool library, char *path, const char **name)
{
    char relative[160];
    (void)snprintf(relative, sizeof relative, "%s", module);
    for (char *p = relative; *p; p++)
        if (*p == '.')
            *p = '/';
    for (int i = 0; i < 2; i++) {
        int n = snprintf(path, PATH_BYTES_MAX, i == 0 ? "%s/%s.lua" : "%s/%s/init.lua", dir, relative);
        if (n > 0 && n < PATH_BYTES_MAX && access(path, F_OK) == 0) {
            *name = library ? path + strlen(dir) + 1 : path;
            return true;
        }
    }
    return false;
}

static struct tm_module_paths *paths_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(2));
}

static void run_module(lua_State *L, const char *module)
{
    struct tm_module_paths *paths = paths_of(L);
    char path[PATH_BYTES_MAX];
    const char *name;
    if (!find_module(paths->library, module, true, path, &name) &&
        !find_module(paths->script, module, false, path, &name))
        luaL_error(L, "module '%s' is not there: looked for %s.lua and %s/init.lua in %s and %s", module, module,
                   module, paths->library, paths->script);
    tm_module_load(L, paths, path, name);
    lua_pushstring(L, module);
    lua_call(L, 1, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, true);
    }
}

/* Upvalues: the table of loaded modules, the paths. */
static int require(lua_State *L)
{
    const char *module = luaL_checkstring(L, 1);
    if (!is_module_name(module))
        return luaL_error(L, "require: expected a module name like \"tidemill\" or \"dir.file\", got '%s'", module);
    lua_settop(L, 1);
    lua_getfield(L, lua_upvalueindex(1), module);
    if (lua_touserdata(L, -1) == &loading)
        return luaL_error(L, "module '%s' requires itself", module);
    if (!lua_isnil(L, -1))
        return 1;
    uint32_t grant = tm_grant_of(module); /* "ffi" and "jit" are usually asked for in this way */
    if (grant && !(tm_grants() & grant))
        return luaL_error(L, "'%s' is not granted to scripts: start with --grant %s", module, module);
    if (grant) {
        lua_getglobal(L, module);
        return 1;
    }
    lua_pushlightuserdata(L, &loading);
    lua_setfield(L, lua_upvalueindex(1), module);
    run_module(L, module);
    lua_pushvalue(L, -1);
    lua_setfield(L, lua_upvalueindex(1), module);
    return 1;
}

void tm_module_push_require(lua_State *L, struct tm_module_paths *paths)
{
    lua_newtable(L);
    lua_insert(L, -2);
    lua_setfield(L, -2, "tidemill.host");
    lua_pushlightuserdata(L, paths);
    lua_pushcclosure(L, require, 2);
}

void tm_module_add(lua_State *L, const char *name)
{
    lua_getglobal(L, "require");
    lua_getupvalue(L, -1, 1);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, name);
    lua_pop(L, 3);
}

void tm_module_open(lua_State *L, struct tm_module_paths *paths)
{
    tm_module_push_require(L, paths);
    tm_sandbox_define(L, "require");
}

const char *tm_module_directory(struct tm_arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? tm_arena_strndup(arena, path, slash == path ? 1 : (size_t)(slash - path)) : ".";
}
