/* What a shard takes of a gatherer's rows (engine/share.h), and that it sees a hole among rows that are not its own. */
#include "base/endian.h"
#include "engine/dedup_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ROWS 300
#define SHARDS 3

static const struct tm_column_def columns[] = {
    {.name = "ticker", .type = TM_TYPE_TEXT},
    {.name = "n", .type = TM_TYPE_INT4, .not_null = true},
};
static const char *const key[] = {"ticker", "n", NULL};
static const struct tm_stream_def streams[] = {
    {.name = "facts", .columns = columns, .column_count = 2, .key = key, .ticker_column = "ticker"}};
static const struct tm_plan_def definition = {
    .gatherer = "g1", .protocol = {.tag_path = "type"}, .streams = streams, .stream_count = 1};

static struct tm_plan *plan;
static struct tm_hash_key hash_key;

static void put_field(struct tm_buf *out, const void *bytes, int32_t len)
{
    uint8_t head[4];
    tm_put_be32(head, (uint32_t)len);
    assert_int_equal(tm_buf_append(out, head, 4), TM_OK);
    if (len > 0)
        assert_int_equal(tm_buf_append(out, bytes, (size_t)len), TM_OK);
}

/* As COPY sends it: (ticker, n, seq). Every tenth row has no market. */
static void put_row(struct tm_buf *out, int64_t seq)
{
    char ticker[32];
    uint8_t count[2], n[4], at[8];
    int len = snprintf(ticker, sizeof ticker, "KXSIM-%d", (int)(seq * 7 % 41));
    tm_put_be16(count, 3);
    tm_put_be32(n, (uint32_t)seq);
    tm_put_be64(at, (uint64_t)seq);
    assert_int_equal(tm_buf_append(out, count, 2), TM_OK);
    put_field(out, ticker, seq % 10 ? len : -1);
    put_field(out, n, 4);
    put_field(out, at, 8);
}

static struct tm_batch *batch_of(unsigned shard, unsigned shards, int64_t without)
{
    struct tm_batch *b = tm_batch_create(tm_plan_stream_by_name(plan, "facts"));
    b->to = ROWS;
    tm_batch_of_shard(b, shard, shards);
    for (int64_t seq = 1; seq <= ROWS; seq++)
        if (seq != without)
            put_row(&b->bytes, seq);
    return b;
}

static int64_t n_of(struct tm_batch *b, size_t row)
{
    struct tm_span_bytes tuple = tm_batch_production_row(b, row);
    return (int64_t)tm_get_be32(tuple.bytes + tuple.len - 4);
}

static void test_each_row_is_of_one_shard_and_whole(void **state)
{
    (void)state;
    struct tm_error err;
    int owner[ROWS + 1];
    memset(owner, -1, sizeof owner);
    for (unsigned shard = 0; shard < SHARDS; shard++) {
        struct tm_batch *b = batch_of(shard, SHARDS, 0);
        size_t all = b->bytes.len;
        assert_int_equal(tm_batch_index(b, &hash_key, &err), TM_OK);
        tm_batch_trim(b);
        assert_true(b->count > ROWS / SHARDS / 3 && b->bytes.len < all / 2 + all / 4);
        for (size_t i = 0; i < b->count; i++) {
            int64_t n = n_of(b, i);
            assert_in_range(n, 1, ROWS);
            assert_int_equal(owner[n], -1);
            owner[n] = (int)shard;
        }
        tm_batch_destroy(b);
    }
    for (int64_t n = 1; n <= ROWS; n++) {
        assert_int_not_equal(owner[n], -1);
        if (n % 10 == 0)
            assert_int_equal(owner[n], 0); /* no market */
        else if (n + 41 <= ROWS && (n + 41) % 10)
            assert_int_equal(owner[n], owner[n + 41]); /* the same one */
    }
}

static void test_every_shard_sees_every_hole(void **state)
{
    (void)state;
    struct tm_error err;
    for (unsigned shard = 0; shard < SHARDS; shard++) {
        struct tm_batch *b = batch_of(shard, SHARDS, 123);
        assert_int_equal(tm_batch_index(b, &hash_key, &err), TM_ESTATE);
        assert_int_equal(b->missing, 123);
        tm_batch_destroy(b);
    }
}

static void test_one_shard_takes_all(void **state)
{
    (void)state;
    struct tm_error err;
    struct tm_batch *b = batch_of(0, 1, 0);
    assert_int_equal(tm_batch_index(b, &hash_key, &err), TM_OK);
    tm_batch_trim(b);
    assert_int_equal(b->count, ROWS);
    tm_batch_destroy(b);
}

/* Rows as a table may hold them: the second half first, and every pair turned round. */
static void turn_round(struct tm_batch *b, int64_t missing)
{
    tm_buf_clear(&b->bytes);
    for (int half = 1; half >= 0; half--)
        for (int64_t n = 1; n <= ROWS / 2; n++) {
            int64_t seq = half * (ROWS / 2) + ((n - 1) ^ 1) + 1;
            if (seq != missing)
                put_row(&b->bytes, seq);
        }
}

static void test_rows_in_another_order(void **state)
{
    (void)state;
    struct tm_error err;
    struct tm_batch *sorted = batch_of(0, 1, 0), *b = batch_of(0, 1, 0);
    assert_int_equal(ROWS % 4, 0);
    turn_round(b, 0);
    assert_int_equal(b->bytes.len, sorted->bytes.len);
    assert_int_equal(tm_batch_index(b, &hash_key, &err), TM_OK);
    assert_int_equal(b->count, ROWS);
    assert_memory_equal(b->bytes.data, sorted->bytes.data, sorted->bytes.len);
    turn_round(b, 123);
    assert_int_equal(tm_batch_index(b, &hash_key, &err), TM_ESTATE);
    assert_int_equal(b->missing, 123);
    turn_round(b, 0);
    put_row(&b->bytes, 77); /* a seq that is there twice is no order */
    assert_int_equal(tm_batch_index(b, &hash_key, &err), TM_ESTATE);
    assert_int_equal(b->missing, 78);
    tm_batch_destroy(b);
    tm_batch_destroy(sorted);
}

static int setup(void **state)
{
    struct tm_error err;
    (void)state;
    tm_hash_key_init(&hash_key);
    if (tm_plan_compile(&definition, &plan, &err))
        fail_msg("%s", err.message);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tm_plan_put(plan);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_row_is_of_one_shard_and_whole),
        cmocka_unit_test(test_every_shard_sees_every_hole),
        cmocka_unit_test(test_rows_in_another_order),
        cmocka_unit_test(test_one_shard_takes_all),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
