/*
 * The integer encodings of Encodings.md: "Run Length Encoding / Bit-Packing Hybrid" (levels, indices into a dictionary)
 * and "Delta Encoding" (DELTA_BINARY_PACKED).
 *
 * Decoding never reads behind `end` for what it is told to give, but loads whole words: TM_PARQUET_PADDING bytes behind
 * `end` must be readable. It gives exactly `count` values that take exactly the bytes up to `end`, or says why not.
 */
#ifndef TM_ARCHIVE_PARQUET_PACK_H
#define TM_ARCHIVE_PARQUET_PACK_H

#include "base/buf.h"

/* Bits that hold `v`; 0 for 0. */
static inline unsigned tm_parquet_bits(uint64_t v)
{
    return v ? 64 - (unsigned)__builtin_clzll(v) : 0;
}

/* `width`: 1..32 bits; every value fits. The length is not put before. */
int tm_parquet_put_runs(struct tm_buf *out, const uint32_t *values, size_t count, unsigned width) TM_MUST_CHECK;

/* The same for one value, `count` times. */
int tm_parquet_put_run(struct tm_buf *out, uint32_t value, size_t count, unsigned width) TM_MUST_CHECK;

/* `narrow`: the column is INT32, each value is one; differences are taken in 32 bits. */
int tm_parquet_put_deltas(struct tm_buf *out, const int64_t *values, size_t count, bool narrow) TM_MUST_CHECK;

/* NULL, or what is wrong. Each value is below `limit`, which is not 0. `width`: 0..32. */
const char *tm_parquet_get_runs(const uint8_t *at, const uint8_t *end, unsigned width, uint32_t limit, uint32_t *values,
                                size_t count) TM_MUST_CHECK;
const char *tm_parquet_get_deltas(const uint8_t *at, const uint8_t *end, bool narrow, int64_t *values,
                                  size_t count) TM_MUST_CHECK;

#endif
