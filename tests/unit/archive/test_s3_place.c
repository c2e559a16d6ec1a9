/* URLs of buckets and of requests to them. */
#include "archive/s3_place.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_where_a_bucket_is(void **state)
{
    static const struct {
        const char *url, *base, *prefix, *scope;
    } places[] = {
        {"s3://tide-archive?region=eu-central-1", "https://tide-archive.s3.eu-central-1.amazonaws.com", "",
         "aws:amz:eu-central-1:s3"},
        {"s3://tide-archive/a/b//?region=us-east-1", "https://tide-archive.s3.us-east-1.amazonaws.com", "a/b/",
         "aws:amz:us-east-1:s3"},
        {"s3://with.dots/?region=us-east-1", "https://s3.us-east-1.amazonaws.com/with.dots", "",
         "aws:amz:us-east-1:s3"},
        {"s3://bucket?region=cn-north-1", "https://bucket.s3.cn-north-1.amazonaws.com.cn", "", "aws:amz:cn-north-1:s3"},
        {"s3://bucket?region=us-west-2&path_style=true", "https://s3.us-west-2.amazonaws.com/bucket", "",
         "aws:amz:us-west-2:s3"},
        {"s3://bucket/p?endpoint=https://minio.example:9000", "https://minio.example:9000/bucket", "p/",
         "aws:amz:us-east-1:s3"},
        {"s3://bucket?endpoint=https://minio.example&path_style=false&region=here", "https://bucket.minio.example", "",
         "aws:amz:here:s3"},
        {"s3://bucket?endpoint=http%3A%2F%2F127.0.0.1%3a9000", "http://127.0.0.1:9000/bucket", "",
         "aws:amz:us-east-1:s3"},
        {"s3://bucket?endpoint=http://[::1]:9000", "http://[::1]:9000/bucket", "", "aws:amz:us-east-1:s3"},
    };
    struct tm_error err;
    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct tm_s3_place p;
        if (tm_s3_place_parse(places[i].url, &p, &err))
            fail_msg("%s: %s", places[i].url, err.message);
        assert_string_equal(p.base, places[i].base);
        assert_string_equal(p.prefix, places[i].prefix);
        assert_string_equal(p.scope, places[i].scope);
        assert_string_equal(p.ca_file, "");
    }
    struct tm_s3_place p;
    assert_int_equal(tm_s3_place_parse("s3://bucket/x?region=r&ca_file=/etc/a%20b.pem", &p, &err), 0);
    assert_string_equal(p.ca_file, "/etc/a b.pem");
    assert_string_equal(p.name, "s3://bucket/x/");
}

static void test_what_is_no_bucket_is_told(void **state)
{
    static const struct {
        const char *url, *told;
    } bad[] = {
        {"s3://", "bucket \"\" in the archive's URL: expected 3 to 63"},
        {"s3://ab?region=r", "expected 3 to 63"},
        {"s3://Bucket?region=r", "expected 3 to 63 small letters"},
        {"s3://user:secret@bucket?region=r", "expected 3 to 63 small letters"},
        {"s3://-bucket?region=r", "expected 3 to 63"},
        {"s3://a..b?region=r", "expected 3 to 63"},
        {"s3://0123456789012345678901234567890123456789012345678901234567890123?region=r", "expected 3 to 63"},
        {"s3://bucket", "has no region"},
        {"s3://bucket?region=", "region= in the archive's URL: expected one value"},
        {"s3://bucket?region=a&region=b", "region= in the archive's URL: expected one value"},
        {"s3://bucket?region=a:b", "expected letters, digits and hyphens"},
        {"s3://bucket?regoin=r", "\"regoin\" in the archive's URL: expected region="},
        {"s3://bucket?region=r&secret_key=x", "credentials are a setting of their own"},
        {"s3://bucket?endpoint=http://192.0.2.1", "http is allowed to loopback only"},
        {"s3://bucket?endpoint=ftp://a", "endpoint= in the archive's URL"},
        {"s3://bucket?endpoint=https://a/b", "expected no path"},
        {"s3://bucket?endpoint=https://127.0.0.1&path_style=false", "expected an endpoint with a name"},
        {"s3://bucket?region=r&path_style=1", "expected true or false"},
        {"s3://bucket?region=r&ca_file=ca.pem", "expected a path from / on"},
        {"s3://bucket?region=%zz", "region= in the archive's URL"},
        {"s3://bucket?region=%2", "region= in the archive's URL"},
        {"s3://bucket?region=%00", "region= in the archive's URL"},
        {"s3://bucket/a//b?region=r", "the prefix in the archive's URL"},
        {"s3://bucket/../x?region=r", "the prefix in the archive's URL"},
    };
    struct tm_s3_place p;
    struct tm_error err;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(tm_s3_place_parse(bad[i].url, &p, &err), TM_EINVAL);
        if (!strstr(err.message, bad[i].told))
            fail_msg("%s: expected \"%s\", got \"%s\"", bad[i].url, bad[i].told, err.message);
    }
}

static void test_urls_are_in_the_form_that_is_signed(void **state)
{
    struct tm_s3_place p;
    struct tm_error err;
    struct tm_buf url = {0};
    const struct tm_s3_param params[] = {
        {"uploadId", "a+b/c=="}, {"partNumber", "7"}, {"key-marker", NULL}, {"uploads", ""}};
    (void)state;
    assert_int_equal(tm_s3_place_parse("s3://bucket/pre?endpoint=https://a.example", &p, &err), 0);
    assert_int_equal(tm_s3_place_url(&p, "year=2026/a!b,c@d~e:f+g", params, 4, &url), 0);
    assert_string_equal((char *)url.data, "https://a.example/bucket/pre/year%3D2026/a%21b%2Cc%40d~e%3Af%2Bg"
                                          "?partNumber=7&uploadId=a%2Bb%2Fc%3D%3D&uploads=");
    assert_int_equal(tm_s3_place_url(&p, NULL, NULL, 0, &url), 0);
    assert_string_equal((char *)url.data, "https://a.example/bucket/");
    tm_buf_fini(&url);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_where_a_bucket_is),
        cmocka_unit_test(test_what_is_no_bucket_is_told),
        cmocka_unit_test(test_urls_are_in_the_form_that_is_signed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
