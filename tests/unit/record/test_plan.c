/* Compiling: what a plan becomes, and that every fault of a definition is found and named. */
#include "support.h"

/* ---- what comes out ---- */

static void test_streams(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(tm_plan_stream_count(f->plan), LENGTH(kalshi_streams) + 3);
    const struct tm_stream *s = tm_plan_stream_by_name(f->plan, "orderbook_deltas");
    assert_ptr_equal(s, tm_plan_stream(f->plan, STREAM_DELTAS));
    assert_int_equal(s->index, STREAM_DELTAS);
    assert_string_equal(s->copy_columns,
                        "ticker,exchange_ts,side,price,delta,occurrence,received_at,sid,exchange_seq,seq");
    assert_int_equal(s->column_count, 10);
    assert_int_equal(s->production_count, 7);
    assert_int_equal(s->occurrence_column, 5);
    assert_int_equal(s->ticker_column, 0);
    assert_int_equal(s->time_column, 1);
    assert_int_equal(s->partition_column, 1);
    assert_int_equal(s->received_column, 6);
    static const uint16_t key[] = {1, 0, 2, 3, 4, 5}; /* time first, the occurrence last */
    assert_int_equal(s->key_count, LENGTH(key));
    assert_memory_equal(s->key, key, sizeof key);
    assert_true(s->columns[0].in_key && s->columns[5].in_key && !s->columns[6].in_key);
    assert_true(s->columns[7].local_only && s->columns[9].local_only && !s->columns[6].local_only);
    assert_null(tm_plan_stream(f->plan, LENGTH(kalshi_streams) + 3));
    assert_null(tm_plan_stream_by_name(f->plan, "nothing"));
}

static void test_observer_streams(void **state)
{
    struct fixture *f = *state;
    const struct tm_stream *s = tm_plan_stream_by_name(f->plan, "unknown_frames");
    assert_true(s->observer);
    assert_string_equal(s->copy_columns, "received_at,reason,detail,raw,gatherer,epoch,sid,exchange_seq,seq");
    assert_int_equal(s->production_count, 6);
    assert_false(s->columns[8].local_only); /* production keeps seq: with gatherer and epoch it is the key */
    static const uint16_t key[] = {4, 5, 8};
    assert_int_equal(s->key_count, LENGTH(key));
    assert_memory_equal(s->key, key, sizeof key);
    s = tm_plan_stream_by_name(f->plan, "gaps");
    assert_string_equal(s->copy_columns, "gap_id,stream,ticker,from_ts,to_ts,reason,connection,subscription,first_seq,"
                                         "last_seq,closed_by,detail,received_at,gatherer,epoch,sid,exchange_seq,seq");
    s = tm_plan_stream_by_name(f->plan, "orderbook_snapshots"); /* days need their column in the key */
    assert_int_equal(s->key_count, 4);
    assert_string_equal(s->columns[s->key[0]].name, "snapshot_ts");
}

static void test_kinds(void **state)
{
    struct fixture *f = *state;
    const struct tm_kind *k = tm_plan_kind_by_tag(f->plan, "market_lifecycle_v2");
    assert_non_null(k);
    assert_string_equal(k->tag, "market_lifecycle_v2");
    assert_true(k->forward && !k->document);
    assert_string_equal(k->stream->name, "lifecycle");
    assert_true(tm_plan_kind_by_tag(f->plan, "rest_trade")->document);
    assert_null(tm_plan_kind_by_tag(f->plan, "ok")->stream);
    assert_null(tm_plan_kind_by_tag(f->plan, "trad"));
}

/* The definition may go once it is compiled. */
static void test_the_definition_is_copied(void **state)
{
    (void)state;
    char name[] = "things", column[] = "thing", path[] = "thing", tag[] = "t";
    const char *key[] = {column, NULL};
    struct tm_column_def columns[] = {{.name = column, .type = TM_TYPE_TEXT, .not_null = true}};
    struct tm_stream_def stream = {.name = name, .columns = columns, .column_count = 1, .key = key};
    struct tm_source_def source = {.column = column, .paths = {{.path = path}}, .path_count = 1};
    struct tm_kind_def kind = {.tag = tag, .stream = name, .sources = &source, .source_count = 1};
    struct tm_plan_def def = {
        .protocol = {.tag_path = "type"}, .streams = &stream, .stream_count = 1, .kinds = &kind, .kind_count = 1};
    struct fixture *f = calloc(1, sizeof *f);
    struct tm_error err;
    assert_int_equal(tm_plan_compile(&def, &f->plan, &err), TM_OK);
    memset(name, 'x', sizeof name - 1);
    memset(column, 'x', sizeof column - 1);
    memset(path, 'x', sizeof path - 1);
    memset(tag, 'x', sizeof tag - 1);
    memset(&stream, 0, sizeof stream);
    assert_int_equal(tm_decoder_create(f->plan, &f->decoder), TM_OK);
    assert_text(only_row(decode(f, "{\"type\":\"t\",\"thing\":\"value\"}"), "things"), "thing", "value");
    void *again = f;
    teardown(&again);
}

