#include "store/late.h"
#include "store/quarantine.h"

#include <inttypes.h>

static int put_row(struct tm_buf *sql, const char *stream, const char *columns, const struct tm_late_row *row,
                   bool first)
{
    int rc = tm_buf_printf(sql, "%s('%s','%s','%s',%" PRId64 ",'%s','", first ? "" : ",", stream, row->gatherer,
                           row->epoch, row->seq, columns);
    rc = rc ? rc : tm_quarantine_put_hex(sql, row->tuple);
    return rc ? rc : tm_buf_append(sql, "')", 2);
}

int tm_late_put(struct tm_pg *pg, const char *stream, const char *columns, const struct tm_late_row *rows, size_t count,
                struct tm_error *err)
{
    struct tm_buf sql = {0};
    int rc = tm_buf_printf(&sql, "INSERT INTO tidemill.late (stream, gatherer, epoch, seq, columns, tuple) VALUES ");
    for (size_t i = 0; !rc && i < count; i++)
        rc = put_row(&sql, stream, columns, &rows[i], i == 0);
    rc = rc ? rc : tm_buf_printf(&sql, " ON CONFLICT DO NOTHING");
    const char *text = rc ? NULL : tm_buf_cstr(&sql);
    rc = text ? tm_pg_exec(pg, text, err) : tm_error_set(err, TM_ENOMEM, "out of memory for late rows");
    tm_buf_fini(&sql);
    return rc;
}
