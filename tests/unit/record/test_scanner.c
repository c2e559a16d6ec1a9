/*
 * Strictness of the scanner: verdicts on cases in the manner of JSONTestSuite, and agreement with a second parser
 * (jansson) on them and on mutated frames.
 *
 * Every text goes two ways: as a document in a block of exactly its size, so that a sanitizer sees any read beside it,
 * and as a frame through the decoder, whose walk has code of its own for names and strings.
 */
#include "json_cases.h"
#include "support.h"

#include "record/find.h"

#include <jansson.h>

/* ---- the two ways ---- */

static bool document_accepts(const char *text, size_t len)
{
    char *copy = malloc(len ? len : 1);
    struct tm_scanner s;
    struct tm_value v;
    memcpy(copy, text, len);
    tm_scanner_init(&s, copy, len, false);
    int rc = tm_scan_document(&s, &v);
    if (rc) {
        assert_non_null(s.expected);
        assert_true(s.fault_at >= copy && s.fault_at <= copy + len);
    }
    free(copy);
    return rc == TM_OK;
}

static bool accepts(struct fixture *f, const char *text, size_t len)
{
    bool document = document_accepts(text, len);
    bool frame = decode_bytes(f, text, len)->verdict != TM_VERDICT_MALFORMED;
    if (document != frame)
        fail_msg("as a document %d, as a frame %d: %.*s", document, frame, (int)len, text);
    return document;
}

/* ---- jansson, and where the two may differ ---- */

enum agreement { AGREE_YES, AGREE_NO, DIFFER_ALLOWED, DIFFER };

static unsigned nesting(const char *text, size_t len)
{
    unsigned open = 0, most = 0;
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        if (quoted && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            quoted = !quoted;
        else if (!quoted && (text[i] == '[' || text[i] == '{'))
            most = ++open > most ? open : most;
        else if (!quoted && (text[i] == ']' || text[i] == '}'))
            open -= open > 0;
    }
    return most;
}

/*
 * jansson builds values, so it refuses legal JSON whose values it cannot hold: \u0000, escaped lone surrogates, numbers
 * beyond a double or a 64-bit integer.
 */
static bool beyond_jansson(const json_error_t *error)
{
    enum json_error_code code = json_error_code(error);
    return code == json_error_null_character || code == json_error_null_byte_in_key ||
           code == json_error_numeric_overflow || strstr(error->text, "invalid Unicode") != NULL;
}

/*
 * The scanner refuses nesting beyond 64, jansson beyond 2048. A raw NUL is no JSON, but jansson loses one that follows a
 * number, because its push-back buffer ends in NUL.
 */
static bool beyond_scanner(const char *text, size_t len)
{
    return nesting(text, len) > TM_JSON_DEPTH_MAX || memchr(text, '\0', len);
}

static enum agreement compare(struct fixture *f, const char *text, size_t len)
{
    json_error_t error;
    json_t *judged = json_loadb(text, len, JSON_DECODE_ANY, &error);
    bool ours = accepts(f, text, len), theirs = judged != NULL;
    json_decref(judged);
    if (ours == theirs)
        return ours ? AGREE_YES : AGREE_NO;
    if (ours ? beyond_jansson(&error) : beyond_scanner(text, len))
        return DIFFER_ALLOWED;
    return DIFFER;
}

static void assert_agrees(struct fixture *f, const char *text, size_t len)
{
    if (compare(f, text, len) == DIFFER)
        fail_msg("jansson disagrees with verdict %d (%s): %.*s", f->d.verdict, f->d.reason, (int)len, text);
}

/* ---- cases ---- */

static void test_accepted(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < LENGTH(accepted); i++) {
        if (!accepts(f, accepted[i].bytes, accepted[i].len))
            fail_msg("refused (%s): %s", f->d.reason, accepted[i].bytes);
        assert_int_equal(compare(f, accepted[i].bytes, accepted[i].len), AGREE_YES);
    }
    for (size_t i = 0; i < LENGTH(accepted_beyond); i++) {
        if (!accepts(f, accepted_beyond[i].bytes, accepted_beyond[i].len))
            fail_msg("refused (%s): %s", f->d.reason, accepted_beyond[i].bytes);
        assert_int_equal(compare(f, accepted_beyond[i].bytes, accepted_beyond[i].len), DIFFER_ALLOWED);
    }
}

