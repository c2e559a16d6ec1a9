/* Frames to clients: the hot path, and beside it the slow path through the faults. */
#include "exchange/feed.h"
#include "base/clock.h"
#include "base/endian.h"
#include "exchange/text.h"

#include <stdio.h>
#include <stdlib.h>

#define PREFIX_MAX 160 /* {"type":"...","sid":n,"seq":n, */
#define LATE_MAX 100000

/*
 * Append `{"type":..,"sid":..,"seq":..,` and the suffix as one text frame. The payload is written behind the commonest
 * head (4 bytes) and moved in the rare cases where the head turns out shorter or longer.
 */
static bool append_frame(struct tm_buf *out, const struct tm_sub *s, const char *type, struct tm_slice suffix)
{
    if (tm_buf_reserve(out, TM_WS_HEAD_MAX + PREFIX_MAX + suffix.len))
        return false;
    uint8_t *start = out->data + out->len;
    char *payload = (char *)start + 4, *p = payload;
    p = tm_put_lit(p, "{\"type\":\"");
    p = tm_put_str(p, type);
    p = tm_put_lit(p, "\",\"sid\":");
    p = tm_put_u64(p, s->sid);
    if (s->sequenced) {
        p = tm_put_lit(p, ",\"seq\":");
        p = tm_put_u64(p, s->seq);
    }
    *p++ = ',';
    p = tm_put_bytes(p, suffix.at, suffix.len);
    size_t len = (size_t)(p - payload);
    if (__builtin_expect(len < 126 || len > 0xffff, 0))
        memmove(start + (len < 126 ? 2 : 10), payload, len);
    out->len = (size_t)(tm_ws_put_head(start, TM_WS_TEXT, true, len) - out->data) + len;
    return true;
}

/* A line about a frame: `event` 0 is one that no event stands behind (a snapshot, a first ticker). */
static void write_fact(const struct tm_client *c, struct tm_fact *fact, const char *fault)
{
    char detail[64];
    (void)snprintf(detail, sizeof detail, "{\"fault\":\"%s\"}", fault);
    fact->client = c->number;
    fact->detail = (struct tm_slice){detail, strlen(detail)};
    tm_ledger_fact(c->feed->ledger, fact);
}

static void withhold(const struct tm_client *c, struct tm_fact fact, const char *fault)
{
    c->feed->withheld++;
    fact.what = fact.number ? "withheld" : "lost";
    write_fact(c, &fact, fault);
}

/* What was kept back leaves now, behind what followed it. */
static int release(struct tm_client *c, const struct tm_buf *frame, struct tm_fact fact, const char *fault)
{
    int rc = tm_buf_append(c->data, frame->data, frame->len);
    fact.what = "late";
    if (!rc && fact.number)
        write_fact(c, &fact, fault);
    return rc;
}

static struct tm_fact fact_of(const struct tm_sub *s, const struct tm_event *e)
{
    return (struct tm_fact){
        .stream = tm_channel_name(s->channel), .number = e->number, .market = e->market, .sid = s->sid, .seq = s->seq};
}

static void append_late(struct tm_client *c)
{
    int64_t now = tm_clock_mono_us();
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->late_count; i++) {
        struct tm_late *l = &c->late[i];
        if (l->due_us <= now && release(c, &l->frame, l->fact, "late") == TM_OK)
            tm_buf_fini(&l->frame);
        else
            c->late[kept++] = *l;
    }
    c->late_count = kept;
    if (kept)
        tm_timer_start(&c->late_timer, c->late[0].due_us > now ? c->late[0].due_us - now : 0, 0);
    tm_client_mark(c);
}

static void on_late(void *arg)
{
    struct tm_client *c = arg;
    tm_feed_begin(c->feed);
    append_late(c);
}

void tm_sub_drop_kept(struct tm_sub *s)
{
    if (s->trouble && s->trouble->kept.len)
        withhold(s->client, s->trouble->kept_fact, "reorder");
}

int tm_sub_release_kept(struct tm_sub *s)
{
    return s->trouble->kept.len ? release(s->client, &s->trouble->kept, s->trouble->kept_fact, "reorder") : TM_OK;
}

void tm_client_stop_late(struct tm_client *c)
{
    tm_timer_stop(&c->late_timer);
    for (uint32_t i = 0; i < c->late_count; i++) {
        withhold(c, c->late[i].fact, "late");
        tm_buf_fini(&c->late[i].frame);
    }
    free(c->late);
    c->late = NULL;
    c->late_count = 0;
}

