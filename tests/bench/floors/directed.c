#include "floors.h"

#include <emmintrin.h>
#include <string.h>

/* What a name of the inner object means. */
enum meaning { TICKER, SIDE, ID, PRICE, COUNT, WHOLE, TIME, MILLIS, BLOCK, YES, NO, IGNORED };

struct name {
    const char *text;
    size_t len;
    enum meaning meaning;
    unsigned index; /* of the amount */
};

#define NAME(text, meaning, index)                                                                                     \
    {                                                                                                                  \
        text, sizeof text - 1, meaning, index                                                                          \
    }

/* In the order in which they come. */
static const struct name deltas[] = {
    NAME("market_ticker", TICKER, 0), NAME("market_id", IGNORED, 0), NAME("price_dollars", PRICE, 0),
    NAME("delta_fp", COUNT, 1),       NAME("side", SIDE, 0),         NAME("ts", TIME, 0),
    NAME("ts_ms", IGNORED, 0),        {NULL, 0, IGNORED, 0},
};
static const struct name tickers[] = {
    NAME("market_id", IGNORED, 0),
    NAME("market_ticker", TICKER, 0),
    NAME("price_dollars", PRICE, 0),
    NAME("yes_bid_dollars", PRICE, 1),
    NAME("yes_ask_dollars", PRICE, 2),
    NAME("volume_fp", COUNT, 3),
    NAME("open_interest_fp", COUNT, 4),
    NAME("dollar_volume", WHOLE, 5),
    NAME("dollar_open_interest", WHOLE, 6),
    NAME("yes_bid_size_fp", COUNT, 7),
    NAME("yes_ask_size_fp", COUNT, 8),
    NAME("last_trade_size_fp", COUNT, 9),
    NAME("ts", IGNORED, 0),
    NAME("ts_ms", IGNORED, 0),
    NAME("time", TIME, 0),
    {NULL, 0, IGNORED, 0},
};
static const struct name trades[] = {
    NAME("trade_id", ID, 0),
    NAME("market_ticker", TICKER, 0),
    NAME("yes_price_dollars", PRICE, 0),
    NAME("no_price_dollars", IGNORED, 0),
    NAME("count_fp", COUNT, 1),
    NAME("taker_side", IGNORED, 0),
    NAME("taker_outcome_side", SIDE, 0),
    NAME("taker_book_side", IGNORED, 0),
    NAME("is_block_trade", BLOCK, 0),
    NAME("ts", IGNORED, 0),
    NAME("ts_ms", MILLIS, 0),
    {NULL, 0, IGNORED, 0},
};
static const struct name snapshots[] = {
    NAME("market_ticker", TICKER, 0), NAME("market_id", IGNORED, 0), NAME("yes_dollars_fp", YES, 0),
    NAME("no_dollars_fp", NO, 0),     {NULL, 0, IGNORED, 0},
};

static const struct {
    const char *tag;
    size_t len;
    const struct name *names;
    enum floor_kind kind;
} kinds[] = {
    {"orderbook_delta", 15, deltas, FLOOR_DELTA},
    {"ticker", 6, tickers, FLOOR_TICKER},
    {"trade", 5, trades, FLOOR_TRADE},
    {"orderbook_snapshot", 18, snapshots, FLOOR_SNAPSHOT},
};

static inline const char *space(const char *p)
{
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')
        p++;
    return p;
}

/* The string whose opening quote is at p; after its closing one. Escapes and all but ASCII, which the mix has not, are
 * refused. */
static inline const char *string(const char *p, struct floor_text *out)
{
    if (*p++ != '"')
        return NULL;
    out->at = p;
    for (;; p += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i stops = _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('"')), _mm_cmpeq_epi8(x, _mm_set1_epi8('\\')));
        unsigned bits = (unsigned)_mm_movemask_epi8(_mm_or_si128(stops, _mm_cmplt_epi8(x, _mm_set1_epi8(0x20))));
        if (!bits)
            continue;
        p += __builtin_ctz(bits);
        out->len = (size_t)(p - out->at);
        return *p == '"' ? p + 1 : NULL;
    }
}

static inline bool digit(char c)
{
    return (unsigned)(c - '0') <= 9;
}

static inline const char *number(const char *p, struct floor_text *out)
{
    out->at = p;
    p += *p == '-';
    if (!digit(*p) || (*p == '0' && digit(p[1])))
        return NULL;
    while (digit(*p))
        p++;
    if (*p == '.') {
        if (!digit(*++p))
            return NULL;
        while (digit(*p))
            p++;
    }
    out->len = (size_t)(p - out->at);
    return *p == 'e' || *p == 'E' ? NULL : p;
}

