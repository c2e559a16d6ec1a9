/* Conversions against independent computations: string arithmetic, timegm, printf. */
#include "support.h"

#include "record/convert.h"

#include <time.h>

static uint64_t random_state = 7;

static uint64_t roll(uint64_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random_state >> 20) % below;
}

/* ---- all the ways, which must agree ---- */

/* The text alone in a block, so that a sanitizer sees any read beside it, and at the end of one, behind 16 bytes that look
 * like more of it. */
static enum tm_convert decimal_of(const char *text, size_t len, int scale, int64_t *out)
{
    static const char before[][17] = {"9999999999999999", "0000.00000000000", "{\"price_cents\":\"",
                                      "---------------."};
    char *block = malloc(len + 16);
    memcpy(block, text, len);
    enum tm_convert fault = tm_convert_decimal(block, len, scale, out);
    for (size_t i = 0; i < LENGTH(before); i++) {
        int64_t within = -1;
        memcpy(block, before[i], 16);
        memcpy(block + 16, text, len);
        enum tm_convert fault_within = tm_convert_decimal_within(block + 16, len, scale, &within);
        if (fault_within != fault || (!fault && within != *out))
            fail_msg("%.*s at scale %d: fault %d and %lld, within a text fault %d and %lld", (int)len, text, scale,
                     (int)fault, fault ? 0 : (long long)*out, (int)fault_within, (long long)within);
    }
    free(block);
    return fault;
}

/* By itself, as the first of its day, and after others. */
static enum tm_convert rfc3339_of(const char *text, size_t len, int64_t *out)
{
    static struct tm_day days;
    struct tm_day day = {0};
    char *block = malloc(len ? len : 1);
    memcpy(block, text, len);
    enum tm_convert fault = tm_convert_rfc3339(block, len, out);
    struct tm_day *of[] = {&day, &day, &days};
    for (size_t i = 0; i < LENGTH(of); i++) {
        int64_t us = -1;
        enum tm_convert fault_of = tm_convert_time_of(of[i], block, len, &us);
        if (fault_of != fault || (!fault && us != *out))
            fail_msg("%.*s: fault %d and %lld, with a day fault %d and %lld", (int)len, text, (int)fault,
                     fault ? 0 : (long long)*out, (int)fault_of, (long long)us);
    }
    free(block);
    return fault;
}

/* ---- decimals ---- */

static void assert_decimal(const char *text, int scale, int64_t expected)
{
    int64_t v = -1;
    enum tm_convert fault = decimal_of(text, strlen(text), scale, &v);
    if (fault || v != expected)
        fail_msg("%s at scale %d: expected %lld, got %lld, fault %d", text, scale, (long long)expected, (long long)v,
                 (int)fault);
}

static void assert_decimal_fault(const char *text, int scale, enum tm_convert expected)
{
    int64_t v;
    enum tm_convert fault = decimal_of(text, strlen(text), scale, &v);
    if (fault != expected)
        fail_msg("%s at scale %d: expected fault %d, got %d", text, scale, (int)expected, (int)fault);
}

static void test_decimal_values(void **state)
{
    (void)state;
    assert_decimal("0.4700", 6, 470000);
    assert_decimal("0.960", 6, 960000);
    assert_decimal("1", 6, 1000000);
    assert_decimal("-9.90", 2, -990);
    assert_decimal("33896.12", 2, 3389612);
    assert_decimal("0", 0, 0);
    assert_decimal("-0", 2, 0);
    assert_decimal("-0.00", 2, 0);
    assert_decimal("0.000000000", 0, 0);
    assert_decimal("1.50", 1, 15);
    assert_decimal("15e-1", 1, 15);
    assert_decimal("1.5E+3", 0, 1500);
    assert_decimal("1500000e-6", 6, 1500000);
    assert_decimal("0e999999999999999999999", 9, 0);
    assert_decimal("0.47000000000000000000000000000000", 2, 47);
    assert_decimal("100000000000000000000e-20", 0, 1);
    assert_decimal("9223372036854775807", 0, INT64_MAX);
    assert_decimal("-9223372036854775808", 0, INT64_MIN);
    assert_decimal("9223372036.854775807", 9, INT64_MAX);
    assert_decimal("-9223372036.854775808", 9, INT64_MIN);
    assert_decimal("12345678", 0, 12345678);
    assert_decimal("1234567.8", 1, 12345678);
    assert_decimal("1234567890123456", 0, 1234567890123456); /* as many bytes as are taken at once, and one more */
    assert_decimal("12345678901234.5", 1, 123456789012345);
    assert_decimal("123456789012345.6", 1, 1234567890123456);
    assert_decimal("12345678901234567", 0, 12345678901234567);
    assert_decimal("1794060000640", 3, 1794060000640000);
}

