#include "archive/s3_client.h"
#include "archive/s3_xml.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUIET_US_DEFAULT (30 * TM_US_PER_S)
#define TRIES_DEFAULT 8
#define PAUSE_US_DEFAULT (500 * TM_US_PER_MS)
#define PAUSE_US_MAX (20 * TM_US_PER_S)
#define RETRY_AFTER_US_MAX (60 * TM_US_PER_S)
#define SLOW_US (600 * TM_US_PER_S) /* S3 sends spaces meanwhile, so silence ends it earlier */
#define BYTES_PER_S_MIN 65536       /* slower than that is no connection to archive over */
#define HEADERS_MAX 8
#define TOKEN_HEADER_MAX 4200
#define MESSAGE_MAX 300

int tm_s3_client_init(struct tm_s3_client *c, const struct tm_target_options *o, struct tm_error *err)
{
    *c = (struct tm_s3_client){
        .quiet_us = o->timeout_us ? o->timeout_us : QUIET_US_DEFAULT,
        .pause_us = o->pause_us ? o->pause_us : PAUSE_US_DEFAULT,
        .tries = o->tries ? o->tries : TRIES_DEFAULT,
    };
    int rc = tm_s3_place_parse(o->url, &c->place, err);
    rc = rc ? rc : tm_s3_transport_create(c->place.ca_file[0] ? c->place.ca_file : NULL, o->stop, &c->transport, err);
    rc = rc ? rc : tm_s3_credentials_open(o->credentials, c->transport, &c->credentials, err);
    if (rc)
        tm_s3_client_fini(c);
    return rc;
}

void tm_s3_client_fini(struct tm_s3_client *c)
{
    tm_s3_credentials_close(c->credentials);
    tm_s3_transport_destroy(c->transport);
    tm_buf_fini(&c->url);
    c->credentials = NULL;
    c->transport = NULL;
}

/* ---- one attempt ---- */

static int hash_header(const struct tm_s3_call *call, char *to, size_t size)
{
    unsigned char hash[TM_SHA256_BYTES];
    int n = snprintf(to, size, "x-amz-content-sha256: ");
    if (!EVP_Digest(call->body_len ? call->body : "", call->body_len, hash, NULL, EVP_sha256(), NULL))
        return TM_ENOMEM;
    for (size_t i = 0; i < sizeof hash; i++)
        n += snprintf(to + n, size - (size_t)n, "%02x", hash[i]);
    return TM_OK;
}

static int64_t time_of(const struct tm_s3_client *c, const struct tm_s3_call *call)
{
    uint64_t bytes = call->body_len + (call->to ? call->to_max : 0);
    return call->time_us ? call->time_us
           : call->slow  ? SLOW_US
                         : 2 * c->quiet_us + (int64_t)(bytes * 1000000 / BYTES_PER_S_MIN);
}

static int attempt(struct tm_s3_client *c, const struct tm_s3_call *call, const char *hash, struct tm_s3_reply *reply,
                   struct tm_error *err)
{
    struct tm_s3_keys keys;
    const char *headers[HEADERS_MAX] = {hash};
    char token[TOKEN_HEADER_MAX];
    size_t n = 1;
    int rc = tm_s3_credentials_get(c->credentials, tm_clock_wall_us(), &keys, err);
    if (rc)
        return tm_error_wrap(err, "credentials");
    for (size_t i = 0; i < sizeof call->headers / sizeof call->headers[0] && call->headers[i]; i++)
        headers[n++] = call->headers[i];
    if (keys.token) {
        int len = snprintf(token, sizeof token, "x-amz-security-token: %s", keys.token);
        if (len < 0 || (size_t)len >= sizeof token)
            return tm_error_set(err, TM_EINVAL, "the session token has more than %d bytes", TOKEN_HEADER_MAX - 23);
        headers[n++] = token;
    }
    struct tm_s3_signer signer = {.scope = c->place.scope, .id = keys.id, .secret = keys.secret};
    struct tm_s3_request q = {
        .method = call->method,
        .url = (const char *)c->url.data,
        .headers = headers,
        .range = call->range,
        .body = call->body,
        .body_len = call->body_len,
        .signer = &signer,
        .last = call->last,
        .quiet_us = call->slow ? 4 * c->quiet_us : c->quiet_us,
        .whole_us = time_of(c, call),
        .to = call->to,
        .to_max = call->to_max,
    };
    c->requests++;
    rc = tm_s3_transport_do(c->transport, &q, &reply->answer, err);
    explicit_bzero(token, sizeof token);
    return rc;
}

