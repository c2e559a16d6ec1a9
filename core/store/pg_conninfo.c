/* What is wrong with a conninfo that libpq does not take, said without a byte that could be of a value. */
#include "base/nearest.h"
#include "store/pg_private.h"

#include <string.h>

#define FAULT(...) tm_error_set(err, TM_EINVAL, "conninfo: " __VA_ARGS__)
#define SPACES " \t\n\r\v\f" /* as libpq counts them */
#define EXPECTED "expected \"keyword=value ...\" or a postgresql:// URI that libpq understands"

struct word {
    char text[TM_NAME_BYTES_MAX + 1]; /* "" where it cannot be a keyword */
};

static struct word keyword_of(const char *at, size_t len)
{
    struct word w = {""};
    if (len <= TM_NAME_BYTES_MAX && strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") >= len)
        memcpy(w.text, at, len);
    return w;
}

static bool is_known(const PQconninfoOption *known, const char *keyword)
{
    for (; known->keyword; known++)
        if (strcmp(known->keyword, keyword) == 0)
            return true;
    return false;
}

static const char *nearest(const PQconninfoOption *known, const char *keyword)
{
    const char *best = NULL;
    for (; known->keyword; known++)
        if (tm_name_is_near(keyword, known->keyword) &&
            (!best || tm_name_distance(keyword, known->keyword) < tm_name_distance(keyword, best)))
            best = known->keyword;
    return best;
}

/* Behind a password without quotes a word may be the rest of it: then only what was meant is named. */
static int unknown_keyword(const PQconninfoOption *known, const char *keyword, bool hidden, struct tm_error *err)
{
    const char *near = nearest(known, keyword);
    if (hidden || !*keyword)
        return near && *keyword ? FAULT("a keyword is unknown, did you mean \"%s\"?", near)
                                : FAULT("a keyword is unknown; values with spaces need quotes: '...'");
    return near ? FAULT("unknown keyword \"%s\", did you mean \"%s\"?", keyword, near)
                : FAULT("unknown keyword \"%s\"", keyword);
}

/* The end of a value, as libpq takes it: 'in quotes', or up to a space; a backslash takes the next one along. */
static const char *skip_value(const char *at, bool *is_open)
{
    bool quoted = *at == '\'';
    at += quoted;
    while (*at && (quoted ? *at != '\'' : !strchr(SPACES, *at)))
        at += at[0] == '\\' && at[1] ? 2 : 1;
    *is_open = quoted && !*at;
    return at + (quoted && *at);
}

static int words_fault(const PQconninfoOption *known, const char *at, struct tm_error *err)
{
    bool hidden = false, is_open;
    for (;;) {
        at += strspn(at, SPACES);
        if (!*at)
            return FAULT(EXPECTED);
        size_t len = strcspn(at, "=" SPACES);
        struct word w = keyword_of(at, len);
        at += len;
        at += strspn(at, SPACES);
        if (*at != '=')
            return FAULT("a keyword has no \"=\": " EXPECTED);
        if (!is_known(known, w.text))
            return unknown_keyword(known, w.text, hidden, err);
        at++;
        at += strspn(at, SPACES);
        hidden |= strstr(w.text, "pass") && *at != '\'';
        at = skip_value(at, &is_open);
        if (is_open)
            return FAULT("a value in quotes does not end");
    }
}

/* Behind the "?", which an "@" behind it shows to be part of a password. */
static int uri_fault(const PQconninfoOption *known, const char *at, struct tm_error *err)
{
    const char *question = strchr(at, '?');
    if (!question || strchr(question, '@'))
        return FAULT(EXPECTED);
    bool hidden = false;
    for (at = question + 1;; at++) {
        size_t len = strcspn(at, "=&");
        struct word w = keyword_of(at, len);
        if (at[len] != '=')
            return FAULT("a keyword has no \"=\": " EXPECTED);
        if (strcmp(w.text, "ssl") != 0 && !is_known(known, w.text)) /* ssl=true is JDBC's */
            return unknown_keyword(known, w.text, hidden, err);
        hidden |= strstr(w.text, "pass") != NULL;
        at += strcspn(at, "&");
        if (!*at)
            return FAULT(EXPECTED);
    }
}

int tm_pg_conninfo_fault(const char *conninfo, struct tm_error *err)
{
    PQconninfoOption *known = PQconninfoParse("", NULL);
    const char *uri = strstr(conninfo, "://");
    bool is_uri = strncmp(conninfo, "postgresql://", 13) == 0 || strncmp(conninfo, "postgres://", 11) == 0;
    int rc = !known ? FAULT(EXPECTED) : is_uri ? uri_fault(known, uri, err) : words_fault(known, conninfo, err);
    PQconninfoFree(known);
    return rc;
}
