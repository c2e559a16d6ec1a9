/*
 * Shapes of frames: a frame that has the shape is noted as the walk notes it, one that has not is left to the walk, and
 * what a decoder that has seen much says of a frame is what one says that has seen nothing.
 */
#include "support.h"

#include "record/shape.h"
#include "record/walk.h"

#define UUID "3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a7b90"
#define DELTA(seq, ticker, price, delta, side, time)                                                                   \
    "{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":" seq ",\"msg\":{\"market_ticker\":\"" ticker                     \
    "\",\"market_id\":\"" UUID "\",\"price_dollars\":\"" price "\",\"delta_fp\":\"" delta "\",\"side\":\"" side        \
    "\",\"ts\":\"2026-11-05T" time "Z\",\"ts_ms\":1793887200640}}"
#define FIRST DELTA("2", "KXSIM-26NOV05-T1", "0.4700", "-9.90", "yes", "14:00:00.640173")
#define OTHER DELTA("172193", "A", "0.01", "120000.00", "no", "23:59:59.000001")
#define TRADE(block)                                                                                                   \
    "{\"type\":\"trade\",\"sid\":2,\"seq\":3,\"msg\":{\"trade_id\":\"d17a9849-e50c-44eb-455a-eb6e1098773f\","          \
    "\"market_ticker\":\"A\",\"yes_price_dollars\":\"0.4700\",\"no_price_dollars\":\"0.5300\","                        \
    "\"count_fp\":\"9.90\",\"taker_side\":\"no\",\"taker_outcome_side\":\"no\",\"taker_book_side\":\"ask\","           \
    "\"is_block_trade\":" block ",\"ts\":1793887200,\"ts_ms\":1793887200640}}"
#define TICKER                                                                                                         \
    "{\"type\":\"ticker\",\"sid\":3,\"msg\":{\"market_id\":\"" UUID "\",\"market_ticker\":\"A\","                      \
    "\"price_dollars\":\"0.48\",\"yes_bid_dollars\":\"0.47\",\"yes_ask_dollars\":\"0.49\",\"volume_fp\":\"33.10\","    \
    "\"open_interest_fp\":\"20.00\",\"dollar_volume\":16,\"dollar_open_interest\":10,"                                 \
    "\"yes_bid_size_fp\":\"300.00\",\"yes_ask_size_fp\":\"200.00\",\"last_trade_size_fp\":\"9.90\","                   \
    "\"ts\":1793887200,\"ts_ms\":1793887200640,\"time\":\"2026-11-05T14:00:00.640173Z\"}}"
#define SNAPSHOT                                                                                                       \
    "{\"type\":\"orderbook_snapshot\",\"sid\":1,\"seq\":1,\"msg\":{\"market_ticker\":\"A\",\"market_id\":\"" UUID      \
    "\",\"yes_dollars_fp\":[[\"0.0800\",\"300.00\"]],\"no_dollars_fp\":[]}}"

/* ---- a shape alone ---- */

struct lesson {
    struct fixture *f;
    struct tm_shape *shape;
    struct tm_value values[TM_NODES_MAX];
    char text[4096];
    struct tm_scanner s;
};

static void put(struct lesson *l, const char *text)
{
    size_t len = strlen(text);
    assert_true(len + TM_SCAN_PADDING <= sizeof l->text);
    memcpy(l->text, text, len);
    memset(l->text + len, '"', TM_SCAN_PADDING);
    tm_scanner_init(&l->s, l->text, len, true);
}

static bool learn(struct lesson *l, const char *text)
{
    const struct tm_plan *plan = l->f->plan;
    put(l, text);
    return tm_shape_learn(l->shape, &plan->tree, plan->tag.node, &l->s);
}

/* As a walker asks: only a text that begins as the shape does is compared. */
static bool fits(struct lesson *l, const char *text)
{
    put(l, text);
    const struct tm_piece_text *start = tm_shape_start(l->shape);
    return start && l->s.begin <= l->s.wider_end && tm_piece_matches(start, l->text) &&
           tm_shape_fits(l->shape, &l->s, l->values, 7);
}

static struct lesson *begin(struct fixture *f)
{
    struct lesson *l = calloc(1, sizeof *l);
    assert_non_null(l);
    l->f = f;
    assert_int_equal(tm_shape_create(&l->shape), TM_OK);
    if (!tm_shape_pays())
        skip(); /* the portable build of this test is never skipped */
    return l;
}

static void end(struct lesson *l)
{
    tm_shape_destroy(l->shape);
    free(l);
}

