/* Frames that no event stands behind: unknown types, broken JSON, poison, and bytes that break the protocol. */
#include "exchange/faults.h"
#include "exchange/text.h"

#include <stdio.h>
#include <stdlib.h>

#define TRADE(id, ticker, count, ts_ms)                                                                                \
    "\"msg\":{\"trade_id\":\"" id "\",\"market_ticker\":\"" ticker "\",\"yes_price_dollars\":\"0.4700\","              \
    "\"no_price_dollars\":\"0.5300\",\"count_fp\":\"" count "\",\"taker_side\":\"no\",\"taker_outcome_side\":\"no\","  \
    "\"taker_book_side\":\"ask\",\"is_block_trade\":false,\"ts\":1794060000,\"ts_ms\":" ts_ms "}}\n"
#define DELTA(price, delta, side, ts)                                                                                  \
    "\"msg\":{\"market_ticker\":\"KXPOISON-1\",\"market_id\":\"3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a7b90\","                \
    "\"price_dollars\":\"" price "\",\"delta_fp\":\"" delta "\",\"side\":\"" side "\",\"ts\":\"" ts                    \
    "\",\"ts_ms\":1794060000640}}\n"
#define ID "d17a9849-e50c-44eb-455a-eb6e1098773f"
#define TIME "2026-11-05T14:00:00.640173Z"

/* Each is valid JSON of a known type with one thing wrong; `what` is its number. */
static const struct {
    const char *type, *text;
} poisons[] = {
    {"trade", TRADE(ID, "KX\\u0000NUL", "1.00", "1794060000640")},
    {"trade", TRADE(ID, "KX\\ud800LONE", "1.00", "1794060000640")},
    {"trade", TRADE(ID, "KXBIG", "99999999999999999999999.99", "1794060000640")},
    {"trade", TRADE(ID, "KXFUTURE", "1.00", "9223372036854775807")},
    {"trade", TRADE(ID, "KXREAL", "1.00", "1e400")},
    {"trade", TRADE("not-a-trade-id", "KXID", "1.00", "1794060000640")},
    {"trade", "\"msg\":{\"trade_id\":\"" ID "\"}}\n"},
    {"trade", "\"msg\":[]}\n"},
    {"orderbook_delta", DELTA("0.12345678", "1.00", "yes", TIME)},
    {"orderbook_delta", DELTA("-0.4700", "1.00", "yes", TIME)},
    {"orderbook_delta", DELTA("0.4700", "0.001", "yes", TIME)},
    {"orderbook_delta", DELTA("0.4700", "1.00", "maybe", TIME)},
    {"orderbook_delta", DELTA("0.4700", "1.00", "no", "2262-13-45T99:00:00Z")},
    {"orderbook_delta", DELTA("NaN", "1.00", "no", TIME)},
};

#define POISON_COUNT (sizeof poisons / sizeof poisons[0])

#define HUGE_BYTES ((size_t)10 << 20) /* a ticker of this size: no message may be so long */
#define SIXTY_FOUR "................................................................"

static const struct {
    const char *name;
    struct tm_slice bytes;
} breaches[] = {
#define BREACH(name, literal)                                                                                          \
    {                                                                                                                  \
        name,                                                                                                          \
        {                                                                                                              \
            literal, sizeof(literal) - 1                                                                               \
        }                                                                                                              \
    }
    BREACH("masked", "\x81\x83\x01\x02\x03\x04zzz"),
    BREACH("rsv", "\xc1\x02{}"),
    BREACH("opcode", "\x83\x02{}"),
    BREACH("huge", "\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff{}"),
    BREACH("continuation", "\x80\x02{}"),
    BREACH("interleaved", "\x01\x01{\x81\x02{}"),
    BREACH("control_long", "\x89\x7e\x00\x80" SIXTY_FOUR SIXTY_FOUR),
    BREACH("control_fragment", "\x09\x01x"),
    BREACH("bad_utf8", "\x81\x04\"\xc0\xaf\""),
    BREACH("close_code", "\x88\x02\x03\xed"),
    BREACH("pings", "\x89\x01x"),
    BREACH("empty_fragments", "\x00\x00"),
#undef BREACH
};

#define REPEATED 1000 /* pings and empty fragments come in bulk */

static void write_fact(struct tm_sub *s, const char *fault, struct tm_slice bytes, bool seq)
{
    struct tm_fact fact = {.what = "injected",
                           .stream = fault,
                           .market = TM_MARKET_NONE,
                           .client = s->client->number,
                           .sid = s->sid,
                           .seq = seq ? s->seq : 0,
                           .detail = bytes,
                           .hex = true};
    s->client->feed->injected++;
    tm_ledger_fact(s->client->feed->ledger, &fact);
}

