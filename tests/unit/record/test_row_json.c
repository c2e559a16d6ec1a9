/* Rows as JSON: every type, against text written by hand and read back by a second JSON parser. */
#include "record/row_json.h"

#include "record/row.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const key[] = {"id", NULL};
static const struct tm_column_def columns[] = {
    {.name = "id", .type = TM_TYPE_UUID, .not_null = true},
    {.name = "flag", .type = TM_TYPE_BOOL},
    {.name = "small", .type = TM_TYPE_INT2},
    {.name = "price", .type = TM_TYPE_INT4, .scale = 6},
    {.name = "large", .type = TM_TYPE_INT8},
    {.name = "ratio", .type = TM_TYPE_FLOAT8},
    {.name = "name", .type = TM_TYPE_TEXT},
    {.name = "at", .type = TM_TYPE_TIMESTAMPTZ},
    {.name = "document", .type = TM_TYPE_JSONB},
    {.name = "bytes", .type = TM_TYPE_BYTEA},
};

struct bench {
    struct tm_plan *plan;
    const struct tm_stream *stream;
    struct tm_buf row, text;
};

static int setup(void **state)
{
    static const struct tm_stream_def stream = {
        .name = "s", .columns = columns, .column_count = sizeof columns / sizeof *columns, .key = key, .window_us = 1};
    struct tm_plan_def def = {.gatherer = "g", .streams = &stream, .stream_count = 1};
    struct bench *b = calloc(1, sizeof *b);
    struct tm_error err;
    if (!b || tm_plan_compile(&def, &b->plan, &err) < 0)
        return -1;
    b->stream = tm_plan_stream(b->plan, 0);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    tm_buf_fini(&b->row);
    tm_buf_fini(&b->text);
    tm_plan_put(b->plan);
    free(b);
    return 0;
}

static const char *finish(struct bench *b, struct tm_row_writer *w)
{
    struct tm_row row;
    assert_int_equal(tm_row_end(w, b->plan, &row), TM_OK);
    tm_tuple_set_seq(row.tuple, row.len, 9);
    assert_int_equal(tm_row_json(b->stream, row.tuple, row.len, &b->text), TM_OK);
    return tm_buf_cstr(&b->text);
}

static void test_every_type(void **state)
{
    static const uint8_t uuid[16] = {0,    0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                     0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
    struct bench *b = *state;
    struct tm_row_writer w;
    assert_int_equal(tm_row_begin(&w, b->stream, &b->row), TM_OK);
    assert_int_equal(tm_row_put_uuid(&w, uuid), TM_OK);
    assert_int_equal(tm_row_put_bool(&w, true), TM_OK);
    assert_int_equal(tm_row_put_int(&w, -32768), TM_OK);
    assert_int_equal(tm_row_put_int(&w, 470000), TM_OK);
    assert_int_equal(tm_row_put_int(&w, INT64_MIN), TM_OK);
    assert_int_equal(tm_row_put_float(&w, 0.1), TM_OK);
    assert_int_equal(tm_row_put_text(&w, "a\"\\\n\x01é", 7), TM_OK);
    assert_int_equal(tm_row_put_time(&w, INT64_C(-1)), TM_OK); /* just before 1970 */
    assert_int_equal(tm_row_put_text(&w, "{\"a\":[1,null]}", 14), TM_OK);
    assert_int_equal(tm_row_put_text(&w, "\x00\xff", 2), TM_OK);
    const char *text = finish(b, &w);
    assert_string_equal(text, "{\"id\":\"00112233-4455-6677-8899-aabbccddeeff\",\"flag\":true,\"small\":-32768,"
                              "\"price\":470000,\"large\":-9223372036854775808,\"ratio\":0.10000000000000001,"
                              "\"name\":\"a\\\"\\\\\\u000a\\u0001é\",\"at\":\"1969-12-31T23:59:59.999999Z\","
                              "\"document\":{\"a\":[1,null]},\"bytes\":\"\\\\x00ff\",\"seq\":9}");
    json_t *parsed = json_loads(text, 0, NULL);
    assert_non_null(parsed);
    assert_string_equal(json_string_value(json_object_get(parsed, "name")), "a\"\\\n\x01é");
    json_decref(parsed);
}

static void test_nothing_is_left_out_but_null(void **state)
{
    struct bench *b = *state;
    struct tm_row_writer w;
    assert_int_equal(tm_row_begin(&w, b->stream, &b->row), TM_OK);
    assert_int_equal(tm_row_put_uuid(&w, (const uint8_t[16]){0}), TM_OK);
    assert_string_equal(finish(b, &w), "{\"id\":\"00000000-0000-0000-0000-000000000000\",\"seq\":9}");
}

static void test_what_is_no_row(void **state)
{
    struct bench *b = *state;
    static const uint8_t bytes[] = {0, 1, 0, 0};
    assert_int_equal(tm_row_json(b->stream, bytes, sizeof bytes, &b->text), TM_ECORRUPT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_type),
        TEST(test_nothing_is_left_out_but_null),
        TEST(test_what_is_no_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
