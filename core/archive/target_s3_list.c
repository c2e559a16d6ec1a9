/* Walks over an S3 target: ListObjectsV2, and ListMultipartUploads for what unfinished puts left. */
#include "archive/s3_xml.h"
#include "archive/target_private.h"
#include "archive/target_s3.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FULL_KEY_MAX 1100 /* with the prefix; S3's own bound is 1024 */
#define ENCODED_KEY_MAX 3400
#define TOKEN_MAX 2100

static int parse_error(const struct tm_s3 *s, const char *what, struct tm_error *err)
{
    return tm_error_set(err, TM_EPARSE, "listing %s: expected %s in the server's answer", s->client.place.name, what);
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef0123456789ABCDEF", *at = c ? strchr(digits, c) : NULL;
    return at ? (int)((at - digits) % 16) : -1;
}

/* encoding-type=url, in place. */
static bool decode(char *text)
{
    char *to = text;
    for (const char *c = text; *c; c++) {
        if (*c != '%') {
            *to++ = *c == '+' ? ' ' : *c;
            continue;
        }
        int high = hex_digit(c[1]), low = high < 0 ? -1 : hex_digit(c[2]);
        if (high < 0 || low < 0 || !(high | low))
            return false;
        *to++ = (char)(high * 16 + low);
        c += 2;
    }
    *to = '\0';
    return true;
}

/* Whether keys of this page are in the encoding that was asked for; servers that do not know it send them as they are. */
static bool is_encoded(struct tm_span page)
{
    char text[8];
    return tm_s3_xml_text(page, "EncodingType", text, sizeof text) && !strcmp(text, "url");
}

/* The key of an element as ours, without the target's prefix; *key begins in `room`. */
static int take_key(const struct tm_s3 *s, struct tm_span element, bool encoded, char room[ENCODED_KEY_MAX],
                    const char **key, struct tm_error *err)
{
    const char *prefix = s->client.place.prefix;
    if (!tm_s3_xml_text(element, "Key", room, ENCODED_KEY_MAX) || (encoded && !decode(room)))
        return parse_error(s, "a <Key>, if need be in URL encoding", err);
    if (strncmp(room, prefix, strlen(prefix)) != 0)
        return parse_error(s, "keys with the prefix that was asked for", err);
    *key = room + strlen(prefix);
    return TM_OK;
}

static bool says_more(struct tm_span page)
{
    char text[8];
    return tm_s3_xml_text(page, "IsTruncated", text, sizeof text) && !strcmp(text, "true");
}

/* One page of either listing into *body. */
static int get_page(struct tm_s3 *s, const struct tm_s3_param *params, size_t count, struct tm_buf *body,
                    struct tm_span *page, struct tm_error *err)
{
    struct tm_s3_reply reply;
    struct tm_s3_call call = {.method = "GET", .to = body, .to_max = TM_S3_XML_MAX};
    memcpy(call.params, params, count * sizeof *params);
    tm_buf_clear(body);
    int rc = tm_s3_client_call(&s->client, &call, &reply, err);
    if (rc)
        return rc;
    *page = (struct tm_span){.at = (const char *)body->data, .len = body->len};
    return tm_s3_xml_is(*page) ? TM_OK : parse_error(s, "XML", err);
}

/* ---- objects ---- */

struct listing {
    struct tm_s3 *s;
    tm_target_each *each;
    void *arg;
    char last[TM_TARGET_KEY_MAX + 1];
};

static int on_contents(struct listing *l, struct tm_span element, bool encoded, struct tm_error *err)
{
    char room[ENCODED_KEY_MAX], text[80];
    const char *key;
    struct tm_object object = {0};
    int rc = take_key(l->s, element, encoded, room, &key, err);
    if (rc || !tm_target_is_key(key))
        return rc;
    if (strcmp(key, l->last) <= 0)
        return parse_error(l->s, "keys in the order of their bytes, each once", err);
    (void)snprintf(l->last, sizeof l->last, "%s", key);
    if (!tm_s3_xml_text(element, "Size", text, sizeof text) || !text[0] || text[strspn(text, "0123456789")])
        return parse_error(l->s, "a <Size>", err);
    object.size = strtoull(text, NULL, 10);
    if (tm_s3_xml_text(element, "LastModified", text, sizeof text))
        object.modified_us = tm_s3_xml_time_us(text);
    if (tm_s3_xml_text(element, "ETag", text, sizeof text))
        (void)snprintf(object.etag, sizeof object.etag, "%.*s", (int)strcspn(text + (text[0] == '"'), "\""),
                       text + (text[0] == '"'));
    return l->each(l->arg, key, &object);
}

