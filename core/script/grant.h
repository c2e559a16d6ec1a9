/*
 * What the operator of this process lets scripts use beyond the sandbox: `tidemill run --grant io,os FILE`, or
 * TIDEMILL_GRANT=io,os. It is the process's setting, not a script's, and holds for every script that it loads, so that a
 * reload cannot take more than the start was given. Set before the first thread starts.
 *
 *   io     files and pipes. Blocks policy while it reads; the feed goes on
 *   os     all of os: getenv, remove, rename, tmpname, execute, exit (which ends the process without a clean stop)
 *   debug  dangerous: a script can take off its own guards (hooks, locked metatables)
 *   ffi    dangerous: a script can do what C can, crash the process included
 *   jit    dangerous: a script can turn the compiler on, and compiled loops cannot be stopped
 */
#ifndef TM_SCRIPT_GRANT_H
#define TM_SCRIPT_GRANT_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum tm_grant { TM_GRANT_IO = 1, TM_GRANT_OS = 2, TM_GRANT_DEBUG = 4, TM_GRANT_FFI = 8, TM_GRANT_JIT = 16 };

/* "io,os"; "" is nothing. An unknown name is TM_EINVAL with the nearest names. */
int tm_grant_parse(const char *text, uint32_t *out, struct tm_error *err) TM_MUST_CHECK;

void tm_grants_set(uint32_t grants);
uint32_t tm_grants(void);

uint32_t tm_grant_of(const char *library);   /* 0: not one that can be granted */
const char *tm_grant_names(uint32_t grants); /* "io,os"; "" for none; static */

#endif
