#include "exchange/options.h"
#include "exchange/fault_table.h"
#include "exchange/text.h"

#include <math.h>
#include <stdlib.h>

enum kind { GROUP, TEXT, U64, U32, NUMBER, SHARE, DURATION, FLAG, CUSTOM };

struct option {
    const char *name, *value; /* value: what to call it in --help; NULL for a flag */
    enum kind kind;
    size_t at; /* offset in struct tm_options */
    int (*custom)(struct tm_options *o, const char *value, struct tm_error *err);
    const char *help;
};

bool tm_duration_parse(const char *text, int64_t *us)
{
    static const struct {
        const char *name;
        double us;
    } units[] = {{"", 1e6}, {"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"m", 60e6}, {"h", 3600e6}, {"d", 86400e6}};
    char *rest;
    double v = strtod(text, &rest);
    if (rest == text || !isfinite(v) || v < 0)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(rest, units[i].name) == 0 && v * units[i].us < 9e18) {
            *us = (int64_t)(v * units[i].us);
            return true;
        }
    return false;
}

static int set_auth(struct tm_options *o, const char *value, struct tm_error *err)
{
    o->auth = strcmp(value, "required") == 0;
    if (o->auth || strcmp(value, "none") == 0)
        return TM_OK;
    return tm_error_set(err, TM_EINVAL, "expected none or required, got \"%s\"", value);
}

static int add_to(const char **list, size_t *count, size_t limit, const char *value, struct tm_error *err)
{
    if (*count == limit)
        return tm_error_set(err, TM_EINVAL, "given more than %zu times", limit);
    list[(*count)++] = value;
    return TM_OK;
}

static int add_key_id(struct tm_options *o, const char *value, struct tm_error *err)
{
    return add_to(o->key_id, &o->key_ids, TM_KEYS_MAX, value, err);
}

static int add_public_key(struct tm_options *o, const char *value, struct tm_error *err)
{
    return add_to(o->public_key, &o->public_keys, TM_KEYS_MAX, value, err);
}

static int add_fault(struct tm_options *o, const char *value, struct tm_error *err)
{
    return add_to(o->fault, &o->faults, TM_FAULTS_MAX, value, err);
}

static int set_start_time(struct tm_options *o, const char *value, struct tm_error *err)
{
    if (tm_rfc3339_parse(value, strlen(value), &o->start_us) && o->start_us > 0)
        return TM_OK;
    return tm_error_set(err, TM_EINVAL, "expected a time such as 2026-11-05T14:00:00Z, got \"%s\"", value);
}

static int set_structure(struct tm_options *o, const char *value, struct tm_error *err)
{
    o->structure = tm_structure_find(value);
    if (o->structure >= 0 || strcmp(value, "mixed") == 0)
        return TM_OK;
    return tm_error_set(err, TM_EINVAL, "expected mixed or a structure such as linear_cent, got \"%s\"", value);
}

static int set_shape(struct tm_options *o, const char *value, struct tm_error *err)
{
    o->rest_flat_429 = strcmp(value, "flat") == 0;
    if (o->rest_flat_429 || strcmp(value, "nested") == 0)
        return TM_OK;
    return tm_error_set(err, TM_EINVAL, "expected nested or flat, got \"%s\"", value);
}

/* deltas=90,tickers=6,trades=3.5,lifecycle=0.5 in any order; those not named stay. */
static int set_mix(struct tm_options *o, const char *value, struct tm_error *err)
{
    static const char *const names[] = {"deltas=", "tickers=", "trades=", "lifecycle="};
    double total = 0;
    for (const char *at = value; *at;) {
        int i = 0;
        while (i < TM_MIX_COUNT && strncmp(at, names[i], strlen(names[i])) != 0)
            i++;
        char *rest = NULL;
        double v = i < TM_MIX_COUNT ? strtod(at + strlen(names[i]), &rest) : -1;
        if (!rest || !(v >= 0 && v <= 1000) || (*rest && *rest != ','))
            return tm_error_set(err, TM_EINVAL,
                                "expected e.g. deltas=90,tickers=6,trades=3.5,lifecycle=0.5, got \"%s\"", value);
        o->mix[i] = v;
        at = *rest ? rest + 1 : rest;
    }
    for (int i = 0; i < TM_MIX_COUNT; i++)
        total += o->mix[i];
    return total > 0.001 ? TM_OK : tm_error_set(err, TM_EINVAL, "at least one share must be above zero");
}

static int set_decimals(struct tm_options *o, const char *value, struct tm_error *err)
{
    if (strcmp(value, "3") != 0 && strcmp(value, "4") != 0)
        return tm_error_set(err, TM_EINVAL, "expected 3 or 4, got \"%s\"", value);
    o->style.price_decimals = (uint32_t)(value[0] - '0');
    return TM_OK;
}

#define AT(member) offsetof(struct tm_options, member)

static const struct option table[] = {
    {"Serving", NULL, GROUP, 0, NULL, NULL},
    {"listen", "ADDR:PORT", TEXT, AT(listen), NULL, "where to listen, port 0 picks one (127.0.0.1:0)"},
    {"tls-cert", "FILE", TEXT, AT(tls_cert), NULL, "certificate chain; opens a second listener for wss and https"},
    {"tls-key", "FILE", TEXT, AT(tls_key), NULL, "its private key"},
    {"tls-listen", "ADDR:PORT", TEXT, AT(tls_listen), NULL, "where that listens (127.0.0.1:0)"},
    {"tls-record-per-message", NULL, FLAG, AT(tls_record_per_message), NULL, "one TLS record for each frame"},
    {"ping-interval", "TIME", DURATION, AT(ping_us), NULL, "between pings to each client, 0: none (10s)"},
    {"ping-idle-only", NULL, FLAG, AT(ping_idle), NULL, "no ping where data went out since the last one was due"},
    {"client-buffer", "BYTES", U64, AT(client_buffer), NULL, "backlog that ends in error 25 (16777216)"},
    {"subscription-limit", "N", U64, AT(subscription_limit), NULL, "markets per subscription before error 26 (500000)"},
    {"auth", "none|required", CUSTOM, 0, set_auth, "check signed handshakes (none)"},
    {"key-id", "ID", CUSTOM, 0, add_key_id, "an access key; repeat for more, each with its --public-key"},
    {"public-key", "PEM", CUSTOM, 0, add_public_key, "file with the RSA or Ed25519 public key"},
    {"What happens", NULL, GROUP, 0, NULL, NULL},
    {"seed", "N", U64, AT(seed), NULL, "the events are a function of the seed and the options (1)"},
    {"markets", "N", U32, AT(markets), NULL, "open at the start (100)"},
    {"combo-every", "N", U32, AT(combo_every), NULL, "each n-th event is a combo, KXMVE..., 0: none (0)"},
    {"depth", "N", U32, AT(depth), NULL, "levels per side of a book at most (24)"},
    {"mix", "SHARES", CUSTOM, 0, set_mix, "deltas=90,tickers=6,trades=3.5,lifecycle=0.5"},
    {"repeat-bursts", "SHARE", SHARE, AT(repeat), NULL, "of deltas that repeat a ticker, ts, side and price (0.01)"},
    {"structure", "NAME", CUSTOM, 0, set_structure, "price level structure of all markets (mixed)"},
    {"When", NULL, GROUP, 0, NULL, NULL},
    {"rate", "EVENTS", NUMBER, AT(rate), NULL, "a second over all streams, 0: as fast as clients take them (1000)"},
    {"seconds", "TIME", DURATION, AT(run_us), NULL, "stop generating after it, keep serving"},
    {"events", "N", U64, AT(events), NULL, "stop generating after so many (the step under way is finished)"},
    {"wait-clients", "N", U32, AT(wait_clients), NULL, "start when so many clients have subscribed (0)"},
    {"hold", NULL, FLAG, AT(hold), NULL, "start on POST /control/start"},
    {"start-time", "RFC3339", CUSTOM, 0, set_start_time, "reckon stamps from here and --rate, for equal ledgers"},
    {"tick", "TIME", DURATION, AT(tick_us), NULL, "how often events are handed over (1ms)"},
    {"ledger", "FILE", TEXT, AT(ledger), NULL, "write what was emitted and delivered, in lines for COPY"},
    {"replay", "FILE", TEXT, AT(replay), NULL, "send recorded frames instead; .gz too"},
    {"replay-pace", "PACE", TEXT, AT(replay_pace), NULL, "recorded, flat, or events a second (recorded)"},
    {"REST", NULL, GROUP, 0, NULL, NULL},
    {"rate-limit", "TOKENS", NUMBER, AT(rest_tokens), NULL, "token bucket refill a second, 10 a request, 0: none (0)"},
    {"rate-burst", "SECONDS", NUMBER, AT(rest_burst), NULL, "its capacity in seconds of refill (2)"},
    {"rate-shape", "nested|flat", CUSTOM, 0, set_shape, "body of 429 (nested)"},
    {"created-404", "TIME", DURATION, AT(created_404_us), NULL, "REST does not know a new market for so long (200ms)"},
    {"historical-age", "TIME", DURATION, AT(historical_us), NULL, "older trades are under /historical only (90d)"},
    {"cache", "TIME", DURATION, AT(cache_us), NULL, "serve /markets and /series so stale; the real one: 15s (0)"},
    {"tape", "N", U64, AT(tape_limit), NULL, "trades that REST remembers (1000000)"},
    {"Other eras of the wire", NULL, GROUP, 0, NULL, NULL},
    {"legacy-no-seq", NULL, FLAG, AT(style.no_seq), NULL, "trades and lifecycle without seq"},
    {"legacy-no-block-trade", NULL, FLAG, AT(style.no_block_trade), NULL, "trades without is_block_trade"},
    {"legacy-no-trade-ts-ms", NULL, FLAG, AT(style.no_trade_ts_ms), NULL, "trades without ts_ms"},
    {"legacy-no-ts-ms", NULL, FLAG, AT(style.no_ts_ms), NULL, "deltas without ts_ms"},
    {"no-ts", NULL, FLAG, AT(style.no_ts), NULL, "deltas without the deprecated ts"},
    {"legacy-error-6", NULL, FLAG, AT(legacy_duplicate), NULL, "a repeated subscribe is error 6, not a merge"},
    {"price-decimals", "3|4", CUSTOM, 0, set_decimals, "digits of prices, where the tick allows (4)"},
    {"yes-price-default", NULL, FLAG, AT(yes_default), NULL, "use_yes_price where the client does not say"},
    {"Faults", NULL, GROUP, 0, NULL, NULL},
    {"fault", "FAULT", CUSTOM, 0, add_fault, "what goes wrong, e.g. at=10s,kind=gap,count=3; repeatable"},
};

#define TABLE_COUNT (sizeof table / sizeof table[0])

void tm_options_default(struct tm_options *o)
{
    *o = (struct tm_options){.listen = "127.0.0.1:0",
                             .tls_listen = "127.0.0.1:0",
                             .seed = 1,
                             .markets = 100,
                             .depth = 24,
                             .rate = 1000,
                             .tick_us = 1000,
                             .ping_us = 10000000,
                             .mix = {90, 6, 3.5, 0.5},
                             .repeat = 0.01,
                             .structure = -1,
                             .style = {.price_decimals = 4},
                             .rest_burst = 2,
                             .created_404_us = 200000,
                             .historical_us = INT64_C(90) * 86400 * 1000000,
                             .tape_limit = 1000000,
                             .client_buffer = 16 << 20,
                             .subscription_limit = 500000,
                             .replay_pace = "recorded"};
}

static int set_number(enum kind kind, void *at, const char *value, struct tm_error *err)
{
    char *rest;
    double v = strtod(value, &rest);
    if (rest == value || *rest || !(v >= 0 && v <= (kind == SHARE ? 0.9 : 1e12)))
        return tm_error_set(err, TM_EINVAL, "expected a number%s, got \"%s\"",
                            kind == SHARE ? " from 0 to 0.9" : " from 0 on", value);
    *(double *)at = v;
    return TM_OK;
}

static int set_integer(enum kind kind, void *at, const char *value, struct tm_error *err)
{
    uint64_t limit = kind == U32 ? 10000000 : UINT64_MAX;
    char *rest;
    uint64_t v = strtoull(value, &rest, 10);
    if (value[0] < '0' || value[0] > '9' || *rest || v > limit)
        return tm_error_set(err, TM_EINVAL, "expected an integer from 0 to %llu, got \"%s\"", (unsigned long long)limit,
                            value);
    if (kind == U32)
        *(uint32_t *)at = (uint32_t)v;
    else
        *(uint64_t *)at = v;
    return TM_OK;
}

static int set_option(const struct option *option, struct tm_options *o, const char *value, struct tm_error *err)
{
    void *at = (char *)o + option->at;
    switch (option->kind) {
    case TEXT:
        *(const char **)at = value;
        return TM_OK;
    case FLAG:
        *(bool *)at = true;
        return TM_OK;
    case U64:
    case U32:
        return set_integer(option->kind, at, value, err);
    case NUMBER:
    case SHARE:
        return set_number(option->kind, at, value, err);
    case DURATION:
        if (tm_duration_parse(value, at))
            return TM_OK;
        return tm_error_set(err, TM_EINVAL, "expected a duration such as 250ms or 10s, got \"%s\"", value);
    default:
        return option->custom(o, value, err);
    }
}

static const struct option *find(const char *name, size_t len)
{
    for (size_t i = 0; i < TABLE_COUNT; i++)
        if (table[i].kind != GROUP && strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0)
            return &table[i];
    return NULL;
}

static int check(const struct tm_options *o, struct tm_error *err)
{
    if (o->key_ids != o->public_keys)
        return tm_error_set(err, TM_EINVAL, "%zu --key-id but %zu --public-key: give them in pairs", o->key_ids,
                            o->public_keys);
    if (o->auth && !o->key_ids)
        return tm_error_set(err, TM_EINVAL, "--auth required needs --key-id and --public-key");
    if (!o->tls_cert != !o->tls_key)
        return tm_error_set(err, TM_EINVAL, "--tls-cert and --tls-key go together");
    if (!o->markets)
        return tm_error_set(err, TM_EINVAL, "--markets must be at least 1");
    if (!o->tick_us || !o->depth || o->depth > TM_LEVELS_MAX / 2)
        return tm_error_set(err, TM_EINVAL, "--tick must be above zero and --depth 1 to %d", TM_LEVELS_MAX / 2);
    return TM_OK;
}

int tm_options_parse(struct tm_options *o, int argc, char **argv, bool *help, struct tm_error *err)
{
    tm_options_default(o);
    *help = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value = strchr(arg, '=');
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            *help = true;
            return TM_OK;
        }
        size_t len = value ? (size_t)(value - arg) : strlen(arg);
        const struct option *option = strncmp(arg, "--", 2) == 0 ? find(arg + 2, len - 2) : NULL;
        if (!option)
            return tm_error_set(err, TM_EINVAL, "unknown option \"%s\"; --help lists them all", arg);
        if (!option->value && value)
            return tm_error_set(err, TM_EINVAL, "--%s takes no value", option->name);
        if (option->value && !value && ++i == argc)
            return tm_error_set(err, TM_EINVAL, "--%s needs a value: %s", option->name, option->value);
        if (set_option(option, o, value ? value + 1 : argv[i], err))
            return tm_error_wrap(err, "--%s", option->name);
    }
    return check(o, err);
}

void tm_options_help(FILE *out)
{
    fputs("usage: tidemill-exchange [OPTION]...\n"
          "A simulated exchange that speaks Kalshi's market data protocol.\n",
          out);
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        char left[64];
        if (table[i].kind == GROUP) {
            fprintf(out, "\n%s\n", table[i].name);
            continue;
        }
        (void)snprintf(left, sizeof left, "--%s %s", table[i].name, table[i].value ? table[i].value : "");
        fprintf(out, "  %-30s %s\n", left, table[i].help);
    }
    tm_fault_help(out);
    fputs("\nDurations: 250ms, 10s, 2m, 1h, 8d. Exit status: 0 fine, 1 failed, 2 usage.\n", out);
}
