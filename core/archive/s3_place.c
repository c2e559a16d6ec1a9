#include "archive/s3_place.h"
#include "net/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARAMS_MAX 8

/* What the query of the URL says. */
struct wish {
    char region[64], endpoint[TM_URL_HOST_MAX + 32], path_style[8], ca_file[PATH_MAX];
};

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef0123456789ABCDEF", *at = c ? strchr(digits, c) : NULL;
    return at ? (int)((at - digits) % 16) : -1;
}

/* False: no room, or a '%' that is no escape, or a NUL. */
static bool decode(const char *from, size_t len, char *to, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = from[i];
        if (c == '%') {
            int high = i + 2 < len ? hex_digit(from[i + 1]) : -1, low = i + 2 < len ? hex_digit(from[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (!c || n + 1 >= size)
            return false;
        to[n++] = c;
    }
    to[n] = '\0';
    return true;
}

static int take_pair(const char *pair, size_t len, struct wish *w, struct tm_error *err)
{
    const struct {
        const char *name;
        char *to;
        size_t size;
    } known[] = {{"region", w->region, sizeof w->region},
                 {"endpoint", w->endpoint, sizeof w->endpoint},
                 {"path_style", w->path_style, sizeof w->path_style},
                 {"ca_file", w->ca_file, sizeof w->ca_file}};
    const char *equals = memchr(pair, '=', len);
    size_t name_len = equals ? (size_t)(equals - pair) : len;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strlen(known[i].name) != name_len || strncmp(known[i].name, pair, name_len) != 0)
            continue;
        if (!equals || name_len + 1 == len || known[i].to[0] ||
            !decode(equals + 1, len - name_len - 1, known[i].to, known[i].size))
            return tm_error_set(err, TM_EINVAL, "%s= in the archive's URL: expected one value of at most %zu bytes",
                                known[i].name, known[i].size - 1);
        return TM_OK;
    }
    return tm_error_set(
        err, TM_EINVAL,
        "\"%.*s\" in the archive's URL: expected region=, endpoint=, path_style= or ca_file= (credentials "
        "are a setting of their own, never a part of the URL)",
        (int)(name_len < 40 ? name_len : 40), pair);
}

static int take_query(const char *query, struct wish *w, struct tm_error *err)
{
    int rc = TM_OK;
    for (const char *at = query; !rc && *at;) {
        size_t len = strcspn(at, "&");
        rc = take_pair(at, len, w, err);
        at += len + (at[len] == '&');
    }
    if (!rc && w->path_style[0] && strcmp(w->path_style, "true") != 0 && strcmp(w->path_style, "false") != 0)
        return tm_error_set(err, TM_EINVAL, "path_style=%s in the archive's URL: expected true or false",
                            w->path_style);
    if (!rc && w->ca_file[0] && w->ca_file[0] != '/')
        return tm_error_set(err, TM_EINVAL, "ca_file=%.100s in the archive's URL: expected a path from / on",
                            w->ca_file);
    return rc;
}

static int take_bucket(const char *url, char *bucket, size_t size, struct tm_error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
    size_t len = strcspn(url, "/?");
    bool ok = len >= 3 && len < size && strspn(url, allowed) == len && url[0] != '-' && url[0] != '.' &&
              url[len - 1] != '-' && url[len - 1] != '.' && !memmem(url, len, "..", 2);
    if (!ok)
        return tm_error_set(err, TM_EINVAL,
                            "bucket \"%.*s\" in the archive's URL: expected 3 to 63 small letters, digits, dots and "
                            "hyphens, as in s3://bucket/prefix?region=eu-central-1",
                            (int)(len < 80 ? len : 80), url);
    memcpy(bucket, url, len);
    bucket[len] = '\0';
    return TM_OK;
}

static int take_prefix(const char *at, struct tm_s3_place *p, struct tm_error *err)
{
    size_t len = strcspn(at, "?");
    while (len && at[len - 1] == '/')
        len--;
    if (!len)
        return TM_OK;
    if (len > TM_TARGET_PREFIX_MAX)
        return tm_error_set(err, TM_EINVAL, "the prefix in the archive's URL has %zu bytes: expected at most %d", len,
                            TM_TARGET_PREFIX_MAX);
    (void)snprintf(p->prefix, sizeof p->prefix, "%.*s", (int)len, at);
    int rc = tm_target_check_key(p->prefix, err);
    if (rc)
        return tm_error_wrap(err, "the prefix in the archive's URL");
    p->prefix[len] = '/';
    p->prefix[len + 1] = '\0';
    return TM_OK;
}

static int check_region(struct wish *w, struct tm_error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    if (!w->region[0] && w->endpoint[0])
        memcpy(w->region, "us-east-1", sizeof "us-east-1");
    if (!w->region[0])
        return tm_error_set(err, TM_EINVAL,
                            "the archive's URL has no region: expected s3://bucket/prefix?region=eu-central-1, or "
                            "endpoint= of a server that is not Amazon's");
    if (w->region[strspn(w->region, allowed)])
        return tm_error_set(err, TM_EINVAL, "region=%s in the archive's URL: expected letters, digits and hyphens",
                            w->region);
    return TM_OK;
}