static void test_rejected(void **state)
{
    struct fixture *f = *state;
    assert_true(LENGTH(accepted) + LENGTH(rejected) >= 150);
    for (size_t i = 0; i < LENGTH(rejected); i++) {
        if (accepts(f, rejected[i].bytes, rejected[i].len))
            fail_msg("accepted: %s", rejected[i].bytes);
        assert_int_equal(compare(f, rejected[i].bytes, rejected[i].len), AGREE_NO);
        assert_reason(&f->d, TM_VERDICT_MALFORMED, "not JSON: expected ");
    }
}

/* ---- depth ---- */

static size_t nest(char *out, const char *open, const char *inner, const char *close, unsigned depth)
{
    char *at = out;
    for (unsigned i = 0; i < depth; i++)
        at = stpcpy(at, open);
    at = stpcpy(at, inner);
    for (unsigned i = 0; i < depth; i++)
        at = stpcpy(at, close);
    return (size_t)(at - out);
}

static void test_depth(void **state)
{
    static char text[40000];
    struct fixture *f = *state;
    static const struct {
        const char *open, *inner, *close;
        unsigned extra; /* levels that `inner` adds */
    } shapes[] = {{"[", "", "]", 0},
                  {"{\"a\":", "1", "}", 0},
                  {"{\"msg\":", "1", "}", 0},
                  {"[1,", "[]", "]", 1},
                  {"[{\"a\":", "2", "}]", 0}};
    for (size_t i = 0; i < LENGTH(shapes); i++) {
        unsigned each = i == 4 ? 2 : 1;
        unsigned fits = (TM_JSON_DEPTH_MAX - shapes[i].extra) / each;
        size_t len = nest(text, shapes[i].open, shapes[i].inner, shapes[i].close, fits);
        assert_true(accepts(f, text, len));
        len = nest(text, shapes[i].open, shapes[i].inner, shapes[i].close, fits + 1);
        assert_false(accepts(f, text, len));
        assert_non_null(strstr(f->d.reason, "at most 64 levels"));
        len = nest(text, shapes[i].open, "", "", 4000);
        assert_false(accepts(f, text, len));
    }
}

/* ---- every cut of a frame ---- */

static const char *const frames[] = {
    "{\"type\":\"orderbook_snapshot\",\"sid\":1,\"seq\":1,\"msg\":{\"market_ticker\":\"KXSIM-26NOV05-T1\",\"market_id\":"
    "\"3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a7b90\",\"yes_dollars_fp\":[[\"0.0100\",\"275.00\"],[\"0.4700\",\"31.54\"]],"
    "\"no_dollars_fp\":[[\"0.4900\",\"1239.73\"]]}}\n",
    "{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":2,\"msg\":{\"market_ticker\":\"KXSIM-26NOV05-T1\",\"market_id\":"
    "\"3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a7b90\",\"price_dollars\":\"0.4700\",\"delta_fp\":\"-9.90\",\"side\":\"yes\","
    "\"ts\":\"2026-11-05T14:00:00.640173Z\",\"ts_ms\":1794060000640}}",
    "{\"type\":\"trade\",\"sid\":2,\"seq\":172193,\"msg\":{\"trade_id\":\"d17a9849-e50c-44eb-455a-eb6e1098773f\","
    "\"market_ticker\":\"KXSIM-26NOV05-T1\",\"yes_price_dollars\":\"0.4700\",\"no_price_dollars\":\"0.5300\","
    "\"count_fp\":\"9.90\",\"taker_side\":\"no\",\"is_block_trade\":false,\"ts\":1794060000,\"ts_ms\":1794060000640}}",
    "{\"type\":\"market_lifecycle_v2\",\"sid\":4,\"seq\":3,\"msg\":{\"event_type\":\"created\",\"market_ticker\":\"KX\\u00e9\","
    "\"open_ts\":1794050000,\"additional_metadata\":{\"name\":\"\\ud83d\\ude00 \xf0\x9f\x98\x80\",\"floor_strike\":95000.5,"
    "\"tags\":[1,-2.5e3,null,true,{}]},\"price_ranges\":[{\"start\":\"0.0000\",\"step\":\"0.0100\"}]}}",
};

static void test_every_prefix_is_refused(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < LENGTH(frames); i++) {
        size_t len = strlen(frames[i]);
        while (frames[i][len - 1] != '}')
            len--;
        assert_true(accepts(f, frames[i], len));
        for (size_t cut = 0; cut < len; cut++)
            assert_false(accepts(f, frames[i], cut));
    }
}

/* ---- mutations ---- */

static uint64_t random_state = 20261105;

static size_t roll(size_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (size_t)(random_state >> 33) % below;
}

