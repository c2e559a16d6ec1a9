/* Two plans: what counts as the same, what a reload may change, and what it may keep. */
#include "support.h"

#include <pthread.h>

/* The definition of kalshi_defs.h in memory that a test may change. */
struct defs {
    struct tm_stream_def streams[LENGTH(kalshi_streams) + 1];
    struct tm_kind_def kinds[LENGTH(kalshi_kinds)];
    struct tm_column_def columns[16];
    struct tm_source_def sources[16];
    struct tm_plan_def plan;
};

/* Columns of the deltas and sources of their kind can be changed too. */
static void init(struct defs *d)
{
    memset(d, 0, sizeof *d);
    memcpy(d->streams, kalshi_streams, sizeof kalshi_streams);
    memcpy(d->kinds, kalshi_kinds, sizeof kalshi_kinds);
    memcpy(d->columns, delta_columns, sizeof delta_columns);
    memcpy(d->sources, delta_sources, sizeof delta_sources);
    d->streams[STREAM_DELTAS].columns = d->columns;
    d->kinds[0].sources = d->sources;
    d->plan = kalshi_plan_def;
    d->plan.streams = d->streams;
    d->plan.kinds = d->kinds;
}

static struct tm_plan *compile(const struct defs *d)
{
    struct tm_plan *plan = NULL;
    struct tm_error err;
    if (tm_plan_compile(&d->plan, &plan, &err))
        fail_msg("%s", err.message);
    return plan;
}

/* ---- each change makes another plan ---- */

static const char *const other_key[] = {"ticker", "exchange_ts", "price", "side", "delta", NULL};
static const char *const yes_no_maybe[] = {"yes", "no", "maybe", NULL};

static void gatherer(struct defs *d)
{
    d->plan.gatherer = "g2";
}
static void epoch(struct defs *d)
{
    d->plan.epoch[15] = 99;
}
static void sequence_path(struct defs *d)
{
    d->plan.protocol.sequence_path = NULL;
}
static void subscription_path(struct defs *d)
{
    d->plan.protocol.subscription_path = "msg.sid";
}
static void fewer_streams(struct defs *d)
{
    d->plan.stream_count--, d->plan.kind_count--;
}
static void fewer_kinds(struct defs *d)
{
    d->plan.kind_count--;
}
static void stream_name(struct defs *d)
{
    d->streams[STREAM_DELTAS].name = d->kinds[0].stream = "deltas";
}
static void window(struct defs *d)
{
    d->streams[STREAM_TRADES].window_us++;
}
static void memory(struct defs *d)
{
    d->streams[STREAM_TRADES].memory_bytes_max = 1 << 20;
}
static void within(struct defs *d)
{
    d->streams[STREAM_LIFECYCLE].within_us++;
}
static void partition(struct defs *d)
{
    d->streams[STREAM_TICKERS].partition = TM_PARTITION_NONE;
    d->streams[STREAM_TICKERS].partition_column = NULL;
}
static void ticker_column(struct defs *d)
{
    d->streams[STREAM_TICKERS].ticker_column = NULL;
}
static void time_column(struct defs *d)
{
    d->streams[STREAM_TICKERS].time_column = "received_at";
}
static void key(struct defs *d)
{
    d->streams[STREAM_DELTAS].key = other_key;
}
static void column_name(struct defs *d)
{
    d->columns[6].name = "arrived_at", d->sources[6].column = "arrived_at";
}
static void column_type(struct defs *d)
{
    d->columns[3].type = TM_TYPE_INT8;
}
static void column_scale(struct defs *d)
{
    d->columns[3].scale = d->sources[3].paths[0].scale = 4;
}
static void column_null(struct defs *d)
{
    d->columns[6].not_null = false;
}
static void column_one_of(struct defs *d)
{
    d->columns[2].one_of = yes_no_maybe;
}
static void column_range(struct defs *d)
{
    static const struct tm_range half = {0, 500000};
    d->columns[3].range = &half;
}
static void column_added(struct defs *d)
{
    d->columns[7] = (struct tm_column_def){.name = "note", .type = TM_TYPE_TEXT};
    d->streams[STREAM_DELTAS].column_count++;
}
static void tag(struct defs *d)
{
    d->kinds[0].tag = "delta";
}
static void order_of_kinds(struct defs *d)
{
    struct tm_kind_def first = d->kinds[0];
    d->kinds[0] = d->kinds[1];
    d->kinds[1] = first;
}
static void forwarded(struct defs *d)
{
    d->kinds[0].forward = true;
}
static void source_path(struct defs *d)
{
    d->sources[0].paths[0].path = "msg.ticker";
}
static void source_index(struct defs *d)
{
    d->sources[0].paths[0].path = "msg.market_ticker[1]";
}
static void source_unit(struct defs *d)
{
    d->sources[1].paths[1].unit = TM_UNIT_SECONDS;
}
static void source_minus(struct defs *d)
{
    d->sources[3].paths[0].one_minus = true;
}
static void fewer_paths(struct defs *d)
{
    d->sources[1].path_count = 1;
}
static void constant(struct defs *d)
{
    d->sources[2] = (struct tm_source_def){.column = "side", .from = TM_FROM_CONST, .text = "yes"};
}
static void other_constant(struct defs *d)
{
    d->sources[2] = (struct tm_source_def){.column = "side", .from = TM_FROM_CONST, .text = "no"};
}
static void document(struct defs *d)
{
    d->kinds[0].document = true;
}

