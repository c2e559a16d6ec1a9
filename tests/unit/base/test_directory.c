/* Names that outlive a power loss: which directories are synced is asked of fsync itself, which stands here in its way. */
#include "base/directory.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static ino_t synced[8];
static int synced_count, fail_with, interrupts;

int fsync(int fd)
{
    struct stat st;
    if (interrupts > 0) {
        interrupts--;
        errno = EINTR;
        return -1;
    }
    if (fail_with) {
        errno = fail_with;
        return -1;
    }
    assert_int_equal(fstat(fd, &st), 0);
    assert_in_range(synced_count, 0, 7);
    synced[synced_count++] = st.st_ino;
    return (int)syscall(SYS_fsync, fd);
}

static ino_t inode(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

static int begin(void **state)
{
    static char base[] = "/tmp/tidemill-directory-XXXXXX";
    memcpy(base + sizeof base - 7, "XXXXXX", 6);
    assert_non_null(mkdtemp(base));
    assert_int_equal(chdir(base), 0);
    synced_count = fail_with = interrupts = 0;
    *state = base;
    return 0;
}

static int end(void **state)
{
    (void)rmdir("a/b/c");
    (void)rmdir("a/b");
    (void)rmdir("a");
    return rmdir(*state) || chdir("/");
}

static void the_directory_above_is_synced(void **state)
{
    (void)state;
    interrupts = 2;
    assert_int_equal(tm_directory_make("a", 0700), 0);
    assert_int_equal(tm_directory_make("a/b//", 0700), 0);
    assert_int_equal(tm_directory_make("a/b", 0700), 0); /* again: perhaps nobody had synced it */
    assert_int_equal(synced_count, 3);
    assert_int_equal(synced[0], inode("."));
    assert_int_equal(synced[1], inode("a"));
    assert_int_equal(synced[2], inode("a"));
}

static void failures_are_told(void **state)
{
    (void)state;
    assert_int_equal(tm_directory_make("a/b", 0700), -1);
    assert_int_equal(errno, ENOENT);
    fail_with = EIO;
    assert_int_equal(tm_directory_make("a", 0700), -1);
    assert_int_equal(errno, EIO);
    assert_int_equal(tm_directory_make("a", 0700), 0); /* it is there; whether it lasts is not known any better */
}

static void parts_above_are_made_where_they_are_missing(void **state)
{
    (void)state;
    tm_directory_make_above("a/b/c", 0700);
    assert_int_equal(synced_count, 2);
    assert_int_equal(synced[0], inode("."));
    assert_int_equal(synced[1], inode("a"));
    assert_int_equal(access("a/b/c", F_OK), -1);
    tm_directory_make_above("a/b/c", 0700);
    assert_int_equal(synced_count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_directory_above_is_synced, begin, end),
        cmocka_unit_test_setup_teardown(failures_are_told, begin, end),
        cmocka_unit_test_setup_teardown(parts_above_are_made_where_they_are_missing, begin, end),
    };
    return cmocka_run_group_tests_name("base/directory", tests, NULL, NULL);
}