static bool keep_for_later(struct tm_sub *s, const struct tm_event *e, const struct tm_buf *frame)
{
    struct tm_client *c = s->client;
    struct tm_late *late = c->late_count < LATE_MAX ? realloc(c->late, (c->late_count + 1) * sizeof *late) : NULL;
    if (!late)
        return false;
    c->late = late;
    late += c->late_count;
    *late = (struct tm_late){tm_clock_mono_us() + s->trouble->late_us, fact_of(s, e), {0}};
    if (tm_buf_append(&late->frame, frame->data, frame->len))
        return false;
    if (!c->late_count++) {
        tm_timer_init(&c->late_timer, c->feed->loop, on_late, c);
        tm_timer_start(&c->late_timer, s->trouble->late_us, 0);
    }
    return true;
}

/* Where a frame's text begins. */
static size_t head_length(const struct tm_buf *frame)
{
    return frame->data[1] < 126 ? 2 : frame->data[1] == 126 ? 4 : 10;
}

/* The same text in many frames: 7 bytes in each. */
static int append_fragments(struct tm_buf *out, const struct tm_buf *frame)
{
    size_t head = head_length(frame);
    for (size_t at = head; at < frame->len;) {
        size_t piece = frame->len - at < 7 ? frame->len - at : 7;
        int rc = tm_buf_reserve(out, TM_WS_HEAD_MAX + piece);
        if (rc)
            return rc;
        uint8_t *p = tm_ws_put_head(out->data + out->len, at == head ? TM_WS_TEXT : TM_WS_CONTINUATION,
                                    at + piece == frame->len, piece);
        memcpy(p, frame->data + at, piece);
        out->len = (size_t)(p - out->data) + piece;
        at += piece;
    }
    return TM_OK;
}

/* Swap two neighbours: keep the first, send it after the second. */
static int swap_frames(struct tm_sub *s, const struct tm_event *e, const struct tm_buf *frame)
{
    struct tm_trouble *t = s->trouble;
    if (!t->kept.len) {
        t->kept_fact = fact_of(s, e);
        return tm_buf_append(&t->kept, frame->data, frame->len);
    }
    int rc = tm_buf_append(s->client->data, frame->data, frame->len);
    if (!rc)
        rc = tm_sub_release_kept(s);
    tm_buf_clear(&t->kept);
    t->reorder--;
    return rc;
}

static int send_troubled(struct tm_sub *s, const struct tm_event *e, const struct tm_buf *frame)
{
    struct tm_trouble *t = s->trouble;
    struct tm_buf *out = s->client->data;
    if (t->gap) {
        t->gap--;
        withhold(s->client, fact_of(s, e), "gap");
        return TM_OK;
    }
    if (t->late) {
        t->late--;
        return keep_for_later(s, e, frame) ? TM_OK : TM_ENOMEM;
    }
    if (t->reorder)
        return swap_frames(s, e, frame);
    if (t->duplicate) {
        t->duplicate--;
        struct tm_fact fact = fact_of(s, e);
        fact.what = "injected";
        fact.stream = "duplicate";
        s->client->feed->injected++;
        write_fact(s->client, &fact, "duplicate");
        int rc = tm_buf_append(out, frame->data, frame->len);
        if (rc)
            return rc;
    }
    if (t->fragment) {
        t->fragment--;
        return append_fragments(out, frame);
    }
    return tm_buf_append(out, frame->data, frame->len);
}

/* The seq is spent already; what is not sent leaves a gap. */
static bool deliver_slowly(struct tm_sub *s, const struct tm_event *e, struct tm_slice suffix)
{
    struct tm_buf *frame = &s->client->feed->frame;
    if (s->client->dropping) {
        withhold(s->client, fact_of(s, e), "stall");
        return true;
    }
    tm_buf_clear(frame);
    return append_frame(frame, s, e->type, suffix) && send_troubled(s, e, frame) == TM_OK;
}

