/*
 * Signed requests. The client signs `timestamp_ms + METHOD + path` (path with /trade-api, without query) with its
 * private key, RSA-PSS (SHA-256, MGF1-SHA-256, salt 32) or Ed25519, and sends key id, timestamp and base64 signature
 * in KALSHI-ACCESS-* headers. Its clock may be a little behind or ahead of the exchange
 * (the limits lie between those seen to pass and seen to fail). Immutable after loading; any thread.
 */
#ifndef TM_EXCHANGE_AUTH_H
#define TM_EXCHANGE_AUTH_H

#include "exchange/http.h"
#include "exchange/options.h"

struct tm_auth;

int tm_auth_create(const struct tm_options *o, struct tm_auth **out, struct tm_error *err) TM_MUST_CHECK;
void tm_auth_put(struct tm_auth *auth);

/* True if the request may pass; otherwise the 401 is in *reply. `now_us` is wall time. */
bool tm_auth_check(const struct tm_auth *auth, const struct tm_request *r, int64_t now_us, struct tm_reply *reply);

/* True if the exchange checks at all. */
bool tm_auth_required(const struct tm_auth *auth);

#endif
