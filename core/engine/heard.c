#include "engine/heard.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/unset.h"
#include "record/builtin.h"
#include "record/row.h"

#include <string.h>

/* Each open begins a segment, and each lifetime's first frame has a heartbeat: more than a few without one are a journal
 * that nobody can tell anything about. */
#define SEGMENTS_MAX 8

static int64_t heard_in(const struct tm_stream *heartbeats, const struct tm_journal_record *record)
{
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    if (strcmp(record->stream, heartbeats->name) != 0 || strcmp(record->columns, heartbeats->copy_columns) != 0 ||
        tm_tuple_split(record->tuple, record->len, fields, heartbeats->column_count) || fields[0].len != 8)
        return 0;
    return tm_unix_time_us((int64_t)tm_get_be64(fields[0].bytes));
}

/* The newest one from the start of a segment on; 0: none. */
static int64_t newest_from(struct tm_journal *j, uint64_t segment, const struct tm_stream *heartbeats)
{
    struct tm_journal_reader *reader;
    struct tm_journal_record record;
    struct tm_error err;
    int64_t newest_us = 0;
    int rc = tm_journal_reader_open(j, (struct tm_journal_position){.segment = segment}, &reader, &err);
    if (rc)
        return 0;
    while ((rc = tm_journal_reader_next(reader, &record, &err)) == 1) {
        int64_t us = heard_in(heartbeats, &record);
        newest_us = us ? us : newest_us;
    }
    tm_journal_reader_close(reader);
    if (rc < 0)
        tm_log(TM_LOG_WARN, "gatherer", "the journal's end cannot be read for heartbeats", TM_F_ERR(&err));
    return newest_us;
}

int64_t tm_heard_until_us(struct tm_journal *journal, const struct tm_plan *plan)
{
    const struct tm_stream *heartbeats = tm_plan_stream_by_name(plan, TM_STREAM_HEARTBEATS);
    uint64_t newest = tm_journal_durable(journal).segment, oldest = tm_journal_oldest(journal).segment;
    int64_t us = 0;
    for (uint64_t n = 0; !us && n < SEGMENTS_MAX && newest - n >= oldest && newest > n; n++)
        us = newest_from(journal, newest - n, heartbeats);
    return us || newest <= 1 ? us : TM_HEARD_UNKNOWN;
}
