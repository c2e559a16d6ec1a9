/*
 * Commands that need a script but no running process: check, schema, migrate. Results go to stdout, problems to stderr.
 * They return the exit status: 0 fine, 1 failed, 78 bad configuration.
 */
#ifndef TM_CONTROL_OFFLINE_H
#define TM_CONTROL_OFFLINE_H

#include "control/cli.h"
#include "script/script.h"

enum tm_schema_side { TM_SCHEMA_ROLE, TM_SCHEMA_LOCAL, TM_SCHEMA_PRODUCTION };

/* Load a script; its problems are printed. NULL when there are any; the caller destroys what comes. */
struct tm_script *tm_offline_load(const char *path);

/* Write what a command has collected to stdout and empty it; nothing is written where `rc` is an error already. */
int tm_offline_print(struct tm_buf *out, int rc) TM_MUST_CHECK;

/* `tests`: run the script's own tests too, when it has no problem. */
int tm_offline_check(const char *path, bool json, bool tests) TM_MUST_CHECK;
int tm_offline_schema(const char *path, enum tm_schema_side side) TM_MUST_CHECK;
int tm_offline_migrate(const char *path) TM_MUST_CHECK;

#endif
