/* tm_journal_check says what open says, without a directory. */
#include "journal/journal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STREAMS 4

static const struct tm_journal_declaration streams[STREAMS] = {
    {"trades", "trade_id,exchange_ts,received_at,ticker,price,count,taker_side,is_block_trade,sid,exchange_seq,seq"},
    {"orderbook_deltas", "ticker,exchange_ts,side,price,delta,occurrence,received_at,sid,exchange_seq,seq"},
    {"unknown_frames", "received_at,reason,detail,raw,gatherer,epoch,sid,exchange_seq,seq"},
    {"gaps", "gap_id,stream,ticker,from_ts,to_ts,reason,connection,subscription,first_seq,last_seq,closed_by,detail"},
};

static int open_and_declare(const struct tm_journal_options *options, struct tm_error *err)
{
    struct tm_journal *j;
    int rc = tm_journal_open(options, &j, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < STREAMS && rc >= 0; i++)
        rc = tm_journal_stream(j, streams[i].name, streams[i].columns, err);
    (void)tm_journal_close(j, NULL);
    return rc < 0 ? rc : TM_OK;
}

static void test_agrees_with_open(void **state)
{
    (void)state;
    static const size_t segments[] = {
        0, 1, 4095, 4096, 5000, 6000, 8192, 1 << 16, (size_t)1 << 30, ((size_t)1 << 30) + 1};
    static const uint64_t bytes[] = {0, 1, 8191, 8192, 12000, 1 << 17, UINT64_C(1) << 33};
    size_t refused = 0, taken = 0;
    for (size_t s = 0; s < sizeof segments / sizeof *segments; s++)
        for (size_t b = 0; b < sizeof bytes / sizeof *bytes; b++) {
            char dir[] = "/tmp/tm-check-XXXXXX", command[64];
            assert_non_null(mkdtemp(dir));
            struct tm_journal_options options = {.dir = dir, .segment_bytes = segments[s], .bytes_max = bytes[b]};
            struct tm_error err;
            int checked = tm_journal_check(&options, streams, STREAMS, &err), opened = open_and_declare(&options, &err);
            if ((checked == TM_OK) != (opened == TM_OK))
                fail_msg("segment %zu of %llu: check says %d, open %d: %s", segments[s], (unsigned long long)bytes[b],
                         checked, opened, err.message);
            checked ? refused++ : taken++;
            (void)snprintf(command, sizeof command, "rm -rf %s", dir);
            assert_int_equal(system(command), 0);
        }
    assert_true(refused > 10 && taken > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_agrees_with_open)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
