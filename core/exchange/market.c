#include "exchange/market.h"
#include "base/hash.h"
#include "exchange/rng.h"
#include "exchange/text.h"

#include <stdlib.h>

#define SERIES_COUNT 40u
#define DAY_US INT64_C(86400000000)

/* market_id: its first half is the number, multiplied by an odd constant so that it can be divided back. */
#define ID_FACTOR UINT64_C(0x9e3779b97f4a7c15)
#define ID_INVERSE UINT64_C(0xf1de83e19937733d)

struct tm_markets {
    struct tm_markets_setup setup;
    struct tm_market *table;
    uint32_t count;
    char (*names)[TM_TICKER_MAX]; /* of a replay's markets, by number; NULL otherwise */
    uint32_t *slots;              /* open addressing over names: number + 1, 0 empty */
    uint32_t slot_mask;
};

static uint64_t draw(const struct tm_markets *all, uint32_t number, uint64_t what)
{
    return tm_mix(all->setup.seed, number + UINT64_C(1), what);
}

static void init_market(struct tm_markets *all, uint32_t number)
{
    int fixed = all->setup.structure;
    all->table[number].structure = fixed >= 0 ? (uint8_t)fixed : tm_structure_draw(draw(all, number, 1));
}

struct tm_markets *tm_markets_create(const struct tm_markets_setup *setup)
{
    struct tm_markets *all = calloc(1, sizeof *all);
    TM_FATAL_UNLESS(all && setup->count <= setup->capacity);
    all->setup = *setup;
    all->table = calloc(setup->capacity, sizeof *all->table);
    TM_FATAL_UNLESS(all->table);
    while (all->count < setup->count)
        init_market(all, all->count++);
    return all;
}

void tm_markets_destroy(struct tm_markets *all)
{
    for (uint32_t i = 0; i < all->count; i++) {
        if (all->table[i].live)
            tm_book_fini(&all->table[i].live->book);
        free(all->table[i].live);
        free(all->table[i].listeners);
    }
    free(all->table);
    free(all->names);
    free(all->slots);
    free(all);
}

uint32_t tm_markets_count(const struct tm_markets *all)
{
    return all->count;
}

struct tm_market *tm_market_get(struct tm_markets *all, uint32_t number)
{
    return &all->table[number];
}

uint32_t tm_markets_add(struct tm_markets *all)
{
    if (all->count == all->setup.capacity)
        return TM_MARKET_NONE;
    init_market(all, all->count);
    return all->count++;
}

bool tm_market_is_combo(const struct tm_markets *all, uint32_t number)
{
    uint32_t every = all->setup.combo_every, event = number / TM_MARKETS_PER_EVENT;
    return every && event % every == every - 1;
}

/* The prefix of a replay's ticker up to its n-th hyphen; all of it if there are fewer. */
static char *put_name_part(const struct tm_markets *all, char *p, uint32_t number, int hyphens)
{
    for (const char *s = all->names[number]; *s && (*s != '-' || --hyphens); s++)
        *p++ = *s;
    return p;
}

char *tm_market_put_series(const struct tm_markets *all, char *p, uint32_t number)
{
    if (all->names)
        return put_name_part(all, p, number, 1);
    if (tm_market_is_combo(all, number))
        return tm_put_lit(p, "KXMVESIM");
    p = tm_put_lit(p, "KXSIM");
    return tm_put_padded(p, number / TM_MARKETS_PER_EVENT % SERIES_COUNT, 2);
}

char *tm_market_put_event(const struct tm_markets *all, char *p, uint32_t number)
{
    if (all->names)
        return put_name_part(all, p, number, 2);
    p = tm_market_put_series(all, p, number);
    p = tm_put_lit(p, "-E");
    return tm_put_padded(p, number / TM_MARKETS_PER_EVENT, 6);
}

char *tm_market_put_ticker(const struct tm_markets *all, char *p, uint32_t number)
{
    if (all->names)
        return tm_put_str(p, all->names[number]);
    bool pointed = number % TM_MARKETS_PER_EVENT == TM_MARKETS_PER_EVENT - 1;
    p = tm_market_put_event(all, p, number);
    p = pointed ? tm_put_lit(p, "-B") : tm_put_lit(p, "-T");
    p = tm_put_u64(p, number);
    return pointed ? tm_put_lit(p, ".5") : p;
}

