/*
 * Decoding: JSON frames to finished tuples with their key fingerprints, on one core.
 *
 * The mix of a busy day: 90 % deltas, 6 % tickers, 3.5 % trades, 0.5 % snapshots, 100,000 frames laid end to end in one
 * buffer. Floors of the same run: a scanner written for these frames alone that fills a flat struct; simdjson on demand,
 * which skips unchecked what it is not asked for; and simdjson's document, which is checked whole, as ours is. `decode`
 * makes whole tuples, strictly; `keyed` takes the key's fingerprint too, which is what the gatherer pays for each frame.
 * All take turns in each round, and the best round of each counts, by processor time: what the code costs, not the
 * machine.
 *
 *     bench_decode [ROUNDS [CONTENDER]] [--quick] [--json]     CONTENDER: this one alone, for a profile
 */
#include "../unit/record/kalshi_defs.h"
#include "floors/floors.h"
#include "report.h"

#include "base/clock.h"
#include "record/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 100000
#define PADDING 64

struct mix {
    char *bytes;
    size_t len;
    size_t at[FRAMES + 1];
};

static uint64_t state = 42;

static unsigned roll(unsigned below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)((state >> 33) % below);
}

static int put_delta(char *out, size_t size, unsigned i)
{
    return snprintf(
        out, size,
        "{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":%u,\"msg\":{\"market_ticker\":\"KXSIM-26NOV05-T%u\","
        "\"market_id\":\"3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a%04x\",\"price_dollars\":\"0.%02u00\","
        "\"delta_fp\":\"%s%u.%02u\",\"side\":\"%s\",\"ts\":\"2026-11-05T14:%02u:%02u.%06uZ\","
        "\"ts_ms\":1794060%06u}}\n",
        i + 1, roll(5000), roll(65536), 1 + roll(99), roll(2) ? "-" : "", roll(900), roll(100), roll(2) ? "yes" : "no",
        roll(60), roll(60), roll(1000000), roll(1000000));
}

static int put_ticker(char *out, size_t size)
{
    return snprintf(
        out, size,
        "{\"type\":\"ticker\",\"sid\":3,\"msg\":{\"market_id\":\"3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a%04x\","
        "\"market_ticker\":\"KXSIM-26NOV05-T%u\",\"price_dollars\":\"0.%02u00\",\"yes_bid_dollars\":"
        "\"0.4700\",\"yes_ask_dollars\":\"0.5100\",\"volume_fp\":\"%u.12\",\"open_interest_fp\":\"20422.00\","
        "\"dollar_volume\":16948,\"dollar_open_interest\":10211,\"yes_bid_size_fp\":\"31.54\","
        "\"yes_ask_size_fp\":\"1239.73\",\"last_trade_size_fp\":\"9.90\",\"ts\":1794060000,"
        "\"ts_ms\":1794060%06u,\"time\":\"2026-11-05T14:00:%02u.%06uZ\"}}\n",
        roll(65536), roll(5000), 1 + roll(99), roll(99999), roll(1000000), roll(60), roll(1000000));
}

static int put_trade(char *out, size_t size, unsigned i)
{
    return snprintf(
        out, size,
        "{\"type\":\"trade\",\"sid\":2,\"seq\":%u,\"msg\":{\"trade_id\":\"d17a9849-e50c-44eb-455a-eb6e%08x\","
        "\"market_ticker\":\"KXSIM-26NOV05-T%u\",\"yes_price_dollars\":\"0.4700\",\"no_price_dollars\":"
        "\"0.5300\",\"count_fp\":\"%u.90\",\"taker_side\":\"no\",\"taker_outcome_side\":\"no\","
        "\"taker_book_side\":\"ask\",\"is_block_trade\":false,\"ts\":1794060000,\"ts_ms\":1794060%06u}}\n",
        i + 1, roll(0x7fffffff), roll(5000), roll(900), roll(1000000));
}

static int put_levels(char *out, size_t size, const char *name, unsigned count)
{
    int n = snprintf(out, size, ",\"%s\":[", name);
    for (unsigned i = 0; i < count; i++)
        n += snprintf(out + n, size - (size_t)n, "%s[\"0.%02u00\",\"%u.%02u\"]", i ? "," : "", i + 1, roll(5000),
                      roll(100));
    return n + snprintf(out + n, size - (size_t)n, "]");
}

