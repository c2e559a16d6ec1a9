/*
 * Names that were meant: how many letters one name is from another, to answer a misspelt one with the nearest there is.
 * lua/tidemill/problems.lua does the same for scripts. Pure functions, any thread.
 */
#ifndef TM_BASE_NEAREST_H
#define TM_BASE_NEAREST_H

#include <stdbool.h>
#include <stddef.h>

#define TM_NAME_BYTES_MAX 32 /* longer names are near to none */

/* Letters to add, leave out, replace or swap with the next one. */
size_t tm_name_distance(const char *a, const char *b);

/* A third of its letters may be wrong. */
bool tm_name_is_near(const char *name, const char *candidate);

#endif
