#include "archive/target_private.h"
#include "base/clock.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERIFY_BYTES ((size_t)8 << 20)
#define NAME_MAX_BYTES 512

struct tm_target {
    const struct tm_target_kind *kind;
    void *self;
    bool read_only;
    const atomic_bool *stop;
    char name[NAME_MAX_BYTES];
};

struct tm_put {
    struct tm_target *target;
    void *put; /* the kind's; NULL once it is gone */
    EVP_MD_CTX *hash;
    uint64_t size;
    bool failed;
    char key[TM_TARGET_KEY_MAX + 1];
};

/* ---- opening ---- */

static const struct tm_target_kind *kind_of(const char *url, struct tm_error *err)
{
    const struct tm_target_kind *const kinds[] = {&tm_target_dir, &tm_target_s3};
    for (size_t i = 0; url && i < sizeof kinds / sizeof kinds[0]; i++)
        if (!strncmp(url, kinds[i]->scheme, strlen(kinds[i]->scheme)))
            return kinds[i];
    (void)tm_error_set(err, TM_EINVAL,
                       "archive URL \"%.*s\": expected file:///directory or s3://bucket/prefix?region=...",
                       (int)(url ? strcspn(url, "?") : 0), url ? url : "");
    return NULL;
}

static int check_numbers(const struct tm_target_options *o, struct tm_error *err)
{
    if (o->part_bytes && (o->part_bytes < TM_TARGET_PART_BYTES_MIN || o->part_bytes > TM_TARGET_PART_BYTES_MAX))
        return tm_error_set(err, TM_EINVAL, "a part of %zu bytes: expected %zu to %zu", o->part_bytes,
                            TM_TARGET_PART_BYTES_MIN, TM_TARGET_PART_BYTES_MAX);
    if (o->timeout_us < 0 || o->timeout_us > 3600 * TM_US_PER_S || o->tries > 100 || o->pause_us < 0)
        return tm_error_set(err, TM_EINVAL,
                            "the archive's time limit and attempts: expected an hour and 100 attempts at most");
    return TM_OK;
}

int tm_target_check(const struct tm_target_options *options, struct tm_error *err)
{
    const struct tm_target_kind *kind = kind_of(options->url, err);
    int rc = kind ? check_numbers(options, err) : TM_EINVAL;
    return rc ? rc : kind->check(options, err);
}

int tm_target_open(const struct tm_target_options *options, struct tm_target **out, struct tm_error *err)
{
    int rc = tm_target_check(options, err);
    if (rc)
        return rc;
    struct tm_target *t = calloc(1, sizeof *t);
    if (!t)
        return tm_error_set(err, TM_ENOMEM, "no memory for an archive");
    t->kind = kind_of(options->url, err);
    t->read_only = options->read_only;
    t->stop = options->stop;
    rc = t->kind->open(options, &t->self, t->name, sizeof t->name, err);
    if (rc) {
        free(t);
        return rc;
    }
    *out = t;
    return TM_OK;
}

void tm_target_close(struct tm_target *target)
{
    if (!target)
        return;
    target->kind->close(target->self);
    free(target);
}

const char *tm_target_name(const struct tm_target *target)
{
    return target->name;
}

void tm_target_stats(const struct tm_target *target, struct tm_target_stats *out)
{
    *out = (struct tm_target_stats){0};
    target->kind->stats(target->self, out);
}

/* ---- keys ---- */

bool tm_target_is_key(const char *key)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!_-.=,+@~:";
    size_t len = strlen(key);
    if (!len || len > TM_TARGET_KEY_MAX)
        return false;
    for (const char *part = key;; part++) {
        size_t n = strspn(part, allowed);
        if (!n || n > 255 || *part == '.')
            return false;
        part += n;
        if (*part != '/')
            return !*part;
    }
}

