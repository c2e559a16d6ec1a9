/*
 * Signed requests, described by the adapter: which bytes are signed and which headers carry what. Knows no exchange.
 *
 * Templates may contain {timestamp_ms}, {timestamp_s}, {method}, {path} (without host and query) and, in headers,
 * {signature} (base64 of the signature over the message) and {key_id}. The algorithm follows from the key that is in
 * the file: RSA signs RSASSA-PSS with SHA-256, MGF1-SHA-256 and a 32-byte salt; Ed25519 signs the message directly
 * (kalshi.md 2). PKCS#1 and PKCS#8 PEM are read. The key stays inside; no function shows it, no error names its bytes.
 * Immutable after create, any thread. Signing with RSA-2048 takes about 1 ms.
 *
 * Counted: whoever keeps one beyond the call that gave it to him takes a reference and puts it back. Requests and
 * connections do, so what declared it may go before they end.
 */
#ifndef TM_NET_AUTH_H
#define TM_NET_AUTH_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct tm_auth;

struct tm_auth_header_def {
    const char *name, *value; /* value is a template */
};

struct tm_auth_def {
    const char *key_id;   /* may be NULL if no template uses it */
    const char *key_file; /* NULL: nothing is signed; a secret file, and refused as base/secret.h says */
    const char *key;      /* its text instead of a file */
    const char *message;  /* template of the bytes to sign, e.g. "{timestamp_ms}{method}{path}" */
    const struct tm_auth_header_def *headers;
    size_t header_count;
    const struct tm_auth_header_def *secrets; /* headers whose values are no templates and are shown nowhere */
    size_t secret_count;
};

int tm_auth_create(const struct tm_auth_def *def, struct tm_auth **out, struct tm_error *err) TM_MUST_CHECK;
struct tm_auth *tm_auth_take(const struct tm_auth *auth); /* another reference; NULL gives NULL */
void tm_auth_put(const struct tm_auth *auth);             /* give one back; NULL is fine */

/* Signs the same bytes with the same key under the same headers. NULL equals NULL. */
bool tm_auth_equal(const struct tm_auth *a, const struct tm_auth *b);

/* Call `put` with each finished header; wall_us is signed as the timestamp. */
int tm_auth_headers(const struct tm_auth *auth, const char *method, const char *path, int64_t wall_us,
                    int (*put)(void *arg, const char *name, const char *value), void *arg,
                    struct tm_error *err) TM_MUST_CHECK;

#endif