/* ---- what an answer means ---- */

static bool is_one_of(const char *code, const char *const *codes)
{
    for (; *codes; codes++)
        if (!strcmp(code, *codes))
            return true;
    return false;
}

/* What a server says goes into errors: printable. */
static void make_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = ' ';
}

/* Reads what an error says: its code, and `message` for people. */
static void read_error(const struct tm_s3_call *call, struct tm_s3_reply *reply, char *message, size_t size)
{
    struct tm_s3_answer *a = &reply->answer;
    bool in_200 = call->slow && a->status == 200 && call->to;
    const struct tm_buf *body = in_200 ? call->to : &a->error;
    struct tm_span text = {.at = (const char *)body->data, .len = body->len}, error = text, inside;
    message[0] = '\0';
    reply->code[0] = '\0';
    if (!body->len || !tm_s3_xml_is(text) || !tm_s3_xml_next(&error, "Error", &inside))
        return;
    (void)tm_s3_xml_text(inside, "Code", reply->code, sizeof reply->code);
    (void)tm_s3_xml_text(inside, "Message", message, size);
    make_one_line(reply->code);
    make_one_line(message);
    if (in_200) /* as if it had been said in time; InternalError is what S3 sends so */
        a->status = 500;
}

static bool may_help(const struct tm_s3_reply *reply)
{
    static const char *const codes[] = {"SlowDown",         "RequestTimeout",
                                        "OperationAborted", "ConditionalRequestConflict",
                                        "BadDigest",        "XAmzContentSHA256Mismatch",
                                        "IncompleteBody",   NULL};
    int status = reply->answer.status;
    return (status >= 500 && status != 501) || status == 429 || status == 408 || is_one_of(reply->code, codes);
}

static bool keys_refused(const struct tm_s3_reply *reply)
{
    static const char *const codes[] = {"ExpiredToken",       "InvalidToken",          "TokenRefreshRequired",
                                        "InvalidAccessKeyId", "SignatureDoesNotMatch", NULL};
    int status = reply->answer.status;
    bool silent = !reply->code[0] && (status == 400 || status == 401 || status == 403); /* HEAD has no body */
    return silent || is_one_of(reply->code, codes);
}

static int code_of(const struct tm_s3_reply *reply)
{
    int status = reply->answer.status;
    if (may_help(reply))
        return TM_ERETRY;
    switch (status) {
    case 401:
    case 403:
        return TM_EDENIED;
    case 404:
        return TM_ENOENT;
    case 412:
        return TM_ECONFLICT;
    case 416:
        return TM_ECORRUPT;
    default:
        return TM_EINVAL;
    }
}

static const char *hint_of(const struct tm_s3_call *call, const struct tm_s3_reply *reply)
{
    int status = reply->answer.status;
    if (!strcmp(reply->code, "RequestTimeTooSkewed"))
        return "; this machine's clock is wrong, or the server's";
    if (!strcmp(reply->code, "NoSuchBucket"))
        return "; expected the bucket to be there already";
    if (status == 403 && !strcmp(call->method, "HEAD"))
        return "; wrong keys, or they lack s3:GetObject, or s3:ListBucket, without which S3 hides that nothing is there";
    return "";
}

