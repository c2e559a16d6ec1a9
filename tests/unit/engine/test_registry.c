/* A registry whose stream is another plan's after a reload: entries stay as long as they mean the same. */
#include "../record/kalshi_defs.h"

#include "engine/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct tm_plan *compile(const struct tm_column_def *columns, size_t count)
{
    struct tm_stream_def stream = {
        .name = "markets", .mode = TM_STREAM_UPSERT, .columns = columns, .column_count = count, .key = market_key};
    struct tm_plan_def def = {.streams = &stream, .stream_count = 1};
    struct tm_plan *plan = NULL;
    struct tm_error err;
    if (tm_plan_compile(&def, &plan, &err))
        fail_msg("%s", err.message);
    return plan;
}

/* Texts for all text columns of the stream, NULL for others. Returns what the put said. */
static int put(struct tm_registry *r, const struct tm_plan *plan, const char *ticker, const char *status)
{
    const struct tm_stream *s = tm_plan_stream_by_name(plan, "markets");
    struct tm_buf buf = {0};
    struct tm_row_writer w;
    struct tm_row row;
    uint32_t entry;
    assert_int_equal(tm_row_begin(&w, s, &buf), TM_OK);
    while (w.next < s->column_count - 3) {
        const char *name = s->columns[w.next].name;
        const char *text = strcmp(name, "ticker") == 0 ? ticker : strcmp(name, "status") == 0 ? status : NULL;
        assert_int_equal(text ? tm_row_put_text(&w, text, strlen(text)) : tm_row_put_null(&w), TM_OK);
    }
    assert_int_equal(tm_row_end(&w, plan, &row), TM_OK);
    int rc = tm_registry_put(r, row.tuple, row.len, &entry);
    tm_buf_fini(&buf);
    return rc;
}

static void expect_status(const struct tm_registry *r, const char *ticker, const char *status)
{
    int64_t entry = tm_registry_find(r, ticker, strlen(ticker));
    assert_true(entry >= 0);
    struct tm_field f = tm_registry_get(r, (uint32_t)entry, 1);
    assert_int_equal(f.len, strlen(status));
    assert_memory_equal(f.bytes, status, strlen(status));
}

#define TEXT(n)                                                                                                        \
    {                                                                                                                  \
        .name = (n), .type = TM_TYPE_TEXT                                                                              \
    }
#define TICKER                                                                                                         \
    {                                                                                                                  \
        .name = "ticker", .type = TM_TYPE_TEXT, .not_null = true                                                       \
    }

static void entries_outlive_a_plan(void **state)
{
    static const struct tm_column_def narrow[] = {TICKER, TEXT("status")},
                                      wide[] = {TEXT("title"), TICKER, TEXT("status")},
                                      lacking[] = {TICKER, TEXT("title")},
                                      other[] = {TICKER, {.name = "status", .type = TM_TYPE_INT4}};
    const char *const kept[] = {"status", NULL};
    struct tm_registry *r = NULL;
    struct tm_error err;
    (void)state;
    struct tm_plan *first = compile(narrow, LENGTH(narrow)), *second = compile(wide, LENGTH(wide)),
                   *third = compile(lacking, LENGTH(lacking)), *fourth = compile(other, LENGTH(other));
    assert_int_equal(tm_registry_create(tm_plan_stream(first, 0), kept, &r, &err), TM_OK);
    assert_int_equal(put(r, first, "KX1", "active"), TM_REGISTRY_NEW);
    assert_int_equal(put(r, first, "KX2", "active"), TM_REGISTRY_NEW);
    assert_int_equal(tm_registry_set_stream(r, tm_plan_stream(second, 0), &err), TM_OK);
    tm_plan_put(first); /* nobody needs it any more */
    expect_status(r, "KX1", "active");
    assert_string_equal(tm_registry_column(r, 1)->name, "status");
    assert_int_equal(put(r, second, "KX1", "active"), TM_REGISTRY_SAME);
    assert_int_equal(put(r, second, "KX2", "closed"), TM_REGISTRY_CHANGED);
    assert_int_equal(put(r, second, "KX3", "active"), TM_REGISTRY_NEW);
    expect_status(r, "KX2", "closed");
    assert_int_equal(tm_registry_set_stream(r, tm_plan_stream(third, 0), &err), TM_EINVAL);
    assert_string_equal(err.message, "registry of markets: its column status is not what it was");
    assert_int_equal(tm_registry_set_stream(r, tm_plan_stream(fourth, 0), &err), TM_EINVAL);
    assert_int_equal(put(r, second, "KX1", "settled"), TM_REGISTRY_CHANGED); /* nothing has changed by that */
    assert_int_equal(tm_registry_count(r), 3);
    tm_plan_put(second);
    tm_plan_put(third);
    tm_plan_put(fourth);
    tm_registry_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(entries_outlive_a_plan)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
