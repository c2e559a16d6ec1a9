/* Records whose content follows from stream and seq, so that a test can tell any record from any other. */
#ifndef TM_TEST_JOURNAL_RECORDS_H
#define TM_TEST_JOURNAL_RECORDS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

#include "base/endian.h"
#include "journal/journal.h"

#define RECORD_MAX 400
#define WAIT_US INT64_C(20000000)

/* Fill a tuple but for its last 8 bytes, which the journal sets; its length. */
static inline size_t make_record(int stream, int64_t seq, uint8_t out[RECORD_MAX])
{
    size_t len = 8 + (size_t)((uint64_t)seq * 37 + (uint64_t)stream * 11) % 120;
    for (size_t i = 0; i < len - 8; i++)
        out[i] = (uint8_t)((uint64_t)seq * 131 + (uint64_t)stream * 17 + i * 7 + ((uint64_t)seq >> 8));
    return len;
}

static inline bool record_ok(const struct tm_journal_record *r, int stream)
{
    uint8_t expected[RECORD_MAX];
    size_t len = make_record(stream, r->seq, expected);
    tm_put_be64(expected + len - 8, (uint64_t)r->seq);
    return r->len == len && memcmp(r->tuple, expected, len) == 0;
}

static inline int64_t append_record(struct tm_journal *j, int id, int stream, int64_t expected_seq)
{
    uint8_t tuple[RECORD_MAX];
    size_t len = make_record(stream, expected_seq, tuple);
    return tm_journal_append(j, id, tuple, len);
}

/* A journal of one stream, closed again: records 1 to `count`, so many of them in each frame. */
static inline void write_records(const struct tm_journal_options *o, int64_t count, int64_t a_frame)
{
    struct tm_journal *j;
    assert_int_equal(tm_journal_open(o, &j, NULL), TM_OK);
    int id = tm_journal_stream(j, "trades", "a,b,seq", NULL);
    for (int64_t seq = 1; seq <= count; seq++) {
        assert_int_equal(append_record(j, id, 0, seq), seq);
        if (seq % a_frame == 0) {
            tm_journal_flush(j);
            assert_int_equal(tm_journal_wait(j, WAIT_US), TM_OK);
        }
    }
    assert_int_equal(tm_journal_close(j, NULL), TM_OK);
}

#endif