int tm_target_check_key(const char *key, struct tm_error *err)
{
    if (tm_target_is_key(key))
        return TM_OK;
    return tm_error_set(
        err, TM_EINVAL,
        "object key \"%.200s\": expected at most %d bytes, parts of letters, digits and !_-.=,+@~: with "
        "single slashes between them, none beginning with a dot",
        key, TM_TARGET_KEY_MAX);
}

static int checked(const struct tm_target *t, const char *key, struct tm_error *err)
{
    int rc = tm_target_check_key(key, err);
    if (!rc && t->stop && atomic_load_explicit(t->stop, memory_order_relaxed))
        rc = tm_error_set(err, TM_ESTOPPED, "asked to stop");
    return rc;
}

/* ---- writing ---- */

static void free_put(struct tm_put *put)
{
    EVP_MD_CTX_free(put->hash);
    free(put);
}

int tm_put_begin(struct tm_target *target, const char *key, struct tm_put **out, struct tm_error *err)
{
    int rc = checked(target, key, err);
    if (!rc && target->read_only)
        rc = tm_error_set(err, TM_EDENIED, "%s was opened for reading", target->name);
    if (rc)
        return rc;
    struct tm_put *put = calloc(1, sizeof *put);
    if (put)
        put->hash = EVP_MD_CTX_new();
    if (!put || !put->hash || !EVP_DigestInit_ex(put->hash, EVP_sha256(), NULL))
        rc = tm_error_set(err, TM_ENOMEM, "no memory for an object");
    else
        rc = target->kind->put_begin(target->self, key, &put->put, err);
    if (rc) {
        if (put)
            free_put(put);
        return rc;
    }
    put->target = target;
    (void)snprintf(put->key, sizeof put->key, "%s", key);
    *out = put;
    return TM_OK;
}

int tm_put_append(struct tm_put *put, const void *bytes, size_t len, struct tm_error *err)
{
    if (put->failed)
        return tm_error_set(err, TM_ESTATE, "object %s failed before; it can only be aborted", put->key);
    if (!len)
        return TM_OK;
    int rc = checked(put->target, put->key, err);
    rc = rc ? rc : put->target->kind->put_append(put->put, bytes, len, err);
    if (!rc && !EVP_DigestUpdate(put->hash, bytes, len))
        rc = tm_error_set(err, TM_ENOMEM, "no memory for a hash");
    put->failed = rc;
    put->size += len;
    return rc;
}

void tm_put_abort(struct tm_put *put)
{
    if (!put)
        return;
    put->target->kind->put_abort(put->put);
    free_put(put);
}

int tm_put_finish(struct tm_put *put, struct tm_put_result *result, struct tm_error *err)
{
    struct tm_put_result r = {.size = put->size};
    int rc = checked(put->target, put->key, err);
    if (!rc && put->failed)
        rc = tm_error_set(err, TM_ESTATE, "object %s failed before; it was thrown away", put->key);
    if (!rc && !EVP_DigestFinal_ex(put->hash, r.sha256, NULL))
        rc = tm_error_set(err, TM_ENOMEM, "no memory for a hash");
    if (rc) {
        tm_put_abort(put);
        return rc;
    }
    rc = put->target->kind->put_finish(put->put, put->size, err);
    free_put(put);
    if (!rc && result)
        *result = r;
    return rc;
}

int tm_target_put(struct tm_target *target, const char *key, const void *bytes, size_t len,
                  struct tm_put_result *result, struct tm_error *err)
{
    struct tm_put *put;
    int rc = tm_put_begin(target, key, &put, err);
    if (rc)
        return rc;
    rc = tm_put_append(put, bytes, len, err);
    if (!rc)
        return tm_put_finish(put, result, err);
    tm_put_abort(put);
    return rc;
}

int tm_target_sweep(struct tm_target *target, int64_t age_us, size_t *removed, struct tm_error *err)
{
    size_t n = 0;
    if (target->read_only)
        return tm_error_set(err, TM_EDENIED, "%s was opened for reading", target->name);
    int rc = target->kind->sweep(target->self, tm_clock_wall_us() - age_us, &n, err);
    if (removed)
        *removed = n;
    return rc;
}