/* The walk notes the same values at the same places. */
static void assert_noted_as_walked(struct lesson *l)
{
    const struct tm_tree *tree = &l->f->plan->tree;
    struct tm_walker *w;
    const char *p = l->text;
    assert_int_equal(tm_walker_create(tree, 1, &w), TM_OK);
    assert_int_equal(tm_walk(w, &l->s, &p, 0), TM_OK);
    const struct tm_notes *notes = tm_walker_notes(w);
    for (uint16_t i = 0; i < tree->node_count; i++) {
        const struct tm_value *walked = tm_notes_get(notes, i), *noted = &l->values[i];
        assert_int_equal(noted->walk == 7, walked != NULL);
        if (!walked)
            continue;
        assert_ptr_equal(noted->at, walked->at);
        assert_int_equal(noted->len, walked->len);
        assert_int_equal(noted->kind, walked->kind);
        assert_int_equal(noted->escaped, walked->escaped);
    }
    tm_walker_destroy(w);
}

static void test_fits(void **state)
{
    static const struct {
        const char *learned, *next;
    } cases[] = {
        {FIRST, FIRST},
        {FIRST, OTHER},
        {FIRST, OTHER " \n"},
        {FIRST, DELTA("0", "", "", "1e3", "no", "")}, /* whatever the values say is not for the shape to judge */
        {FIRST, DELTA("-1", "A", "1", "1", "no", "x")},
        {FIRST, DELTA("1.5e3", "A", "1", "1", "no", "x")},
        {FIRST, DELTA("null", "A", "1", "1", "no", "x")},
        {FIRST "\n", OTHER},
        {TRADE("false"), TRADE("true")},
        {TRADE("false"), TRADE("null")},
        {TICKER, TICKER},
    };
    struct lesson *l = begin(*state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memset(l->values, 0, sizeof l->values);
        assert_true(learn(l, cases[i].learned));
        if (!fits(l, cases[i].next))
            fail_msg("%s has not the shape of %s", cases[i].next, cases[i].learned);
        assert_noted_as_walked(l);
    }
    end(l);
}

static void test_fits_not(void **state)
{
    static const char *const others[] = {
        TRADE("false"),
        " " FIRST,
        DELTA(" 2", "A", "1", "1", "no", "x"),
        DELTA("2 ", "A", "1", "1", "no", "x"),
        DELTA("02", "A", "1", "1", "no", "x"),
        DELTA("2.", "A", "1", "1", "no", "x"),
        DELTA("", "A", "1", "1", "no", "x"),
        DELTA("-", "A", "1", "1", "no", "x"),
        DELTA("tru", "A", "1", "1", "no", "x"),
        DELTA("{}", "A", "1", "1", "no", "x"),
        DELTA("[]", "A", "1", "1", "no", "x"),
        DELTA("\"2\"", "A", "1", "1", "no", "x"),
        DELTA("2", "A\\n", "1", "1", "no", "x"),
        DELTA("2", "\\u0041", "1", "1", "no", "x"),
        DELTA("2", "A\t", "1", "1", "no", "x"),
        DELTA("2", "A\x1f", "1", "1", "no", "x"),
        DELTA("2", "\xc3\xa4", "1", "1", "no", "x"),
        DELTA("2", "A\"", "1", "1", "no", "x"),
        DELTA("2", "A", "1", "1", "no", "x") "}",
        DELTA("2", "A", "1", "1", "no", "x") "x",
        DELTA("2", "A", "1", "1", "no", "x") "\"",
        DELTA("2", "A", "1", "1", "no\",\"x\":\"", "x"),
        "{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":2,\"msg\":{}}",
        "{\"type\":\"orderbook_delta\",\"sid\":1",
        "{\"type\":\"orderbook_delta\",\"sid\":",
        "{}",
        "",
    };
    struct lesson *l = begin(*state);
    assert_true(learn(l, FIRST));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (fits(l, others[i]))
            fail_msg("%s has the shape of %s", others[i], FIRST);
    assert_true(fits(l, OTHER));
    end(l);
}

static void test_has_none(void **state)
{
    static const char *const texts[] = {
        SNAPSHOT,
        "{}",
        "[1]",
        "1",
        "{ \"type\":\"trade\",\"sid\":1}",
        "{\"type\": \"trade\",\"sid\":1}",
        "{\"type\":\"trade\",\"sid\":1,\"sid\":2}",
        "{\"type\":\"tr\\u0061de\",\"sid\":1}",
        "{\"type\":\"trade\",\"s\\u0069d\":1}",
        "{\"type\":1,\"sid\":1}",
        "{\"type\":\"trade\",\"other\":{\"sid\":1}}",
    };
    struct lesson *l = begin(*state);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (learn(l, texts[i]))
            fail_msg("%s has a shape", texts[i]);
        assert_null(tm_shape_start(l->shape));
    }
    end(l);
}

