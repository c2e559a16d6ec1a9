#include "exchange/ledger.h"
#include "base/log.h"
#include "exchange/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define BUFFER (1u << 20)
#define LINE_MAX_FIXED 512 /* a line without its label and detail */

struct tm_ledger {
    int fd; /* -1: nothing is kept */
    const struct tm_markets *markets;
    struct tm_buf buf;
    int64_t wall_us;
    uint64_t last;
};

int tm_ledger_open(const char *path, const struct tm_markets *markets, struct tm_ledger **out, struct tm_error *err)
{
    int fd = -1;
    if (path && (fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) < 0)
        return tm_error_errno(err, TM_EIO, errno, "ledger %s: cannot be created", path);
    struct tm_ledger *l = calloc(1, sizeof *l);
    TM_FATAL_UNLESS(l);
    l->fd = fd;
    l->markets = markets;
    *out = l;
    return TM_OK;
}

void tm_ledger_close(struct tm_ledger *l)
{
    tm_ledger_flush(l, false);
    if (l->fd >= 0)
        (void)close(l->fd);
    tm_buf_fini(&l->buf);
    free(l);
}

static void give_up(const char *what)
{
    tm_log(TM_LOG_ERROR, "exchange", "ledger cannot be written", TM_F_STR("call", what),
           TM_F_STR("cause", strerror(errno)));
    exit(1);
}

void tm_ledger_flush(struct tm_ledger *l, bool durable)
{
    for (size_t at = 0; at < l->buf.len;) {
        ssize_t n = write(l->fd, l->buf.data + at, l->buf.len - at);
        if (n < 0 && errno != EINTR)
            give_up("write");
        at += n > 0 ? (size_t)n : 0;
    }
    tm_buf_clear(&l->buf);
    if (durable && l->fd >= 0 && fdatasync(l->fd))
        give_up("fdatasync");
}

void tm_ledger_set_time(struct tm_ledger *l, int64_t wall_us)
{
    l->wall_us = wall_us;
}

static char *begin(struct tm_ledger *l, size_t extra)
{
    if (l->buf.len >= BUFFER)
        tm_ledger_flush(l, false);
    TM_FATAL_UNLESS(tm_buf_reserve(&l->buf, LINE_MAX_FIXED + extra) == TM_OK);
    return (char *)l->buf.data + l->buf.len;
}

static void end(struct tm_ledger *l, char *p)
{
    *p++ = '\n';
    l->buf.len = (size_t)(p - (char *)l->buf.data);
}

static char *put_null(char *p)
{
    return tm_put_lit(p, "\t\\N");
}

static char *put_number(char *p, uint64_t v)
{
    if (!v)
        return put_null(p);
    *p++ = '\t';
    return tm_put_u64(p, v);
}

static char *put_text(char *p, const char *text)
{
    if (!text)
        return put_null(p);
    *p++ = '\t';
    for (; *text; text++)
        *p++ = (unsigned char)*text < 0x20 || *text == '\\' ? '?' : *text;
    return p;
}

static char *put_ticker(const struct tm_ledger *l, char *p, uint32_t market)
{
    if (market == TM_MARKET_NONE)
        return put_null(p);
    *p++ = '\t';
    return tm_market_put_ticker(l->markets, p, market);
}

/* JSON has no raw control characters; its backslashes are doubled for COPY. */
static char *put_detail(char *p, struct tm_slice detail)
{
    if (!detail.len)
        return put_null(p);
    *p++ = '\t';
    for (const char *s = detail.at, *stop = s + detail.len; s < stop;) {
        const char *slash = memchr(s, '\\', (size_t)(stop - s));
        p = tm_put_bytes(p, s, (size_t)((slash ? slash : stop) - s));
        s = slash ? slash + 1 : stop;
        if (slash)
            p = tm_put_lit(p, "\\\\");
    }
    return p;
}

static char *put_hex(char *p, struct tm_slice bytes)
{
    static const char digits[] = "0123456789abcdef";
    p = tm_put_lit(p, "\t\\\\x");
    for (size_t i = 0; i < bytes.len; i++) {
        *p++ = digits[(unsigned char)bytes.at[i] >> 4];
        *p++ = digits[(unsigned char)bytes.at[i] & 15];
    }
    return p;
}

static char *put_order(char *p, const struct tm_event *e)
{
    bool delta = e->stream == TM_STREAM_DELTA;
    if (!delta && e->stream != TM_STREAM_TRADE)
        return tm_put_lit(p, "\t\\N\t\\N\t\\N\t\\N\t\\N");
    p = e->side == TM_YES ? tm_put_lit(p, "\tyes\t") : tm_put_lit(p, "\tno\t");
    p = tm_put_u64(p, e->price);
    *p++ = '\t';
    p = tm_put_i64(p, e->amount);
    *p++ = '\t';
    if (delta) {
        p = tm_put_u64(p, e->occurrence);
        return put_null(p);
    }
    p = tm_put_lit(p, "\\N\t");
    return tm_put_uuid(p, e->trade_id);
}

void tm_ledger_event(struct tm_ledger *l, const struct tm_event *e)
{
    static const char *const streams[] = {"orderbook_deltas", "trades", "tickers", "lifecycle", "orderbook_snapshots"};
    l->last = e->number;
    if (l->fd < 0)
        return;
    char *p = begin(l, 2 * e->msg.len);
    p = tm_put_lit(p, "emit\t");
    p = tm_put_u64(p, e->number);
    p = put_number(p, (uint64_t)l->wall_us);
    p = put_text(p, streams[e->stream]);
    p = put_ticker(l, p, e->market);
    int64_t ts = e->stream == TM_STREAM_TRADE ? e->ts_us - e->ts_us % 1000 : e->ts_us;
    p = put_number(p, (uint64_t)ts);
    p = put_order(p, e);
    p = tm_put_lit(p, "\t\\N\t\\N\t\\N\t\\N");
    p = e->stream == TM_STREAM_DELTA ? put_null(p) : put_detail(p, e->msg);
    end(l, p);
}

void tm_ledger_fact(struct tm_ledger *l, const struct tm_fact *f)
{
    if (l->fd < 0)
        return;
    char *p = begin(l, (f->label ? strlen(f->label) : 0) + 2 * f->detail.len);
    p = tm_put_str(p, f->what);
    *p++ = '\t';
    p = tm_put_u64(p, f->number ? f->number : l->last);
    p = put_number(p, (uint64_t)l->wall_us);
    p = put_text(p, f->stream);
    p = put_ticker(l, p, f->market);
    p = tm_put_lit(p, "\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N");
    p = put_number(p, f->client);
    p = put_text(p, f->label);
    p = put_number(p, f->sid);
    p = put_number(p, f->seq);
    p = f->hex ? put_hex(p, f->detail) : put_detail(p, f->detail);
    end(l, p);
}