static const struct {
    const char *name;
    void (*change)(struct defs *d);
} changes[] = {
#define CHANGE(f)                                                                                                      \
    {                                                                                                                  \
#f, f                                                                                                          \
    }
    CHANGE(gatherer),      CHANGE(epoch),       CHANGE(sequence_path),  CHANGE(subscription_path),
    CHANGE(fewer_streams), CHANGE(fewer_kinds), CHANGE(stream_name),    CHANGE(window),
    CHANGE(memory),        CHANGE(within),      CHANGE(partition),      CHANGE(ticker_column),
    CHANGE(time_column),   CHANGE(key),         CHANGE(column_name),    CHANGE(column_type),
    CHANGE(column_scale),  CHANGE(column_null), CHANGE(column_one_of),  CHANGE(column_range),
    CHANGE(column_added),  CHANGE(tag),         CHANGE(forwarded),      CHANGE(source_path),
    CHANGE(source_index),  CHANGE(source_unit), CHANGE(source_minus),   CHANGE(fewer_paths),
    CHANGE(constant),      CHANGE(document),    CHANGE(other_constant), CHANGE(order_of_kinds),
};

/* Every plan equals itself compiled again, and none of the others. */
static void test_equal(void **state)
{
    struct tm_plan *plans[LENGTH(changes) + 1], *again[LENGTH(changes) + 1];
    struct defs d;
    (void)state;
    for (size_t i = 0; i <= LENGTH(changes); i++) {
        init(&d);
        if (i < LENGTH(changes))
            changes[i].change(&d);
        plans[i] = compile(&d);
        again[i] = compile(&d);
    }
    for (size_t i = 0; i <= LENGTH(changes); i++)
        for (size_t j = 0; j <= LENGTH(changes); j++)
            if (tm_plan_equal(plans[i], again[j]) != (i == j))
                fail_msg("%s and %s", i < LENGTH(changes) ? changes[i].name : "unchanged",
                         j < LENGTH(changes) ? changes[j].name : "unchanged");
    for (size_t i = 0; i <= LENGTH(changes); i++) {
        tm_plan_put(plans[i]);
        tm_plan_put(again[i]);
    }
}

/* ---- streams ---- */

struct pair {
    struct tm_plan *old, *new;
    const struct tm_stream *from, *to;
};