static int put_snapshot(char *out, size_t size, unsigned i)
{
    int n = snprintf(out, size,
                     "{\"type\":\"orderbook_snapshot\",\"sid\":1,\"seq\":%u,\"msg\":{\"market_ticker\":"
                     "\"KXSIM-26NOV05-T%u\",\"market_id\":\"3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a%04x\"",
                     i + 1, roll(5000), roll(65536));
    n += put_levels(out + n, size - (size_t)n, "yes_dollars_fp", 42);
    n += put_levels(out + n, size - (size_t)n, "no_dollars_fp", 42);
    return n + snprintf(out + n, size - (size_t)n, "}}\n");
}

static int put_frame(char *out, size_t size, unsigned i)
{
    unsigned kind = roll(1000);
    if (kind < 900)
        return put_delta(out, size, i);
    if (kind < 960)
        return put_ticker(out, size);
    return kind < 995 ? put_trade(out, size, i) : put_snapshot(out, size, i);
}

static struct mix *make_mix(void)
{
    struct mix *m = calloc(1, sizeof *m);
    size_t size = (size_t)FRAMES * 600;
    TM_FATAL_UNLESS(m);
    m->bytes = malloc(size);
    TM_FATAL_UNLESS(m->bytes);
    for (unsigned i = 0; i < FRAMES; i++) {
        m->at[i] = m->len;
        m->len += (size_t)put_frame(m->bytes + m->len, size - m->len, i);
        TM_FATAL_UNLESS(m->len + 8192 < size);
    }
    m->at[FRAMES] = m->len;
    memset(m->bytes + m->len, 0, PADDING);
    return m;
}

/* ---- what is measured ---- */

struct setting {
    const struct mix *mix;
    struct tm_decoder *decoder;
    struct tm_hash_key key;
    uint64_t sink; /* so that nothing is optimised away */
};

static void read_all(struct setting *s)
{
    const struct mix *m = s->mix;
    for (unsigned i = 0; i < FRAMES; i++) {
        uint64_t sum = 0, word;
        for (size_t at = m->at[i]; at + 8 <= m->at[i + 1]; at += 8) {
            memcpy(&word, m->bytes + at, 8);
            sum += word;
        }
        s->sink += sum;
    }
}

static void decode_all(struct setting *s, bool fingerprint)
{
    const struct mix *m = s->mix;
    struct tm_field fields[TM_COLUMNS_MAX];
    struct tm_decoded d;
    for (unsigned i = 0; i < FRAMES; i++) {
        int rc = tm_decode_frame(s->decoder, m->bytes + m->at[i], m->at[i + 1] - m->at[i], 1794060000000000, &d);
        TM_FATAL_UNLESS(!rc && d.verdict == TM_VERDICT_ROWS && d.row_count == 1);
        const struct tm_row *row = &d.rows[0];
        s->sink += row->len;
        if (!fingerprint || row->stream->observer)
            continue;
        rc = tm_tuple_split(row->tuple, row->len, fields, row->stream->column_count);
        TM_FATAL_UNLESS(!rc);
        s->sink += tm_stream_fingerprint(row->stream, &s->key, fields).lo;
    }
}

static void decode_only(struct setting *s)
{
    decode_all(s, false);
}

static void decode_and_fingerprint(struct setting *s)
{
    decode_all(s, true);
}

static void decode_by(struct setting *s, bool (*decode)(const char *, size_t, struct floor_record *))
{
    const struct mix *m = s->mix;
    struct floor_record r;
    for (unsigned i = 0; i < FRAMES; i++) {
        TM_FATAL_UNLESS(decode(m->bytes + m->at[i], m->at[i + 1] - m->at[i], &r));
        s->sink += (uint64_t)r.amount[0];
    }
}

static void decode_directed(struct setting *s)
{
    decode_by(s, floor_directed_decode);
}

#ifdef TM_BENCH
static void decode_ondemand(struct setting *s)
{
    decode_by(s, floor_ondemand_decode);
}

static void decode_dom(struct setting *s)
{
    decode_by(s, floor_dom_decode);
}

static bool same_text(struct floor_text a, struct floor_text b)
{
    return a.len == b.len && (!a.len || memcmp(a.at, b.at, a.len) == 0);
}