/* ---- reading ---- */

int tm_target_head(struct tm_target *target, const char *key, struct tm_object *out, struct tm_error *err)
{
    int rc = checked(target, key, err);
    return rc ? rc : target->kind->head(target->self, key, out, err);
}

int tm_target_read(struct tm_target *target, const char *key, size_t bytes_max, struct tm_buf *out,
                   struct tm_error *err)
{
    int rc = checked(target, key, err);
    return rc ? rc : target->kind->read(target->self, key, bytes_max, out, err);
}

int tm_target_read_at(struct tm_target *target, const char *key, uint64_t offset, void *to, size_t len,
                      struct tm_error *err)
{
    int rc = checked(target, key, err);
    return rc || !len ? rc : target->kind->read_at(target->self, key, offset, to, len, err);
}

static int hash_object(struct tm_target *t, const char *key, uint64_t size, EVP_MD_CTX *hash, struct tm_error *err)
{
    size_t step = size < VERIFY_BYTES ? (size_t)size : VERIFY_BYTES;
    uint8_t *bytes = malloc(step ? step : 1);
    int rc = bytes ? TM_OK : tm_error_set(err, TM_ENOMEM, "no memory to verify %s", key);
    for (uint64_t at = 0; !rc && at < size; at += step) {
        step = size - at < step ? (size_t)(size - at) : step;
        rc = tm_target_read_at(t, key, at, bytes, step, err);
        if (!rc && !EVP_DigestUpdate(hash, bytes, step))
            rc = tm_error_set(err, TM_ENOMEM, "no memory for a hash");
    }
    free(bytes);
    return rc;
}

static int compare(const struct tm_target *t, const char *key, const uint8_t *expected, const uint8_t *got,
                   struct tm_error *err)
{
    char a[2 * TM_SHA256_BYTES + 1], b[2 * TM_SHA256_BYTES + 1];
    if (!memcmp(expected, got, TM_SHA256_BYTES))
        return TM_OK;
    for (size_t i = 0; i < TM_SHA256_BYTES; i++) {
        (void)snprintf(a + 2 * i, 3, "%02x", expected[i]);
        (void)snprintf(b + 2 * i, 3, "%02x", got[i]);
    }
    return tm_error_set(err, TM_ECORRUPT, "%s/%s: expected SHA-256 %s, got %s", t->name, key, a, b);
}

int tm_target_verify(struct tm_target *target, const char *key, const struct tm_put_result *expected,
                     struct tm_error *err)
{
    struct tm_object object;
    uint8_t got[TM_SHA256_BYTES];
    int rc = tm_target_head(target, key, &object, err);
    if (rc)
        return rc;
    if (object.size != expected->size)
        return tm_error_set(err, TM_ECORRUPT, "%s/%s: expected %llu bytes, got %llu", target->name, key,
                            (unsigned long long)expected->size, (unsigned long long)object.size);
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    if (!hash || !EVP_DigestInit_ex(hash, EVP_sha256(), NULL))
        rc = tm_error_set(err, TM_ENOMEM, "no memory for a hash");
    rc = rc ? rc : hash_object(target, key, object.size, hash, err);
    if (!rc && !EVP_DigestFinal_ex(hash, got, NULL))
        rc = tm_error_set(err, TM_ENOMEM, "no memory for a hash");
    EVP_MD_CTX_free(hash);
    return rc ? rc : compare(target, key, expected->sha256, got, err);
}

int tm_target_list(struct tm_target *target, const char *prefix, const char *after, tm_target_each *each, void *arg,
                   struct tm_error *err)
{
    if (strlen(prefix) > TM_TARGET_KEY_MAX || (after && strlen(after) > TM_TARGET_KEY_MAX))
        return tm_error_set(err, TM_EINVAL, "to list an archive: expected a prefix of at most %d bytes",
                            TM_TARGET_KEY_MAX);
    return target->kind->list(target->self, prefix, after && *after ? after : NULL, each, arg, err);
}