static int on_page(struct listing *l, struct tm_span page, char *token, size_t size, bool *more, struct tm_error *err)
{
    struct tm_span rest = page, element;
    int rc = TM_OK;
    *more = says_more(page);
    if (*more && !tm_s3_xml_text(page, "NextContinuationToken", token, size))
        return parse_error(l->s, "a <NextContinuationToken>", err);
    while (!rc && tm_s3_xml_next(&rest, "Contents", &element))
        rc = on_contents(l, element, is_encoded(page), err);
    return rc;
}

int tm_s3_list(void *self, const char *prefix, const char *after, tm_target_each *each, void *arg, struct tm_error *err)
{
    struct listing l = {.s = self, .each = each, .arg = arg};
    struct tm_buf body = {0};
    char token[TOKEN_MAX] = "", full_prefix[FULL_KEY_MAX], full_after[FULL_KEY_MAX];
    const char *place = l.s->client.place.prefix;
    bool more = true;
    int rc = TM_OK;
    (void)snprintf(full_prefix, sizeof full_prefix, "%s%s", place, prefix);
    (void)snprintf(full_after, sizeof full_after, "%s%s", place, after ? after : "");
    while (!rc && more) {
        struct tm_span page;
        const struct tm_s3_param params[] = {{"list-type", "2"},
                                             {"encoding-type", "url"},
                                             {"prefix", full_prefix},
                                             {"start-after", after && !token[0] ? full_after : NULL},
                                             {"continuation-token", token[0] ? token : NULL}};
        rc = get_page(l.s, params, sizeof params / sizeof params[0], &body, &page, err);
        rc = rc ? rc : on_page(&l, page, token, sizeof token, &more, err);
    }
    tm_buf_fini(&body);
    return rc;
}

/* ---- unfinished uploads ---- */

struct sweep {
    struct tm_s3 *s;
    int64_t before_us;
    size_t removed;
};

static int on_upload(struct sweep *w, struct tm_span element, bool encoded, struct tm_error *err)
{
    char room[ENCODED_KEY_MAX], id[TOKEN_MAX], text[80];
    const char *key;
    int rc = take_key(w->s, element, encoded, room, &key, err);
    if (!rc && !tm_s3_xml_text(element, "UploadId", id, sizeof id))
        rc = parse_error(w->s, "an <UploadId>", err);
    if (!rc && (!tm_s3_xml_text(element, "Initiated", text, sizeof text) || !tm_s3_xml_time_us(text)))
        rc = parse_error(w->s, "an <Initiated>", err);
    if (rc || tm_s3_xml_time_us(text) >= w->before_us)
        return rc;
    rc = tm_s3_abort_upload(&w->s->client, key, id, err);
    w->removed += !rc;
    return rc;
}

static int sweep_page(struct sweep *w, struct tm_span page, char *key, char *id, bool *more, struct tm_error *err)
{
    struct tm_span rest = page, element;
    int rc = TM_OK;
    *more = says_more(page);
    if (*more && (!tm_s3_xml_text(page, "NextKeyMarker", key, ENCODED_KEY_MAX) || (is_encoded(page) && !decode(key)) ||
                  !tm_s3_xml_text(page, "NextUploadIdMarker", id, TOKEN_MAX)))
        return parse_error(w->s, "<NextKeyMarker> and <NextUploadIdMarker>", err);
    while (!rc && tm_s3_xml_next(&rest, "Upload", &element))
        rc = on_upload(w, element, is_encoded(page), err);
    return rc;
}

int tm_s3_sweep(void *self, int64_t before_us, size_t *removed, struct tm_error *err)
{
    struct sweep w = {.s = self, .before_us = before_us};
    struct tm_buf body = {0};
    char key[ENCODED_KEY_MAX] = "", id[TOKEN_MAX] = "";
    bool more = true;
    int rc = TM_OK;
    while (!rc && more) {
        struct tm_span page;
        const struct tm_s3_param params[] = {{"uploads", ""},
                                             {"encoding-type", "url"},
                                             {"prefix", w.s->client.place.prefix},
                                             {"key-marker", key[0] ? key : NULL},
                                             {"upload-id-marker", key[0] ? id : NULL}};
        rc = get_page(w.s, params, sizeof params / sizeof params[0], &body, &page, err);
        rc = rc ? rc : sweep_page(&w, page, key, id, &more, err);
    }
    tm_buf_fini(&body);
    *removed = w.removed;
    return rc;
}