static uint64_t version_of(const struct tm_stream_def *stream)
{
    struct tm_plan_def def = {.streams = stream, .stream_count = 1};
    struct tm_plan *plan;
    struct tm_error err = {0};
    if (tm_plan_compile(&def, &plan, &err))
        fail_msg("%s", err.message);
    uint64_t version = tm_plan_stream(plan, 0)->keys->version;
    tm_plan_put(plan);
    return version;
}

static void test_key_version(void **state)
{
    static const char *const shorter[] = {"ticker", "exchange_ts", "side", "price", NULL};
    struct tm_stream_def s = kalshi_streams[STREAM_DELTAS];
    uint64_t before = version_of(&s);
    (void)state;
    assert_true(version_of(&s) == before);
    s.window_us++; /* a wider window does not make two records one */
    assert_true(version_of(&s) == before);
    s.occurrence = false;
    assert_true(version_of(&s) != before);
    s.occurrence = true;
    s.key = shorter;
    assert_true(version_of(&s) != before);
    s.key = delta_key;
    s.name = "other";
    assert_true(version_of(&s) != before);
}

/* ---- faults ---- */

/* A definition that compiles, to be spoiled in one place by each case. */
struct definition {
    struct tm_plan_def plan;
    struct tm_stream_def streams[3];
    struct tm_column_def columns[8];
    struct tm_kind_def kinds[3];
    struct tm_source_def sources[8];
    const char *key[8];
    const char *one_of[4];
};

static void make_definition(struct definition *d)
{
    *d = (struct definition){
        .columns = {{.name = "ticker", .type = TM_TYPE_TEXT, .not_null = true},
                    {.name = "at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
                    {.name = "price", .type = TM_TYPE_INT4, .scale = 6},
                    {.name = "n", .type = TM_TYPE_INT2},
                    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ},
                    {.name = "side", .type = TM_TYPE_TEXT},
                    {.name = "raw", .type = TM_TYPE_JSONB}},
        .sources = {FROM("ticker", PLAIN("msg.ticker")),
                    FROM("at", MILLIS("msg.ts")),
                    FROM("price", PRICE("msg.p")),
                    {.column = "n", .from = TM_FROM_OCCURRENCE},
                    RECEIVED_AT,
                    FROM("side", PLAIN("msg.side"))},
        .key = {"ticker", "at"},
    };
    d->streams[0] = (struct tm_stream_def){.name = "quotes",
                                           .columns = d->columns,
                                           .column_count = 7,
                                           .key = d->key,
                                           .occurrence = true,
                                           .time_column = "at",
                                           .ticker_column = "ticker",
                                           .partition = TM_PARTITION_DAY,
                                           .partition_column = "at"};
    d->kinds[0] = (struct tm_kind_def){.tag = "quote", .stream = "quotes", .sources = d->sources, .source_count = 6};
    d->plan = (struct tm_plan_def){.gatherer = "g1",
                                   .protocol = {.tag_path = "type", .subscription_path = "sid"},
                                   .streams = d->streams,
                                   .stream_count = 1,
                                   .kinds = d->kinds,
                                   .kind_count = 1};
}

static void assert_fault(const struct definition *d, const char *expected)
{
    struct tm_plan *plan = NULL;
    struct tm_error err = {0};
    int rc = tm_plan_compile(&d->plan, &plan, &err);
    if (rc != TM_EINVAL || !strstr(err.message, expected))
        fail_msg("expected \"%s\", got %d \"%s\"", expected, rc, rc ? err.message : "");
    assert_null(plan);
}

/* Spoil, look for the words, start again. */
#define FAULT(spoil, words)                                                                                            \
    do {                                                                                                               \
        make_definition(&d);                                                                                           \
        spoil;                                                                                                         \
        assert_fault(&d, words);                                                                                       \
    } while (0)