static void send(struct tm_sub *s, const struct tm_fault *fault, const struct tm_buf *text, bool seq)
{
    write_fact(s, tm_fault_name(fault->kind), (struct tm_slice){(const char *)text->data, text->len}, seq);
    TM_FATAL_UNLESS(tm_ws_append(s->client->data, TM_WS_TEXT, text->data, text->len) == TM_OK);
}

static void send_typed(struct tm_sub *s, const struct tm_fault *fault, const char *type, const char *rest)
{
    struct tm_buf text = {0};
    s->seq++;
    int rc = tm_buf_printf(&text, "{\"type\":\"%s\",\"sid\":%u,", type, s->sid);
    if (!rc && s->sequenced)
        rc = tm_buf_printf(&text, "\"seq\":%llu,", (unsigned long long)s->seq);
    if (!rc)
        rc = tm_buf_printf(&text, "%s", rest);
    TM_FATAL_UNLESS(rc == TM_OK);
    send(s, fault, &text, s->sequenced);
    tm_buf_fini(&text);
}

static void send_poison(struct tm_sub *s, const struct tm_fault *fault, uint32_t round)
{
    size_t i = (strtoul(fault->what, NULL, 10) + round) % POISON_COUNT;
    send_typed(s, fault, poisons[i].type, poisons[i].text);
}

/* Valid but for its size. The ledger has its beginning, as its bytes would be most of it. */
static void send_huge(struct tm_sub *s)
{
    struct tm_buf text = {0};
    static const char start[] = "{\"type\":\"trade\",\"sid\":1,\"msg\":{\"market_ticker\":\"KX";
    TM_FATAL_UNLESS(tm_buf_append(&text, start, sizeof start - 1) == TM_OK);
    TM_FATAL_UNLESS(tm_buf_reserve(&text, HUGE_BYTES) == TM_OK);
    memset(text.data + text.len, 'X', HUGE_BYTES);
    text.len += HUGE_BYTES;
    TM_FATAL_UNLESS(tm_buf_append(&text, "\"}}", 3) == TM_OK);
    write_fact(s, "huge", (struct tm_slice){start, sizeof start - 1}, false);
    TM_FATAL_UNLESS(tm_ws_append(s->client->data, TM_WS_TEXT, text.data, text.len) == TM_OK);
    tm_buf_fini(&text);
}

static void send_malformed(struct tm_sub *s, const struct tm_fault *fault, uint32_t round)
{
    static const char *const texts[] = {"{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":", "not json at all\n",
                                        "{\"type\":\"trade\",\"msg\":{\"count_fp\":01}}\n", "{\"type\":\"tr\x01\"}\n",
                                        "{\"type\":\"trade\"} trailing\n"};
    struct tm_buf text = {0};
    TM_FATAL_UNLESS(tm_buf_printf(&text, "%s", texts[round % (sizeof texts / sizeof texts[0])]) == TM_OK);
    send(s, fault, &text, false);
    tm_buf_fini(&text);
}

static void send_breach(struct tm_sub *s, const struct tm_fault *fault)
{
    size_t i = 0;
    while (strcmp(breaches[i].name, fault->what) != 0)
        TM_FATAL_UNLESS(++i < sizeof breaches / sizeof breaches[0]);
    bool bulk = strcmp(breaches[i].name, "pings") == 0 || strcmp(breaches[i].name, "empty_fragments") == 0;
    write_fact(s, breaches[i].name, breaches[i].bytes, false);
    if (strcmp(breaches[i].name, "empty_fragments") == 0) /* a text frame that they continue, and never end */
        TM_FATAL_UNLESS(tm_buf_append(s->client->data, "\x01\x00", 2) == TM_OK);
    for (int n = 0; n < (bulk ? REPEATED : 1); n++)
        TM_FATAL_UNLESS(tm_buf_append(s->client->data, breaches[i].bytes.at, breaches[i].bytes.len) == TM_OK);
}

size_t tm_poison_count(void)
{
    return POISON_COUNT;
}

void tm_inject(struct tm_sub *s, const struct tm_fault *fault, uint32_t round)
{
    if (fault->kind == TM_FAULT_MALFORMED)
        send_malformed(s, fault, round);
    else if (fault->kind == TM_FAULT_PROTOCOL)
        send_breach(s, fault);
    else if (fault->kind == TM_FAULT_POISON && strcmp(fault->what, "huge") == 0)
        send_huge(s);
    else if (fault->kind == TM_FAULT_POISON)
        send_poison(s, fault, round);
    else
        send_typed(s, fault, fault->what,
                   "\"msg\":{\"market_ticker\":\"KXUNKNOWN-1\",\"score\":0.75,\"tags\":[\"new\"]}}\n");
}
