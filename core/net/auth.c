#include "net/auth.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/secret.h"

#include <inttypes.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIGNATURE_BYTES_MAX 1024 /* RSA-8192 */
#define BASE64_SIZE(n) (((n) + 2) / 3 * 4 + 1)

struct header {
    char *name, *value;
    bool literal;
};

struct tm_auth {
    _Atomic uint32_t references;
    char *key_id, *message;
    EVP_PKEY *key;
    size_t header_count;
    struct header headers[];
};

/* What the placeholders stand for; NULL where a placeholder is not allowed. */
struct values {
    const char *timestamp_ms, *timestamp_s, *method, *path, *signature, *key_id;
    size_t path_len;
};

static char *copy(const char *s)
{
    char *c = s ? strdup(s) : NULL;
    TM_FATAL_UNLESS(c || !s);
    return c;
}

static bool is_name(const char *at, size_t len, const char *name)
{
    return strlen(name) == len && !memcmp(at, name, len);
}

static const char *value_of(const struct values *v, const char *name, size_t len, size_t *value_len)
{
    const char *value = NULL;
    if (is_name(name, len, "path")) {
        *value_len = v->path_len;
        return v->path;
    }
    if (is_name(name, len, "timestamp_ms"))
        value = v->timestamp_ms;
    else if (is_name(name, len, "timestamp_s"))
        value = v->timestamp_s;
    else if (is_name(name, len, "method"))
        value = v->method;
    else if (is_name(name, len, "signature"))
        value = v->signature;
    else if (is_name(name, len, "key_id"))
        value = v->key_id;
    *value_len = value ? strlen(value) : 0;
    return value;
}

static int expand(const char *template, const struct values *v, struct tm_buf *out, struct tm_error *err)
{
    tm_buf_clear(out);
    for (const char *p = template; *p;) {
        size_t plain = strcspn(p, "{");
        if (tm_buf_append(out, p, plain))
            return tm_error_set(err, TM_ENOMEM, "auth: no memory to expand \"%s\"", template);
        p += plain;
        if (!*p)
            break;
        size_t name_len = strcspn(p + 1, "}"), value_len;
        const char *value = value_of(v, p + 1, name_len, &value_len);
        if (!p[1 + name_len] || !value)
            return tm_error_set(err, TM_EINVAL,
                                "auth: \"%s\": {%.*s} is not available here; known are {timestamp_ms}, {timestamp_s}, "
                                "{method}, {path} and, in headers, {signature} (needs key_file) and {key_id} (needs "
                                "key_id)",
                                template, (int)name_len, p + 1);
        if (tm_buf_append(out, value, value_len))
            return tm_error_set(err, TM_ENOMEM, "auth: no memory to expand \"%s\"", template);
        p += name_len + 2;
    }
    return TM_OK;
}

/* Without a passphrase OpenSSL would ask for one on the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    *(bool *)arg = true;
    return 0;
}

/* `what` names the key in errors: "key file /x". */
static int parse_key(const char *bytes, size_t len, const char *what, EVP_PKEY **out, struct tm_error *err)
{
    bool encrypted = false;
    BIO *bio = BIO_new_mem_buf(bytes, (int)len);
    TM_FATAL_UNLESS(bio);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &encrypted);
    BIO_free(bio);
    ERR_clear_error();
    if (!key)
        return tm_error_set(err, TM_EPARSE, "%s: %s", what,
                            encrypted ? "the key is encrypted; store it without a passphrase"
                                      : "no PEM private key (PKCS#1 or PKCS#8) found");
    int type = EVP_PKEY_base_id(key);
    if (type != EVP_PKEY_RSA && type != EVP_PKEY_ED25519) {
        EVP_PKEY_free(key);
        return tm_error_set(err, TM_EINVAL, "%s holds a %s key; RSA and Ed25519 are supported", what, OBJ_nid2sn(type));
    }
    *out = key;
    return TM_OK;
}