void tm_deliver(struct tm_sub *s, const struct tm_event *e, struct tm_slice suffix)
{
    struct tm_client *c = s->client;
    if (__builtin_expect(tm_conn_backlog(c->conn) + c->held.len > c->feed->opt->client_buffer, 0)) {
        withhold(c, fact_of(s, e), "overflow");
        tm_sub_fail(s, 25);
        return;
    }
    size_t before = c->data->len;
    s->seq++;
    bool sent =
        __builtin_expect(s->slow_path, 0) ? deliver_slowly(s, e, suffix) : append_frame(c->data, s, e->type, suffix);
    if (!sent) {
        tm_conn_close(c->conn, true, "out of memory");
        return;
    }
    c->frames++;
    c->bytes += c->data->len - before;
    c->feed->frames++;
    c->feed->bytes += c->data->len - before;
    tm_client_mark(c);
}

void tm_deliver_raw(struct tm_sub *s, const struct tm_event *e)
{
    struct tm_feed *f = s->client->feed;
    struct tm_sub after = *s;
    after.seq++;
    tm_buf_clear(&f->scratch);
    TM_FATAL_UNLESS(append_frame(&f->scratch, &after, e->type, e->suffix));
    size_t head = head_length(&f->scratch);
    struct tm_fact fact = {.what = "injected",
                           .stream = "unknown",
                           .market = e->market,
                           .client = s->client->number,
                           .sid = s->sid,
                           .seq = s->sequenced ? after.seq : 0,
                           .detail = {(const char *)f->scratch.data + head, f->scratch.len - head},
                           .hex = true};
    f->injected++;
    tm_ledger_fact(f->ledger, &fact);
    tm_deliver(s, e, e->suffix);
}

void tm_deliver_snapshot(struct tm_sub *s, uint32_t market, int64_t id)
{
    struct tm_feed *f = s->client->feed;
    static struct tm_book untouched; /* storage for books that nothing has touched yet, reused */
    const struct tm_book *book = tm_market_book(f->markets, market, &untouched);
    tm_buf_clear(&f->scratch);
    TM_FATAL_UNLESS(tm_buf_reserve(&f->scratch, TM_SNAPSHOT_MAX) == TM_OK);
    char *start = (char *)f->scratch.data, *p = start;
    if (id) {
        p = tm_put_lit(p, "\"id\":");
        p = tm_put_i64(p, id);
        *p++ = ',';
    }
    p = tm_put_lit(p, "\"msg\":");
    char *msg = p;
    p = tm_body_put_snapshot(&f->body, p, market, book, s->use_yes);
    struct tm_fact fact = {.what = id ? "resnapshot" : "snapshot",
                           .stream = "orderbook_snapshots",
                           .market = market,
                           .client = s->client->number,
                           .sid = s->sid,
                           .seq = s->seq + 1,
                           .detail = {msg, (size_t)(p - msg)}};
    tm_ledger_fact(f->ledger, &fact);
    p = tm_put_lit(p, "}\n");
    struct tm_event e = {.type = "orderbook_snapshot", .market = market};
    tm_deliver(s, &e, (struct tm_slice){start, (size_t)(p - start)});
}

void tm_client_send_text(struct tm_client *c, const struct tm_buf *text)
{
    int rc = tm_buf_reserve(&c->conn->out, TM_WS_HEAD_MAX + text->len + 1);
    if (rc) {
        tm_conn_close(c->conn, true, "out of memory");
        return;
    }
    struct tm_buf *out = &c->conn->out;
    uint8_t *p = tm_ws_put_head(out->data + out->len, TM_WS_TEXT, true, text->len + 1);
    p = (uint8_t *)tm_put_bytes((char *)p, text->data, text->len);
    *p++ = '\n';
    out->len = (size_t)(p - out->data);
    tm_client_mark(c);
}

void tm_sub_fail(struct tm_sub *s, int code)
{
    struct tm_client *c = s->client;
    struct tm_buf text = {0};
    char reason[32];
    (void)snprintf(reason, sizeof reason, "error %d", code);
    int rc = tm_buf_printf(&text, "{\"type\":\"error\",\"sid\":%u,", s->sid);
    if (!rc && s->sequenced)
        rc = tm_buf_printf(&text, "\"seq\":%llu,", (unsigned long long)++s->seq);
    if (!rc)
        rc = tm_buf_printf(&text, "\"msg\":{\"code\":%d,\"msg\":\"%s\"}}", code, tm_error_text(code));
    TM_FATAL_UNLESS(rc == TM_OK);
    tm_client_send_text(c, &text);
    tm_buf_fini(&text);
    tm_sub_close(s, reason);
}
