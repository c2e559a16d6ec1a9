/*
 * HTTP/1.1, as much as an exchange's REST side and a WebSocket upgrade need: requests with Content-Length bodies,
 * keep-alive, HEAD. A request points into the connection's input buffer and lives until the handler returns.
 */
#ifndef TM_EXCHANGE_HTTP_H
#define TM_EXCHANGE_HTTP_H

#include "exchange/conn.h"
#include "exchange/json.h"

#define TM_HTTP_HEAD_MAX (16u << 10)
#define TM_HTTP_BODY_MAX (64u << 10)

struct tm_request {
    struct tm_slice method, path, query, head, body;
    bool keep_alive;
    size_t length; /* of the whole request */
};

/* TM_OK; TM_ERETRY when more bytes are needed; TM_EPARSE with the status to answer in *status, then close. */
int tm_http_parse(const struct tm_buf *in, struct tm_request *r, int *status) TM_MUST_CHECK;

/* A header's value, empty if it is not there. Names are compared without regard to case. */
struct tm_slice tm_http_header(const struct tm_request *r, const char *name);

/* True if a comma list such as "keep-alive, Upgrade" has the word. */
bool tm_http_has_word(struct tm_slice list, const char *word);

/* The next value of `name` in the query, percent-decoded into `value` with a NUL; start with *at = 0. */
bool tm_query_next(struct tm_slice query, size_t *at, const char *name, char *value, size_t size);
bool tm_query_get(struct tm_slice query, const char *name, char *value, size_t size);

struct tm_reply {
    int status;
    const char *type;  /* Content-Type; NULL: application/json */
    const char *extra; /* header lines, each with CR LF; NULL: none */
    struct tm_buf body;
};

/* Send a reply to `r` (NULL: the request could not be read) and close if that is due. */
void tm_http_send(struct tm_conn *c, const struct tm_request *r, const struct tm_reply *reply);

/* Set status and body. The format makes JSON. */
void tm_reply_printf(struct tm_reply *reply, int status, const char *fmt, ...) TM_PRINTF(3, 4);

#endif
