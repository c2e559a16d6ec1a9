/*
 * The command line. One table says what there is, what it means and where it goes; --help is printed from it.
 * Durations are written 250ms, 10s, 2m, 1h, 8d (a bare number is seconds); times RFC 3339.
 */
#ifndef TM_EXCHANGE_OPTIONS_H
#define TM_EXCHANGE_OPTIONS_H

#include "exchange/generator.h"

#include <stdio.h>

#define TM_KEYS_MAX 16
#define TM_FAULTS_MAX 64

struct tm_options {
    const char *listen, *tls_listen, *tls_cert, *tls_key;
    bool tls_record_per_message;
    uint64_t seed, events;
    uint32_t markets, combo_every, depth;
    double rate;    /* events a second; 0: flat out */
    int64_t run_us; /* --seconds */
    uint32_t wait_clients;
    bool hold;        /* wait for /control/start */
    int64_t start_us; /* --start-time; 0: the wall clock */
    int64_t tick_us;
    const char *ledger;
    bool auth;
    const char *key_id[TM_KEYS_MAX], *public_key[TM_KEYS_MAX];
    size_t key_ids, public_keys;
    int64_t ping_us;
    bool ping_idle; /* no pings to a client that gets data */
    double mix[TM_MIX_COUNT], repeat;
    int structure;
    struct tm_style style;
    bool yes_default;      /* use_yes_price when the client does not say */
    bool legacy_duplicate; /* error 6 on a repeated subscribe */
    double rest_tokens;    /* refill a second; 0: no limit */
    double rest_burst;     /* capacity in seconds of refill */
    bool rest_flat_429;
    int64_t created_404_us, historical_us, cache_us;
    uint64_t tape_limit, client_buffer, subscription_limit;
    const char *replay, *replay_pace;
    const char *fault[TM_FAULTS_MAX];
    size_t faults;
};

void tm_options_default(struct tm_options *o);

/* Fill *o from argv. TM_OK; TM_EINVAL with the message to print (exit 2). *help is set when --help was given. */
int tm_options_parse(struct tm_options *o, int argc, char **argv, bool *help, struct tm_error *err) TM_MUST_CHECK;
void tm_options_help(FILE *out);

/* "250ms" and the like to microseconds; false if it is not a duration. */
bool tm_duration_parse(const char *text, int64_t *us);

#endif
