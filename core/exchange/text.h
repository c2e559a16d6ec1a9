/*
 * Writing the exchange's texts: small, branch-light formatters for the hot path. Each takes the place to write to and
 * returns the place after what it wrote; the caller has made room (TM_NUMBER_MAX for any number or time). Nothing here
 * writes a NUL, allocates or fails. Any thread.
 */
#ifndef TM_EXCHANGE_TEXT_H
#define TM_EXCHANGE_TEXT_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define TM_NUMBER_MAX 40

/* A string literal, or an array that holds one. */
#define tm_put_lit(p, literal) ((char *)memcpy((p), (literal), sizeof(literal) - 1) + sizeof(literal) - 1)

static inline char *tm_put_bytes(char *p, const void *bytes, size_t len)
{
    memcpy(p, bytes, len);
    return p + len;
}

static inline char *tm_put_str(char *p, const char *s)
{
    return tm_put_bytes(p, s, strlen(s));
}

char *tm_put_u64(char *p, uint64_t v);
char *tm_put_i64(char *p, int64_t v);
char *tm_put_padded(char *p, uint64_t v, int digits); /* exactly `digits`, zeros in front */

/* A price in 1e-6 dollars as "0.4700"; `decimals` 3 or 4, and six where the price is finer than four. No quotes. */
char *tm_put_price(char *p, uint32_t price, int decimals);

/* Hundredths as "-9.90". No quotes. */
char *tm_put_hundredths(char *p, int64_t v);

/* RFC 3339 in UTC, microseconds with trailing zeros trimmed: 2026-11-05T14:00:00.64Z. No quotes. */
char *tm_put_rfc3339(char *p, int64_t unix_us);

/* 8-4-4-4-12 lower-case hex of 16 bytes. No quotes. */
char *tm_put_uuid(char *p, const uint8_t id[16]);

/* The reverse; false if it is not 36 characters of that form. */
bool tm_uuid_parse(const char *text, size_t len, uint8_t id[16]);

/* RFC 3339 with 0 to 6 fraction digits and Z, to Unix microseconds; false if it is not. */
bool tm_rfc3339_parse(const char *text, size_t len, int64_t *unix_us);

/* A decimal number of the wire to an integer scaled by 10^scale; false if malformed or finer than that. */
bool tm_decimal_parse(const char *text, size_t len, int scale, int64_t *out);

/* Append `len` bytes as a JSON string with quotes; control characters and invalid UTF-8 are escaped or replaced. */
int tm_json_quote(struct tm_buf *b, const char *bytes, size_t len) TM_MUST_CHECK;

#endif