static void test_decimal_faults(void **state)
{
    static const char *const malformed[] = {"",      "-",
                                            ".",     ".5",
                                            "5.",    "+5",
                                            "00",    "01",
                                            "-01.5", "1e",
                                            "1e+",   "1.e5",
                                            "0x10",  "1 ",
                                            " 1",    "1,5",
                                            "1.2.3", "--1",
                                            "1-",    "nan",
                                            "inf",   "1_0",
                                            "1..2",  "e5",
                                            "1e5.5", "12345678901234567890x"};
    (void)state;
    for (size_t i = 0; i < LENGTH(malformed); i++)
        assert_decimal_fault(malformed[i], 6, TM_CONVERT_FORM);
    assert_decimal_fault("0.4700001", 6, TM_CONVERT_PRECISION);
    assert_decimal_fault("0.01", 1, TM_CONVERT_PRECISION);
    assert_decimal_fault("1e-7", 6, TM_CONVERT_PRECISION);
    assert_decimal_fault("0.1234567890123456789012", 6, TM_CONVERT_PRECISION);
    assert_decimal_fault("9223372036854775808", 0, TM_CONVERT_RANGE);
    assert_decimal_fault("-9223372036854775809", 0, TM_CONVERT_RANGE);
    assert_decimal_fault("9223372036.854775808", 9, TM_CONVERT_RANGE);
    assert_decimal_fault("1e19", 0, TM_CONVERT_RANGE);
    assert_decimal_fault("1234567890123456", 9, TM_CONVERT_RANGE);
    assert_decimal_fault("0.00000000000001", 9, TM_CONVERT_PRECISION);
    assert_decimal_fault("1e999999999999", 0, TM_CONVERT_RANGE);
    assert_decimal_fault("99999999999999999999999999", 0, TM_CONVERT_RANGE);
}

/* The value by string arithmetic: move the point, strip zeros, compare digit strings. NULL: not representable. */
static const char *shift_point(const char *digits, int decimals, int exponent, int scale, char out[80])
{
    int zeros = scale + exponent - decimals; /* to append, or to take off when negative */
    size_t len = strlen(digits);
    memcpy(out, digits, len + 1);
    for (; zeros > 0; zeros--)
        out[len++] = '0';
    for (; zeros < 0; zeros++) {
        if (len && out[len - 1] != '0')
            return NULL;
        len -= len > 0;
    }
    out[len] = '\0';
    while (*out == '0' && out[1])
        memmove(out, out + 1, strlen(out));
    return *out ? out : "0";
}

static bool fits_int64(const char *digits, bool negative)
{
    const char *limit = negative ? "9223372036854775808" : "9223372036854775807";
    size_t len = strlen(digits);
    return len < 19 || (len == 19 && strcmp(digits, limit) <= 0);
}

static void test_decimal_properties(void **state)
{
    (void)state;
    for (int round = 0; round < 300000; round++) {
        char digits[40], text[80], shifted[80], got[40];
        int len = 1 + (int)roll(round % 2 ? 7 : 22), decimals = (int)roll((uint64_t)len), scale = (int)roll(10);
        int exponent = roll(4) ? 0 : (int)roll(25) - 12;
        bool negative = roll(2);
        for (int i = 0; i < len; i++)
            digits[i] = (char)('0' + (roll(3) ? roll(10) : 0));
        digits[len] = '\0';
        if (len - decimals > 1 && digits[0] == '0')
            digits[0] = '7';
        int n = snprintf(text, sizeof text, "%s%.*s%s%s", negative ? "-" : "", len - decimals, digits,
                         decimals ? "." : "", digits + len - decimals);
        if (exponent)
            (void)snprintf(text + n, sizeof text - (size_t)n, "%c%d", roll(2) ? 'e' : 'E', exponent);
        const char *expected = shift_point(digits, decimals, exponent, scale, shifted);
        bool zero = strspn(digits, "0") == (size_t)len;
        int64_t v;
        enum tm_convert fault = decimal_of(text, strlen(text), scale, &v);
        if (zero) {
            assert_decimal(text, scale, 0);
        } else if (!expected) {
            assert_decimal_fault(text, scale, TM_CONVERT_PRECISION);
        } else if (!fits_int64(expected, negative)) {
            assert_decimal_fault(text, scale, TM_CONVERT_RANGE);
        } else {
            (void)snprintf(got, sizeof got, "%lld", (long long)v);
            if (fault || strcmp(got + negative, expected) != 0 || (negative && *got != '-'))
                fail_msg("%s at scale %d: expected %s, got %s, fault %d", text, scale, expected, got, (int)fault);
        }
    }
}

/* ---- doubles ---- */