static struct pair pair_of(void (*change)(struct defs *d), const char *stream)
{
    struct defs d;
    struct pair p;
    init(&d);
    p.old = compile(&d);
    change(&d);
    p.new = compile(&d);
    p.from = tm_plan_stream_by_name(p.old, stream);
    p.to = tm_plan_stream_by_name(p.new, stream);
    assert_non_null(p.to);
    return p;
}

static void pair_put(struct pair *p)
{
    tm_plan_put(p->old);
    tm_plan_put(p->new);
}

/* A column between two that are hashed in one piece changes the bytes that are hashed; one in front of the key not. */
static void column_between(struct defs *d)
{
    memmove(&d->columns[2], &d->columns[1], 6 * sizeof *d->columns);
    d->columns[1] = (struct tm_column_def){.name = "note", .type = TM_TYPE_TEXT};
    d->streams[STREAM_DELTAS].column_count++;
}

static void column_in_front(struct defs *d)
{
    memmove(&d->columns[1], &d->columns[0], 7 * sizeof *d->columns);
    d->columns[0] = (struct tm_column_def){.name = "note", .type = TM_TYPE_TEXT};
    d->streams[STREAM_DELTAS].column_count++;
}

/* The same key, but its columns stand in another order. */
static void columns_swapped(struct defs *d)
{
    struct tm_column_def price = d->columns[3];
    d->columns[3] = d->columns[4];
    d->columns[4] = price;
}

static void not_counted(struct defs *d)
{
    d->streams[STREAM_DELTAS].occurrence = false;
    d->sources[5] = (struct tm_source_def){
        .column = "occurrence", .from = TM_FROM_PATHS, .paths = {PLAIN("msg.n")}, .path_count = 1};
}

static void test_streams(void **state)
{
    static const struct {
        void (*change)(struct defs *d);
        const char *stream;
        bool same_rows, keeps_seen;
    } cases[] = {
        {window, "trades", true, true},
        {window, "orderbook_deltas", true, true},
        {within, "lifecycle", true, false},
        {forwarded, "orderbook_deltas", true, true},
        {column_null, "orderbook_deltas", true, true},
        {column_name, "orderbook_deltas", false, true},
        {column_added, "orderbook_deltas", false, true},
        {column_in_front, "orderbook_deltas", false, true},
        {column_between, "orderbook_deltas", false, false},
        {columns_swapped, "orderbook_deltas", false, false},
        {column_type, "orderbook_deltas", false, false},
        {column_scale, "orderbook_deltas", true, false},
        {not_counted, "orderbook_deltas", true, false},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct pair p = pair_of(cases[i].change, cases[i].stream);
        if (tm_stream_same_rows(p.from, p.to) != cases[i].same_rows)
            fail_msg("case %zu: same rows", i);
        if (tm_stream_keeps_seen(p.from, p.to) != cases[i].keeps_seen)
            fail_msg("case %zu: keeps seen", i);
        pair_put(&p);
    }
    struct pair p = pair_of(window, "trades");
    assert_false(tm_stream_keeps_seen(p.from, tm_plan_stream_by_name(p.new, "tickers")));
    pair_put(&p);
}

/* Where the seen-set is kept, a record has the same fingerprint under both: the promise itself, by rows. */
static struct tm_fp fingerprint_of(const struct tm_plan *plan, const struct tm_hash_key *key)
{
    const struct tm_stream *s = tm_plan_stream_by_name(plan, "orderbook_deltas");
    struct tm_field fields[TM_COLUMNS_MAX];
    struct tm_buf buf = {0};
    struct tm_row_writer w;
    struct tm_row row;
    assert_int_equal(tm_row_begin(&w, s, &buf), TM_OK);
    for (uint16_t i = 0; w.next < s->column_count - 3; i++) {
        const struct tm_column *c = &s->columns[w.next];
        int rc = strcmp(c->name, "ticker") == 0   ? tm_row_put_text(&w, "KX", 2)
                 : strcmp(c->name, "side") == 0   ? tm_row_put_text(&w, "yes", 3)
                 : c->type == TM_TYPE_TEXT        ? tm_row_put_null(&w)
                 : c->type == TM_TYPE_TIMESTAMPTZ ? tm_row_put_time(&w, 1700000000000000)
                                                  : tm_row_put_int(&w, strcmp(c->name, "price") == 0   ? 42
                                                                       : strcmp(c->name, "delta") == 0 ? 7
                                                                                                       : 0);
        assert_int_equal(rc, TM_OK);
    }
    assert_int_equal(tm_row_end(&w, plan, &row), TM_OK);
    assert_int_equal(tm_tuple_split(row.tuple, row.len, fields, s->column_count), TM_OK);
    struct tm_fp fp = tm_stream_fingerprint(s, key, fields);
    tm_buf_fini(&buf);
    return fp;
}