static int refused(const struct tm_s3_client *c, const struct tm_s3_call *call, const struct tm_s3_reply *reply,
                   const char *message, struct tm_error *err)
{
    const struct tm_s3_answer *a = &reply->answer;
    bool elsewhere = a->status == 301 || a->status == 307 || (a->region[0] && strcmp(a->region, c->place.region) != 0);
    int code = tm_error_set(err, code_of(reply), "status %d%s%s%s%s%s", a->status, reply->code[0] ? " " : "",
                            reply->code, message[0] ? ": " : "", message, hint_of(call, reply));
    return elsewhere ? tm_error_wrap(err, "the bucket is not in %s, expected region=%s in the archive's URL",
                                     c->place.region, a->region[0] ? a->region : "that of the bucket")
                     : code;
}

static bool is_fault_of_the_way(int rc)
{
    return rc == TM_ERETRY || rc == TM_ETIMEOUT;
}

/* After one attempt: TM_OK, the error; *again if it is worth another one. */
static int judge(const struct tm_s3_client *c, const struct tm_s3_call *call, int rc, struct tm_s3_reply *reply,
                 bool *again, struct tm_error *err)
{
    char message[MESSAGE_MAX];
    *again = is_fault_of_the_way(rc);
    if (rc)
        return rc;
    read_error(call, reply, message, sizeof message);
    if (reply->answer.status >= 200 && reply->answer.status < 300)
        return TM_OK;
    *again = may_help(reply);
    return refused(c, call, reply, message, err);
}

/* ---- all attempts ---- */

static int pause_before(struct tm_s3_client *c, unsigned tries, const struct tm_s3_reply *reply, struct tm_error *err)
{
    int64_t pause = tm_backoff_us(tries, c->pause_us, PAUSE_US_MAX, tm_random_unit());
    int64_t asked = reply->answer.retry_after_us;
    TM_LOG_LIMITED(TM_LOG_WARN, "archive", "request of S3 is tried again", TM_F_STR("target", c->place.name),
                   TM_F_U64("tries", tries + 1), TM_F_ERR(err));
    if (asked > RETRY_AFTER_US_MAX)
        asked = RETRY_AFTER_US_MAX;
    c->retries++;
    return tm_s3_transport_pause(c->transport, pause > asked ? pause : asked, err);
}

static int try_all(struct tm_s3_client *c, const struct tm_s3_call *call, const char *hash, struct tm_s3_reply *reply,
                   struct tm_error *err)
{
    size_t before = call->to ? call->to->len : 0;
    unsigned most = call->tries ? call->tries : c->tries, tries = 0;
    bool again, renewed = false;
    int rc;
    for (;; tries++) {
        rc = judge(c, call, attempt(c, call, hash, reply, err), reply, &again, err);
        if (rc && !renewed && reply->answer.status && keys_refused(reply)) {
            renewed = true;
            again = tm_s3_credentials_renew(c->credentials);
        }
        if (!rc || !again)
            return rc;
        if (call->to)
            call->to->len = before;
        if (tries + 1 >= most)
            break;
        if ((rc = pause_before(c, tries, reply, err)))
            return rc;
    }
    err->code = TM_ERETRY;
    return tm_error_wrap(err, "given up after %u attempts", tries + 1);
}

static size_t count_of(const struct tm_s3_call *call)
{
    size_t n = 0;
    while (n < sizeof call->params / sizeof call->params[0] && call->params[n].name)
        n++;
    return n;
}

int tm_s3_client_call(struct tm_s3_client *c, const struct tm_s3_call *call, struct tm_s3_reply *reply,
                      struct tm_error *err)
{
    char hash[96];
    struct tm_error own;
    err = err ? err : &own;
    *reply = (struct tm_s3_reply){0};
    int rc = tm_s3_place_url(&c->place, call->key, call->params, count_of(call), &c->url);
    rc = rc ? rc : hash_header(call, hash, sizeof hash);
    if (rc)
        return tm_error_set(err, rc, "no memory for a request of S3");
    rc = try_all(c, call, hash, reply, err);
    tm_buf_fini(&reply->answer.error);
    return rc ? tm_error_wrap(err, "%s %s%s", call->method, c->place.name, call->key ? call->key : "") : TM_OK;
}