static void test_float(void **state)
{
    double v;
    (void)state;
    assert_int_equal(tm_convert_float8("95000.5", 7, &v), TM_CONVERT_OK);
    assert_true(v == 95000.5);
    assert_int_equal(tm_convert_float8("-1e-320", 7, &v), TM_CONVERT_OK);
    assert_true(v == -1e-320);
    assert_int_equal(tm_convert_float8("0.1", 3, &v), TM_CONVERT_OK);
    assert_true(v == 0.1);
    assert_int_equal(tm_convert_float8("1e309", 5, &v), TM_CONVERT_RANGE);
    assert_int_equal(tm_convert_float8("0x10", 4, &v), TM_CONVERT_FORM);
    assert_int_equal(tm_convert_float8("nan", 3, &v), TM_CONVERT_FORM);
    assert_int_equal(tm_convert_float8("", 0, &v), TM_CONVERT_FORM);
}

/* ---- times ---- */

static void assert_time(const char *text, int64_t expected)
{
    int64_t us = -1;
    enum tm_convert fault = rfc3339_of(text, strlen(text), &us);
    if (fault || us != expected)
        fail_msg("%s: expected %lld, got %lld, fault %d", text, (long long)expected, (long long)us, (int)fault);
}

static void assert_time_fault(const char *text, enum tm_convert expected)
{
    int64_t us;
    enum tm_convert fault = rfc3339_of(text, strlen(text), &us);
    if (fault != expected)
        fail_msg("%s: expected fault %d, got %d", text, (int)expected, (int)fault);
}

static void test_rfc3339_values(void **state)
{
    (void)state; /* seconds from `date -u -d ... +%s` */
    assert_time("1970-01-01T00:00:00Z", 0);
    assert_time("2026-11-05T14:00:00.640173Z", INT64_C(1793887200640173));
    assert_time("2026-11-05T14:00:06.42784Z", INT64_C(1793887206427840));
    assert_time("2026-11-05T14:00:06.1Z", INT64_C(1793887206100000));
    assert_time("2026-11-05T14:00:06.123456000Z", INT64_C(1793887206123456));
    assert_time("2026-11-05t14:00:00z", INT64_C(1793887200000000));
    assert_time("2026-11-05 14:00:00Z", INT64_C(1793887200000000));
    assert_time("2026-11-05T14:00:00+00:00", INT64_C(1793887200000000));
    assert_time("2026-11-05T09:30:00.5-04:30", INT64_C(1793887200500000));
    assert_time("2026-11-06T03:45:00.000001+13:45", INT64_C(1793887200000001));
    assert_time("2024-02-29T23:59:59Z", INT64_C(1709251199000000));
    assert_time("2000-02-29T00:00:00Z", INT64_C(951782400000000));
    assert_time("1900-03-01T00:00:00Z", INT64_C(-2203891200000000));
    assert_time("2016-12-31T23:59:60Z", INT64_C(1483228800000000)); /* a leap second */
    assert_time("0001-01-01T00:00:00Z", INT64_C(-62135596800000000));
    assert_time("9999-12-31T23:59:59.999999Z", INT64_C(253402300799999999));
}

static void test_rfc3339_faults(void **state)
{
    static const char *const malformed[] = {"",
                                            "2026-11-05",
                                            "2026-11-05T14:00:00",
                                            "2026-11-05T14:00Z",
                                            "2026-11-05T14:00:00.Z",
                                            "2026-11-05T14:00:00.1234567890Z",
                                            "2026-11-05T14:00:00ZZ",
                                            "2026-11-05T14:00:00+0000",
                                            "2026-11-05T14:00:00+00",
                                            "2026-11-05T14:00:00.5",
                                            "2026/11/05T14:00:00Z",
                                            "2026-11-05X14:00:00Z",
                                            "2026-1-05T14:00:00ZZ",
                                            "+026-11-05T14:00:00Z",
                                            "2026-11-05T14:00:0:Z",
                                            "2026-11-05T14:00:00 Z",
                                            " 2026-11-05T14:00:00Z",
                                            "2026-11-05T14-00-00Z",
                                            "2026:11:05T14:00:00Z",
                                            "2026-11-05T1\xb4:00:00Z"};
    static const char *const out_of_range[] = {
        "2026-02-29T00:00:00Z",      "1900-02-29T00:00:00Z",      "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",      "2026-04-31T00:00:00Z",      "2026-01-00T00:00:00Z",
        "2026-01-01T24:00:00Z",      "2026-01-01T00:60:00Z",      "2026-01-01T00:00:61Z",
        "0000-01-01T00:00:00Z",      "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00-00:60",
        "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:60Z",
        "9999-12-31T23:59:60.5Z"};
    (void)state;
    for (size_t i = 0; i < LENGTH(malformed); i++)
        assert_time_fault(malformed[i], TM_CONVERT_FORM);
    for (size_t i = 0; i < LENGTH(out_of_range); i++)
        assert_time_fault(out_of_range[i], TM_CONVERT_RANGE);
    assert_time_fault("2026-11-05T14:00:06.000000001Z", TM_CONVERT_PRECISION);
    assert_time_fault("2026-11-05T14:00:06.1234561Z", TM_CONVERT_PRECISION);
}

