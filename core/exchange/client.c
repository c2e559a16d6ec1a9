#include "exchange/feed.h"
#include "base/endian.h"
#include "exchange/text.h"

#include <stdio.h>
#include <stdlib.h>

static void on_ping(void *arg)
{
    struct tm_client *c = arg;
    static const char body[] = "heartbeat";
    bool busy = c->frames != c->frames_at_ping;
    c->frames_at_ping = c->frames;
    if (busy && c->feed->opt->ping_idle)
        return;
    if (tm_ws_append(&c->conn->out, TM_WS_PING, body, sizeof body - 1) == TM_OK)
        tm_client_mark(c);
}

static void write_fact(const struct tm_client *c, const char *what, const struct tm_buf *detail)
{
    struct tm_fact fact = {.what = what,
                           .market = TM_MARKET_NONE,
                           .client = c->number,
                           .label = c->label,
                           .detail = {(const char *)detail->data, detail->len}};
    tm_ledger_fact(c->feed->ledger, &fact);
}

static void write_connect(const struct tm_client *c)
{
    struct tm_buf detail = {0};
    TM_FATAL_UNLESS(tm_buf_printf(&detail, "{\"agent\":") == TM_OK);
    TM_FATAL_UNLESS(tm_json_quote(&detail, c->agent, strlen(c->agent)) == TM_OK);
    TM_FATAL_UNLESS(tm_buf_printf(&detail, ",\"key\":") == TM_OK);
    TM_FATAL_UNLESS(tm_json_quote(&detail, c->key, strlen(c->key)) == TM_OK);
    TM_FATAL_UNLESS(tm_buf_printf(&detail, "}") == TM_OK);
    write_fact(c, "connect", &detail);
    tm_buf_fini(&detail);
}

static void enlist(struct tm_feed *f, struct tm_client *c)
{
    if (f->client_count == f->client_capacity) {
        f->client_capacity = f->client_capacity ? 2 * f->client_capacity : 64;
        f->clients = realloc(f->clients, f->client_capacity * sizeof(struct tm_client *));
        TM_FATAL_UNLESS(f->clients);
    }
    c->place = f->client_count;
    f->clients[f->client_count++] = c;
}

struct tm_client *tm_client_open(struct tm_feed *f, struct tm_conn *conn, const struct tm_identity *who)
{
    struct tm_client *c = calloc(1, sizeof *c);
    TM_FATAL_UNLESS(c);
    c->feed = f;
    c->conn = conn;
    c->data = &conn->out;
    c->number = ++f->next_number;
    (void)snprintf(c->label, sizeof c->label, "%s", who->label);
    (void)snprintf(c->key, sizeof c->key, "%s", who->key);
    (void)snprintf(c->agent, sizeof c->agent, "%s", who->agent);
    enlist(f, c);
    tm_feed_begin(f);
    write_connect(c);
    tm_timer_init(&c->ping, f->loop, on_ping, c);
    if (f->opt->ping_us)
        tm_timer_start(&c->ping, f->opt->ping_us, f->opt->ping_us);
    return c;
}

static void leave_lists(struct tm_client *c)
{
    struct tm_feed *f = c->feed;
    f->subscribed -= c->subscribed;
    f->clients[c->place] = f->clients[--f->client_count];
    f->clients[c->place]->place = c->place;
    for (uint32_t i = 0; c->dirty && i < f->dirty_count; i++)
        if (f->dirty[i] == c) {
            f->dirty[i] = f->dirty[--f->dirty_count];
            c->dirty = false;
        }
}

void tm_client_close(struct tm_client *c, const char *reason)
{
    struct tm_buf detail = {0};
    size_t unsent = tm_conn_backlog(c->conn) + c->held.len;
    tm_feed_begin(c->feed);
    tm_timer_stop(&c->ping);
    tm_client_stop_late(c);
    for (int i = 0; i < TM_CHANNELS_MAX; i++)
        if (c->subs[i])
            tm_sub_close(c->subs[i], "disconnect");
    TM_FATAL_UNLESS(tm_buf_printf(&detail, "{\"reason\":") == TM_OK);
    TM_FATAL_UNLESS(tm_json_quote(&detail, reason, strlen(reason)) == TM_OK);
    TM_FATAL_UNLESS(tm_buf_printf(&detail, ",\"unsent\":%zu}", unsent) == TM_OK);
    write_fact(c, "disconnect", &detail);
    tm_buf_fini(&detail);
    leave_lists(c);
}

void tm_client_free(struct tm_client *c)
{
    tm_buf_fini(&c->reader.message);
    tm_buf_fini(&c->held);
    free(c);
}

void tm_client_send_close(struct tm_client *c, int code, const char *reason)
{
    uint8_t payload[125];
    size_t len = strlen(reason) < 123 ? strlen(reason) : 123;
    tm_put_be16(payload, (uint16_t)code);
    memcpy(payload + 2, reason, len);
    if (tm_ws_append(&c->conn->out, TM_WS_CLOSE, payload, code ? 2 + len : 0))
        tm_conn_close(c->conn, true, "out of memory");
    else
        tm_conn_finish(c->conn);
}

static void on_message(struct tm_client *c, enum tm_ws_opcode opcode, struct tm_slice payload)
{
    if (opcode == TM_WS_TEXT) {
        tm_command_run(c, payload);
    } else if (opcode == TM_WS_PING) {
        if (tm_ws_append(&c->conn->out, TM_WS_PONG, payload.at, payload.len) == TM_OK)
            tm_client_mark(c);
    } else if (opcode == TM_WS_CLOSE) {
        int code = payload.len >= 2 ? tm_get_be16(payload.at) : 0;
        tm_client_send_close(c, code, "");
    }
}

void tm_client_on_data(struct tm_client *c)
{
    struct tm_buf *in = &c->conn->in;
    size_t spent = 0;
    tm_feed_begin(c->feed);
    while (c->conn->fd >= 0 && !c->conn->closing) {
        struct tm_slice rest = {(const char *)in->data + spent, in->len - spent}, payload;
        enum tm_ws_opcode opcode;
        size_t used = 0;
        int code = 0, rc = tm_ws_read(&c->reader, rest, &used, &opcode, &payload, &code);
        spent += used;
        if (rc == TM_EPARSE)
            tm_client_send_close(c, code, "protocol error");
        if (rc)
            break;
        on_message(c, opcode, payload);
    }
    tm_buf_consume(in, spent);
}

void tm_client_on_drained(struct tm_client *c)
{
    tm_feed_begin(c->feed);
    tm_client_pump(c);
}
