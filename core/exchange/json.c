#include "exchange/json.h"

#include <string.h>

#define DEPTH_MAX 64

struct tm_json tm_json_over(const char *text, size_t len)
{
    return (struct tm_json){.at = text, .end = text + len};
}

static bool fail(struct tm_json *j)
{
    j->bad = true;
    return false;
}

char tm_json_peek(struct tm_json *j)
{
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\n' || *j->at == '\r' || *j->at == '\t'))
        j->at++;
    return j->at < j->end && !j->bad ? *j->at : '\0';
}

static bool take(struct tm_json *j, char c)
{
    if (tm_json_peek(j) != c)
        return fail(j);
    j->at++;
    return true;
}

static bool at_one_of(const struct tm_json *j, const char *set)
{
    return j->at < j->end && *j->at && strchr(set, *j->at);
}

bool tm_json_enter(struct tm_json *j, char open)
{
    j->fresh = true;
    return take(j, open);
}

/* True if another member follows inside a container that ends with `close`. */
static bool next_member(struct tm_json *j, char close)
{
    bool first = j->fresh;
    j->fresh = false;
    if (tm_json_peek(j) == close) {
        j->at++;
        return false;
    }
    return first ? !j->bad : take(j, ',');
}

bool tm_json_next_key(struct tm_json *j, struct tm_slice *key)
{
    return next_member(j, '}') && tm_json_string(j, key) && take(j, ':');
}

bool tm_json_next_item(struct tm_json *j)
{
    return next_member(j, ']');
}

bool tm_json_string(struct tm_json *j, struct tm_slice *out)
{
    if (!take(j, '"'))
        return false;
    const char *start = j->at;
    for (; j->at < j->end && *j->at != '"'; j->at++) {
        if ((unsigned char)*j->at < 0x20)
            return fail(j);
        if (*j->at == '\\')
            j->at++;
    }
    if (j->at >= j->end)
        return fail(j);
    *out = (struct tm_slice){start, (size_t)(j->at - start)};
    j->at++;
    return true;
}

bool tm_json_int(struct tm_json *j, int64_t *out)
{
    tm_json_peek(j);
    bool negative = j->at < j->end && *j->at == '-';
    const char *digits = j->at += negative;
    int64_t v = 0;
    for (; j->at < j->end && *j->at >= '0' && *j->at <= '9'; j->at++) {
        if (v > (INT64_MAX - 9) / 10)
            return fail(j);
        v = v * 10 + (*j->at - '0');
    }
    if (j->at == digits || at_one_of(j, ".eE"))
        return fail(j);
    *out = negative ? -v : v;
    return true;
}

static bool take_word(struct tm_json *j, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(j->end - j->at) < len || memcmp(j->at, word, len) != 0)
        return fail(j);
    j->at += len;
    return true;
}

bool tm_json_bool(struct tm_json *j, bool *out)
{
    *out = tm_json_peek(j) == 't';
    return take_word(j, *out ? "true" : "false");
}

static bool skip_number(struct tm_json *j)
{
    const char *start = j->at;
    while (at_one_of(j, "+-.eE0123456789"))
        j->at++;
    return j->at > start ? true : fail(j);
}

static bool skip_value(struct tm_json *j, int depth)
{
    struct tm_slice ignored;
    char c = tm_json_peek(j);
    if (c == '"')
        return tm_json_string(j, &ignored);
    if (c == 't' || c == 'f')
        return take_word(j, c == 't' ? "true" : "false");
    if (c == 'n')
        return take_word(j, "null");
    if (c != '{' && c != '[')
        return skip_number(j);
    if (depth == DEPTH_MAX)
        return fail(j);
    tm_json_enter(j, c);
    while (c == '{' ? tm_json_next_key(j, &ignored) : tm_json_next_item(j))
        if (!skip_value(j, depth + 1))
            return false;
    return !j->bad;
}

bool tm_json_skip(struct tm_json *j, struct tm_slice *raw)
{
    tm_json_peek(j);
    const char *start = j->at;
    if (!skip_value(j, 0))
        return false;
    if (raw)
        *raw = (struct tm_slice){start, (size_t)(j->at - start)};
    return true;
}

bool tm_json_done(struct tm_json *j)
{
    return tm_json_peek(j) == '\0' && j->at == j->end && !j->bad;
}

bool tm_json_is(struct tm_slice s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}