static void test_the_definition_is_sound(void **state)
{
    struct definition d;
    struct tm_plan *plan;
    struct tm_error err = {0};
    (void)state;
    make_definition(&d);
    if (tm_plan_compile(&d.plan, &plan, &err))
        fail_msg("%s", err.message);
    tm_plan_put(plan);
}

static void test_stream_faults(void **state)
{
    struct definition d;
    (void)state;
    FAULT(d.streams[0].name = NULL, "stream 1 \"\": a name is missing");
    FAULT(d.streams[0].name = "Quotes", "stream 1 \"Quotes\": a name has lower-case letters");
    FAULT(d.streams[0].name = "1quotes", "begins with no digit");
    FAULT(d.streams[0].name = "quotes; drop table x", "lower-case letters, digits and _");
    FAULT(d.streams[0].name = "user", "reserved by SQL");
    FAULT(d.streams[0].name = "a_name_of_thirty_seven_bytes_too_long", "too long");
    FAULT(d.streams[0].name = "gaps", "every plan has a stream of this name");
    FAULT((d.streams[1] = d.streams[0], d.plan.stream_count = 2), "stream \"quotes\": declared twice");
    FAULT(d.plan.stream_count = 63, "63 streams, expected at most 61");
    FAULT(d.streams[0].column_count = 0, "0 columns, expected 1 to 61");
    FAULT(d.streams[0].column_count = 62, "62 columns, expected 1 to 61");
    FAULT(d.streams[0].key = NULL, "a key is missing");
    FAULT(d.key[0] = NULL, "a key is missing");
    FAULT(d.key[1] = "nothing", "key column \"nothing\" is not a column");
    FAULT(d.key[1] = "ticker", "key column \"ticker\" is named twice");
    FAULT(d.key[1] = "received_at", "key column \"received_at\" differs between gatherers");
    FAULT(d.key[1] = "seq", "key column \"seq\" differs between gatherers");
    FAULT(d.key[2] = "raw", "key column \"raw\": jsonb and bytea cannot be in a unique key");
    FAULT(d.streams[0].observer = true, "an observer stream has no key of its own");
    FAULT(d.streams[0].mode = TM_STREAM_UPSERT, "occurrence is only for append streams");
    FAULT((d.streams[0].mode = TM_STREAM_UPSERT, d.streams[0].occurrence = false),
          "upsert stream cannot be partitioned");
    FAULT(d.streams[0].within_us = 1, "within is only for append streams with a key and without occurrence");
    FAULT(d.streams[0].within_us = -1, "times must not be negative");
    FAULT(d.streams[0].partition_column = NULL, "partition by day and partition_column go together");
    FAULT(d.streams[0].partition_column = "received_at", "partition_column \"received_at\" must be not_null");
    FAULT((d.streams[0].partition_column = "received_at", d.columns[4].not_null = true),
          "partition_column \"received_at\" must be in the key");
    FAULT(d.streams[0].partition_column = "ticker", "partition_column \"ticker\" must be of type timestamptz");
    FAULT(d.streams[0].ticker_column = "price", "ticker_column \"price\" must be of type text");
    FAULT(d.streams[0].time_column = "when", "time_column \"when\" is not a column");
    FAULT(d.sources[3].from = TM_FROM_NULL, "a counted key needs an int2 column");
    FAULT(d.columns[3].type = TM_TYPE_INT4, "a counted key needs an int2 column");
}

static void test_within_and_upsert_faults(void **state)
{
    struct definition d;
    (void)state;
#define WITHIN d.streams[0].occurrence = false, d.streams[0].within_us = 5, d.sources[3].from = TM_FROM_NULL
    FAULT((WITHIN, d.columns[4].name = "arrived"), "within needs a column received_at");
    FAULT((WITHIN, d.key[0] = "raw", d.streams[0].ticker_column = NULL, d.streams[0].time_column = NULL),
          "the first one of a within key must not be jsonb");
#define UPSERT                                                                                                         \
    d.streams[0].occurrence = false, d.streams[0].mode = TM_STREAM_UPSERT, d.streams[0].partition = TM_PARTITION_NONE, \
    d.streams[0].partition_column = NULL, d.sources[3].from = TM_FROM_NULL
    FAULT((UPSERT, d.key[1] = "side"), "key column \"side\" of an upsert stream must be not_null");
}

