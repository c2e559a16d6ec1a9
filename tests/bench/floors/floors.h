/*
 * What the benchmarks are compared with: other ways to do the same work, written as well as they can be, measured in
 * the same run. Those in C++ (simdjson, Abseil) are built with -DTM_BENCH=ON only.
 *
 * Decoders take one frame of the mix (bench_decode.c), check it, and put the columns that the project stores into a
 * flat struct: no plan, no tuple, no fingerprint. `bytes` has 64 readable bytes behind it. False: not understood.
 */
#ifndef TESTS_BENCH_FLOORS_H
#define TESTS_BENCH_FLOORS_H

#include "base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum floor_kind { FLOOR_DELTA, FLOOR_TICKER, FLOOR_TRADE, FLOOR_SNAPSHOT };

/* Which columns there are depends on the kind; amounts are in their smallest unit (10^-6 dollars, 10^-2 contracts). */
struct floor_text {
    const char *at;
    size_t len;
};
struct floor_record {
    enum floor_kind kind;
    int64_t sid, seq, ts_us;
    int64_t amount[10];
    struct floor_text ticker, side, id, yes, no;
    bool block;
};

/* A strict scanner for these four kinds of frame, names written into it: one pass, SSE2. */
bool floor_directed_decode(const char *bytes, size_t len, struct floor_record *out);

/* simdjson, for all that this machine can do; one thread. On demand skips unchecked what it is not asked for; the document
 * of the other one has been checked whole. */
bool floor_ondemand_decode(const char *bytes, size_t len, struct floor_record *out);
bool floor_dom_decode(const char *bytes, size_t len, struct floor_record *out);

/* absl::flat_hash_set of 128-bit keys. `bytes`: the most that was allocated since it was asked last. */
struct floor_set;
struct floor_set *floor_absl_create(void);
void floor_absl_destroy(struct floor_set *set);
bool floor_absl_add(struct floor_set *set, struct tm_fp fp);
void floor_absl_prefetch(const struct floor_set *set, struct tm_fp fp);
size_t floor_absl_bytes(struct floor_set *set);

/* "0.4700" with `scale` decimals kept; "2026-11-05T14:03:59.123456Z" in Unix microseconds. False: not of that form. */
static inline bool floor_decimal(const char *p, size_t len, unsigned scale, int64_t *out)
{
    const char *end = p + len;
    bool negative = p < end && *p == '-';
    int64_t v = 0;
    p += negative;
    if (p == end)
        return false;
    for (; p < end && *p != '.'; p++) {
        if ((unsigned)(*p - '0') > 9)
            return false;
        v = v * 10 + (*p - '0');
    }
    p += p < end;
    for (; scale > 0; scale--) {
        unsigned digit = p < end ? (unsigned)(*p++ - '0') : 0;
        if (digit > 9)
            return false;
        v = v * 10 + (int64_t)digit;
    }
    for (; p < end; p++)
        if (*p != '0')
            return false;
    *out = negative ? -v : v;
    return true;
}

static inline bool floor_digits(const char *p, unsigned count, unsigned *out)
{
    unsigned v = 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned digit = (unsigned)(p[i] - '0');
        if (digit > 9)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return true;
}

static inline bool floor_rfc3339(const char *p, size_t len, int64_t *out)
{
    unsigned year, month, day, hour, minute, second, micro;
    if (len != 27 || !floor_digits(p, 4, &year) || !floor_digits(p + 5, 2, &month) || !floor_digits(p + 8, 2, &day) ||
        !floor_digits(p + 11, 2, &hour) || !floor_digits(p + 14, 2, &minute) || !floor_digits(p + 17, 2, &second) ||
        !floor_digits(p + 20, 6, &micro) || p[4] != '-' || p[7] != '-' || p[10] != 'T' || p[13] != ':' ||
        p[16] != ':' || p[19] != '.' || p[26] != 'Z' || month < 1 || month > 12 || day < 1 || day > 31)
        return false;
    unsigned y = month > 2 ? year : year - 1, m = month > 2 ? month - 3 : month + 9;
    int64_t days = (int64_t)y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 719469;
    *out = ((days * 24 + hour) * 60 + minute) * INT64_C(60000000) + second * INT64_C(1000000) + micro;
    return true;
}

#ifdef __cplusplus
}
#endif

#endif
