/* Recordings: lines, wrapping, gzip, what is broken. Files are written here, byte by byte. */
#include "control/recording.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static char path[64];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(path, sizeof path, "/tmp/tm-recording-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

static struct tm_recording *open_text(const char *text, size_t len, bool gzip)
{
    struct tm_recording *r;
    struct tm_error err;
    gzFile f = gzopen(path, gzip ? "wb" : "wbT");
    assert_non_null(f);
    assert_int_equal(gzwrite(f, text, (unsigned)len), len);
    assert_int_equal(gzclose(f), Z_OK);
    assert_int_equal(tm_recording_open(path, &r, &err), TM_OK);
    return r;
}

static void assert_frame(struct tm_recording *r, const char *frame, uint64_t line, int64_t recv_us, const char *conn)
{
    struct tm_recorded f;
    struct tm_error err;
    assert_int_equal(tm_recording_next(r, &f, &err), 1);
    if (f.len != strlen(frame) || memcmp(f.frame, frame, f.len) != 0)
        fail_msg("line %d: expected %s, got %.*s", (int)f.line, frame, (int)f.len, f.frame);
    assert_int_equal(f.line, line);
    assert_int_equal(f.recv_us, recv_us);
    assert_int_equal(f.conn_len, conn ? strlen(conn) : 0);
    if (conn)
        assert_memory_equal(f.conn, conn, f.conn_len);
}

static void assert_end(struct tm_recording *r)
{
    struct tm_recorded f;
    struct tm_error err;
    assert_int_equal(tm_recording_next(r, &f, &err), 0);
    tm_recording_close(r);
}

static void test_forms(void **state)
{
    (void)state;
    static const char text[] = "{\"type\":\"a\",\"msg\":{}}\n"
                               "\n  \r\n"
                               "{\"recv_ms\":1786622400123,\"event\":{\"type\":\"b\"}}\r\n"
                               " { \"event\" : { \"x\" : [ 1 ] } , \"conn\" : \"g1/3\" , \"recv_us\" : 17 } \n"
                               "{\"recv_ms\":1.5,\"conn\":\"c\",\"type\":\"plain\"}\n"
                               "{\"event\":\"a word\",\"type\":\"d\"}\n"
                               "{\"event\":{\"a\":1}\n"
                               "garbage\n"
                               "[{\"event\":{}}]\n"
                               "{\"event\":{},\"conn\":\"x\"} trailing\n"
                               "{\"last\":\"without an end\"}";
    for (int gzip = 0; gzip < 2; gzip++) {
        struct tm_recording *r = open_text(text, sizeof text - 1, gzip);
        assert_frame(r, "{\"type\":\"a\",\"msg\":{}}", 1, 0, NULL);
        assert_frame(r, "{\"type\":\"b\"}", 4, INT64_C(1786622400123000), NULL);
        assert_frame(r, "{ \"x\" : [ 1 ] }", 5, 17, "g1/3");
        assert_frame(r, "{\"recv_ms\":1.5,\"conn\":\"c\",\"type\":\"plain\"}", 6, 1500, "c");
        assert_frame(r, "{\"event\":\"a word\",\"type\":\"d\"}", 7, 0, NULL);
        assert_frame(r, "{\"event\":{\"a\":1}", 8, 0, NULL);
        assert_frame(r, "garbage", 9, 0, NULL);
        assert_frame(r, "[{\"event\":{}}]", 10, 0, NULL);
        assert_frame(r, "{\"event\":{},\"conn\":\"x\"} trailing", 11, 0, NULL);
        assert_frame(r, "{\"last\":\"without an end\"}", 12, 0, NULL);
        assert_end(r);
    }
}

/* Lines that lie across the pieces in which a file is read. */
static void test_long_lines(void **state)
{
    (void)state;
    size_t len = (size_t)1 << 20, count = 5;
    char *text = malloc((len + 1) * count);
    for (size_t i = 0; i < count; i++) {
        memset(text + i * (len + 1), 'a' + (int)i, len + 1);
        text[(i + 1) * (len + 1) - 1] = '\n';
    }
    struct tm_recording *r = open_text(text, (len + 1) * count, true);
    for (size_t i = 0; i < count; i++) {
        struct tm_recorded f;
        struct tm_error err;
        assert_int_equal(tm_recording_next(r, &f, &err), 1);
        assert_int_equal(f.len, len);
        assert_int_equal(f.frame[0], 'a' + (int)i);
        assert_int_equal(f.frame[len - 1], 'a' + (int)i);
    }
    assert_end(r);
    free(text);
}

static void test_broken_files(void **state)
{
    (void)state;
    struct tm_recorded f;
    struct tm_error err;
    size_t len = TM_RECORDING_LINE_MAX + ((size_t)1 << 20);
    char *text = malloc(len);
    memset(text, 'x', len);
    struct tm_recording *r = open_text(text, len, false);
    assert_int_equal(tm_recording_next(r, &f, &err), TM_EPARSE);
    assert_non_null(strstr(err.message, ":1: the line is longer than 8 MiB"));
    tm_recording_close(r);
    for (size_t i = 0; i < len; i++)
        text[i] = i % 101 == 0 ? '\n' : (char)('a' + (int)(i * 7919 % 26));
    tm_recording_close(open_text(text, len, true));
    assert_int_equal(truncate(path, 20000), 0); /* the gzip is cut */
    assert_int_equal(tm_recording_open(path, &r, &err), TM_OK);
    int rc;
    while ((rc = tm_recording_next(r, &f, &err)) > 0)
        continue;
    assert_int_equal(rc, TM_EIO);
    tm_recording_close(r);
    free(text);
    assert_int_equal(tm_recording_open("/nonexistent/file", &r, &err), TM_EIO);
    assert_non_null(strstr(err.message, "No such file"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_forms), TEST(test_long_lines), TEST(test_broken_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
