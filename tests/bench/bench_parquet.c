/*
 * Parquet: a million rows of orderbook_deltas written and read back, on one core.
 *
 * 5,000 markets of which few make most of the rows, four milliseconds apart on average, prices that stay near each
 * market's own, sizes of which half are round: made here, in the order of time. Printed: rows and MB of COPY tuples a
 * second for writing and reading, bytes a row of the file, and beside it the same rows as COPY's CSV through zstd at its
 * default level. Best of several rounds: what the code costs, not the machine.
 *
 *     bench_parquet [ROUNDS [LEVEL [FILE]]]        FILE: kept, for a look with other tools
 */
#include "archive/parquet.h"

#include "base/clock.h"
#include "base/endian.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#define ROWS 1000000
#define MARKETS 5000

static const struct tm_parquet_column columns[] = {
    {"ticker", TM_TYPE_TEXT, 0, true},
    {"exchange_ts", TM_TYPE_TIMESTAMPTZ, 0, true},
    {"side", TM_TYPE_TEXT, 0, true},
    {"price", TM_TYPE_INT4, 6, true},
    {"delta", TM_TYPE_INT8, 2, true},
    {"occurrence", TM_TYPE_INT2, 0, true},
    {"received_at", TM_TYPE_TIMESTAMPTZ, 0, true},
};
#define COLUMNS (sizeof columns / sizeof *columns)

static uint64_t state = 42;

static unsigned roll(unsigned below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)((state >> 33) % below);
}

/* ---- the rows, as COPY's tuples and as COPY's CSV ---- */

struct rows {
    struct tm_buf tuples, csv;
};

struct delta {
    char ticker[32], side[4];
    int64_t exchange_us, received_us, size;
    int price;
};

static void make_delta(struct delta *d, int64_t us)
{
    static int mids[MARKETS];
    unsigned market = roll(roll(roll(MARKETS) + 1) + 1); /* few make most */
    if (!mids[market])
        mids[market] = 5 + (int)roll(90);
    if (roll(200) == 0)
        mids[market] += mids[market] > 90 || (mids[market] > 10 && roll(2)) ? -1 : 1;
    int away = (int)roll(roll(8) + 1), cents = mids[market] + (roll(2) ? away : -away);
    snprintf(d->ticker, sizeof d->ticker, "KXSIM%u-26NOV05-T%u", market % 37, market);
    snprintf(d->side, sizeof d->side, "%s", roll(2) ? "yes" : "no");
    d->price = (cents < 1 ? 1 : cents > 99 ? 99 : cents) * 10000;
    d->size = roll(2) ? (int64_t)(1 + roll(20)) * 10000 : 1 + (int64_t)roll(100000);
    d->size = roll(2) ? -d->size : d->size;
    d->exchange_us = us;
    d->received_us = us + 18000 + roll(9000);
}

static void put_field(struct tm_buf *out, const void *bytes, uint32_t len)
{
    TM_FATAL_UNLESS(!tm_buf_reserve(out, 4 + len));
    tm_put_be32(out->data + out->len, len);
    memcpy(out->data + out->len + 4, bytes, len);
    out->len += 4 + len;
}

static void put_number(struct tm_buf *out, uint64_t v, uint32_t len)
{
    uint8_t bytes[8];
    tm_put_be64(bytes, v);
    put_field(out, bytes + 8 - len, len);
}

static void put_tuple(struct tm_buf *out, const struct delta *d)
{
    static const uint8_t count[2] = {0, COLUMNS};
    TM_FATAL_UNLESS(!tm_buf_append(out, count, 2));
    put_field(out, d->ticker, (uint32_t)strlen(d->ticker));
    put_number(out, (uint64_t)tm_pg_time_us(d->exchange_us), 8);
    put_field(out, d->side, (uint32_t)strlen(d->side));
    put_number(out, (uint64_t)d->price, 4);
    put_number(out, (uint64_t)d->size, 8);
    put_number(out, 0, 2);
    put_number(out, (uint64_t)tm_pg_time_us(d->received_us), 8);
}

static void time_text(char out[40], int64_t us)
{
    char seconds[24];
    time_t t = (time_t)(us / TM_US_PER_S);
    struct tm parts;
    strftime(seconds, sizeof seconds, "%Y-%m-%d %H:%M:%S", gmtime_r(&t, &parts));
    snprintf(out, 40, "%s.%06d+00", seconds, (int)(us % TM_US_PER_S));
}

static void put_csv(struct tm_buf *out, const struct delta *d)
{
    char exchange[40], received[40];
    time_text(exchange, d->exchange_us);
    time_text(received, d->received_us);
    TM_FATAL_UNLESS(!tm_buf_printf(out, "%s,%s,%s,%d,%lld,0,%s\n", d->ticker, exchange, d->side, d->price,
                                   (long long)d->size, received));
}