static void test_kept_fingerprints_are_the_same(void **state)
{
    static void (*const kept[])(struct defs * d) = {window, column_null, column_added, column_in_front};
    static void (*const lost[])(struct defs * d) = {column_between, columns_swapped, column_scale, not_counted};
    struct tm_hash_key key;
    (void)state;
    tm_hash_key_init(&key);
    for (size_t i = 0; i < LENGTH(kept); i++) {
        struct pair p = pair_of(kept[i], "orderbook_deltas");
        struct tm_fp a = fingerprint_of(p.old, &key), b = fingerprint_of(p.new, &key);
        assert_true(a.hi == b.hi && a.lo == b.lo);
        pair_put(&p);
    }
    for (size_t i = 0; i < LENGTH(lost); i++) {
        struct pair p = pair_of(lost[i], "orderbook_deltas");
        struct tm_fp a = fingerprint_of(p.old, &key), b = fingerprint_of(p.new, &key);
        assert_false(a.hi == b.hi && a.lo == b.lo);
        pair_put(&p);
    }
}

static void upsert(struct defs *d)
{
    d->streams[STREAM_TICKERS].mode = TM_STREAM_UPSERT;
    d->streams[STREAM_TICKERS].partition = TM_PARTITION_NONE;
    d->streams[STREAM_TICKERS].partition_column = NULL;
    d->streams[STREAM_TICKERS].key = market_key;
}

static void test_check_reload(void **state)
{
    static const struct {
        void (*change)(struct defs *d);
        const char *fault; /* NULL: none */
    } cases[] = {
        {window, NULL},
        {fewer_streams, NULL},
        {column_added, NULL},
        {column_name, NULL},
        {column_type, "stream \"orderbook_deltas\": column \"price\" cannot change its type"},
        {upsert, "stream \"tickers\" cannot become an upsert stream"},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct pair p = pair_of(cases[i].change, "trades");
        struct tm_error err = {0};
        assert_int_equal(tm_plan_check_reload(p.old, p.new, &err), cases[i].fault ? TM_EINVAL : TM_OK);
        if (cases[i].fault && !strstr(err.message, cases[i].fault))
            fail_msg("%s", err.message);
        assert_int_equal(tm_plan_check_reload(p.new, p.old, &err), cases[i].fault ? TM_EINVAL : TM_OK);
        pair_put(&p);
    }
}

/* ---- references ---- */

static void *take_and_put(void *arg)
{
    for (int i = 0; i < 10000; i++) {
        struct tm_plan *plan = tm_plan_take(arg);
        assert_true(tm_plan_stream_count(plan) > 0);
        tm_plan_put(plan);
    }
    tm_plan_put(arg);
    return NULL;
}

/* Threads let go in any order, and the last one frees it: sanitizers see it if not. */
static void test_references(void **state)
{
    pthread_t threads[4];
    struct defs d;
    (void)state;
    init(&d);
    struct tm_plan *plan = compile(&d);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_put, tm_plan_take(plan)), 0);
    assert_ptr_equal(tm_plan_stream_by_name(plan, "trades")->plan, plan);
    tm_plan_put(plan);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_null(tm_plan_take(NULL));
    tm_plan_put(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_check_reload), cmocka_unit_test(test_kept_fingerprints_are_the_same),
        cmocka_unit_test(test_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