static int load_key(const struct tm_auth_def *def, EVP_PKEY **out, struct tm_error *err)
{
    char what[PATH_MAX];
    struct tm_secret *file;
    if (def->key)
        return parse_key(def->key, strlen(def->key), "the signer's key", out, err);
    int rc = tm_secret_read_file(def->key_file, &file, err);
    if (rc) {
        (void)tm_error_wrap(err, "the signer's key");
        return rc;
    }
    (void)snprintf(what, sizeof what, "key file %s", def->key_file);
    rc = parse_key(tm_secret_text(file), tm_secret_len(file), what, out, err);
    tm_secret_put(file);
    return rc;
}

static bool is_header_name(const char *s)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";
    return *s && !s[strspn(s, allowed)];
}

/* Expand every template once with stand-ins, so that a mistake is found at start and not at the first
 * request. */
static int check_templates(const struct tm_auth *auth, struct tm_error *err)
{
    struct values v = {"1", "1", "GET", "/", NULL, NULL, 1};
    struct tm_buf buf = {0};
    int rc = auth->message ? expand(auth->message, &v, &buf, err) : TM_OK;
    v.signature = auth->key ? "s" : NULL;
    v.key_id = auth->key_id;
    for (size_t i = 0; !rc && i < auth->header_count; i++) {
        const struct header *h = &auth->headers[i];
        if (!is_header_name(h->name) || strpbrk(h->value, "\r\n"))
            rc = tm_error_set(err, TM_EINVAL,
                              "auth: header %zu: \"%s\" is no header name, or its value has a line break", i + 1,
                              h->name);
        else if (!h->literal)
            rc = expand(h->value, &v, &buf, err);
    }
    tm_buf_fini(&buf);
    return rc;
}

static void auth_free(struct tm_auth *auth)
{
    for (size_t i = 0; i < auth->header_count; i++) {
        free(auth->headers[i].name);
        explicit_bzero(auth->headers[i].value, strlen(auth->headers[i].value));
        free(auth->headers[i].value);
    }
    EVP_PKEY_free(auth->key);
    free(auth->key_id);
    free(auth->message);
    free(auth);
}

int tm_auth_create(const struct tm_auth_def *def, struct tm_auth **out, struct tm_error *err)
{
    if (def->key && def->key_file)
        return tm_error_set(err, TM_EINVAL, "auth: key and key_file are given: expected one of them");
    if ((def->key || def->key_file) && !def->message)
        return tm_error_set(err, TM_EINVAL, "auth: a key is given but no message template says what to sign");
    if (def->key_id && strpbrk(def->key_id, "\r\n"))
        return tm_error_set(err, TM_EINVAL, "auth: key_id has a line break");
    size_t count = def->header_count + def->secret_count;
    struct tm_auth *auth = calloc(1, sizeof *auth + count * sizeof auth->headers[0]);
    TM_FATAL_UNLESS(auth);
    auth->references = 1;
    auth->key_id = copy(def->key_id);
    auth->message = copy(def->message);
    auth->header_count = count;
    for (size_t i = 0; i < count; i++) {
        bool literal = i >= def->header_count;
        const struct tm_auth_header_def *h = literal ? &def->secrets[i - def->header_count] : &def->headers[i];
        auth->headers[i] = (struct header){copy(h->name), copy(h->value), literal};
    }
    int rc = def->key || def->key_file ? load_key(def, &auth->key, err) : TM_OK;
    if (!rc)
        rc = check_templates(auth, err);
    if (rc) {
        tm_auth_put(auth);
        return rc;
    }
    *out = auth;
    return TM_OK;
}

static struct tm_auth *countable(const struct tm_auth *auth)
{
    return (struct tm_auth *)(uintptr_t)auth;
}

struct tm_auth *tm_auth_take(const struct tm_auth *auth)
{
    if (auth)
        atomic_fetch_add_explicit(&countable(auth)->references, 1, memory_order_relaxed);
    return countable(auth);
}

