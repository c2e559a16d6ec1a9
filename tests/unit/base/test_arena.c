#include "unit.h"

#include "base/arena.h"

static void test_memory_is_zeroed_aligned_apart(void **state)
{
    (void)state;
    struct tm_arena *a = tm_arena_create();
    unsigned char *last = NULL;
    size_t last_size = 0;
    for (size_t i = 0; i < 3000; i++) {
        size_t size = i * 37 % 500 + (i % 100 == 0 ? 40000 : 0);
        unsigned char *p = tm_arena_alloc(a, size);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t k = 0; k < size; k++)
            assert_int_equal(p[k], 0);
        memset(p, 0xee, size);
        assert_true(!last || p + size <= last || p >= last + last_size);
        last = p;
        last_size = size;
    }
    tm_arena_destroy(a);
    tm_arena_destroy(NULL);
}

static void test_strings(void **state)
{
    (void)state;
    struct tm_arena *a = tm_arena_create();
    char text[] = "orderbook_deltas";
    char *whole = tm_arena_strdup(a, text), *part = tm_arena_strndup(a, text, 9);
    text[0] = 'X';
    assert_string_equal(whole, "orderbook_deltas");
    assert_string_equal(part, "orderbook");
    assert_string_equal(tm_arena_strdup(a, ""), "");
    assert_null(tm_arena_strdup(a, NULL));
    tm_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_zeroed_aligned_apart),
        cmocka_unit_test(test_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