static void make_rows(struct rows *r)
{
    int64_t us = INT64_C(1794060000000000);
    struct delta d;
    for (int i = 0; i < ROWS; i++) {
        us += roll(8) ? roll(2000) : 1000 + roll(50000);
        make_delta(&d, us);
        put_tuple(&r->tuples, &d);
        put_csv(&r->csv, &d);
    }
}

/* ---- what is measured ---- */

static int to_memory(void *arg, const void *bytes, size_t len, struct tm_error *err)
{
    (void)err;
    return tm_buf_append(arg, bytes, len);
}

static int from_memory(void *arg, uint64_t offset, void *bytes, size_t len, struct tm_error *err)
{
    (void)err;
    memcpy(bytes, ((struct tm_buf *)arg)->data + offset, len);
    return TM_OK;
}

static void write_all(const struct rows *r, int level, struct tm_buf *file)
{
    struct tm_parquet_writer_options o = {
        .columns = columns, .column_count = COLUMNS, .sink = to_memory, .arg = file, .level = level};
    struct tm_parquet_writer *w;
    struct tm_parquet_summary summary;
    struct tm_error err;
    tm_buf_clear(file);
    TM_FATAL_UNLESS(!tm_parquet_writer_create(&o, &w, &err));
    TM_FATAL_UNLESS(!tm_parquet_writer_put(w, r->tuples.data, r->tuples.len, &err));
    TM_FATAL_UNLESS(!tm_parquet_writer_finish(w, NULL, 0, &summary, &err));
    TM_FATAL_UNLESS(summary.rows == ROWS && summary.bytes == file->len);
    tm_parquet_writer_destroy(w);
}

static void read_all(const struct rows *r, struct tm_buf *file)
{
    struct tm_parquet_reader_options o = {.read_at = from_memory, .arg = file, .size = file->len};
    struct tm_parquet_reader *reader;
    struct tm_buf out = {0};
    struct tm_error err;
    size_t rows, group, at = 0;
    TM_FATAL_UNLESS(!tm_parquet_reader_open(&o, &reader, &err));
    while (tm_parquet_reader_next(reader, 1 << 20, &out, &rows, &group, &err) > 0) {
        TM_FATAL_UNLESS(memcmp(out.data, r->tuples.data + at, out.len) == 0);
        at += out.len;
        tm_buf_clear(&out);
    }
    TM_FATAL_UNLESS(at == r->tuples.len);
    tm_parquet_reader_close(reader);
    tm_buf_fini(&out);
}

static size_t zstd_all(const struct rows *r)
{
    size_t bound = ZSTD_compressBound(r->csv.len);
    void *out = malloc(bound);
    TM_FATAL_UNLESS(out);
    size_t len = ZSTD_compress(out, bound, r->csv.data, r->csv.len, 3);
    free(out);
    return len;
}

static void report(const char *what, double s, size_t bytes)
{
    printf("%-28s %8.2f M rows/s %8.1f MB/s of tuples or text\n", what, ROWS / s / 1e6, (double)bytes / s / 1e6);
}

static double seconds_since(int64_t start)
{
    return (double)(tm_clock_thread_us() - start) / 1e6;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 5, level = argc > 2 ? atoi(argv[2]) : 0;
    double writing = 1e9, reading = 1e9, csv = 1e9, s;
    static struct rows r;
    struct tm_buf file = {0};
    size_t packed = 0;
    make_rows(&r);
    for (int i = 0; i < rounds; i++) {
        int64_t start = tm_clock_thread_us();
        write_all(&r, level, &file);
        writing = (s = seconds_since(start)) < writing ? s : writing;
        start = tm_clock_thread_us();
        read_all(&r, &file);
        reading = (s = seconds_since(start)) < reading ? s : reading;
        start = tm_clock_thread_us();
        packed = zstd_all(&r);
        csv = (s = seconds_since(start)) < csv ? s : csv;
    }
    printf("%d delta rows, %.1f bytes each as tuples, best of %d rounds, processor time\n", ROWS,
           (double)r.tuples.len / ROWS, rounds);
    report("write", writing, r.tuples.len);
    report("read", reading, r.tuples.len);
    report("zstd -3 of the CSV, alone", csv, r.csv.len);
    printf("%-28s %8.2f bytes a row\n%-28s %8.2f bytes a row\n", "Parquet", (double)file.len / ROWS, "CSV | zstd",
           (double)packed / ROWS);
    FILE *keep = argc > 3 ? fopen(argv[3], "wb") : NULL;
    if (keep && (fwrite(file.data, 1, file.len, keep) != file.len || fclose(keep)))
        return 1;
    tm_buf_fini(&file);
    return 0;
}
