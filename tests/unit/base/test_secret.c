/* Secrets: what may be one, from where, and that errors repeat nothing of it. */
#include "unit.h"

#include "base/secret.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/tm-secret-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(dir) ? setenv("CREDENTIALS_DIRECTORY", dir, 1) : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[64];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static const char *file(const char *name, const void *bytes, size_t len, mode_t mode)
{
    static char path[96];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, bytes, len) == (ssize_t)len && fchmod(fd, mode) == 0);
    close(fd);
    return path;
}

static void expect(const char *content, const char *wanted)
{
    struct tm_secret *s;
    struct tm_error err;
    if (tm_secret_read_file(file("s", content, strlen(content), 0600), &s, &err))
        fail_msg("%s", err.message);
    assert_string_equal(tm_secret_text(s), wanted);
    assert_int_equal(tm_secret_len(s), strlen(wanted));
    struct tm_secret *again = tm_secret_take(s);
    tm_secret_put(s);
    assert_string_equal(tm_secret_text(again), wanted);
    tm_secret_put(again);
}

static void test_one_line_break_goes(void **state)
{
    (void)state;
    expect("hunter2", "hunter2");
    expect("hunter2\n", "hunter2");
    expect("hunter2\r\n", "hunter2");
    expect("hunter2\n\n", "hunter2\n");
    expect(" a b ", " a b ");
    expect("-----BEGIN-----\nx\n-----END-----\n", "-----BEGIN-----\nx\n-----END-----");
}

static void expect_refused(const char *path, int code, const char *text)
{
    struct tm_secret *s = NULL;
    struct tm_error err;
    assert_int_equal(tm_secret_read_file(path, &s, &err), code);
    if (!strstr(err.message, text) || strstr(err.message, "hunter2"))
        fail_msg("%s: %s", path, err.message);
    assert_null(s);
}

static void test_files(void **state)
{
    (void)state;
    static const mode_t good[] = {0400, 0600, 0440, 0640, 0700}, bad[] = {0644, 0660, 0604, 0610, 0601, 0666, 0777};
    struct tm_secret *s;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(tm_secret_read_file(file("s", "hunter2", 7, good[i]), &s, NULL), TM_OK);
        tm_secret_put(s);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(file("s", "hunter2", 7, bad[i]), TM_EDENIED, "expected 0600, or 0640 at most: chmod 600 ");
    expect_refused("/nonexistent/s", TM_ENOENT, "cannot open secret file /nonexistent/s");
    expect_refused(dir, TM_EINVAL, "not a regular file");
    char path[96];
    (void)snprintf(path, sizeof path, "%s/fifo", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refused(path, TM_EINVAL, "not a regular file");
    expect_refused(file("s", "", 0, 0600), TM_EINVAL, "is empty");
    expect_refused(file("s", "\n", 1, 0600), TM_EINVAL, "is empty");
    expect_refused(file("s", "hunter2\0x", 9, 0600), TM_EINVAL, "NUL");
    if (geteuid() == 0) {
        const char *other = file("other", "hunter2", 7, 0600);
        assert_int_equal(chown(other, 12345, 12345), 0);
        expect_refused(other, TM_EDENIED,
                       "belongs to user 12345 (mode 0600): expected root or the user that runs this, 0");
    }
}

static void test_size(void **state)
{
    (void)state;
    char *text = malloc(TM_SECRET_BYTES_MAX + 2);
    struct tm_secret *s;
    assert_non_null(text);
    memset(text, 'x', TM_SECRET_BYTES_MAX + 2);
    text[TM_SECRET_BYTES_MAX] = '\n';
    assert_int_equal(tm_secret_read_file(file("s", text, TM_SECRET_BYTES_MAX + 1, 0600), &s, NULL), TM_OK);
    assert_int_equal(tm_secret_len(s), TM_SECRET_BYTES_MAX);
    tm_secret_put(s);
    text[TM_SECRET_BYTES_MAX] = 'x';
    expect_refused(file("s", text, TM_SECRET_BYTES_MAX + 1, 0600), TM_EINVAL, "longer than 65536");
    expect_refused(file("s", text, TM_SECRET_BYTES_MAX + 2, 0600), TM_EINVAL, "longer than 65536");
    free(text);
}

static void test_credentials(void **state)
{
    (void)state;
    struct tm_secret *s = NULL;
    struct tm_error err;
    (void)file("db", "hunter2\n", 8, 0400);
    assert_int_equal(tm_secret_read_credential("db", &s, &err), TM_OK);
    assert_string_equal(tm_secret_text(s), "hunter2");
    tm_secret_put(s);
    assert_int_equal(tm_secret_read_credential("../db", &s, &err), TM_EINVAL);
    assert_int_equal(tm_secret_read_credential("..", &s, &err), TM_EINVAL);
    assert_int_equal(tm_secret_read_credential("absent", &s, &err), TM_ENOENT);
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_int_equal(tm_secret_read_credential("db", &s, &err), TM_ENOENT);
    assert_non_null(strstr(err.message, "LoadCredential=db:"));
}

static void test_environment(void **state)
{
    (void)state;
    struct tm_secret *s = NULL;
    struct tm_error err;
    setenv("TEST_SECRET", "hunter2", 1);
    assert_int_equal(tm_secret_read_env("TEST_SECRET", &s, &err), TM_OK);
    assert_string_equal(tm_secret_text(s), "hunter2");
    tm_secret_put(s);
    setenv("TEST_SECRET", "", 1);
    assert_int_equal(tm_secret_read_env("TEST_SECRET", &s, &err), TM_EINVAL);
    unsetenv("TEST_SECRET");
    assert_int_equal(tm_secret_read_env("TEST_SECRET", &s, &err), TM_ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_line_break_goes), cmocka_unit_test(test_files),
                                       cmocka_unit_test(test_size), cmocka_unit_test(test_credentials),
                                       cmocka_unit_test(test_environment)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
