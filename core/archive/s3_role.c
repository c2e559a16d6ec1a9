#include "archive/s3_role.h"
#include "archive/s3_xml.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/hash.h"
#include "record/find.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUIET_US (3 * TM_US_PER_S)
#define TRIES 3
#define PAUSE_US (200 * TM_US_PER_MS)
#define ANSWER_MAX ((size_t)16 << 10)
#define HEADER_MAX 4200 /* IMDS tokens have 56 bytes, those of EKS are JSON web tokens */

static int no_memory(struct tm_error *err)
{
    return tm_error_set(err, TM_ENOMEM, "no memory for the keys of a role");
}

/* Answers hold keys: overwritten when they were read. */
static void forget(struct tm_buf *b)
{
    if (b->data)
        explicit_bzero(b->data, b->cap);
    tm_buf_fini(b);
}

/* One question with its attempts. `body` must be big enough not to be moved: a copy left behind would not be erased. */
static int ask(struct tm_s3_transport *t, const char *method, const char *url, const char *header, struct tm_buf *body,
               struct tm_error *err)
{
    const char *const headers[] = {header, NULL};
    struct tm_s3_request q = {.method = method, .url = url, .headers = headers, .link_local = true};
    struct tm_s3_answer answer = {0};
    q.quiet_us = QUIET_US;
    q.whole_us = 2 * QUIET_US;
    q.to = body;
    q.to_max = ANSWER_MAX;
    int rc = tm_buf_reserve(body, ANSWER_MAX + 1) ? no_memory(err) : TM_OK;
    for (unsigned tries = 0; !rc; tries++) {
        rc = tm_s3_transport_do(t, &q, &answer, err);
        bool again = rc == TM_ERETRY || rc == TM_ETIMEOUT || (!rc && (answer.status >= 500 || answer.status == 429));
        if (!again || tries + 1 == TRIES)
            break;
        rc = tm_s3_transport_pause(t, tm_backoff_us(tries, PAUSE_US, TM_US_PER_S, tm_random_unit()), err);
    }
    if (rc == TM_ETIMEOUT)
        err->code = rc = TM_ERETRY;
    if (!rc && answer.status != 200)
        rc = tm_error_set(err, answer.status >= 500 ? TM_ERETRY : TM_EDENIED, "expected status 200, got %d",
                          answer.status);
    tm_buf_fini(&answer.error);
    return rc ? tm_error_wrap(err, "%.200s", url) : TM_OK;
}

/* ---- what comes ---- */

static int take_string(struct tm_span document, const char *name, struct tm_buf *out, struct tm_error *err)
{
    struct tm_value value;
    int rc = tm_json_find(document, name, &value, err);
    if (!rc && value.kind != TM_VALUE_STRING)
        rc = tm_error_set(err, TM_EPARSE, "expected a string");
    if (!rc && (rc = tm_value_unescape(value, out)))
        rc = tm_error_set(err, rc, "expected text");
    return rc;
}

static int take_secret(struct tm_span document, const char *name, struct tm_secret **out, struct tm_error *err)
{
    struct tm_buf text = {0};
    int rc = tm_buf_reserve(&text, document.len + 1) ? no_memory(err) : TM_OK;
    rc = rc ? rc : take_string(document, name, &text, err);
    rc = rc ? rc : tm_secret_create(text.data, text.len, name, out, err);
    forget(&text);
    return rc ? tm_error_wrap(err, "%s of the role's keys", name) : TM_OK;
}

static int parse_keys(const struct tm_buf *body, struct tm_s3_key_set *out, struct tm_error *err)
{
    struct tm_span document = {.at = (const char *)body->data, .len = body->len};
    struct tm_buf ends = {0};
    int rc = take_secret(document, "AccessKeyId", &out->id, err);
    rc = rc ? rc : take_secret(document, "SecretAccessKey", &out->secret, err);
    rc = rc ? rc : take_secret(document, "Token", &out->token, err);
    if (!rc && !(rc = take_string(document, "Expiration", &ends, err))) {
        out->ends_us = tm_buf_cstr(&ends) ? tm_s3_xml_time_us((const char *)ends.data) : 0;
        if (!out->ends_us)
            rc = tm_error_set(err, TM_EPARSE, "Expiration of the role's keys: expected a time as 2026-05-04T03:02:01Z");
    }
    tm_buf_fini(&ends);
    return rc;
}

/* ---- EC2 ---- */

static const char *instance_endpoint(void)
{
    const char *set = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    return set && *set ? set : "http://169.254.169.254";
}

