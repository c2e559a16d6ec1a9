#include "net/httpd_request.h"

#include <string.h>
#include <strings.h>

struct fields {
    unsigned hosts, lengths;
    bool transfer_encoding, body, close, keep_alive;
    bool upgrade, websocket, version13; /* Connection: upgrade, Upgrade: websocket, Sec-WebSocket-Version: 13 */
    const char *host, *origin, *key;
};

static bool is_token(const char *s, size_t len)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < len; i++)
        if (!s[i] || !strchr(allowed, s[i]))
            return false;
    return len > 0;
}

static bool is_clean(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)s[i] < ' ' && s[i] != '\t') || s[i] == 0x7f)
            return false;
    return true;
}

static bool has_element(const char *list, const char *element)
{
    for (const char *p = list; *p;) {
        p += strspn(p, " \t,");
        size_t len = strcspn(p, " \t,");
        if (len == strlen(element) && !strncasecmp(p, element, len))
            return true;
        p += len;
    }
    return false;
}

static bool take_length(const char *value, struct fields *f)
{
    size_t len = strlen(value), digits = strspn(value, "0123456789");
    f->lengths++;
    f->body = f->body || strspn(value, "0") != len;
    return len && digits == len;
}

static void take_websocket(const char *name, const char *value, struct fields *f)
{
    if (!strcasecmp(name, "upgrade"))
        f->websocket = f->websocket || has_element(value, "websocket");
    else if (!strcasecmp(name, "sec-websocket-version"))
        f->version13 = !strcmp(value, "13");
    else if (!strcasecmp(name, "sec-websocket-key"))
        f->key = value;
    else if (!strcasecmp(name, "origin"))
        f->origin = value;
}

/* One header line, NUL-terminated. */
static bool take_field(char *line, struct fields *f)
{
    char *colon = strchr(line, ':');
    if (!colon || !is_token(line, (size_t)(colon - line)))
        return false;
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    size_t len = strlen(value);
    while (len && (value[len - 1] == ' ' || value[len - 1] == '\t'))
        value[--len] = '\0';
    if (!strcasecmp(line, "host")) {
        f->hosts++;
        f->host = value;
    } else if (!strcasecmp(line, "content-length"))
        return take_length(value, f);
    else if (!strcasecmp(line, "transfer-encoding"))
        f->transfer_encoding = f->body = true;
    else if (!strcasecmp(line, "connection")) {
        f->close = f->close || has_element(value, "close");
        f->keep_alive = f->keep_alive || has_element(value, "keep-alive");
        f->upgrade = f->upgrade || has_element(value, "upgrade");
    } else {
        take_websocket(line, value, f);
    }
    return true;
}

/* Cut the next line off; NULL if it holds what no line may hold. `end` is behind the last CRLF. */
static char *next_line(char **at, char *end)
{
    char *line = *at, *cr = memchr(line, '\r', (size_t)(end - line));
    if (!cr || cr[1] != '\n' || !is_clean(line, (size_t)(cr - line)))
        return NULL;
    *cr = '\0';
    *at = cr + 2;
    return line;
}

static int parse_version(const char *version, bool *http11)
{
    if (strncmp(version, "HTTP/", 5))
        return 400;
    *http11 = !strcmp(version + 5, "1.1");
    return *http11 || !strcmp(version + 5, "1.0") ? 0 : 505;
}

/* METHOD SP target SP version */
static int parse_request_line(char *line, struct tm_httpd_request *out, bool *method_ok, bool *http11)
{
    char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version || !is_token(line, (size_t)(target - line)))
        return 400;
    *target++ = *version++ = '\0';
    int status = parse_version(version, http11);
    if (status)
        return status;
    if (strlen(target) > TM_HTTPD_TARGET_MAX)
        return 414;
    out->head = !strcmp(line, "HEAD");
    *method_ok = out->head || !strcmp(line, "GET");
    if (*target != '/')
        return *method_ok ? 400 : 405; /* "OPTIONS *" is well-formed */
    out->path = target;
    char *query = strchr(target, '?');
    if (query)
        *query++ = '\0';
    out->query = query ? query : "";
    return 0;
}

/* 24 characters of base64 are the 16 bytes that a key has; what is none is no WebSocket. */
static bool is_key(const char *key)
{
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    return strlen(key) == 24 && strspn(key, base64) == 22 && !strcmp(key + 22, "==");
}

static int parse_head(char *bytes, char *end, struct tm_httpd_request *out)
{
    struct fields f = {.host = "", .origin = "", .key = ""};
    bool method_ok = false, http11 = false;
    char *line = next_line(&bytes, end);
    int status = line ? parse_request_line(line, out, &method_ok, &http11) : 400;
    if (status)
        return status;
    while (bytes < end) {
        line = next_line(&bytes, end);
        if (!line || !take_field(line, &f))
            return 400;
    }
    if (f.hosts > 1 || (http11 && !f.hosts) || f.lengths > 1 || (f.lengths && f.transfer_encoding))
        return 400;
    if (!method_ok)
        return 405;
    if (f.body)
        return 413;
    out->keep_alive = !f.close && (http11 || f.keep_alive);
    out->host = f.host;
    out->origin = f.origin;
    out->websocket = http11 && !out->head && f.upgrade && f.websocket && f.version13 && is_key(f.key);
    out->websocket_key = f.key;
    return 200;
}

int tm_httpd_request_parse(char *bytes, size_t len, struct tm_httpd_request *out)
{
    size_t skip = len >= 2 && !memcmp(bytes, "\r\n", 2) ? 2 : 0; /* RFC 9112 2.2 */
    char *start = bytes + skip, *end = memmem(start, len - skip, "\r\n\r\n", 4);
    if (!end) {
        bool in_first_line = !memchr(start, '\n', len - skip);
        if (in_first_line && len - skip > TM_HTTPD_TARGET_MAX + 32)
            return 414;
        return len >= TM_HTTPD_HEAD_MAX ? 431 : 0;
    }
    *out = (struct tm_httpd_request){.size = (size_t)(end + 4 - bytes)};
    if (out->size > TM_HTTPD_HEAD_MAX)
        return 431;
    return parse_head(start, end + 2, out);
}
