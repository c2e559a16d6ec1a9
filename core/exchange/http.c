#include "exchange/http.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool equal(struct tm_slice s, const char *text)
{
    return s.len == strlen(text) && strncasecmp(s.at, text, s.len) == 0;
}

static struct tm_slice trim(struct tm_slice s)
{
    while (s.len && (*s.at == ' ' || *s.at == '\t')) {
        s.at++;
        s.len--;
    }
    while (s.len && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t' || s.at[s.len - 1] == '\r'))
        s.len--;
    return s;
}

/* Cut the part before `c` off *rest; all of it if there is no `c`. */
static struct tm_slice cut(struct tm_slice *rest, char c)
{
    const char *at = rest->len ? memchr(rest->at, c, rest->len) : NULL;
    struct tm_slice part = {rest->at, at ? (size_t)(at - rest->at) : rest->len};
    size_t gone = part.len + (at != NULL);
    *rest = (struct tm_slice){rest->at + gone, rest->len - gone};
    return part;
}

struct tm_slice tm_http_header(const struct tm_request *r, const char *name)
{
    struct tm_slice rest = r->head;
    while (rest.len) {
        struct tm_slice line = cut(&rest, '\n'), key = cut(&line, ':');
        if (equal(key, name))
            return trim(line);
    }
    return (struct tm_slice){"", 0};
}

bool tm_http_has_word(struct tm_slice list, const char *word)
{
    while (list.len)
        if (equal(trim(cut(&list, ',')), word))
            return true;
    return false;
}

static int parse_line(struct tm_request *r, struct tm_slice line)
{
    line = trim(line);
    r->method = cut(&line, ' ');
    struct tm_slice target = cut(&line, ' ');
    r->path = cut(&target, '?');
    r->query = target;
    if (!r->method.len || !r->path.len || r->path.at[0] != '/' || !(equal(line, "HTTP/1.1") || equal(line, "HTTP/1.0")))
        return 400;
    r->keep_alive = equal(line, "HTTP/1.1");
    return 0;
}

static int parse_body_length(const struct tm_request *r, size_t *length)
{
    struct tm_slice text = tm_http_header(r, "Content-Length");
    *length = 0;
    if (tm_http_header(r, "Transfer-Encoding").len)
        return 501;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return 400;
        *length = *length * 10 + (size_t)(text.at[i] - '0');
        if (*length > TM_HTTP_BODY_MAX)
            return 413;
    }
    return 0;
}

int tm_http_parse(const struct tm_buf *in, struct tm_request *r, int *status)
{
    const char *text = (const char *)in->data;
    const char *end = in->len ? memmem(text, in->len, "\r\n\r\n", 4) : NULL;
    size_t body = 0;
    *r = (struct tm_request){0};
    if (!end) {
        *status = 431;
        return in->len < TM_HTTP_HEAD_MAX ? TM_ERETRY : TM_EPARSE;
    }
    struct tm_slice head = {text, (size_t)(end - text) + 2};
    *status = parse_line(r, cut(&head, '\n'));
    r->head = head;
    if (!*status)
        *status = parse_body_length(r, &body);
    if (*status)
        return TM_EPARSE;
    struct tm_slice connection = tm_http_header(r, "Connection");
    if (tm_http_has_word(connection, "close"))
        r->keep_alive = false;
    r->length = (size_t)(end - text) + 4 + body;
    r->body = (struct tm_slice){end + 4, body};
    return in->len < r->length ? TM_ERETRY : TM_OK;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void decode(struct tm_slice from, char *to, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < from.len && n + 1 < size; i++) {
        int high = i + 2 < from.len && from.at[i] == '%' ? hex(from.at[i + 1]) : -1;
        int low = high < 0 ? -1 : hex(from.at[i + 2]);
        char plain = from.at[i] == '+' ? ' ' : from.at[i];
        to[n++] = low < 0 ? plain : (char)(high * 16 + low);
        i += low >= 0 ? 2 : 0;
    }
    to[n] = '\0';
}

bool tm_query_next(struct tm_slice query, size_t *at, const char *name, char *value, size_t size)
{
    while (*at < query.len) {
        struct tm_slice rest = {query.at + *at, query.len - *at}, pair = cut(&rest, '&'), key = cut(&pair, '=');
        *at = query.len - rest.len;
        if (tm_json_is(key, name)) {
            decode(pair, value, size);
            return true;
        }
    }
    return false;
}

bool tm_query_get(struct tm_slice query, const char *name, char *value, size_t size)
{
    size_t at = 0;
    return tm_query_next(query, &at, name, value, size);
}

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } names[] = {{200, "OK"},          {400, "Bad Request"},         {401, "Unauthorized"},
                 {403, "Forbidden"},   {404, "Not Found"},           {405, "Method Not Allowed"},
                 {413, "Too Large"},   {426, "Upgrade Required"},    {429, "Too Many Requests"},
                 {431, "Too Large"},   {500, "Internal Error"},      {501, "Not Implemented"},
                 {502, "Bad Gateway"}, {503, "Service Unavailable"}, {504, "Gateway Timeout"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].status == status)
            return names[i].text;
    return "Status";
}

void tm_http_send(struct tm_conn *c, const struct tm_request *r, const struct tm_reply *reply)
{
    bool keep = r && r->keep_alive, head_only = r && equal(r->method, "HEAD");
    int rc = tm_buf_printf(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s\r\n",
                           reply->status, reason(reply->status), reply->type ? reply->type : "application/json",
                           reply->body.len, reply->extra ? reply->extra : "", keep ? "" : "Connection: close\r\n");
    if (!rc && !head_only)
        rc = tm_buf_append(&c->out, reply->body.data, reply->body.len);
    if (rc)
        tm_conn_close(c, true, "out of memory");
    else if (keep)
        tm_conn_flush(c);
    else
        tm_conn_finish(c);
}

void tm_reply_printf(struct tm_reply *reply, int status, const char *fmt, ...)
{
    char text[2048];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    TM_FATAL_UNLESS(n >= 0 && (size_t)n < sizeof text);
    reply->status = status;
    tm_buf_clear(&reply->body);
    TM_FATAL_UNLESS(tm_buf_append(&reply->body, text, (size_t)n) == TM_OK);
}
