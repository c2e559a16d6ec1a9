#include "archive/parquet_pack.h"

#include <string.h>

/* ---- bits, from the lowest of each byte up ---- */

static void store64(uint8_t *at, uint64_t v)
{
    memcpy(at, &v, sizeof v); /* x86-64 and arm64 are little-endian, as the format is */
}

static uint64_t load64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

/* `count` is a multiple of 8, so that whole bytes are filled; writes up to 8 bytes more than those. */
static uint8_t *pack(uint8_t *out, const uint64_t *values, size_t count, unsigned width)
{
    uint64_t word = 0;
    unsigned filled = 0;
    for (size_t i = 0; i < count; i++) {
        word |= values[i] << filled;
        filled += width;
        if (filled >= 64) {
            store64(out, word);
            out += 8;
            filled -= 64;
            word = filled ? values[i] >> (width - filled) : 0;
        }
    }
    store64(out, word);
    return out + filled / 8;
}

static uint64_t mask_of(unsigned width)
{
    return width == 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
}

/* Value `i` of those packed at `at`; loads 9 bytes. */
static inline uint64_t unpack_one(const uint8_t *at, size_t i, unsigned width)
{
    size_t bit = i * width;
    const uint8_t *from = at + bit / 8;
    unsigned shift = bit % 8;
    uint64_t v = load64(from) >> shift;
    if (shift + width > 64)
        v |= (uint64_t)from[8] << (64 - shift);
    return v & mask_of(width);
}

/* ---- numbers of variable length (LEB128) ---- */

static uint8_t *put_varint(uint8_t *out, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *out++ = (uint8_t)(v | 0x80);
    *out++ = (uint8_t)v;
    return out;
}

static uint8_t *put_zigzag(uint8_t *out, int64_t v)
{
    return put_varint(out, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
}

/* NULL: it does not end, or has more than 64 bits. */
static const uint8_t *get_varint(const uint8_t *at, const uint8_t *end, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; at && at < end && shift < 64; shift += 7) {
        uint8_t byte = *at++;
        if (shift == 63 && byte > 1)
            return NULL;
        *v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return at;
    }
    return NULL;
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

/* ---- runs ---- */

#define RUN_MIN 8 /* shorter ones take no fewer bytes than packed bits */

static int put_literals(struct tm_buf *out, const uint32_t *values, size_t count, unsigned width)
{
    uint64_t chunk[256];
    size_t groups = (count + 7) / 8;
    if (!groups)
        return TM_OK;
    if (tm_buf_reserve(out, 10 + groups * width + 8))
        return TM_ENOMEM;
    uint8_t *at = put_varint(out->data + out->len, groups << 1 | 1);
    for (size_t done = 0; done < groups * 8; done += 256) {
        size_t n = groups * 8 - done < 256 ? groups * 8 - done : 256;
        for (size_t i = 0; i < n; i++)
            chunk[i] = done + i < count ? values[done + i] : 0;
        at = pack(at, chunk, n, width);
    }
    out->len = (size_t)(at - out->data);
    return TM_OK;
}

int tm_parquet_put_run(struct tm_buf *out, uint32_t value, size_t count, unsigned width)
{
    if (tm_buf_reserve(out, 10 + sizeof value))
        return TM_ENOMEM;
    uint8_t *at = put_varint(out->data + out->len, count << 1);
    memcpy(at, &value, sizeof value);
    out->len = (size_t)(at - out->data) + (width + 7) / 8;
    return TM_OK;
}

int tm_parquet_put_runs(struct tm_buf *out, const uint32_t *values, size_t count, unsigned width)
{
    size_t begin = 0, at = 0; /* values[begin..at) are to be packed */
    int rc = TM_OK;
    while (at < count && !rc) {
        size_t run = 1;
        while (at + run < count && values[at + run] == values[at])
            run++;
        size_t fill = (0 - (at - begin)) % 8; /* what the packed ones lack to whole bytes */
        if (run < RUN_MIN + fill) {
            at += run;
            continue;
        }
        at += fill;
        rc = put_literals(out, values + begin, at - begin, width);
        rc = rc ? rc : tm_parquet_put_run(out, values[at], run - fill, width);
        at += run - fill;
        begin = at;
    }
    return rc ? rc : put_literals(out, values + begin, count - begin, width);
}

static const char *get_literals(const uint8_t *at, unsigned width, uint32_t limit, uint32_t *values, size_t count)
{
    uint64_t highest = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t v = unpack_one(at, i, width);
        highest = v > highest ? v : highest;
        values[i] = (uint32_t)v;
    }
    return highest < limit ? NULL : "an index or level that is too high";
}

static const char *get_run(const uint8_t *at, unsigned width, uint32_t limit, uint32_t *values, size_t count)
{
    uint32_t v = 0;
    memcpy(&v, at, (width + 7) / 8);
    if (v >= limit)
        return "an index or level that is too high";
    for (size_t i = 0; i < count; i++)
        values[i] = v;
    return NULL;
}

const char *tm_parquet_get_runs(const uint8_t *at, const uint8_t *end, unsigned width, uint32_t limit, uint32_t *values,
                                size_t count)
{
    while (count) {
        uint64_t head;
        at = get_varint(at, end, &head);
        if (!at || head >> 1 == 0 || head >> 1 > INT32_MAX)
            return "not the head of a run";
        bool packed = head & 1;
        size_t n = (size_t)(head >> 1), bytes = packed ? n * width : (width + 7) / 8;
        if (bytes > (size_t)(end - at))
            return "a run longer than the page";
        if (packed ? n > (count + 7) / 8 : n > count)
            return "more values than the page has";
        n = packed ? (n * 8 < count ? n * 8 : count) : n;
        const char *fault = packed ? get_literals(at, width, limit, values, n) : get_run(at, width, limit, values, n);
        if (fault)
            return fault;
        at += bytes;
        values += n;
        count -= n;
    }
    return at == end ? NULL : "bytes behind the last value";
}

