/*
 * Functions of a script's library that others than the script may call by name, with JSON: lua/tidemill/remote.lua. Each is
 * for a role; most answer at once, some in a task that may wait.
 */
#ifndef TM_SCRIPT_REMOTE_H
#define TM_SCRIPT_REMOTE_H

#include "base/buf.h"

struct tm_script;

struct tm_remote_call {
    int role; /* 0 read, 1 operate, 2 admin */
    const char *name;
    const char *arguments; /* JSON */
    size_t len;
    uint64_t token; /* under which a late answer comes (tm_sessions_answer); below 2^53; 0: it must not be late */
};

/* TM_OK: the result, JSON, was appended. 1: it comes later. Negative: the error says what was expected. */
int tm_remote_call(struct tm_script *script, const struct tm_remote_call *call, struct tm_buf *out,
                   struct tm_error *err) TM_MUST_CHECK;

#endif