/* The floors do the work that they are said to do: they agree on every column. */
static void compare_floors(const struct mix *m)
{
    for (unsigned i = 0; i < FRAMES; i++) {
        struct floor_record a = {0}, b = {0}, c = {0};
        TM_FATAL_UNLESS(floor_directed_decode(m->bytes + m->at[i], m->at[i + 1] - m->at[i], &a));
        TM_FATAL_UNLESS(floor_dom_decode(m->bytes + m->at[i], m->at[i + 1] - m->at[i], &c));
        TM_FATAL_UNLESS(a.kind == c.kind && a.ts_us == c.ts_us && same_text(a.ticker, c.ticker));
        TM_FATAL_UNLESS(memcmp(a.amount, c.amount, sizeof a.amount) == 0);
        TM_FATAL_UNLESS(floor_ondemand_decode(m->bytes + m->at[i], m->at[i + 1] - m->at[i], &b));
        TM_FATAL_UNLESS(a.kind == b.kind && a.sid == b.sid && a.seq == b.seq && a.ts_us == b.ts_us);
        TM_FATAL_UNLESS(memcmp(a.amount, b.amount, sizeof a.amount) == 0 && a.block == b.block);
        TM_FATAL_UNLESS(same_text(a.ticker, b.ticker) && same_text(a.side, b.side) && same_text(a.id, b.id));
        TM_FATAL_UNLESS(same_text(a.yes, b.yes) && same_text(a.no, b.no));
    }
}
#endif

static struct contender {
    const char *name;
    void (*run)(struct setting *);
    double ns; /* a frame, the best round */
} contenders[] = {
    {"read every byte", read_all, 1e9},
    {"directed scanner", decode_directed, 1e9},
#ifdef TM_BENCH
    {"simdjson on demand", decode_ondemand, 1e9},
    {"simdjson, whole document", decode_dom, 1e9},
#endif
    {"decode", decode_only, 1e9},
    {"decode and fingerprint", decode_and_fingerprint, 1e9},
};
#define CONTENDERS (sizeof contenders / sizeof *contenders)

static void run_all(struct setting *s, int rounds, const char *only)
{
    for (int round = 0; round < rounds; round++)
        for (size_t i = 0; i < CONTENDERS; i++) {
            if (only && strcmp(only, contenders[i].name) != 0)
                continue;
            int64_t start = tm_clock_thread_us();
            contenders[i].run(s);
            double ns = (double)(tm_clock_thread_us() - start) * 1000.0 / FRAMES;
            contenders[i].ns = ns < contenders[i].ns ? ns : contenders[i].ns;
        }
    for (size_t i = 0; i < CONTENDERS; i++)
        if (!only || strcmp(only, contenders[i].name) == 0)
            tm_bench_note("%-24s %7.1f ns/msg %7.2f M msg/s\n", contenders[i].name, contenders[i].ns,
                          1000.0 / contenders[i].ns);
}

static void report(const char *name, size_t of, size_t against)
{
    tm_bench_report(&(struct tm_bench_result){.name = name,
                                              .figure = 1e9 / contenders[of].ns,
                                              .unit = "msg/s",
                                              .floor = 1e9 / contenders[against].ns,
                                              .floor_is = contenders[against].name});
}

static void report_all(const struct mix *m)
{
#ifdef TM_BENCH
    compare_floors(m);
    report("decode/simdjson", CONTENDERS - 2, 2);
    report("decode/simdjson-dom", CONTENDERS - 2, 3);
#else
    (void)m;
#endif
    report("decode/directed", CONTENDERS - 2, 1);
    report("decode/keyed", CONTENDERS - 1, 1);
}

int main(int argc, char **argv)
{
    tm_bench_begin(&argc, argv);
    struct setting s = {.mix = make_mix()};
    struct tm_plan *plan;
    struct tm_error err;
    int rounds = argc > 1 ? atoi(argv[1]) : tm_bench_quick ? 3 : 30;
    if (tm_plan_compile(&kalshi_plan_def, &plan, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    TM_FATAL_UNLESS(!tm_decoder_create(plan, &s.decoder));
    tm_hash_key_init(&s.key);
    tm_bench_note("%d frames, %.0f bytes on average, best of %d rounds\n", FRAMES, (double)s.mix->len / FRAMES, rounds);
    run_all(&s, rounds, argc > 2 ? argv[2] : NULL);
    if (argc <= 2) /* one alone is for a profiler, and has nothing beside it */
        report_all(s.mix);
    tm_decoder_destroy(s.decoder);
    tm_plan_put(plan);
    return s.sink == 0;
}
