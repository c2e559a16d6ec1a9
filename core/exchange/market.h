/*
 * The table of all markets, by number. What can be computed from the number and the seed is not stored (ticker, event,
 * ids, times of a market that nothing has happened to), so a million markets cost some 80 bytes each. A market's
 * *live* part (book, quotes, volumes) is made when the first event touches it; until then its first book is computed
 * on demand, always the same.
 *
 * Tickers: KXSIM07-E000154-T1234 (series, event, market; every eighth is written B1234.5 because real tickers have
 * points), combos KXMVESIM-... . Markets named by a replay have their own tickers, kept in a hash table.
 *
 * Owned by the exchange, used by the loop's thread. Numbers are stable; markets are added, never removed. The table's
 * capacity is fixed at creation (untouched memory costs nothing): tm_markets_add answers TM_MARKET_NONE when full.
 */
#ifndef TM_EXCHANGE_MARKET_H
#define TM_EXCHANGE_MARKET_H

#include "exchange/book.h"
#include "exchange/json.h"
#include "exchange/structure.h"

#define TM_TICKER_MAX 64
#define TM_MARKET_NONE UINT32_MAX
#define TM_MARKETS_PER_EVENT 8

enum tm_status { TM_ACTIVE, TM_INACTIVE, TM_CLOSED, TM_DETERMINED, TM_FINALIZED };

/* What trading has made of a market. */
struct tm_live {
    struct tm_book book;
    int64_t volume, open_interest; /* hundredths of a contract */
    int64_t dollar_volume;         /* 1e-8 dollars */
    int64_t last_size;
    uint32_t last_price, previous_price; /* yes leg, 1e-6 dollars; 0 before the first trade */
    uint32_t middle;                     /* where the generator thinks the market is, yes leg */
};

/* Who listens to a market: ids of subscriptions (feed.h), the top bit set while the first snapshot is due. */
struct tm_listeners {
    uint32_t count, capacity;
    uint32_t id[];
};

struct tm_market {
    struct tm_live *live;           /* NULL until touched */
    struct tm_listeners *listeners; /* NULL: none */
    int64_t last_us;                /* exchange time of its last event: groups of one market never share one */
    int64_t created_us, close_us;   /* 0: as computed */
    int64_t updated_us, settled_us; /* 0: never */
    int64_t visible_us;             /* wall time from which REST knows it: real ones answer 404 for a while */
    uint32_t place;                 /* in the generator's list of active markets */
    uint8_t status, structure;
    bool yes_won;
};

struct tm_markets;

struct tm_markets_setup {
    uint64_t seed;
    uint32_t count, capacity;
    int64_t origin_us;    /* when the exchange opened: creation times are reckoned from it */
    int structure;        /* number, or -1: mixed */
    uint32_t combo_every; /* each n-th event is a combo; 0: none */
};

struct tm_markets *tm_markets_create(const struct tm_markets_setup *setup);
void tm_markets_destroy(struct tm_markets *all);

uint32_t tm_markets_count(const struct tm_markets *all);
struct tm_market *tm_market_get(struct tm_markets *all, uint32_t number);

/* One more market; TM_MARKET_NONE when the table is full. */
uint32_t tm_markets_add(struct tm_markets *all);

/* The market of that name; a replay's unknown names are added by tm_markets_intern. TM_MARKET_NONE if there is none. */
uint32_t tm_markets_find(const struct tm_markets *all, struct tm_slice ticker);
uint32_t tm_markets_find_id(const struct tm_markets *all, const uint8_t id[16]);
uint32_t tm_markets_intern(struct tm_markets *all, struct tm_slice ticker);

/* The live part, made if need be with its first book. */
struct tm_live *tm_market_live(struct tm_markets *all, uint32_t number);

/* The book to show without making the live part: the market's own, or its first one folded into *scratch. */
struct tm_book *tm_market_book(struct tm_markets *all, uint32_t number, struct tm_book *scratch);

/* Names. Each returns the place after what it wrote (at most TM_TICKER_MAX bytes, no NUL). */
char *tm_market_put_ticker(const struct tm_markets *all, char *p, uint32_t number);
char *tm_market_put_event(const struct tm_markets *all, char *p, uint32_t number);
char *tm_market_put_series(const struct tm_markets *all, char *p, uint32_t number);
void tm_market_id(const struct tm_markets *all, uint32_t number, uint8_t id[16]);

/* Events: each is known by its first market. */
bool tm_market_leads_event(const struct tm_markets *all, uint32_t number);
uint32_t tm_event_find(const struct tm_markets *all, struct tm_slice ticker); /* its first market, or TM_MARKET_NONE */
bool tm_market_in_event(const struct tm_markets *all, uint32_t number, uint32_t leader);

/* Where to stop looking for an event's markets: they lie in [leader, end). */
uint32_t tm_event_end(const struct tm_markets *all, uint32_t leader);

bool tm_market_is_combo(const struct tm_markets *all, uint32_t number);
int64_t tm_market_created_us(const struct tm_markets *all, uint32_t number);
int64_t tm_market_close_us(const struct tm_markets *all, uint32_t number);

#endif
