#include "archive/s3_xml.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool holds(struct tm_span text, const char *word)
{
    return memmem(text.at, text.len, word, strlen(word)) != NULL;
}

bool tm_s3_xml_is(struct tm_span text)
{
    static const char spaces[] = " \t\r\n";
    while (text.len && memchr(spaces, *text.at, 4)) { /* completing an upload, S3 sends some to keep us waiting */
        text.at++;
        text.len--;
    }
    while (text.len && memchr(spaces, text.at[text.len - 1], 4))
        text.len--;
    return text.len > 1 && text.at[0] == '<' && text.at[text.len - 1] == '>' && !memchr(text.at, '\0', text.len) &&
           !holds(text, "<!DOCTYPE") && !holds(text, "<![CDATA[");
}

/* Behind the '>' of the tag that `at` is inside of; quoted values may have a '>'. NULL: it has no end. */
static const char *tag_end(const char *at, const char *end)
{
    char quote = 0;
    for (; at < end; at++) {
        if (quote)
            quote = *at == quote ? 0 : quote;
        else if (*at == '"' || *at == '\'')
            quote = *at;
        else if (*at == '>')
            return at + 1;
    }
    return NULL;
}

static const char *skip_comment(const char *at, const char *end)
{
    const char *close = memmem(at, (size_t)(end - at), "-->", 3);
    return close ? close + 3 : NULL;
}

/* At the name of a start tag: is it this one, with or without a prefix? */
static bool is_named(const char *at, const char *end, const char *name)
{
    size_t len = strlen(name);
    for (const char *c = at; c < end && *c != '>' && *c != '/' && *c != ' '; c++)
        if (*c == ':')
            at = c + 1;
    return (size_t)(end - at) > len && !memcmp(at, name, len) && memchr(" \t\r\n/>", at[len], 6);
}

/* The "</name>" (or "</prefix:name>") from `at` on. */
static const char *find_close(const char *at, const char *end, const char *name)
{
    while (at < end && (at = memmem(at, (size_t)(end - at), "</", 2))) {
        if (is_named(at + 2, end, name))
            return at;
        at += 2;
    }
    return NULL;
}

bool tm_s3_xml_next(struct tm_span *text, const char *name, struct tm_span *inside)
{
    const char *end = text->at + text->len, *at = text->at;
    while (at && at < end && (at = memchr(at, '<', (size_t)(end - at)))) {
        if (end - at > 4 && !memcmp(at, "<!--", 4)) {
            at = skip_comment(at, end);
            continue;
        }
        const char *body = tag_end(at + 1, end);
        if (!body || !is_named(at + 1, end, name)) {
            at = body;
            continue;
        }
        const char *close = body[-2] == '/' ? body : find_close(body, end, name);
        if (!close)
            return false;
        *inside = (struct tm_span){.at = body, .len = (size_t)(close - body)};
        *text = (struct tm_span){.at = close, .len = (size_t)(end - close)};
        return true;
    }
    return false;
}

/* A character reference below U+0080, which is all that a key of ours or a message can need; others become '?'. */
static char character_of(const char *at, size_t len)
{
    char digits[8];
    bool hex = len > 1 && (at[1] == 'x' || at[1] == 'X');
    (void)snprintf(digits, sizeof digits, "%.*s", (int)(len - 1 - hex), at + 1 + hex);
    unsigned long code = strtoul(digits, NULL, hex ? 16 : 10);
    return code > 0 && code < 0x80 ? (char)code : '?';
}

static char entity(const char *at, size_t len)
{
    static const struct {
        const char *name;
        char c;
    } known[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
    if (len > 1 && at[0] == '#')
        return character_of(at, len);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i].name) == len && !memcmp(known[i].name, at, len))
            return known[i].c;
    return '?';
}

bool tm_s3_xml_text(struct tm_span text, const char *name, char *to, size_t size)
{
    struct tm_span in;
    size_t n = 0, i;
    to[0] = '\0';
    if (!tm_s3_xml_next(&text, name, &in))
        return false;
    for (i = 0; i < in.len && n + 1 < size; n++) {
        const char *semicolon = in.at[i] == '&' ? memchr(in.at + i, ';', in.len - i) : NULL;
        if (semicolon) {
            to[n] = entity(in.at + i + 1, (size_t)(semicolon - in.at) - i - 1);
            i = (size_t)(semicolon - in.at) + 1;
        } else
            to[n] = in.at[i++];
    }
    to[n] = '\0';
    return i == in.len;
}

int64_t tm_s3_xml_time_us(const char *text)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    return end && (*end == '.' || *end == 'Z') ? timegm(&tm) * TM_US_PER_S : 0;
}