static const struct text pieces[] = {
    T("\""),
    T("\\"),
    T("{"),
    T("}"),
    T("["),
    T("]"),
    T(","),
    T(":"),
    T("0"),
    T("-"),
    T("."),
    T("e"),
    T("E5"),
    T(" "),
    T("\n"),
    T("\t"),
    T("\0"),
    T("\x1f"),
    T("\x80"),
    T("\xc3"),
    T("\xc3\xa9"),
    T("\xed\xa0\x80"),
    T("\xf4\x90\x80\x80"),
    T("\\u"),
    T("\\u0000"),
    T("\\ud800"),
    T("\\udc00"),
    T("\\n"),
    T("\\x"),
    T("null"),
    T("tru"),
    T("00"),
    T("\"\""),
    T("{}"),
    T("[]"),
    T("\"type\":"),
    T("1e999"),
    T("\xff"),
};

static size_t mutate(char *text, size_t len, size_t room)
{
    const struct text *piece = &pieces[roll(LENGTH(pieces))];
    size_t at = roll(len + 1), n = 1 + roll(roll(8) ? 3 : 40);
    switch (roll(5)) {
    case 0: /* take away */
        n = n < len - at ? n : len - at;
        memmove(text + at, text + at + n, len - at - n);
        return len - n;
    case 1: /* put in */
        if (len + piece->len > room)
            return len;
        memmove(text + at + piece->len, text + at, len - at);
        memcpy(text + at, piece->bytes, piece->len);
        return len + piece->len;
    case 2: /* overwrite */
        n = piece->len < len - at ? piece->len : len - at;
        memcpy(text + at, piece->bytes, n);
        return len;
    case 3: /* flip a bit */
        if (at < len)
            text[at] = (char)(text[at] ^ 1 << roll(8));
        return len;
    default: /* say it twice */
        n = n < len - at ? n : len - at;
        if (len + n > room)
            return len;
        memmove(text + at + n, text + at, len - at);
        return len + n;
    }
}

static void test_mutations_agree_with_jansson(void **state)
{
    struct fixture *f = *state;
    char text[2048];
    unsigned counts[4] = {0};
    for (int round = 0; round < 240000; round++) {
        const char *frame = frames[roll(LENGTH(frames))];
        size_t len = strlen(frame);
        memcpy(text, frame, len);
        for (size_t n = 1 + roll(3); n; n--)
            len = mutate(text, len, sizeof text - 64);
        enum agreement agreement = compare(f, text, len);
        counts[agreement]++;
        if (agreement == DIFFER)
            assert_agrees(f, text, len);
    }
    /* the mutations must be of all sorts, or the agreement says little */
    assert_true(counts[AGREE_YES] > 20000);
    assert_true(counts[AGREE_NO] > 100000);
    assert_true(counts[DIFFER_ALLOWED] < 24000);
    printf("mutations: %u accepted, %u refused by both; %u beyond jansson\n", counts[AGREE_YES], counts[AGREE_NO],
           counts[DIFFER_ALLOWED]);
}

/* ---- values ---- */

static void assert_unescaped(const char *text, const char *expected, size_t len)
{
    struct tm_value v = {.at = text, .len = (uint32_t)strlen(text), .kind = TM_VALUE_STRING};
    struct tm_buf out = {0};
    int rc = tm_value_unescape(v, &out);
    assert_int_equal(rc, expected ? TM_OK : TM_EPARSE);
    if (expected) {
        assert_int_equal(out.len, len);
        assert_memory_equal(out.data, expected, len);
    }
    tm_buf_fini(&out);
}

static void test_unescape(void **state)
{
    (void)state;
    assert_unescaped("\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", 8);
    assert_unescaped("a\\u0041\\u00e9\\u20ac\\ud83d\\ude00z", "aA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", 12);
    assert_unescaped("\\uffff\\u0080\\u07ff\\u0800", "\xef\xbf\xbf\xc2\x80\xdf\xbf\xe0\xa0\x80", 10);
    assert_unescaped("\\ud800\\udc00\\udbff\\udfff", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8);
    assert_unescaped("\\u0000", NULL, 0);
    assert_unescaped("\\ud800", NULL, 0);
    assert_unescaped("\\udc00", NULL, 0);
    assert_unescaped("\\ud800\\ud800", NULL, 0);
    assert_unescaped("\\ud800x\\udc00", NULL, 0);
}

static bool storable(const char *text)
{
    struct tm_scanner s;
    struct tm_value v;
    tm_scanner_init(&s, text, strlen(text), false);
    assert_int_equal(tm_scan_document(&s, &v), TM_OK);
    return tm_value_storable(v);
}

