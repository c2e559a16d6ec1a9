/* What the REST handlers share: parameters, cursors, pieces of replies. */
#include "exchange/rest.h"
#include "exchange/text.h"

#include <stdio.h>
#include <stdlib.h>

void tm_rest_append(struct tm_reply *reply, const char *text)
{
    TM_FATAL_UNLESS(tm_buf_append(&reply->body, text, strlen(text)) == TM_OK);
}

void tm_rest_not_found(struct tm_reply *reply)
{
    tm_reply_printf(reply, 404, "{\"error\":{\"code\":\"not_found\",\"message\":\"not found\"}}");
}

static bool bad_format(struct tm_reply *reply, const char *name)
{
    tm_reply_printf(reply, 400, "{\"msg\":\"Invalid format for parameter %s: error binding string parameter\"}", name);
    return false;
}

static bool read_integer(const struct tm_request *r, const char *name, int64_t *out, struct tm_reply *reply)
{
    char text[32];
    if (!tm_query_get(r->query, name, text, sizeof text) || !text[0])
        return true;
    char *rest;
    long long v = strtoll(text, &rest, 10);
    if (*rest || v > INT64_MAX / 2000000 || v < INT64_MIN / 2000000)
        return bad_format(reply, name);
    *out = v;
    return true;
}

bool tm_rest_limit(const struct tm_request *r, const char *what, int64_t low, int64_t high, int64_t *limit,
                   struct tm_reply *reply)
{
    int64_t given = *limit;
    if (!read_integer(r, "limit", &given, reply))
        return false;
    if (given < low || given > high) {
        tm_reply_printf(reply, 400,
                        "{\"msg\":\"Parameter validation failed for %s: Key: '%sParams.Limit' Error:Field validation "
                        "for 'Limit' failed on the '%s' tag\"}",
                        what, what, given > high ? "lte" : "gte");
        return false;
    }
    *limit = given ? given : *limit;
    return true;
}

bool tm_rest_seconds(const struct tm_request *r, const char *name, int64_t *us, struct tm_reply *reply)
{
    int64_t seconds = TM_TS_NONE;
    if (!read_integer(r, name, &seconds, reply))
        return false;
    *us = seconds == TM_TS_NONE ? TM_TS_NONE : seconds * 1000000;
    return true;
}

static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* base64url without padding; false if it is anything else, or no cursor at all. */
bool tm_rest_cursor_read(const struct tm_request *r, uint8_t *bytes, size_t *len, size_t size)
{
    char text[256];
    uint32_t bits = 0, count = 0;
    *len = 0;
    if (!tm_query_get(r->query, "cursor", text, sizeof text))
        return false;
    for (const char *c = text; *c; c++) {
        const char *at = strchr(base64url, *c);
        if (!at || *len == size)
            return false;
        bits = bits << 6 | (uint32_t)(at - base64url);
        count += 6;
        if (count >= 8) {
            count -= 8;
            bytes[(*len)++] = (uint8_t)(bits >> count);
        }
    }
    return *len > 0;
}

/* End a list's body: `],"cursor":"..."}`; no bytes means the last page. */
void tm_rest_cursor_put(struct tm_reply *reply, const uint8_t *bytes, size_t len)
{
    char text[256];
    size_t n = 0;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)bytes[i] << 16 | (i + 1 < len ? (uint32_t)bytes[i + 1] << 8 : 0) |
                        (i + 2 < len ? bytes[i + 2] : 0);
        size_t letters = len - i == 1 ? 2 : len - i == 2 ? 3 : 4;
        for (size_t k = 0; k < letters; k++)
            text[n++] = base64url[bits >> (18 - 6 * k) & 63];
    }
    text[n] = '\0';
    tm_rest_append(reply, "],\"cursor\":\"");
    tm_rest_append(reply, text);
    tm_rest_append(reply, "\"}");
}

uint8_t *tm_varint_put(uint8_t *p, uint64_t v)
{
    for (; v >= 128; v >>= 7)
        *p++ = (uint8_t)(v | 128);
    *p++ = (uint8_t)v;
    return p;
}

bool tm_varint_read(const uint8_t **p, const uint8_t *end, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; *p < end && shift < 64; shift += 7) {
        uint8_t byte = *(*p)++;
        *v |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}