static void test_column_faults(void **state)
{
    struct definition d;
    (void)state;
    FAULT(d.columns[2].name = NULL, "column \"\": a name is missing");
    FAULT(d.columns[2].name = "order", "column \"order\": the name is reserved by SQL");
    FAULT(d.columns[2].name = "exchange_seq", "column \"exchange_seq\": every stream gets a column of this name");
    FAULT(d.columns[2].name = "ticker", "column \"ticker\": declared twice");
    FAULT(d.columns[2].type = (enum tm_type)77, "column \"price\": unknown type 77");
    FAULT(d.columns[2].scale = 19, "column \"price\": scale is 19, expected 0 to 18");
    FAULT(d.columns[5].scale = 2, "column \"side\": scale is 2");
    FAULT(d.columns[5].one_of = d.one_of, "column \"side\": a list of allowed values must not be empty");
    FAULT((d.one_of[0] = "x", d.columns[2].one_of = d.one_of), "is for text only");
    static const struct tm_range range = {0, 1}, reverse = {1, 0};
    FAULT(d.columns[2].range = &reverse, "column \"price\": min must not be above max");
    FAULT(d.columns[5].range = &range, "column \"side\": min must not be above max, and both are for integers only");
    FAULT(d.columns[4].type = TM_TYPE_INT8, "\"received_at\" is the time of arrival and must be timestamptz");
}

static void test_kind_faults(void **state)
{
    struct definition d;
    (void)state;
    FAULT(d.kinds[0].tag = "", "kind 1: a tag is missing");
    FAULT((d.kinds[1] = d.kinds[0], d.plan.kind_count = 2), "kind \"quote\": declared twice");
    FAULT(d.plan.kind_count = 257, "257 kinds, expected at most 256");
    FAULT(d.plan.protocol.tag_path = NULL, "protocol: tag_path is missing");
    FAULT(d.plan.protocol.tag_path = "a..b", "protocol: tag_path: path \"a..b\": expected");
#define UNCOUNTED d.streams[0].occurrence = false
    FAULT((UNCOUNTED, d.kinds[0].stream = NULL), "a kind of role data names the stream");
    FAULT((UNCOUNTED, d.kinds[0].stream = "trades"), "stream \"trades\" is not declared");
    FAULT(d.kinds[0].role = TM_ROLE_ACK, "only a kind of role data feeds a stream");
    FAULT(d.kinds[0].channel_path = "c", "channel_path is for role subscribed");
    FAULT(d.kinds[0].code_path = "c", "code_path and text_path are for role error");
    FAULT((UNCOUNTED, d.kinds[0] = (struct tm_kind_def){.tag = "s", .role = TM_ROLE_SUBSCRIBED}),
          "role subscribed needs channel_path");
    FAULT((UNCOUNTED, d.kinds[0] = (struct tm_kind_def){.tag = "s", .role = TM_ROLE_UNSUBSCRIBED},
           d.plan.protocol.subscription_path = NULL),
          "subscription_path is missing, here and in the protocol");
    FAULT((UNCOUNTED, d.kinds[0] = (struct tm_kind_def){.tag = "s", .role = TM_ROLE_ERROR}),
          "role error needs code_path");
    FAULT((UNCOUNTED, d.kinds[0] = (struct tm_kind_def){.tag = "s", .role = TM_ROLE_ACK, .document = true}),
          "a document is a kind of role data");
    FAULT((d.kinds[0].document = true, d.kinds[0].forward = true),
          "a document has no subscription, opens none and is not forwarded");
}

