/* Who brought a record alone: against a plain list that forgets nothing. */
#include "engine/contribution.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000)

static struct tm_fp fp_of(uint64_t n)
{
    return (struct tm_fp){.lo = n * UINT64_C(0x9e3779b97f4a7c15) >> 20, .hi = n * TM_CONTRIBUTION_ONE_IN};
}

static void expect(struct tm_contribution *c, const char *id, uint64_t brought, uint64_t alone)
{
    struct tm_contribution_counts counts = tm_contribution_of(c, id);
    assert_int_equal(counts.brought, brought);
    assert_int_equal(counts.alone, alone);
}

static void test_counts(void **state)
{
    (void)state;
    struct tm_contribution *c = tm_contribution_create();
    tm_contribution_first(c, fp_of(1), "g1", 0);
    tm_contribution_first(c, fp_of(2), "g1", 0);
    tm_contribution_first(c, fp_of(3), "g2", SECOND);
    tm_contribution_copy(c, fp_of(2), "g2");
    tm_contribution_copy(c, fp_of(2), "g2");
    tm_contribution_copy(c, fp_of(2), "g3");
    tm_contribution_copy(c, fp_of(9), "g3"); /* never heard of it */
    tm_contribution_settle(c, TM_CONTRIBUTION_SETTLE_US - 1);
    expect(c, "g1", 0, 0);
    tm_contribution_settle(c, TM_CONTRIBUTION_SETTLE_US);
    expect(c, "g1", 2, 1);
    expect(c, "g2", 1, 0);
    expect(c, "g3", 1, 0);
    tm_contribution_copy(c, fp_of(1), "g3"); /* too late */
    tm_contribution_settle(c, TM_CONTRIBUTION_SETTLE_US + SECOND);
    expect(c, "g2", 2, 1);
    expect(c, "g3", 1, 0);
    expect(c, "none", 0, 0);
    tm_contribution_destroy(c);
}

/* Many records of colliding homes, some by one, some by two, in a full and moving sample. */
static void test_against_a_list(void **state)
{
    (void)state;
    struct tm_contribution *c = tm_contribution_create();
    uint64_t alone = 0, both = 0, taken = 0;
    for (uint64_t n = 1; n <= 60000; n++) {
        struct tm_fp fp = fp_of(n);
        fp.lo = (fp.lo & 0xfff) * 8; /* 4096 homes, for three times as many records */
        fp.lo |= n << 32;
        tm_contribution_first(c, fp, "g1", (int64_t)n * 5000);
        if (n % 3 == 0)
            tm_contribution_copy(c, fp, "g2");
        both += n % 3 == 0;
        alone += n % 3 != 0;
        taken++;
        tm_contribution_settle(c, (int64_t)n * 5000);
    }
    tm_contribution_settle(c, INT64_MAX / 2);
    expect(c, "g1", taken, alone);
    expect(c, "g2", both, 0);
    tm_contribution_destroy(c);
}

static void test_full(void **state)
{
    (void)state;
    struct tm_contribution *c = tm_contribution_create();
    for (uint64_t n = 1; n <= TM_CONTRIBUTION_RECORDS + 100; n++)
        tm_contribution_first(c, fp_of(n), "g1", 0);
    tm_contribution_settle(c, TM_CONTRIBUTION_SETTLE_US);
    expect(c, "g1", TM_CONTRIBUTION_RECORDS, TM_CONTRIBUTION_RECORDS);
    tm_contribution_first(c, fp_of(1), "g1", 0);
    tm_contribution_settle(c, TM_CONTRIBUTION_SETTLE_US);
    expect(c, "g1", TM_CONTRIBUTION_RECORDS + 1, TM_CONTRIBUTION_RECORDS + 1);
    char id[16];
    for (int i = 0; i < TM_CONTRIBUTION_GATHERERS_MAX + 5; i++) { /* more than there is room for: not counted */
        (void)snprintf(id, sizeof id, "h%d", i);
        tm_contribution_first(c, fp_of(1000000 + (uint64_t)i), id, 0);
    }
    tm_contribution_settle(c, TM_CONTRIBUTION_SETTLE_US);
    expect(c, "h0", 1, 1);
    expect(c, "h68", 0, 0);
    tm_contribution_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_against_a_list),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests_name("engine/contribution", tests, NULL, NULL);
}
