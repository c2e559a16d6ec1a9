#include "exchange/auth.h"
#include "exchange/text.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>

/* A client's clock: accepted at -5 s and +30 s, refused at -30 s and +300 s on the real exchange. */
#define BEHIND_MS_MAX 10000
#define AHEAD_MS_MAX 60000
#define SIGNATURE_MAX 1024

struct tm_auth {
    bool required;
    size_t keys;
    const char *id[TM_KEYS_MAX];
    EVP_PKEY *key[TM_KEYS_MAX];
};

static int load_key(const char *path, EVP_PKEY **out, struct tm_error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return tm_error_errno(err, TM_EIO, errno, "public key %s", path);
    *out = PEM_read_PUBKEY(file, NULL, NULL, NULL);
    (void)fclose(file);
    ERR_clear_error();
    if (!*out)
        return tm_error_set(err, TM_EPARSE, "public key %s: expected a PEM block BEGIN PUBLIC KEY", path);
    int type = EVP_PKEY_get_base_id(*out);
    if (type == EVP_PKEY_RSA || type == EVP_PKEY_ED25519)
        return TM_OK;
    return tm_error_set(err, TM_EINVAL, "public key %s: expected an RSA or Ed25519 key", path);
}

int tm_auth_create(const struct tm_options *o, struct tm_auth **out, struct tm_error *err)
{
    struct tm_auth *auth = calloc(1, sizeof *auth);
    TM_FATAL_UNLESS(auth);
    auth->required = o->auth;
    for (; auth->keys < o->key_ids; auth->keys++) {
        auth->id[auth->keys] = o->key_id[auth->keys];
        int rc = load_key(o->public_key[auth->keys], &auth->key[auth->keys], err);
        if (rc) {
            tm_auth_put(auth);
            return rc;
        }
    }
    *out = auth;
    return TM_OK;
}

void tm_auth_put(struct tm_auth *auth)
{
    for (size_t i = 0; i < TM_KEYS_MAX; i++)
        EVP_PKEY_free(auth->key[i]);
    free(auth);
}

bool tm_auth_required(const struct tm_auth *auth)
{
    return auth->required;
}

/* Standard base64 of at most SIGNATURE_MAX bytes; the decoded length, or -1. */
static int decode_base64(struct tm_slice text, unsigned char *out)
{
    if (!text.len || text.len % 4 || text.len > SIGNATURE_MAX / 3 * 4)
        return -1;
    int n = EVP_DecodeBlock(out, (const unsigned char *)text.at, (int)text.len);
    for (size_t i = text.len; n > 0 && i > text.len - 2 && text.at[i - 1] == '='; i--)
        n--;
    return n;
}

static bool use_pss(EVP_PKEY_CTX *ctx)
{
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) > 0 &&
           EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()) > 0;
}

static bool verify(EVP_PKEY *key, const struct tm_buf *signed_text, struct tm_slice signature)
{
    unsigned char bytes[SIGNATURE_MAX + 4];
    int len = decode_base64(signature, bytes);
    bool rsa = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
    EVP_PKEY_CTX *ctx = NULL;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool good = len > 0 && md && EVP_DigestVerifyInit(md, &ctx, rsa ? EVP_sha256() : NULL, NULL, key) == 1 &&
                (!rsa || use_pss(ctx)) &&
                EVP_DigestVerify(md, bytes, (size_t)len, signed_text->data, signed_text->len) == 1;
    EVP_MD_CTX_free(md);
    ERR_clear_error();
    return good;
}

static bool verify_request(EVP_PKEY *key, const struct tm_request *r, struct tm_slice stamp, struct tm_slice signature)
{
    struct tm_buf text = {0};
    bool good = tm_buf_append(&text, stamp.at, stamp.len) == TM_OK &&
                tm_buf_append(&text, r->method.at, r->method.len) == TM_OK &&
                tm_buf_append(&text, r->path.at, r->path.len) == TM_OK && verify(key, &text, signature);
    tm_buf_fini(&text);
    return good;
}

static EVP_PKEY *find_key(const struct tm_auth *auth, struct tm_slice id)
{
    for (size_t i = 0; i < auth->keys; i++)
        if (tm_json_is(id, auth->id[i]))
            return auth->key[i];
    return NULL;
}

static bool deny(struct tm_reply *reply, const char *code, const char *message, const char *details)
{
    if (details)
        tm_reply_printf(reply, 401, "{\"error\":{\"code\":\"%s\",\"message\":\"%s\",\"details\":\"%s\"}}", code,
                        message, details);
    else
        tm_reply_printf(reply, 401, "{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}", code, message);
    return false;
}

bool tm_auth_check(const struct tm_auth *auth, const struct tm_request *r, int64_t now_us, struct tm_reply *reply)
{
    struct tm_slice id = tm_http_header(r, "KALSHI-ACCESS-KEY"), stamp = tm_http_header(r, "KALSHI-ACCESS-TIMESTAMP"),
                    signature = tm_http_header(r, "KALSHI-ACCESS-SIGNATURE");
    int64_t ms = 0;
    if (!auth->required)
        return true;
    if (!id.len && !signature.len)
        return deny(reply, "token_authentication_failure", "token authentication failure", NULL);
    if (!signature.len)
        return deny(reply, "signature_is_missing_from_headers", "signature is missing from headers", NULL);
    if (!tm_decimal_parse(stamp.at, stamp.len, 0, &ms) || ms < now_us / 1000 - BEHIND_MS_MAX ||
        ms > now_us / 1000 + AHEAD_MS_MAX)
        return deny(reply, "header_timestamp_expired", "header timestamp expired", NULL);
    EVP_PKEY *key = find_key(auth, id);
    if (!key)
        return deny(reply, "authentication_error", "authentication_error", "NOT_FOUND");
    if (!verify_request(key, r, stamp, signature))
        return deny(reply, "authentication_error", "authentication_error", "INCORRECT_API_KEY_SIGNATURE");
    return true;
}
