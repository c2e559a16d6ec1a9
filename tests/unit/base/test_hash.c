#include "unit.h"

#include "base/endian.h"
#include "base/hash.h"

static void test_fingerprint_depends_on_all_bytes_and_the_key(void **state)
{
    (void)state;
    struct tm_hash_key key, other;
    tm_hash_key_init(&key);
    tm_hash_key_init(&other);
    assert_memory_not_equal(&key, &other, sizeof key);
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    for (size_t len = 1; len <= sizeof bytes; len += 13) {
        struct tm_fp fp = tm_hash_fp(&key, bytes, len), again = tm_hash_fp(&key, bytes, len);
        assert_true(fp.lo == again.lo && fp.hi == again.hi);
        struct tm_fp foreign = tm_hash_fp(&other, bytes, len), shorter = tm_hash_fp(&key, bytes, len - 1);
        assert_true(fp.lo != foreign.lo && fp.hi != foreign.hi);
        assert_true(fp.lo != shorter.lo && fp.hi != shorter.hi);
        for (size_t at = 0; at < len; at++) {
            bytes[at] ^= 0x10;
            struct tm_fp changed = tm_hash_fp(&key, bytes, len);
            assert_true(fp.lo != changed.lo && fp.hi != changed.hi);
            bytes[at] ^= 0x10;
        }
    }
}

static void test_occurrences_differ(void **state)
{
    (void)state;
    struct tm_fp fp = {.lo = 0x1234, .hi = 0xabcd}, made[64];
    struct tm_fp zero = tm_fp_occurrence(fp, 0);
    assert_true(zero.lo == fp.lo && zero.hi == fp.hi);
    for (uint32_t i = 0; i < 64; i++) {
        made[i] = tm_fp_occurrence(fp, i);
        for (uint32_t k = 0; k < i; k++)
            assert_true(made[i].lo != made[k].lo && made[i].hi != made[k].hi);
    }
}

/* The shard of a ticker is stored by what this gives, so it may never change. Values of XXH3_64bits from the
 * xxHash specification's sanity tests (empty input) and from xxhsum -H3. */
static void test_hash64_is_stable(void **state)
{
    (void)state;
    assert_true(tm_hash64("", 0, 0) == UINT64_C(0x2d06800538d394c2));
    assert_true(tm_hash64("a", 1, 0) == UINT64_C(0xe6c632b61e964e1f));
    assert_true(tm_hash64("abc", 3, 0) == UINT64_C(0x78af5f94892f3950));
    assert_true(tm_hash64("abc", 3, 1) != tm_hash64("abc", 3, 0));
}

static void test_random_bytes_differ(void **state)
{
    (void)state;
    uint8_t a[1000] = {0}, b[1000] = {0};
    tm_random_bytes(a, sizeof a);
    tm_random_bytes(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    int zeros = 0;
    for (size_t i = 0; i < sizeof a; i++)
        zeros += a[i] == 0;
    assert_true(zeros < 50); /* all of it was filled */
}

static void test_endian(void **state)
{
    (void)state;
    uint8_t bytes[9];
    tm_put_be16(bytes + 1, 0x0102);
    assert_memory_equal(bytes + 1, "\1\2", 2);
    assert_int_equal(tm_get_be16(bytes + 1), 0x0102);
    tm_put_be32(bytes + 1, 0x01020304);
    assert_memory_equal(bytes + 1, "\1\2\3\4", 4);
    assert_int_equal(tm_get_be32(bytes + 1), 0x01020304);
    tm_put_be64(bytes + 1, UINT64_C(0x0102030405060708));
    assert_memory_equal(bytes + 1, "\1\2\3\4\5\6\7\10", 8);
    assert_true(tm_get_be64(bytes + 1) == UINT64_C(0x0102030405060708));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fingerprint_depends_on_all_bytes_and_the_key),
        cmocka_unit_test(test_occurrences_differ),
        cmocka_unit_test(test_hash64_is_stable),
        cmocka_unit_test(test_random_bytes_differ),
        cmocka_unit_test(test_endian),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