static uint32_t find_name(const struct tm_markets *all, struct tm_slice ticker, uint32_t *slot)
{
    uint32_t i = (uint32_t)tm_hash64(ticker.at, ticker.len, 0) & all->slot_mask;
    for (; all->slots[i]; i = (i + 1) & all->slot_mask)
        if (tm_json_is(ticker, all->names[all->slots[i] - 1]))
            break;
    *slot = i;
    return all->slots[i] - 1; /* an empty slot gives TM_MARKET_NONE */
}

/* The digits after the last T or B of a generated ticker. */
static bool read_number(struct tm_slice ticker, uint32_t *out)
{
    size_t end = ticker.len, start;
    if (end > 2 && memcmp(ticker.at + end - 2, ".5", 2) == 0)
        end -= 2;
    uint64_t v = 0, unit = 1;
    for (start = end; start > 0 && ticker.at[start - 1] >= '0' && ticker.at[start - 1] <= '9'; start--) {
        if (end - start == 9)
            return false;
        v += (uint64_t)(ticker.at[start - 1] - '0') * unit;
        unit *= 10;
    }
    *out = (uint32_t)v;
    return start < end;
}

uint32_t tm_markets_find(const struct tm_markets *all, struct tm_slice ticker)
{
    uint32_t slot, number;
    if (all->names)
        return find_name(all, ticker, &slot);
    char name[TM_TICKER_MAX];
    if (!read_number(ticker, &number) || number >= all->count)
        return TM_MARKET_NONE;
    size_t len = (size_t)(tm_market_put_ticker(all, name, number) - name);
    return len == ticker.len && memcmp(name, ticker.at, len) == 0 ? number : TM_MARKET_NONE;
}

static void make_names(struct tm_markets *all)
{
    uint32_t slots = 64;
    while (slots < 2 * all->setup.capacity)
        slots *= 2;
    all->names = calloc(all->setup.capacity, sizeof *all->names);
    all->slots = calloc(slots, sizeof *all->slots);
    TM_FATAL_UNLESS(all->names && all->slots);
    all->slot_mask = slots - 1;
}

uint32_t tm_markets_intern(struct tm_markets *all, struct tm_slice ticker)
{
    if (ticker.len >= TM_TICKER_MAX)
        return TM_MARKET_NONE;
    if (!all->names)
        make_names(all);
    uint32_t slot, number = find_name(all, ticker, &slot);
    if (number != TM_MARKET_NONE || (number = tm_markets_add(all)) == TM_MARKET_NONE)
        return number;
    memcpy(all->names[number], ticker.at, ticker.len);
    all->slots[slot] = number + 1;
    return number;
}

void tm_market_id(const struct tm_markets *all, uint32_t number, uint8_t id[16])
{
    uint64_t half[2] = {(number + UINT64_C(1)) * ID_FACTOR, draw(all, number, 2)};
    memcpy(id, half, 16);
}

uint32_t tm_markets_find_id(const struct tm_markets *all, const uint8_t id[16])
{
    uint64_t half;
    uint8_t again[16];
    memcpy(&half, id, 8);
    uint64_t number = half * ID_INVERSE - 1;
    if (number >= all->count)
        return TM_MARKET_NONE;
    tm_market_id(all, (uint32_t)number, again);
    return memcmp(again, id, 16) == 0 ? (uint32_t)number : TM_MARKET_NONE;
}

int64_t tm_market_created_us(const struct tm_markets *all, uint32_t number)
{
    int64_t created = all->table[number].created_us;
    return created ? created : all->setup.origin_us - DAY_US + (int64_t)number * 50;
}

int64_t tm_market_close_us(const struct tm_markets *all, uint32_t number)
{
    if (all->table[number].close_us)
        return all->table[number].close_us;
    int64_t days = 1 + (int64_t)(draw(all, number, 3) % 30);
    return (all->setup.origin_us / DAY_US + 1 + days) * DAY_US;
}

