/* What a line looks like whatever the feed puts into it (FAILURES c8). JSON lines are read back by another parser. */
#include "unit.h"

#include "base/log.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char out[70000];
static FILE *capture;
static int real_stderr;

static void begin(void)
{
    capture = tmpfile();
    assert_non_null(capture);
    real_stderr = dup(STDERR_FILENO);
    dup2(fileno(capture), STDERR_FILENO);
}

static const char *end(void)
{
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    rewind(capture);
    size_t n = fread(out, 1, sizeof out - 1, capture);
    out[n] = '\0';
    fclose(capture);
    return out;
}

static void test_logfmt_line(void **state)
{
    (void)state;
    tm_log_init(TM_LOG_INFO, TM_LOG_LOGFMT, "g1");
    begin();
    tm_log(TM_LOG_WARN, "journal", "disk is slow", TM_F_I64("sync_ms", -5), TM_F_U64("n", UINT64_MAX),
           TM_F_F64("share", 0.25), TM_F_STR("dir", "/var/lib"), TM_F_STR("none", NULL));
    const char *line = end();
    assert_memory_equal(line, "time=20", 7);
    assert_non_null(strstr(line,
                           " level=warn id=g1 room=journal event=\"disk is slow\" sync_ms=-5 n=18446744073709551615 "
                           "share=0.25 dir=/var/lib none=\"\"\n"));
}

static void test_level(void **state)
{
    (void)state;
    tm_log_init(TM_LOG_WARN, TM_LOG_LOGFMT, NULL);
    begin();
    tm_log(TM_LOG_INFO, "x", "unheard");
    tm_log(TM_LOG_WARN, "x", "heard");
    tm_log_set_level(TM_LOG_ERROR);
    tm_log(TM_LOG_WARN, "x", "unheard");
    const char *line = end();
    assert_null(strstr(line, "unheard"));
    assert_non_null(strstr(line, "event=heard"));
    assert_null(strstr(line, "id="));
    enum tm_log_level level;
    assert_int_equal(tm_log_level_parse("debug", &level), TM_OK);
    assert_int_equal(level, TM_LOG_DEBUG);
    assert_int_equal(tm_log_level_parse("loud", &level), TM_EINVAL);
}

/* One event is one line of printable UTF-8, whatever the bytes are. */
static void test_hostile_bytes(void **state)
{
    (void)state;
    tm_log_init(TM_LOG_INFO, TM_LOG_LOGFMT, NULL);
    static const struct {
        const char *bytes;
        size_t len;
        const char *expected;
    } cases[] = {
        {"KX\ntime=2026 level=error", 24, "t=\"KX\\u000atime=2026 level=error\""},
        {"\x1b[2J", 4, "t=\"\\u001b[2J\""},
        {"%n%s%p", 6, "t=%n%s%p"},
        {"a\"b\\c", 5, "t=\"a\\\"b\\\\c\""},
        {"\0x", 2, "t=\"\\u0000x\""},
        {"\x7f", 1, "t=\"\\u007f\""},
        {"\xc2\x9b", 2, "t=\"\\u00c2\\u009b\""},            /* a C1 control */
        {"\xff\xfe", 2, "t=\"\\u00ff\\u00fe\""},            /* never UTF-8 */
        {"\xc0\xaf", 2, "t=\"\\u00c0\\u00af\""},            /* overlong */
        {"\xed\xa0\x80", 3, "t=\"\\u00ed\\u00a0\\u0080\""}, /* a surrogate */
        {"\xe2\x82", 2, "t=\"\\u00e2\\u0082\""},            /* cut in the middle */
        {"\xe2\x82\xac", 3, "t=\"\xe2\x82\xac\""},          /* the euro sign stays */
        {"\xf0\x9f\x8c\x99", 4, "t=\"\xf0\x9f\x8c\x99\""},
        {"a=b", 3, "t=\"a=b\""},
        {"", 0, "t=\"\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin();
        tm_log(TM_LOG_INFO, "x", "y", TM_F_BYTES("t", cases[i].bytes, cases[i].len));
        const char *line = end();
        const char *field = strstr(line, " t=");
        assert_non_null(field);
        assert_int_equal(strlen(field + 1), strlen(cases[i].expected) + 1);
        assert_memory_equal(field + 1, cases[i].expected, strlen(cases[i].expected));
        assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    }
}

static void test_json_is_json(void **state)
{
    (void)state;
    tm_log_init(TM_LOG_INFO, TM_LOG_JSON, "g\"1");
    uint8_t bytes[256];
    for (int first = 0; first < 256; first++) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(i * 7 + (size_t)first);
        begin();
        tm_log(TM_LOG_INFO, "x", "y", TM_F_BYTES("raw", bytes, sizeof bytes), TM_F_I64("n", -3), TM_F_F64("f", 1.5));
        json_t *root = json_loads(end(), JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        assert_non_null(root);
        assert_string_equal(json_string_value(json_object_get(root, "id")), "g\"1");
        assert_int_equal(json_integer_value(json_object_get(root, "n")), -3);
        assert_true(json_is_string(json_object_get(root, "raw")));
        json_decref(root);
    }
}

static void test_values_are_cut(void **state)
{
    (void)state;
    tm_log_init(TM_LOG_INFO, TM_LOG_LOGFMT, NULL);
    char text[2000];
    memset(text, 'a', sizeof text);
    begin();
    tm_log(TM_LOG_INFO, "x", "y", TM_F_BYTES("t", text, sizeof text));
    const char *line = end();
    assert_int_equal(strspn(strstr(line, "t=\"") + 3, "a"), 256);
    assert_non_null(strstr(line, "aaa...\"\n"));
    /* more than a line can hold: still one line, with its end */
    struct tm_error err;
    tm_error_set(&err, TM_EIO, "%.999s", text);
    begin();
    tm_log(TM_LOG_INFO, "x", "y", TM_F_ERR(&err), TM_F_ERR(&err), TM_F_ERR(&err), TM_F_ERR(&err), TM_F_ERR(&err));
    line = end();
    assert_true(strlen(line) <= 4096);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void test_limit(void **state)
{
    (void)state;
    tm_log_init(TM_LOG_INFO, TM_LOG_LOGFMT, NULL);
    begin();
    for (int i = 0; i < 1000; i++)
        TM_LOG_LIMITED(TM_LOG_INFO, "x", "storm", TM_F_I64("i", i));
    const char *text = end();
    int lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    assert_true(lines >= 10 && lines <= 30); /* ten in each second that the loop touched */
    assert_non_null(strstr(text, "i=9 suppressed=0\n"));
    assert_null(strstr(text, "i=999 "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logfmt_line),    cmocka_unit_test(test_level),
        cmocka_unit_test(test_hostile_bytes),  cmocka_unit_test(test_json_is_json),
        cmocka_unit_test(test_values_are_cut), cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