static void test_source_faults(void **state)
{
    struct definition d;
    (void)state;
    FAULT(d.sources[2].column = "prize", "kind \"quote\": column \"prize\" is not declared by stream \"quotes\"");
    FAULT(d.sources[2].column = "seq", "column \"seq\" is not declared");
    FAULT(d.sources[2].column = NULL, "column \"\" is not declared");
    FAULT(d.sources[5] = d.sources[2], "column \"price\" has two sources");
    FAULT(d.sources[0] = d.sources[5], "two sources");
    FAULT((d.sources[0].from = TM_FROM_NULL), "column \"ticker\": the column is not_null");
    FAULT((d.kinds[0].sources++, d.kinds[0].source_count--), "column \"ticker\" is not_null but has no source");
    FAULT(d.sources[2].path_count = 0, "column \"price\": 0 paths, expected 1 to 4");
    FAULT(d.sources[2].path_count = 5, "5 paths, expected 1 to 4");
    FAULT(d.sources[2].paths[0].path = NULL, "column \"price\": a path is missing");
    FAULT(d.sources[2].paths[0].path = "", "a path is empty");
    FAULT(d.sources[2].paths[0].path = "msg..p", "path \"msg..p\": expected at most 16 names");
    FAULT(d.sources[2].paths[0].path = "msg.p[", "path \"msg.p[\": expected an index");
    FAULT(d.sources[2].paths[0].path = "msg.p[x]", "expected an index");
    FAULT(d.sources[2].paths[0].path = "msg.p[-0]", "expected an index");
    FAULT(d.sources[2].paths[0].path = "msg.p[1234567]", "expected an index");
    FAULT(d.sources[2].paths[0].path = "p[1][2][3][4][5]", "at most 4 indexes");
    FAULT(d.sources[2].paths[0].path = "msg.p[0].q", "nothing may follow the indexes, but \".q\" does");
    FAULT(d.sources[2].paths[0].path = "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", "at most 16 names");
    FAULT(d.sources[2].paths[0].unit = TM_UNIT_MILLIS, "path \"msg.p\": the unit does not go with the column's type");
    FAULT(d.sources[1].paths[0].unit = TM_UNIT_PLAIN, "path \"msg.ts\": the unit does not go");
    FAULT(d.sources[0].paths[0].unit = TM_UNIT_DECIMAL, "path \"msg.ticker\": the unit does not go");
    FAULT(d.sources[2].paths[0].scale = 10, "path \"msg.p\": scale is 10, expected 0 to 9");
    FAULT(d.sources[2].paths[0].scale = 2, "path \"msg.p\": scale is 2 but the column is declared with 6");
    FAULT(d.sources[0].paths[0].one_minus = true, "one_minus is for decimals only");
    FAULT(d.sources[2].from = TM_FROM_TAG, "column \"price\": only a text column can be the tag or a constant");
    FAULT(d.sources[5].from = TM_FROM_CONST, "column \"side\": a constant needs a text");
    FAULT((d.sources[5].from = TM_FROM_CONST, d.sources[5].text = "\xff"), "a constant needs a text in UTF-8");
    FAULT((d.sources[5].from = TM_FROM_TAG, d.one_of[0] = "x", d.columns[5].one_of = d.one_of),
          "\"quote\" is not among the column's allowed values");
    FAULT(d.sources[2].from = TM_FROM_RAW, "the raw frame goes into a jsonb, text or bytea column");
    FAULT(d.sources[2].from = TM_FROM_RECEIVED_AT, "the time of arrival needs a timestamptz column");
    FAULT(d.sources[2].from = (enum tm_from)99, "unknown source 99");
    FAULT(d.plan.gatherer = "an id of more than sixty-three bytes is refused, because it is in every row",
          "an id has at most 63 bytes");
}

/* Two kinds feed a counted stream: both must count, in the same column. */
static void test_counting_faults(void **state)
{
    struct definition d;
    struct tm_source_def other[8];
    (void)state;
#define SECOND_KIND                                                                                                    \
    memcpy(other, d.sources, sizeof other), d.kinds[1] = d.kinds[0], d.kinds[1].tag = "q2",                            \
                                            d.kinds[1].sources = other, d.plan.kind_count = 2
    FAULT((SECOND_KIND, other[3].from = TM_FROM_NULL),
          "column \"n\" counts occurrences and must be fed so by every kind");
    FAULT((SECOND_KIND, other[2].from = TM_FROM_OCCURRENCE), "its kinds count occurrences in different columns");
    FAULT((SECOND_KIND, other[3].column = "price"), "its kinds count occurrences in different columns");
    FAULT((d.streams[0].occurrence = false), "column \"n\": the stream does not count occurrences in this column");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_streams),
        TEST(test_observer_streams),
        TEST(test_kinds),
        cmocka_unit_test(test_the_definition_is_copied),
        cmocka_unit_test(test_key_version),
        cmocka_unit_test(test_the_definition_is_sound),
        cmocka_unit_test(test_stream_faults),
        cmocka_unit_test(test_within_and_upsert_faults),
        cmocka_unit_test(test_column_faults),
        cmocka_unit_test(test_kind_faults),
        cmocka_unit_test(test_source_faults),
        cmocka_unit_test(test_counting_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