/* A market that trading has not reached yet: three in ten books are empty, the others have a few levels a side. */
static void first_book(const struct tm_markets *all, uint32_t number, uint32_t middle, struct tm_book *book)
{
    struct tm_rng r;
    tm_rng_init(&r, draw(all, number, 4));
    if (all->names || tm_rng_below(&r, 10) < 3)
        return;
    const struct tm_structure *s = tm_structure_get(all->table[number].structure);
    for (enum tm_side side = TM_YES; side <= TM_NO; side++) {
        uint32_t price = side == TM_YES ? middle : TM_PRICE_ONE - middle;
        for (uint32_t levels = tm_rng_below(&r, 9); levels > 0 && price > TM_PRICE_MIN; levels--) {
            price = tm_structure_align(s, price - 1);
            int64_t size = 100 + tm_rng_below(&r, 300) * INT64_C(100) + tm_rng_below(&r, 2) * tm_rng_below(&r, 100);
            if (!price || tm_book_fold(book, side, price, size))
                break;
        }
    }
}

static uint32_t first_middle(const struct tm_markets *all, uint32_t number)
{
    return (uint32_t)(300 + draw(all, number, 5) % 9400) * TM_PRICE_MIN;
}

struct tm_live *tm_market_live(struct tm_markets *all, uint32_t number)
{
    struct tm_market *m = &all->table[number];
    if (m->live)
        return m->live;
    m->live = calloc(1, sizeof *m->live);
    TM_FATAL_UNLESS(m->live);
    m->live->middle = first_middle(all, number);
    first_book(all, number, m->live->middle, &m->live->book);
    return m->live;
}

struct tm_book *tm_market_book(struct tm_markets *all, uint32_t number, struct tm_book *scratch)
{
    struct tm_market *m = &all->table[number];
    if (m->live)
        return &m->live->book;
    tm_book_clear(scratch);
    first_book(all, number, first_middle(all, number), scratch);
    return scratch;
}

static struct tm_slice event_name(const struct tm_markets *all, uint32_t number, char *to)
{
    return (struct tm_slice){to, (size_t)(tm_market_put_event(all, to, number) - to)};
}

bool tm_market_in_event(const struct tm_markets *all, uint32_t number, uint32_t leader)
{
    char a[TM_TICKER_MAX], b[TM_TICKER_MAX];
    if (!all->names)
        return number / TM_MARKETS_PER_EVENT == leader / TM_MARKETS_PER_EVENT;
    struct tm_slice x = event_name(all, number, a), y = event_name(all, leader, b);
    return x.len == y.len && memcmp(x.at, y.at, x.len) == 0;
}

bool tm_market_leads_event(const struct tm_markets *all, uint32_t number)
{
    if (!all->names)
        return number % TM_MARKETS_PER_EVENT == 0;
    for (uint32_t i = 0; i < number; i++) /* recordings have few markets */
        if (tm_market_in_event(all, i, number))
            return false;
    return true;
}

uint32_t tm_event_end(const struct tm_markets *all, uint32_t leader)
{
    uint32_t end = leader + TM_MARKETS_PER_EVENT;
    return all->names || end > all->count ? all->count : end;
}

static uint32_t find_named_event(const struct tm_markets *all, struct tm_slice ticker)
{
    char name[TM_TICKER_MAX];
    for (uint32_t i = 0; i < all->count; i++) {
        struct tm_slice event = event_name(all, i, name);
        if (event.len == ticker.len && memcmp(event.at, ticker.at, event.len) == 0)
            return i;
    }
    return TM_MARKET_NONE;
}

uint32_t tm_event_find(const struct tm_markets *all, struct tm_slice ticker)
{
    char name[TM_TICKER_MAX];
    uint32_t number;
    if (all->names)
        return find_named_event(all, ticker);
    if (!read_number(ticker, &number) || number >= (all->count + TM_MARKETS_PER_EVENT - 1) / TM_MARKETS_PER_EVENT)
        return TM_MARKET_NONE;
    number *= TM_MARKETS_PER_EVENT;
    struct tm_slice event = event_name(all, number, name);
    return event.len == ticker.len && memcmp(event.at, ticker.at, event.len) == 0 ? number : TM_MARKET_NONE;
}