static int make_url(char *to, size_t size, const char *path, const char *name, struct tm_error *err)
{
    const char *endpoint = instance_endpoint();
    size_t len = strlen(endpoint);
    while (len && endpoint[len - 1] == '/')
        len--;
    int n = snprintf(to, size, "%.*s%s%s", (int)len, endpoint, path, name);
    return n > 0 && (size_t)n < size ? TM_OK : tm_error_set(err, TM_EINVAL, "the metadata service's URL is too long");
}

/* One line of printable ASCII without spaces, as tokens and names of roles are. */
static int take_line(struct tm_buf *body, const char *what, struct tm_error *err)
{
    const char *text = tm_buf_cstr(body);
    size_t len = 0;
    while (text && text[len] > ' ' && text[len] < 0x7f)
        len++;
    if (!text || !len || len > HEADER_MAX / 2 || (text[len] && text[len] != '\n' && text[len] != '\r'))
        return tm_error_set(err, TM_EPARSE, "the metadata service: expected %s", what);
    body->data[len] = '\0';
    return TM_OK;
}

static int ask_instance(struct tm_s3_transport *t, const char *token_header, struct tm_buf *body, struct tm_error *err)
{
    static const char path[] = "/latest/meta-data/iam/security-credentials/";
    char url[1024], role[512];
    int rc = make_url(url, sizeof url, path, "", err);
    rc = rc ? rc : ask(t, "GET", url, token_header, body, err);
    rc = rc ? rc : take_line(body, "the name of the instance's role", err);
    if (rc)
        return rc;
    (void)snprintf(role, sizeof role, "%s", (const char *)body->data);
    tm_buf_clear(body);
    rc = make_url(url, sizeof url, path, role, err);
    return rc ? rc : ask(t, "GET", url, token_header, body, err);
}

int tm_s3_role_instance(struct tm_s3_transport *t, struct tm_s3_key_set *out, struct tm_error *err)
{
    struct tm_buf body = {0};
    char url[1024], header[HEADER_MAX] = "";
    int rc = make_url(url, sizeof url, "/latest/api/token", "", err);
    rc = rc ? rc : ask(t, "PUT", url, "x-aws-ec2-metadata-token-ttl-seconds: 300", &body, err);
    rc = rc ? rc : take_line(&body, "a token", err);
    if (!rc) {
        (void)snprintf(header, sizeof header, "x-aws-ec2-metadata-token: %s", (const char *)body.data);
        tm_buf_clear(&body);
        rc = ask_instance(t, header, &body, err);
    }
    rc = rc ? rc : parse_keys(&body, out, err);
    explicit_bzero(header, sizeof header);
    forget(&body);
    return rc ? tm_error_wrap(err, "the role of this instance") : TM_OK;
}

/* ---- ECS, EKS ---- */

static int container_token(struct tm_secret **out, struct tm_error *err)
{
    const char *file = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *token = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    if (file && *file) /* read each time: EKS renews it */
        return tm_secret_read_file(file, out, err);
    return token && *token ? tm_secret_read_env("AWS_CONTAINER_AUTHORIZATION_TOKEN", out, err) : TM_OK;
}

static int container_url(char *to, size_t size, struct tm_error *err)
{
    const char *relative = getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    int n = -1;
    if (relative && relative[0] == '/')
        n = snprintf(to, size, "http://169.254.170.2%s", relative);
    else if (full && *full)
        n = snprintf(to, size, "%s", full);
    return n > 0 && (size_t)n < size ? TM_OK
                                     : tm_error_set(err, TM_EDENIED,
                                                    "expected AWS_CONTAINER_CREDENTIALS_RELATIVE_URI (from / on) or "
                                                    "AWS_CONTAINER_CREDENTIALS_FULL_URI in the environment");
}

int tm_s3_role_container(struct tm_s3_transport *t, struct tm_s3_key_set *out, struct tm_error *err)
{
    struct tm_buf body = {0};
    struct tm_secret *token = NULL;
    char url[1024], header[HEADER_MAX];
    int rc = container_url(url, sizeof url, err);
    rc = rc ? rc : container_token(&token, err);
    if (!rc && token) {
        int n = snprintf(header, sizeof header, "authorization: %s", tm_secret_text(token));
        if (n < 0 || (size_t)n >= sizeof header || strpbrk(header, "\r\n"))
            rc = tm_error_set(err, TM_EINVAL, "the token for it: expected one line of at most %d bytes",
                              HEADER_MAX - 20);
    }
    rc = rc ? rc : ask(t, "GET", url, token ? header : NULL, &body, err);
    rc = rc ? rc : parse_keys(&body, out, err);
    explicit_bzero(header, sizeof header);
    tm_secret_put(token);
    forget(&body);
    return rc ? tm_error_wrap(err, "the role of this container") : TM_OK;
}
