/* UTF-8, against the C library's converter: every sequence of up to three bytes, and those of four that begin a range. */
#include "base/utf8.h"
#include "unit.h"

#include <iconv.h>
#include <string.h>

static iconv_t strict;

static bool library_says(const char *bytes, size_t len)
{
    char copy[4], out[16], *from = copy, *to = out;
    size_t left = len, room = sizeof out;
    memcpy(copy, bytes, len);
    (void)iconv(strict, NULL, NULL, NULL, NULL);
    return iconv(strict, &from, &left, &to, &room) != (size_t)-1 && room == sizeof out - 4;
}

/* One character of exactly `len` bytes, or none. */
static void look(const char *bytes, size_t len)
{
    bool one = library_says(bytes, len);
    if ((tm_utf8_length(bytes, len) == len) != one)
        fail_msg("%zu bytes from %02x %02x on: expected %d", len, (unsigned char)bytes[0], (unsigned char)bytes[1],
                 one);
    if (one)
        assert_true(tm_utf8_is_valid(bytes, len));
}

static void every_short_sequence(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 1u << 24; v++) {
        const char bytes[3] = {(char)(v >> 16), (char)(v >> 8), (char)v};
        if (!(v & 0xffff))
            look(bytes, 1);
        if (!(v & 0xff))
            look(bytes, 2);
        if ((v >> 16) >= 0xc0 || (v & 0xff) == 0x80) /* of those that begin with ASCII, a part */
            look(bytes, 3);
    }
}

static void sequences_of_four(void **state)
{
    static const unsigned char edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    (void)state;
    for (unsigned first = 0; first < 256; first++)
        for (unsigned second = 0; second < 256; second++)
            for (size_t i = 0; i < sizeof edges; i++)
                for (size_t k = 0; k < sizeof edges; k++) {
                    const char bytes[4] = {(char)first, (char)second, (char)edges[i], (char)edges[k]};
                    look(bytes, 4);
                }
}

static void whole_texts(void **state)
{
    (void)state;
    assert_true(tm_utf8_is_valid("", 0));
    assert_true(tm_utf8_is_valid("a\0b", 3));
    assert_true(tm_utf8_is_valid("\xe2\x82\xac 5", 5));
    assert_false(tm_utf8_is_valid("\xe2\x82\xac", 2));
    assert_false(tm_utf8_is_valid("5 \xed\xa0\x80", 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_short_sequence),
        cmocka_unit_test(sequences_of_four),
        cmocka_unit_test(whole_texts),
    };
    strict = iconv_open("UTF-32LE", "UTF-8");
    if (strict == (iconv_t)-1)
        return 1;
    int failed = cmocka_run_group_tests_name("base/utf8", tests, NULL, NULL);
    (void)iconv_close(strict);
    return failed;
}