/* Longer than a shape may be, in bytes, in pieces and in literal text. */
static void test_too_long(void **state)
{
    struct lesson *l = begin(*state);
    char text[4000], *p = text;
    p += sprintf(p, "{\"type\":\"trade\"");
    for (int i = 0; i < 70; i++)
        p += sprintf(p, ",\"x%d\":1", i);
    (void)sprintf(p, "}");
    assert_false(learn(l, text));
    (void)snprintf(text, sizeof text, "{\"type\":\"trade\",\"sid\":1,\"x\":\"%0*d\"}", TM_SHAPE_FRAME_BYTES_MAX, 7);
    assert_false(learn(l, text));
    (void)snprintf(text, sizeof text, "{\"type\":\"trade\",\"%0100d\":1,\"sid\":1}", 7);
    assert_false(learn(l, text));
    assert_false(learn(l, "{\"type\":\"trade\",\"sid\":1,\"seq\":2}")); /* too little behind the last piece */
    (void)snprintf(text, sizeof text, "{\"type\":\"trade\",\"%060d\":\"A\",\"sid\":1,\"seq\":23456789}", 7);
    assert_true(learn(l, text));
    assert_true(fits(l, text));
    text[60] = '8'; /* in the second piece of a long name */
    assert_false(fits(l, text));
    end(l);
}

/* ---- a decoder that knows shapes beside one that knows nothing ---- */

static uint32_t roll(uint32_t below)
{
    static uint64_t state = 20261126;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((state >> 33) % below);
}

static size_t change(char *text, size_t len)
{
    static const char bytes[] = "\"\"\"\"{}[],,::\\ 0019.-e\n\x1f\x80tn";
    size_t at = roll((uint32_t)len), count = 1 + roll(3), rest = len - at;
    char byte = bytes[roll(sizeof bytes - 1)];
    switch (roll(5)) {
    case 0:
        text[at] = byte;
        return len;
    case 1:
        memmove(text + at + 1, text + at, rest);
        text[at] = byte;
        return len + 1;
    case 2:
        count = count < rest ? count : rest;
        memmove(text + at, text + at + count, rest - count);
        return len - count;
    case 3: /* some bytes twice */
        count = roll((uint32_t)(rest < 40 ? rest : 40));
        memmove(text + at + count, text + at, rest);
        return len + count;
    default:
        return at;
    }
}

static void assert_same(const struct tm_decoded *a, const struct tm_decoded *b)
{
    assert_int_equal(a->verdict, b->verdict);
    assert_ptr_equal(a->kind, b->kind);
    assert_string_equal(a->reason, b->reason);
    assert_true(a->has_sid == b->has_sid && a->sid == b->sid);
    assert_true(a->has_sequence == b->has_sequence && a->sequence == b->sequence);
    assert_int_equal(a->row_count, b->row_count);
    for (size_t i = 0; i < a->row_count; i++) {
        assert_int_equal(a->rows[i].len, b->rows[i].len);
        assert_memory_equal(a->rows[i].tuple, b->rows[i].tuple, a->rows[i].len);
        assert_true(a->rows[i].exchange_us == b->rows[i].exchange_us);
        assert_int_equal(a->rows[i].ticker_len, b->rows[i].ticker_len);
    }
}

static void test_changed_frames(void **state)
{
    static const char *const texts[] = {FIRST, OTHER, TRADE("false"), TICKER, SNAPSHOT};
    struct fixture *f = *state;
    struct tm_decoder *fresh;
    unsigned rows = 0;
    for (int i = 0; i < 20000; i++) {
        char text[2048];
        size_t len = 0;
        const char *from = texts[roll(5)];
        (void)decode(f, from); /* its shape is known and trusted again */
        len = strlen(from);
        memcpy(text, from, len);
        for (uint32_t changes = roll(3); changes && len; changes--)
            len = change(text, len);
        struct tm_decoded expected;
        memcpy(f->frame, text, len);
        memcpy(f->frame + len, "\"}}}]]]\"\"\",,:0]}", 16);
        assert_int_equal(tm_decoder_create(f->plan, &fresh), TM_OK);
        assert_int_equal(tm_decode_frame(fresh, f->frame, len, RECEIVED_US, &expected), TM_OK);
        assert_same(decode_bytes(f, text, len), &expected);
        rows += expected.verdict == TM_VERDICT_ROWS;
        tm_decoder_destroy(fresh);
    }
    assert_true(rows > 5000 && rows < 15000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fits_not, setup, teardown),
        cmocka_unit_test_setup_teardown(test_has_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changed_frames, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