void tm_auth_put(const struct tm_auth *auth)
{
    if (auth && atomic_fetch_sub_explicit(&countable(auth)->references, 1, memory_order_acq_rel) == 1)
        auth_free(countable(auth));
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool tm_auth_equal(const struct tm_auth *a, const struct tm_auth *b)
{
    if (a == b || !a || !b)
        return a == b;
    bool same = same_text(a->key_id, b->key_id) && same_text(a->message, b->message) &&
                a->header_count == b->header_count && !a->key == !b->key;
    for (size_t i = 0; same && i < a->header_count; i++)
        same = a->headers[i].literal == b->headers[i].literal && same_text(a->headers[i].name, b->headers[i].name) &&
               same_text(a->headers[i].value, b->headers[i].value);
    return same && (!a->key || EVP_PKEY_eq(a->key, b->key) == 1);
}

static bool set_pss(EVP_PKEY_CTX *ctx)
{
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) > 0 &&
           EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()) > 0;
}

static bool sign_bytes(EVP_PKEY *key, const void *bytes, size_t len, unsigned char *signature, size_t *signature_len)
{
    bool rsa = EVP_PKEY_base_id(key) == EVP_PKEY_RSA;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *ctx = NULL;
    bool ok = md && EVP_DigestSignInit(md, &ctx, rsa ? EVP_sha256() : NULL, NULL, key) > 0 && (!rsa || set_pss(ctx)) &&
              EVP_DigestSign(md, signature, signature_len, bytes, len) > 0;
    EVP_MD_CTX_free(md);
    return ok;
}

static int sign_base64(const struct tm_auth *auth, const struct tm_buf *message, char *base64, struct tm_error *err)
{
    unsigned char signature[SIGNATURE_BYTES_MAX];
    size_t len = sizeof signature;
    if (!sign_bytes(auth->key, message->data, message->len, signature, &len)) {
        unsigned long code = ERR_get_error();
        ERR_clear_error();
        const char *reason = ERR_reason_error_string(code);
        return tm_error_set(err, TM_EIO, "auth: signing failed: %s", reason ? reason : "unknown OpenSSL error");
    }
    EVP_EncodeBlock((unsigned char *)base64, signature, (int)len);
    return TM_OK;
}

int tm_auth_headers(const struct tm_auth *auth, const char *method, const char *path, int64_t wall_us,
                    int (*put)(void *arg, const char *name, const char *value), void *arg, struct tm_error *err)
{
    char ms[24], s[24], signature[BASE64_SIZE(SIGNATURE_BYTES_MAX)] = "";
    (void)snprintf(ms, sizeof ms, "%" PRId64, wall_us / TM_US_PER_MS);
    (void)snprintf(s, sizeof s, "%" PRId64, wall_us / TM_US_PER_S);
    struct values v = {ms, s, method, path, NULL, NULL, strcspn(path, "?")};
    struct tm_buf buf = {0};
    int rc = TM_OK;
    if (auth->key) {
        rc = expand(auth->message, &v, &buf, err);
        if (!rc)
            rc = sign_base64(auth, &buf, signature, err);
        v.signature = signature;
    }
    v.key_id = auth->key_id;
    for (size_t i = 0; !rc && i < auth->header_count; i++) {
        const struct header *h = &auth->headers[i];
        rc = h->literal ? TM_OK : expand(h->value, &v, &buf, err);
        const char *value = rc ? NULL : h->literal ? h->value : tm_buf_cstr(&buf);
        if (value && put(arg, h->name, value))
            rc = tm_error_set(err, TM_EFULL, "auth: no room for header %s", h->name);
        else if (!rc && !value)
            rc = tm_error_set(err, TM_ENOMEM, "auth: no memory for header %s", h->name);
    }
    tm_buf_fini(&buf);
    return rc;
}