static int take_endpoint(struct tm_s3_place *p, const struct wish *w, const char *bucket, struct tm_error *err)
{
    struct tm_url url = {.tls = true, .authority = ""};
    bool in_path = w->path_style[0] ? w->path_style[0] == 't' : w->endpoint[0] || strchr(bucket, '.');
    if (!w->endpoint[0]) /* AWS in China is a partition of its own */
        (void)snprintf(url.authority, sizeof url.authority, "s3.%s.amazonaws.com%s", w->region,
                       strncmp(w->region, "cn-", 3) == 0 ? ".cn" : "");
    else if (tm_url_parse(w->endpoint, "http", "https", &url, err))
        return tm_error_wrap(err, "endpoint= in the archive's URL");
    else if (strcmp(url.path, "/") != 0)
        return tm_error_set(err, TM_EINVAL, "endpoint=%.200s in the archive's URL: expected no path", w->endpoint);
    if (!in_path && url.address.ss_family != AF_UNSPEC)
        return tm_error_set(err, TM_EINVAL,
                            "path_style=false in the archive's URL: expected an endpoint with a name, not an address");
    (void)snprintf(p->base, sizeof p->base, "%s://%s%s%s%s%s", url.tls ? "https" : "http", in_path ? "" : bucket,
                   in_path ? "" : ".", url.authority, in_path ? "/" : "", in_path ? bucket : "");
    return TM_OK;
}

int tm_s3_place_parse(const char *url, struct tm_s3_place *out, struct tm_error *err)
{
    struct tm_s3_place p = {0};
    struct wish w = {0};
    char bucket[64];
    if (strncmp(url, "s3://", 5) != 0)
        return tm_error_set(err, TM_EINVAL, "archive URL \"%.200s\": expected s3://bucket", url);
    url += 5;
    int rc = take_bucket(url, bucket, sizeof bucket, err);
    const char *path = url + strcspn(url, "/?"), *query = url + strcspn(url, "?");
    if (!rc)
        rc = take_prefix(*path == '/' ? path + 1 : path, &p, err);
    if (!rc)
        rc = take_query(*query ? query + 1 : query, &w, err);
    if (!rc)
        rc = check_region(&w, err);
    if (!rc)
        rc = take_endpoint(&p, &w, bucket, err);
    if (rc)
        return rc;
    (void)snprintf(p.name, sizeof p.name, "s3://%s/%s", bucket, p.prefix);
    (void)snprintf(p.scope, sizeof p.scope, "aws:amz:%s:s3", w.region);
    memcpy(p.region, w.region, sizeof p.region);
    memcpy(p.ca_file, w.ca_file, sizeof p.ca_file);
    *out = p;
    return TM_OK;
}

/* ---- URLs of requests ---- */

static int put_encoded(struct tm_buf *out, const char *text, bool slashes)
{
    static const char unreserved[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    int rc = TM_OK;
    for (const char *c = text; !rc && *c; c++)
        if (strchr(unreserved, *c) || (slashes && *c == '/'))
            rc = tm_buf_append(out, c, 1);
        else
            rc = tm_buf_printf(out, "%%%02X", (unsigned char)*c);
    return rc;
}

/* By the bytes of the name; no name comes twice. Names are letters and hyphens, so encoded they sort as they are. */
static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tm_s3_param *)a)->name, ((const struct tm_s3_param *)b)->name);
}

static int put_query(struct tm_buf *out, const struct tm_s3_param *params, size_t count)
{
    struct tm_s3_param sorted[PARAMS_MAX];
    size_t n = 0;
    int rc = TM_OK;
    TM_FATAL_UNLESS(count <= PARAMS_MAX);
    for (size_t i = 0; i < count; i++)
        if (params[i].value)
            sorted[n++] = params[i];
    qsort(sorted, n, sizeof sorted[0], by_name);
    for (size_t i = 0; !rc && i < n; i++) {
        rc = tm_buf_append(out, i ? "&" : "?", 1);
        rc = rc ? rc : put_encoded(out, sorted[i].name, false);
        rc = rc ? rc : tm_buf_append(out, "=", 1);
        rc = rc ? rc : put_encoded(out, sorted[i].value, false);
    }
    return rc;
}

int tm_s3_place_url(const struct tm_s3_place *place, const char *key, const struct tm_s3_param *params, size_t count,
                    struct tm_buf *out)
{
    tm_buf_clear(out);
    int rc = tm_buf_printf(out, "%s/", place->base);
    if (!rc && key)
        rc = put_encoded(out, place->prefix, true);
    if (!rc && key)
        rc = put_encoded(out, key, true);
    rc = rc ? rc : put_query(out, params, count);
    return rc ? rc : tm_buf_cstr(out) ? TM_OK : TM_ENOMEM;
}
