/*
 * Source text to functions, and what it was compiled to kept for the next generation of a script: most of what a reload
 * loads is what the last one loaded. Only what was compiled here from text is ever kept, so bytecode from elsewhere still has
 * no way in. One store for the process, at most TM_CHUNKS_MAX files; any thread.
 */
#ifndef TM_SCRIPT_CHUNK_H
#define TM_SCRIPT_CHUNK_H

#include <lua.h>
#include <stdint.h>

#define TM_CHUNKS_MAX 256

/* Push the function of a file's text, or raise its syntax error. `name` is the chunk's ("@kalshi/init.lua"), `hash` that of
 * the text (base/hash.h). */
void tm_chunk_load(lua_State *L, const char *source, size_t len, const char *name, uint64_t hash);

#endif