/* Every second of the years 1 to 9999 is fair game; the C library's calendar is the judge. */
static void test_rfc3339_properties(void **state)
{
    (void)state;
    for (int round = 0; round < 200000; round++) {
        int64_t seconds = (int64_t)roll(UINT64_C(315537897599)) - INT64_C(62135596800);
        int digits = (int)roll(7), offset = roll(2) ? 0 : (int)roll(1439) - 719;
        int64_t local = seconds + offset * 60, micros = 0;
        char text[80], fraction[16] = "", zone[16] = "Z";
        struct tm t;
        time_t clock = (time_t)local;
        if (local < INT64_C(-62135596800) || local > INT64_C(253402300799))
            continue;
        assert_non_null(gmtime_r(&clock, &t));
        assert_int_equal(timegm(&t), local);
        if (digits) {
            static const int power[] = {1000000, 100000, 10000, 1000, 100, 10, 1};
            int v = (int)roll(1000000) / power[digits];
            micros = (int64_t)v * power[digits];
            (void)snprintf(fraction, sizeof fraction, ".%0*d", digits, v);
        }
        if (offset)
            (void)snprintf(zone, sizeof zone, "%c%02d:%02d", offset < 0 ? '-' : '+', abs(offset) / 60,
                           abs(offset) % 60);
        (void)snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d%s%s", t.tm_year + 1900, t.tm_mon + 1,
                       t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, fraction, zone);
        assert_time(text, seconds * 1000000 + micros);
    }
}

static void test_epoch(void **state)
{
    int64_t us;
    (void)state;
    assert_int_equal(tm_convert_epoch("1794060000", 10, 6, &us), TM_CONVERT_OK);
    assert_int_equal(us, INT64_C(1794060000000000));
    assert_int_equal(tm_convert_epoch("1794060000640", 13, 3, &us), TM_CONVERT_OK);
    assert_int_equal(us, INT64_C(1794060000640000));
    assert_int_equal(tm_convert_epoch("1794060000640173", 16, 0, &us), TM_CONVERT_OK);
    assert_int_equal(us, INT64_C(1794060000640173));
    assert_int_equal(tm_convert_epoch("1794060000.640173", 17, 6, &us), TM_CONVERT_OK);
    assert_int_equal(us, INT64_C(1794060000640173));
    assert_int_equal(tm_convert_epoch("253402300800", 12, 6, &us), TM_CONVERT_RANGE);
    assert_int_equal(tm_convert_epoch("9223372036854775807", 19, 3, &us), TM_CONVERT_RANGE);
    assert_int_equal(tm_convert_epoch("1.5", 3, 0, &us), TM_CONVERT_PRECISION);
}

/* ---- uuid ---- */

static void test_uuid(void **state)
{
    static const uint8_t expected[16] = {0xd1, 0x7a, 0x98, 0x49, 0xe5, 0x0c, 0x44, 0xeb,
                                         0x45, 0x5a, 0xeb, 0x6e, 0x10, 0x98, 0x77, 0x3f};
    static const char *const malformed[] = {"",
                                            "d17a9849-e50c-44eb-455a-eb6e1098773",
                                            "d17a9849-e50c-44eb-455a-eb6e1098773ff",
                                            "d17a9849e50c44eb455aeb6e1098773f0000",
                                            "d17a9849-e50c-44eb-455a-eb6e1098773g",
                                            "d17a9849-e50c-44eb-455a_eb6e1098773f",
                                            "{17a9849-e50c-44eb-455a-eb6e1098773}"};
    uint8_t out[16];
    (void)state;
    assert_int_equal(tm_convert_uuid("d17a9849-E50C-44eb-455a-eb6e1098773F", 36, out), TM_CONVERT_OK);
    assert_memory_equal(out, expected, 16);
    for (size_t i = 0; i < LENGTH(malformed); i++)
        assert_int_equal(tm_convert_uuid(malformed[i], strlen(malformed[i]), out), TM_CONVERT_FORM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decimal_values),
        cmocka_unit_test(test_decimal_faults),
        cmocka_unit_test(test_decimal_properties),
        cmocka_unit_test(test_float),
        cmocka_unit_test(test_rfc3339_values),
        cmocka_unit_test(test_rfc3339_faults),
        cmocka_unit_test(test_rfc3339_properties),
        cmocka_unit_test(test_epoch),
        cmocka_unit_test(test_uuid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
