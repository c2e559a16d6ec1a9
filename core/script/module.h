/*
 * Loading source files: the script itself and what it requires.
 *
 * A file is read whole, must be a regular file of at most 4 MiB of text (never bytecode), and is refused when others
 * can change it (script/trust.h). `require "a.b"` looks for a/b.lua and a/b/init.lua in the directory of the Lua library
 * first, then in that of the script; each file runs once. Positions in messages name library files relative to the
 * library ("kalshi/init.lua:12") and others as they were given.
 */
#ifndef TM_SCRIPT_MODULE_H
#define TM_SCRIPT_MODULE_H

#include "base/arena.h"
#include "base/buf.h"

#include <lua.h>

/* A file that was read, and a hash of what stood in it. */
struct tm_module_file {
    struct tm_module_file *next;
    const char *name; /* as messages call it */
    uint64_t hash;
};

struct tm_module_paths {
    const char *library, *script; /* directories */
    int environment;              /* reference to the chunks' globals; 0: the state's */
    struct tm_buf source;         /* of the file that was read last; the owner frees it */
    struct tm_arena *arena;       /* for the files; NULL: they are not noted */
    struct tm_module_file *files;
};

/* The directory of the file at `path`. */
const char *tm_module_directory(struct tm_arena *arena, const char *path);

/* Define `require`; the table on top of the stack becomes the module "tidemill.host" and is popped. */
void tm_module_open(lua_State *L, struct tm_module_paths *paths);

/* Push a `require` with its own loaded modules, of which "tidemill.host" is the table on top (popped). */
void tm_module_push_require(lua_State *L, struct tm_module_paths *paths);

/* Make the table on top (popped) a module of the global `require`. */
void tm_module_add(lua_State *L, const char *name);

/* Push the chunk of the file at `path`, or raise. `name` is how messages call it. */
void tm_module_load(lua_State *L, struct tm_module_paths *paths, const char *path, const char *name);

#endif
