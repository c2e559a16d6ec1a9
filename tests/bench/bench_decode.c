/*
 * Decoding: JSON frames to finished tuples with their key fingerprints, on one core.
 *
 * The mix of MEASURED.md: 90 % deltas, 6 % tickers, 3.5 % trades, 0.5 % snapshots, 100,000 frames laid end to end in one
 * buffer. Printed: the floor (reading every byte of the frames once), decoding alone, and decoding with the key's
 * fingerprint, which is what the gatherer pays per frame. Best of several rounds: what the code costs, not the machine.
 *
 *     bench_decode [ROUNDS]
 */
#include "../unit/record/kalshi_defs.h"

#include "base/clock.h"
#include "record/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 100000
#define PADDING 16

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

static double best_ns(struct setting *s, void (*run)(struct setting *), int rounds)
{
    double best = 1e9;
    for (int i = 0; i < rounds; i++) {
        int64_t start = tm_clock_mono_us();
        run(s);
        double ns = (double)(tm_clock_mono_us() - start) * 1000.0 / FRAMES;
        best = ns < best ? ns : best;
    }
    return best;
}

static void report(struct setting *s, const char *name, void (*run)(struct setting *), int rounds)
{
    double ns = best_ns(s, run, rounds);
    printf("%-24s %7.1f ns/msg %7.2f M msg/s\n", name, ns, 1000.0 / ns);
}

int main(int argc, char **argv)
{
    struct setting s = {.mix = make_mix()};
    struct tm_plan *plan;
    struct tm_error err;
    int rounds = argc > 1 ? atoi(argv[1]) : 30;
    if (tm_plan_compile(&kalshi_plan_def, &plan, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    TM_FATAL_UNLESS(!tm_decoder_create(plan, &s.decoder));
    tm_hash_key_init(&s.key);
    printf("%d frames, %.0f bytes on average, best of %d rounds\n", FRAMES, (double)s.mix->len / FRAMES, rounds);
    report(&s, "read floor", read_all, rounds);
    report(&s, "decode", decode_only, rounds);
    report(&s, "decode and fingerprint", decode_and_fingerprint, rounds);
    tm_decoder_destroy(s.decoder);
    tm_plan_put(plan);
    return s.sink == 0;
}