static inline const char *word(const char *p, struct floor_text *out)
{
    out->at = p;
    out->len = *p == 'f' ? 5 : 4;
    bool good = memcmp(p, "true", 4) == 0 || memcmp(p, "false", 5) == 0 || memcmp(p, "null", 4) == 0;
    return good ? p + out->len : NULL;
}

static const char *array(const char *p, struct floor_text *out);

static inline const char *value(const char *p, struct floor_text *out)
{
    switch (*p) {
    case '"':
        return string(p, out);
    case '[':
        return array(p, out);
    case 't':
    case 'f':
    case 'n':
        return word(p, out);
    default:
        return number(p, out);
    }
}

static const char *array(const char *p, struct floor_text *out)
{
    struct floor_text item;
    out->at = p;
    p = space(p + 1);
    while (*p != ']') {
        if (!(p = value(p, &item)))
            return NULL;
        p = space(p);
        if (*p == ',')
            p = space(p + 1);
        else if (*p != ']')
            return NULL;
    }
    out->len = (size_t)(p + 1 - out->at);
    return p + 1;
}

static inline bool keep(struct floor_record *r, const struct name *name, struct floor_text v)
{
    int64_t millis;
    switch (name->meaning) {
    case TICKER:
        r->ticker = v;
        return true;
    case SIDE:
        r->side = v;
        return true;
    case ID:
        r->id = v;
        return true;
    case YES:
        r->yes = v;
        return true;
    case NO:
        r->no = v;
        return true;
    case BLOCK:
        r->block = *v.at == 't';
        return true;
    case PRICE:
        return floor_decimal(v.at, v.len, 6, &r->amount[name->index]);
    case COUNT:
        return floor_decimal(v.at, v.len, 2, &r->amount[name->index]);
    case WHOLE:
        return floor_decimal(v.at, v.len, 0, &r->amount[name->index]);
    case TIME:
        return floor_rfc3339(v.at, v.len, &r->ts_us);
    case MILLIS:
        if (!floor_decimal(v.at, v.len, 0, &millis))
            return false;
        r->ts_us = millis * 1000;
        return true;
    default:
        return true;
    }
}

static inline const char *name_of(const char *p, struct floor_text *name)
{
    p = string(p, name);
    if (!p)
        return NULL;
    p = space(p);
    return *p == ':' ? space(p + 1) : NULL;
}

static inline bool is(const struct name *name, struct floor_text text)
{
    return name->text && name->len == text.len && memcmp(name->text, text.at, text.len) == 0;
}

static const char *inner(const char *p, const struct name *names, struct floor_record *r)
{
    const struct name *next = names;
    struct floor_text name, v;
    if (*p != '{')
        return NULL;
    for (p = space(p + 1);; p = space(p + 1)) {
        p = name_of(p, &name);
        if (!p || !(p = value(p, &v)))
            return NULL;
        if (!is(next, name))
            for (next = names; next->text && !is(next, name);)
                next++;
        if (next->text && !keep(r, next++, v))
            return NULL;
        p = space(p);
        if (*p == '}')
            return p + 1;
        if (*p != ',')
            return NULL;
    }
}

static const struct name *names_of(struct floor_text tag, enum floor_kind *kind)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].len == tag.len && memcmp(kinds[i].tag, tag.at, tag.len) == 0) {
            *kind = kinds[i].kind;
            return kinds[i].names;
        }
    return NULL;
}

bool floor_directed_decode(const char *bytes, size_t len, struct floor_record *out)
{
    const struct name *names = NULL;
    struct floor_text name, v;
    const char *p = space(bytes);
    if (*p != '{')
        return false;
    for (p = space(p + 1);; p = space(p + 1)) {
        p = name_of(p, &name);
        if (!p)
            return false;
        if (*p == '{')
            p = names && name.len == 3 && memcmp(name.at, "msg", 3) == 0 ? inner(p, names, out) : NULL;
        else
            p = value(p, &v);
        if (!p)
            return false;
        if (name.len == 4 && memcmp(name.at, "type", 4) == 0)
            names = names_of(v, &out->kind);
        else if (name.at[0] == 's' && name.len == 3)
            (void)floor_decimal(v.at, v.len, 0, name.at[1] == 'i' ? &out->sid : &out->seq);
        p = space(p);
        if (*p == '}')
            return names && space(p + 1) == bytes + len;
        if (*p != ',')
            return false;
    }
}
