/* A directory as a target, and what all targets have in common: keys, the form of URLs, hashes. */
#include "archive/target.h"
#include "base/clock.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct test {
    char root[64], url[128];
    struct tm_target *target;
    struct tm_error err;
    atomic_bool stop;
};

static int set_up(void **state)
{
    struct test *t = calloc(1, sizeof *t);
    snprintf(t->root, sizeof t->root, "/tmp/tidemill-target-XXXXXX");
    assert_non_null(mkdtemp(t->root));
    snprintf(t->url, sizeof t->url, "file://%s/archive///", t->root);
    struct tm_target_options o = {.url = t->url, .stop = &t->stop};
    if (tm_target_open(&o, &t->target, &t->err))
        fail_msg("%s", t->err.message);
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct test *t = *state;
    char command[100];
    tm_target_close(t->target);
    snprintf(command, sizeof command, "rm -rf %s", t->root);
    assert_int_equal(system(command), 0);
    free(t);
    return 0;
}

static void put(struct test *t, const char *key, const char *text)
{
    if (tm_target_put(t->target, key, text, strlen(text), NULL, &t->err))
        fail_msg("%s: %s", key, t->err.message);
}

/* sha256sum of "hello world\n" says this. */
static const char hello_sha256[] = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447";

static void test_what_is_put_in_pieces_comes_back(void **state)
{
    struct test *t = *state;
    struct tm_put *p;
    struct tm_put_result r;
    struct tm_object o;
    struct tm_buf body = {0};
    char hex[65], some[5];
    assert_int_equal(tm_put_begin(t->target, "raw/trades/year=2026/x.parquet", &p, &t->err), 0);
    assert_int_equal(tm_put_append(p, "hello ", 6, &t->err), 0);
    assert_int_equal(tm_put_append(p, "", 0, &t->err), 0);
    assert_int_equal(tm_target_head(t->target, "raw/trades/year=2026/x.parquet", &o, &t->err), TM_ENOENT);
    assert_int_equal(tm_put_append(p, "world\n", 6, &t->err), 0);
    assert_int_equal(tm_put_finish(p, &r, &t->err), 0);
    for (size_t i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", r.sha256[i]);
    assert_int_equal(r.size, 12);
    assert_string_equal(hex, hello_sha256);

    assert_int_equal(tm_target_head(t->target, "raw/trades/year=2026/x.parquet", &o, &t->err), 0);
    assert_int_equal(o.size, 12);
    assert_true(llabs(o.modified_us - tm_clock_wall_us()) < 600 * TM_US_PER_S);
    assert_int_equal(tm_target_read(t->target, "raw/trades/year=2026/x.parquet", 12, &body, &t->err), 0);
    assert_memory_equal(body.data, "hello world\n", 12);
    assert_int_equal(tm_target_read(t->target, "raw/trades/year=2026/x.parquet", 11, &body, &t->err), TM_ECORRUPT);
    assert_int_equal(body.len, 12);
    assert_int_equal(tm_target_read_at(t->target, "raw/trades/year=2026/x.parquet", 6, some, 5, &t->err), 0);
    assert_memory_equal(some, "world", 5);
    assert_int_equal(tm_target_read_at(t->target, "raw/trades/year=2026/x.parquet", 8, some, 5, &t->err), TM_ECORRUPT);
    assert_int_equal(tm_target_verify(t->target, "raw/trades/year=2026/x.parquet", &r, &t->err), 0);
    r.sha256[31] ^= 1;
    assert_int_equal(tm_target_verify(t->target, "raw/trades/year=2026/x.parquet", &r, &t->err), TM_ECORRUPT);
    assert_non_null(strstr(t->err.message, hello_sha256));
    r.size = 13;
    assert_int_equal(tm_target_verify(t->target, "raw/trades/year=2026/x.parquet", &r, &t->err), TM_ECORRUPT);
    tm_buf_fini(&body);
}

static void test_nothing_is_replaced(void **state)
{
    struct test *t = *state;
    struct tm_put *first, *second;
    struct tm_buf body = {0};
    assert_int_equal(tm_put_begin(t->target, "a/b", &first, &t->err), 0);
    assert_int_equal(tm_put_begin(t->target, "a/b", &second, &t->err), 0);
    assert_int_equal(tm_put_append(first, "first", 5, &t->err), 0);
    assert_int_equal(tm_put_append(second, "second", 6, &t->err), 0);
    assert_int_equal(tm_put_finish(second, NULL, &t->err), 0);
    assert_int_equal(tm_put_finish(first, NULL, &t->err), TM_ECONFLICT);
    assert_int_equal(tm_put_begin(t->target, "a/b", &first, &t->err), TM_ECONFLICT);
    assert_int_equal(tm_put_begin(t->target, "a/b/c", &first, &t->err), TM_EIO); /* a file is no directory */
    assert_int_equal(tm_target_read(t->target, "a/b", 100, &body, &t->err), 0);
    assert_memory_equal(body.data, "second", 6);
    size_t removed;
    assert_int_equal(tm_target_sweep(t->target, -TM_US_PER_S * 3, &removed, &t->err), 0);
    assert_int_equal(removed, 0);
    tm_buf_fini(&body);
}

static void test_an_abort_and_an_old_put_leave_nothing(void **state)
{
    struct test *t = *state;
    struct tm_put *p, *left;
    size_t removed;
    assert_int_equal(tm_put_begin(t->target, "a/b", &p, &t->err), 0);
    assert_int_equal(tm_put_begin(t->target, "a/c", &left, &t->err), 0);
    tm_put_abort(p);
    assert_int_equal(tm_target_sweep(t->target, 3600 * TM_US_PER_S, &removed, &t->err), 0);
    assert_int_equal(removed, 0);
    assert_int_equal(tm_target_sweep(t->target, -3 * TM_US_PER_S, &removed, &t->err), 0);
    assert_int_equal(removed, 1);
    tm_put_abort(left);
}

struct seen {
    char keys[1000];
    int left;
};

static int see(void *arg, const char *key, const struct tm_object *o)
{
    struct seen *s = arg;
    size_t len = strlen(s->keys);
    snprintf(s->keys + len, sizeof s->keys - len, "%s:%d ", key, (int)o->size);
    return --s->left ? 0 : 7;
}

static const char *list(struct test *t, struct seen *s, const char *prefix, const char *after)
{
    *s = (struct seen){.left = 100};
    if (tm_target_list(t->target, prefix, after, see, s, &t->err))
        fail_msg("%s", t->err.message);
    return s->keys;
}

/* The order is that of the bytes of whole keys, in which '-' and '.' come before '/', and '0' behind it. */
static void test_listings_are_in_the_order_of_keys(void **state)
{
    struct test *t = *state;
    struct tm_put *unfinished;
    struct seen s;
    char path[200];
    put(t, "a/x", "1");
    put(t, "a-b", "22");
    put(t, "a.b/y", "333");
    put(t, "a0", "4444");
    put(t, "a/b/c", "55555");
    put(t, "b/a", "");
    assert_int_equal(tm_put_begin(t->target, "a/unfinished", &unfinished, &t->err), 0);
    snprintf(path, sizeof path, "%s/archive/a/.hidden", t->root);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    snprintf(path, sizeof path, "%s/archive/a/no key", t->root);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    snprintf(path, sizeof path, "%s/archive/link", t->root);
    assert_int_equal(symlink("/etc", path), 0);
    assert_string_equal(list(t, &s, "", NULL), "a-b:2 a.b/y:3 a/b/c:5 a/x:1 a0:4 b/a:0 ");
    assert_string_equal(list(t, &s, "a/", NULL), "a/b/c:5 a/x:1 ");
    assert_string_equal(list(t, &s, "a/b/c", NULL), "a/b/c:5 ");
    assert_string_equal(list(t, &s, "", "a/b/c"), "a/x:1 a0:4 b/a:0 ");
    assert_string_equal(list(t, &s, "a", "a/w"), "a/x:1 a0:4 ");
    assert_string_equal(list(t, &s, "nothing/", NULL), "");
    s = (struct seen){.left = 2};
    assert_int_equal(tm_target_list(t->target, "", NULL, see, &s, &t->err), 7);
    assert_string_equal(s.keys, "a-b:2 a.b/y:3 ");
    tm_put_abort(unfinished);
}

static void test_links_lead_nowhere(void **state)
{
    struct test *t = *state;
    struct tm_object o;
    struct tm_put *p;
    char path[200];
    snprintf(path, sizeof path, "%s/archive/etc", t->root);
    assert_int_equal(symlink("/etc", path), 0);
    snprintf(path, sizeof path, "%s/archive/passwd", t->root);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_not_equal(tm_target_head(t->target, "etc/passwd", &o, &t->err), 0);
    assert_int_equal(tm_target_head(t->target, "passwd", &o, &t->err), TM_EDENIED);
    assert_int_not_equal(tm_put_begin(t->target, "etc/tidemill-test", &p, &t->err), 0);
}

static void test_a_stop_is_heard(void **state)
{
    struct test *t = *state;
    struct tm_put *p;
    struct seen s = {.left = 100};
    put(t, "a", "1");
    assert_int_equal(tm_put_begin(t->target, "b", &p, &t->err), 0);
    atomic_store(&t->stop, true);
    assert_int_equal(tm_put_append(p, "x", 1, &t->err), TM_ESTOPPED);
    assert_int_equal(tm_put_finish(p, NULL, &t->err), TM_ESTOPPED);
    assert_int_equal(tm_target_list(t->target, "", NULL, see, &s, &t->err), TM_ESTOPPED);
    atomic_store(&t->stop, false);
    assert_string_equal(list(t, &s, "", NULL), "a:1 ");
}

static void test_what_is_opened_for_reading_stays_as_it_is(void **state)
{
    struct test *t = *state;
    struct tm_target *other;
    struct tm_put *p;
    size_t removed;
    struct tm_target_options o = {.url = t->url, .read_only = true};
    assert_int_equal(tm_target_open(&o, &other, &t->err), 0);
    assert_int_equal(tm_put_begin(other, "a", &p, &t->err), TM_EDENIED);
    assert_int_equal(tm_target_sweep(other, 0, &removed, &t->err), TM_EDENIED);
    tm_target_close(other);
    o.url = "file:///nonexistent/archive";
    assert_int_equal(tm_target_open(&o, &other, &t->err), TM_ENOENT);
    o.read_only = false;
    assert_int_equal(tm_target_open(&o, &other, &t->err), TM_ENOENT); /* only the last part is made */
    char name[200];
    snprintf(name, sizeof name, "file://%s/archive", t->root);
    assert_string_equal(tm_target_name(t->target), name);
}

static void test_keys(void **state)
{
    static const char *const good[] = {"a", "raw/trades/year=2026/month=07/day=09/hour=23/part-0.parquet",
                                       "A!_-.=,+@~:/z"};
    static const char *const bad[] = {"",       "/a",  "a/",   "a//b", ".",   "..",    "a/../b",   "a/.b",
                                      ".put-x", "a b", "a\\b", "a\nb", "a?b", "a%2fb", "\303\244", "a*"};
    struct tm_error err;
    char longest[TM_TARGET_KEY_MAX + 2];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(tm_target_check_key(good[i], &err), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(tm_target_check_key(bad[i], &err), TM_EINVAL);
    for (size_t i = 0; i <= TM_TARGET_KEY_MAX; i++)
        longest[i] = i % 50 == 49 ? '/' : 'k';
    longest[TM_TARGET_KEY_MAX] = '\0';
    longest[TM_TARGET_KEY_MAX - 1] = 'k';
    assert_int_equal(tm_target_check_key(longest, &err), 0);
    memcpy(longest + TM_TARGET_KEY_MAX, "k", 2);
    assert_int_equal(tm_target_check_key(longest, &err), TM_EINVAL);
}

static void test_settings_are_checked(void **state)
{
    static const struct {
        struct tm_target_options o;
        const char *told;
    } bad[] = {
        {{.url = "/var/archive"}, "expected file:///directory or s3://"},
        {{.url = NULL}, "expected file:///directory or s3://"},
        {{.url = "https://bucket"}, "expected file:///directory or s3://"},
        {{.url = "file://relative"}, "from / on"},
        {{.url = "file:///a?b=c"}, "without '?'"},
        {{.url = "file:///a", .credentials = "environment"}, "credentials are for s3:// only"},
        {{.url = "file:///a", .part_bytes = 1000}, "a part of 1000 bytes: expected 5242880 to"},
        {{.url = "file:///a", .tries = 101}, "100 attempts at most"},
        {{.url = "s3://bucket?region=x", .credentials = "AKIA:secret"}, "credentials: expected file:/path"},
        {{.url = "s3://bucket?region=x", .credentials = "file:relative"}, "credentials: expected file:/path"},
        {{.url = "s3://bucket?region=x", .credentials = "file:/path#"}, "credentials: expected file:/path"},
        {{.url = "s3://bucket"}, "has no region"},
    };
    struct tm_error err;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(tm_target_check(&bad[i].o, &err), TM_EINVAL);
        if (!strstr(err.message, bad[i].told) || strstr(err.message, "secret"))
            fail_msg("expected \"%s\", got \"%s\"", bad[i].told, err.message);
    }
    struct tm_target_options good = {.url = "s3://bucket/p?region=eu-central-1", .credentials = "credential:s3#ingest"};
    assert_int_equal(tm_target_check(&good, &err), 0);
}

int main(void)
{
#define WITH_TARGET(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_TARGET(test_what_is_put_in_pieces_comes_back),
        WITH_TARGET(test_nothing_is_replaced),
        WITH_TARGET(test_an_abort_and_an_old_put_leave_nothing),
        WITH_TARGET(test_listings_are_in_the_order_of_keys),
        WITH_TARGET(test_links_lead_nowhere),
        WITH_TARGET(test_a_stop_is_heard),
        WITH_TARGET(test_what_is_opened_for_reading_stays_as_it_is),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_settings_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
