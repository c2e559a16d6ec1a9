/* Reading S3's answers, whole, cut at every byte, and with every byte turned into another one. */
#include "archive/s3_xml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* After the example of ListObjectsV2 in the S3 API reference. */
static const char page[] = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- a <Key>comment</Key> -->\n"
                           "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\" a='>'>\n"
                           "  <Name>bucket</Name><Prefix/><KeyCount>205</KeyCount><MaxKeys>1000</MaxKeys>\n"
                           "  <IsTruncated>false</IsTruncated>\n"
                           "  <Contents><Key>my-image.jpg</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>"
                           "<ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size></Contents>\n"
                           "  <Contents><Key>a&amp;b&lt;&gt;&apos;&#x41;&#66;&#x263a;&what;</Key><Size>5</Size>"
                           "<ETag></ETag></Contents>\n"
                           "</ListBucketResult>";

static struct tm_span span(const char *text)
{
    return (struct tm_span){.at = text, .len = strlen(text)};
}

static void test_elements(void **state)
{
    struct tm_span rest = span(page), element;
    char text[64], little[8];
    (void)state;
    assert_true(tm_s3_xml_is(rest));
    assert_true(tm_s3_xml_text(rest, "Name", text, sizeof text));
    assert_string_equal(text, "bucket");
    assert_true(tm_s3_xml_text(rest, "Prefix", text, sizeof text));
    assert_string_equal(text, "");
    assert_true(tm_s3_xml_text(rest, "Key", text, sizeof text)); /* neither KeyCount nor the comment */
    assert_string_equal(text, "my-image.jpg");
    assert_false(tm_s3_xml_text(rest, "Key", little, sizeof little));
    assert_false(tm_s3_xml_text(rest, "Owner", text, sizeof text));
    assert_string_equal(text, "");

    assert_true(tm_s3_xml_next(&rest, "Contents", &element));
    assert_true(tm_s3_xml_text(element, "ETag", text, sizeof text));
    assert_string_equal(text, "\"fba9dede5f27731c9771645a39863328\"");
    assert_true(tm_s3_xml_text(element, "LastModified", text, sizeof text));
    assert_int_equal(tm_s3_xml_time_us(text), 1255369830000000); /* date -u -d 2009-10-12T17:50:30Z +%s */
    assert_true(tm_s3_xml_next(&rest, "Contents", &element));
    assert_true(tm_s3_xml_text(element, "Key", text, sizeof text));
    assert_string_equal(text, "a&b<>'AB??");
    assert_false(tm_s3_xml_text(element, "LastModified", text, sizeof text));
    assert_false(tm_s3_xml_next(&rest, "Contents", &element));
}

static void test_prefixes_and_what_is_no_document(void **state)
{
    char text[32];
    (void)state;
    assert_true(
        tm_s3_xml_text(span("<s3:Error a=\"b\"><s3:Code\t>X</s3:Code ></s3:Error>"), "Code", text, sizeof text));
    assert_string_equal(text, "X");
    assert_true(tm_s3_xml_is(span("  \r\n<a></a>\n")));
    assert_false(tm_s3_xml_is(span("")));
    assert_false(tm_s3_xml_is(span("{\"a\":1}")));
    assert_false(tm_s3_xml_is(span("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>")));
    assert_false(tm_s3_xml_is(span("<a><![CDATA[<Key>x</Key>]]></a>")));
    assert_int_equal(tm_s3_xml_time_us("2009-10-12"), 0);
    assert_int_equal(tm_s3_xml_time_us("yesterday"), 0);
}

/* A copy of just that length, so that a sanitizer sees each byte that is read beyond. */
static void read_all_of(const char *text, size_t len)
{
    char *copy = malloc(len + !len), key[40], small[3];
    struct tm_span rest = {.at = copy, .len = len}, element;
    memcpy(copy, text, len);
    for (int n = 0; tm_s3_xml_next(&rest, "Contents", &element); n++) {
        assert_true(n < 3);
        (void)tm_s3_xml_text(element, "Key", key, sizeof key);
        (void)tm_s3_xml_text(element, "ETag", small, sizeof small);
        assert_true(strlen(key) < sizeof key && strlen(small) < sizeof small);
    }
    (void)tm_s3_xml_is((struct tm_span){.at = copy, .len = len});
    free(copy);
}

static void test_every_cut_and_every_changed_byte(void **state)
{
    static const char others[] = {'<', '>', '/', '&', ';', '"', '\'', '!', '-', ' ', 'C', 0};
    char text[sizeof page];
    (void)state;
    for (size_t len = 0; len < sizeof page; len++)
        read_all_of(page, len);
    for (size_t at = 0; at + 1 < sizeof page; at++)
        for (size_t i = 0; i < sizeof others; i++) {
            memcpy(text, page, sizeof page);
            text[at] = others[i];
            read_all_of(text, sizeof page - 1);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elements),
        cmocka_unit_test(test_prefixes_and_what_is_no_document),
        cmocka_unit_test(test_every_cut_and_every_changed_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
