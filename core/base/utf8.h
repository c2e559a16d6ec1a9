/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing beyond U+10FFFF. Pure; any thread. */
#ifndef TM_BASE_UTF8_H
#define TM_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the valid sequence that begins at `at`, of which `left` (at least one) are there; 0: there is none. */
size_t tm_utf8_length(const char *at, size_t left);

/* Whether all of it is valid; nothing at all is. */
bool tm_utf8_is_valid(const char *bytes, size_t len);

#endif