/* ---- deltas ---- */

#define BLOCK 128
#define MINIS 4
#define MINI (BLOCK / MINIS)
#define BLOCK_BYTES_MAX (10 + MINIS + BLOCK * 8)

static int64_t minus(int64_t a, int64_t b, bool narrow)
{
    return narrow ? (int32_t)((uint32_t)a - (uint32_t)b) : (int64_t)((uint64_t)a - (uint64_t)b);
}

/* A block of `count` deltas, 1..BLOCK; those that lack to whole miniblocks are 0 bits. */
static uint8_t *put_block(uint8_t *out, const int64_t *deltas, size_t count, bool narrow)
{
    uint64_t above[BLOCK] = {0};
    int64_t least = deltas[0];
    for (size_t i = 1; i < count; i++)
        least = deltas[i] < least ? deltas[i] : least;
    uint64_t mask = narrow ? UINT32_MAX : UINT64_MAX;
    for (size_t i = 0; i < count; i++)
        above[i] = ((uint64_t)deltas[i] - (uint64_t)least) & mask;
    out = put_zigzag(out, least);
    uint8_t *widths = out;
    out += MINIS;
    for (size_t m = 0; m < MINIS; m++) {
        uint64_t all = 0;
        for (size_t i = 0; i < MINI; i++)
            all |= above[m * MINI + i];
        widths[m] = (uint8_t)tm_parquet_bits(all);
        if (m * MINI < count && widths[m])
            out = pack(out, above + m * MINI, MINI, widths[m]);
    }
    return out;
}

int tm_parquet_put_deltas(struct tm_buf *out, const int64_t *values, size_t count, bool narrow)
{
    int64_t deltas[BLOCK];
    if (tm_buf_reserve(out, 40 + (count / BLOCK + 1) * BLOCK_BYTES_MAX))
        return TM_ENOMEM;
    uint8_t *at = out->data + out->len;
    at = put_varint(at, BLOCK);
    at = put_varint(at, MINIS);
    at = put_varint(at, count);
    at = put_zigzag(at, count ? values[0] : 0);
    for (size_t done = 1; done < count; done += BLOCK) {
        size_t n = count - done < BLOCK ? count - done : BLOCK;
        for (size_t i = 0; i < n; i++)
            deltas[i] = minus(values[done + i], values[done + i - 1], narrow);
        at = put_block(at, deltas, n, narrow);
    }
    out->len = (size_t)(at - out->data);
    return TM_OK;
}

struct deltas {
    const uint8_t *at, *end;
    int64_t *values; /* where the next one goes; the one before it is there */
    size_t left;     /* values to come */
    size_t minis, mini;
    bool narrow;
};

/* The next value is the last one plus `step`, in the column's width. */
static const char *get_mini(struct deltas *d, uint64_t least, unsigned width)
{
    size_t n = d->left < d->mini ? d->left : d->mini, bytes = d->mini * width / 8;
    if (width > (d->narrow ? 32 : 64))
        return "a width of more bits than the column has";
    if (bytes > (size_t)(d->end - d->at))
        return "a miniblock longer than the page";
    uint64_t v = (uint64_t)d->values[-1];
    for (size_t i = 0; i < n; i++) {
        v += least + (width ? unpack_one(d->at, i, width) : 0);
        d->values[i] = d->narrow ? (int32_t)(uint32_t)v : (int64_t)v;
    }
    d->values += n;
    d->left -= n;
    d->at += bytes;
    return NULL;
}

static const char *get_block(struct deltas *d)
{
    uint64_t least;
    const uint8_t *widths = get_varint(d->at, d->end, &least);
    if (!widths || (size_t)(d->end - widths) < d->minis)
        return "not the head of a block";
    d->at = widths + d->minis;
    const char *fault = NULL;
    for (size_t m = 0; m < d->minis && d->left && !fault; m++)
        fault = get_mini(d, (uint64_t)unzigzag(least), widths[m]);
    return fault;
}

const char *tm_parquet_get_deltas(const uint8_t *at, const uint8_t *end, bool narrow, int64_t *values, size_t count)
{
    uint64_t block, minis, total, first;
    at = get_varint(at, end, &block);
    at = get_varint(at, end, &minis);
    at = get_varint(at, end, &total);
    at = get_varint(at, end, &first);
    if (!at || !block || block % 128 || block > 65536 || !minis || block % minis || (block / minis) % 32)
        return "not the head of delta-encoded values";
    if (total != count)
        return "another number of delta-encoded values than the page has";
    struct deltas d = {.at = at, .end = end, .minis = minis, .mini = block / minis, .narrow = narrow};
    if (count) {
        values[0] = unzigzag(first);
        if (narrow && values[0] != (int32_t)values[0])
            return "a first value of more than 32 bits";
        d.values = values + 1;
        d.left = count - 1;
    }
    const char *fault = NULL;
    while (d.left && !fault)
        fault = get_block(&d);
    return fault ? fault : (d.at == end ? NULL : "bytes behind the last value");
}
