#include "exchange/control.h"
#include "exchange/text.h"

#include <string.h>

#define FAULTS_MAX 16 /* in one request */
#define PATHS "GET /control/stats or ledger-flush, POST /control/start, stop, fault, clear or quit"

typedef unsigned long long ull;

static void put_client(struct tm_reply *reply, const struct tm_client *c, const char *comma)
{
    uint32_t subscriptions = 0;
    uint64_t markets = 0;
    for (int i = 0; i < TM_CHANNELS_MAX; i++)
        if (c->subs[i]) {
            subscriptions++;
            markets += c->subs[i]->market_count;
        }
    int rc = tm_buf_printf(&reply->body, "%s{\"client\":%u,\"label\":", comma, c->number);
    if (!rc)
        rc = tm_json_quote(&reply->body, c->label, strlen(c->label));
    if (!rc)
        rc = tm_buf_printf(
            &reply->body, ",\"frames\":%llu,\"bytes\":%llu,\"backlog\":%zu,\"subscriptions\":%u,\"markets\":%llu}",
            (ull)c->frames, (ull)c->bytes, tm_conn_backlog(c->conn) + c->held.len, subscriptions, (ull)markets);
    TM_FATAL_UNLESS(rc == TM_OK);
}

static void put_emitted(const struct tm_feed *f, struct tm_reply *reply)
{
    int rc = tm_buf_printf(&reply->body,
                           "\"emitted\":{\"total\":%llu,\"orderbook_deltas\":%llu,\"trades\":%llu,\"tickers\":%llu,"
                           "\"lifecycle\":%llu,\"orderbook_snapshots\":%llu},",
                           (ull)f->emitted_total, (ull)f->emitted[TM_STREAM_DELTA], (ull)f->emitted[TM_STREAM_TRADE],
                           (ull)f->emitted[TM_STREAM_TICKER], (ull)f->emitted[TM_STREAM_LIFECYCLE],
                           (ull)f->emitted[TM_STREAM_SNAPSHOT]);
    TM_FATAL_UNLESS(rc == TM_OK);
}

/* Frames that a fault keeps back for a while. */
static uint64_t count_late(const struct tm_feed *f)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < f->client_count; i++)
        count += f->clients[i]->late_count;
    return count;
}

static void put_stats(const struct tm_control *c, struct tm_reply *reply)
{
    const struct tm_feed *f = c->feed;
    uint32_t faults = 0;
    for (const struct tm_fault *fault = c->faults->list; fault; fault = fault->next)
        faults++;
    reply->status = 200;
    tm_rest_append(reply, "{");
    put_emitted(f, reply);
    int rc = tm_buf_printf(&reply->body,
                           "\"state\":\"%s\",\"markets\":%u,\"frames\":%llu,\"bytes\":%llu,\"withheld\":%llu,"
                           "\"late\":%llu,"
                           "\"injected\":%llu,\"faults\":%u,\"rest_requests\":%llu,\"rest_refused\":%llu,"
                           "\"connections\":%u,\"clients\":[",
                           tm_pacer_state(c->pacer), tm_markets_count(f->markets), (ull)f->frames, (ull)f->bytes,
                           (ull)f->withheld, (ull)count_late(f), (ull)f->injected, faults, (ull)c->rest->requests,
                           (ull)c->rest->refused, f->client_count);
    TM_FATAL_UNLESS(rc == TM_OK);
    for (uint32_t i = 0; i < f->client_count; i++)
        put_client(reply, f->clients[i], i ? "," : "");
    tm_rest_append(reply, "]}");
}

/* The next line of `given`, NUL-terminated; false when there is none. */
static bool next_line(struct tm_slice *given, char *line, size_t size, struct tm_error *err)
{
    const char *newline = memchr(given->at, '\n', given->len);
    size_t len = newline ? (size_t)(newline - given->at) : given->len;
    if (len >= size)
        return tm_error_set(err, TM_EINVAL, "fault: longer than %zu characters", size - 1), false;
    memcpy(line, given->at, len);
    line[len] = '\0';
    given->at += newline ? len + 1 : len;
    given->len -= newline ? len + 1 : len;
    return true;
}

/* Parse all lines before any fault begins: all or none. */
static int parse_faults(struct tm_slice given, struct tm_fault faults[FAULTS_MAX], size_t *count, struct tm_error *err)
{
    char line[512];
    *count = 0;
    do {
        if (*count == FAULTS_MAX)
            return tm_error_set(err, TM_EINVAL, "fault: more than %d lines", FAULTS_MAX);
        if (!next_line(&given, line, sizeof line, err))
            return err->code;
        int rc = tm_fault_parse(line, &faults[(*count)++], err);
        if (rc)
            return rc;
    } while (given.len);
    return TM_OK;
}

static void add_faults(struct tm_control *c, const struct tm_request *r, struct tm_reply *reply)
{
    struct tm_fault faults[FAULTS_MAX];
    size_t count;
    struct tm_error err;
    if (parse_faults(r->body.len ? r->body : r->query, faults, &count, &err) == TM_OK) {
        for (size_t i = 0; i < count; i++)
            tm_faults_add(c->faults, &faults[i]);
        tm_feed_flush(c->feed);
        tm_reply_printf(reply, 200, "{\"fault\":%llu}", (ull)c->faults->serial);
        return;
    }
    reply->status = 400;
    tm_rest_append(reply, "{\"error\":");
    TM_FATAL_UNLESS(tm_json_quote(&reply->body, err.message, strlen(err.message)) == TM_OK);
    tm_rest_append(reply, "}");
}

static bool get(struct tm_control *c, struct tm_slice what, struct tm_reply *reply)
{
    if (tm_json_is(what, "/stats")) {
        put_stats(c, reply);
    } else if (tm_json_is(what, "/ledger-flush")) {
        tm_ledger_flush(c->feed->ledger, true);
        tm_reply_printf(reply, 200, "{\"events\":%llu}", (ull)c->feed->emitted_total);
    } else {
        return false;
    }
    return true;
}

static bool post(struct tm_control *c, struct tm_slice what, const struct tm_request *r, struct tm_reply *reply)
{
    tm_reply_printf(reply, 200, "{}");
    if (tm_json_is(what, "/start")) {
        tm_pacer_start(c->pacer);
    } else if (tm_json_is(what, "/stop")) {
        tm_pacer_stop(c->pacer);
    } else if (tm_json_is(what, "/clear")) {
        tm_faults_clear(c->faults);
    } else if (tm_json_is(what, "/quit")) {
        tm_loop_stop(c->loop);
    } else if (tm_json_is(what, "/fault")) {
        tm_buf_clear(&reply->body);
        add_faults(c, r, reply);
    } else {
        return false;
    }
    return true;
}

void tm_control_handle(struct tm_control *c, const struct tm_request *r, struct tm_reply *reply)
{
    size_t base = strlen(TM_CONTROL_BASE);
    struct tm_slice what = {r->path.at + base, r->path.len - base};
    tm_feed_begin(c->feed);
    bool known = tm_json_is(r->method, "POST") ? post(c, what, r, reply) : get(c, what, reply);
    if (!known)
        tm_reply_printf(reply, 404, "{\"error\":\"unknown control path or method; expected " PATHS "\"}");
}
