#include "engine/gap.h"
#include "record/builtin.h"

#include <string.h>

void tm_gap_open(struct tm_gap *gap, const char *reason, const char *connection, int64_t from_us)
{
    *gap = (struct tm_gap){.open = true, .reason = reason, .connection = connection, .from_us = from_us, .sid = -1};
    tm_random_bytes(gap->id, sizeof gap->id);
}

static int put_text_or_null(struct tm_row_writer *w, const char *s)
{
    return s && *s ? tm_row_put_text(w, s, strlen(s)) : tm_row_put_null(w);
}

static int put_time_or_null(struct tm_row_writer *w, int64_t us)
{
    return us ? tm_row_put_time(w, us) : tm_row_put_null(w);
}

static int put_int_if(struct tm_row_writer *w, bool present, int64_t v)
{
    return present ? tm_row_put_int(w, v) : tm_row_put_null(w);
}

int tm_gap_row(const struct tm_gap *gap, const struct tm_plan *plan, const struct tm_gap_scope *scope,
               struct tm_gap_end end, int64_t now_us, struct tm_buf *buf, struct tm_row *row)
{
    static const struct tm_gap_scope all = {0};
    struct tm_row_writer w;
    scope = scope ? scope : &all;
    bool numbered = gap->last > 0;
    int rc = tm_row_begin(&w, tm_plan_stream_by_name(plan, TM_STREAM_GAPS), buf);
    rc = rc ? rc : tm_row_put_uuid(&w, gap->id);
    rc = rc ? rc : put_text_or_null(&w, scope->stream);
    rc = rc ? rc : scope->ticker ? tm_row_put_text(&w, scope->ticker, scope->ticker_len) : tm_row_put_null(&w);
    rc = rc ? rc : tm_row_put_time(&w, gap->from_us);
    rc = rc ? rc : put_time_or_null(&w, end.to_us);
    rc = rc ? rc : put_text_or_null(&w, gap->reason);
    rc = rc ? rc : put_text_or_null(&w, gap->connection);
    rc = rc ? rc : put_int_if(&w, gap->sid >= 0, gap->sid);
    rc = rc ? rc : put_int_if(&w, numbered, gap->first);
    rc = rc ? rc : put_int_if(&w, numbered, gap->last);
    rc = rc ? rc : put_text_or_null(&w, end.closed_by);
    rc = rc ? rc : put_text_or_null(&w, gap->detail);
    rc = rc ? rc : tm_row_put_time(&w, now_us);
    return rc ? rc : tm_row_end(&w, plan, row);
}