static void test_storable(void **state)
{
    static char digits[20000];
    (void)state;
    assert_true(storable("{\"a\":[1,-2.5e10,1e-300,\"\\ud83d\\ude00\\\\u0000\",true,null]}"));
    assert_false(storable("[\"\\u0000\"]"));
    assert_false(storable("{\"\\ud800\":1}"));
    assert_false(storable("[1e200000]"));
    assert_false(storable("[1e-200000]"));
    assert_false(storable("\"\\udc00\""));
    assert_true(storable("1e1000"));
    memset(digits, '7', sizeof digits - 1);
    assert_false(storable(digits));
    assert_true(tm_text_storable("caf\xc3\xa9", 5));
    assert_false(tm_text_storable("caf\xc3", 4));
    assert_false(tm_text_storable("a\0b", 3));
}

static void test_items(void **state)
{
    static const struct {
        const char *array;
        int32_t index;
        const char *expected;
    } cases[] = {{"[1,2,3]", 0, "1"},       {"[1,2,3]", 2, "3"},    {"[1,2,3]", 3, NULL},
                 {"[1,2,3]", -1, "3"},      {"[1,2,3]", -3, "1"},   {"[1,2,3]", -4, NULL},
                 {"[]", 0, NULL},           {"[]", -1, NULL},       {"[ [1] , [2,[3]] ]", -1, "[2,[3]]"},
                 {"[ [1] , 5 ]", 0, "[1]"}, {"{\"a\":1}", 0, NULL}, {"\"[1]\"", 0, NULL}};
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct tm_scanner s;
        struct tm_value v;
        tm_scanner_init(&s, cases[i].array, strlen(cases[i].array), false);
        assert_int_equal(tm_scan_document(&s, &v), TM_OK);
        struct tm_value item = tm_value_item(v, cases[i].index);
        if (!cases[i].expected) {
            assert_int_equal(item.kind, TM_VALUE_NONE);
            continue;
        }
        assert_int_equal(item.len, strlen(cases[i].expected));
        assert_memory_equal(item.at, cases[i].expected, item.len);
    }
}

/* ---- finding ---- */

static void assert_found(const char *document, const char *path, const char *expected)
{
    struct tm_span out, whole = {.at = document, .len = strlen(document)};
    int rc = tm_json_get(whole, path, &out);
    if (rc)
        fail_msg("%s in %s: %d", path, document, rc);
    assert_int_equal(out.len, strlen(expected));
    assert_memory_equal(out.at, expected, out.len);
}

static int find_code(const char *document, const char *path)
{
    struct tm_span out, whole = {.at = document, .len = strlen(document)};
    return tm_json_get(whole, path, &out);
}

static void test_find(void **state)
{
    static const char document[] = " {\"a\" : {\"b\":[10,{\"c\":\"x\\n\"},[]]}, \"\\u0064\":null,\"e\":1,\"e\":2} ";
    (void)state;
    assert_found(document, "", "{\"a\" : {\"b\":[10,{\"c\":\"x\\n\"},[]]}, \"\\u0064\":null,\"e\":1,\"e\":2}");
    assert_found(document, "a.b[0]", "10");
    assert_found(document, "a.b[1].c", "\"x\\n\"");
    assert_found(document, "a.b[-1]", "[]");
    assert_found(document, "d", "null");
    assert_found(document, "e", "2"); /* the last one counts */
    assert_found("[[1,2],[3]]", "[1][0]", "3");
    assert_int_equal(find_code(document, "a.x"), TM_ENOENT);
    assert_int_equal(find_code(document, "a.b[7]"), TM_ENOENT);
    assert_int_equal(find_code(document, "e.f"), TM_ENOENT);
    assert_int_equal(find_code("{\"a\":1", "a"), TM_EPARSE);
    assert_int_equal(find_code("{\"a\":1,\"b\":\"\xff\"}", "a"), TM_EPARSE);
    static const char *const malformed[] = {".a", "a..b", "a.", "a[", "a[x]", "a[1", "[]", "a.[0]", "a[0]b", "a[0]."};
    for (size_t i = 0; i < LENGTH(malformed); i++)
        if (find_code("{\"a\":[1,2]}", malformed[i]) != TM_EINVAL)
            fail_msg("taken for a path: %s", malformed[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rejected, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_prefix_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mutations_agree_with_jansson, setup, teardown),
        cmocka_unit_test(test_unescape),
        cmocka_unit_test(test_storable),
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
